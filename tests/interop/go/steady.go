package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	callers = 8
	pause   = 5 * time.Millisecond
	timeout = 10 * time.Second
)

// steady calls from several goroutines, and prints how many calls there were and which failed.
func steady(duration time.Duration, call func(ctx context.Context, id string) error) {
	var lock sync.Mutex
	var group sync.WaitGroup
	calls, failures := 0, map[string]int{}
	end := time.Now().Add(duration)
	for caller := range callers {
		group.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				err := call(ctx, fmt.Sprintf("go-%d-%d-%d", os.Getpid(), caller, n))
				cancel()
				lock.Lock()
				calls++
				if err != nil {
					failures[status.Code(err).String()+": "+status.Convert(err).Message()]++
				}
				lock.Unlock()
				time.Sleep(pause)
			}
		})
	}
	group.Wait()
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"calls": calls, "failures": failures}))
}

func (c *client) echo(ctx context.Context, _ string) error {
	_, err := c.call(ctx, "interop.Interop.Echo", fields{"wait_milliseconds": uint32(1)})
	return err
}

// samplit allocates a user, and converts it.
func (c *client) samplit(key string) func(context.Context, string) error {
	const service = "samplit.allocation.v1.AllocationService."
	return func(ctx context.Context, user string) error {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
		answer, err := c.call(ctx, service+"AllocateUser", fields{"experiment_id": "cta", "user_identifier": user})
		if err != nil {
			return err
		}
		assignment := get(answer, "assignment_id").String()
		require(assignment != "", "a user has no assignment: %v", answer)
		_, err = c.call(ctx, service+"RecordConversion", fields{"assignment_id": assignment, "event_id": user})
		return err
	}
}

// stayConnected makes a call, waits without any, and makes a call that takes as long.
func stayConnected(c *client, duration time.Duration) {
	emptyUnary(c)
	time.Sleep(duration)
	emptyUnary(c)
	waiting := fields{"wait_milliseconds": uint32(duration.Milliseconds())}
	_, err := c.call(context.Background(), "interop.Interop.Echo", waiting)
	check(err)
}
