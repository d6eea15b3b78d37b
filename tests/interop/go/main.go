// A client on grpc-go. `client [options] CASE` fails if the server does not answer as it should.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/dynamicpb"
)

type client struct {
	connection *grpc.ClientConn
	messages   messages
}

func main() {
	target := flag.String("target", "", "HOST:PORT or unix:PATH")
	descriptors := flag.String("descriptors", "", "file with the descriptors of what is called")
	authority := flag.String("ca", "", "certificate that signed the server's")
	config := flag.String("service-config", "", "file with a service config")
	pings := flag.Bool("keepalive", false, "send a PING every 10 seconds")
	seconds := flag.Float64("seconds", 0, "how long to call")
	key := flag.String("key", "", "API key")
	flag.Parse()

	security := insecure.NewCredentials()
	if *authority != "" {
		loaded, err := credentials.NewClientTLSFromFile(*authority, "")
		check(err)
		security = loaded
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(security)}
	if *config != "" {
		read, err := os.ReadFile(*config)
		check(err)
		options = append(options, grpc.WithDefaultServiceConfig(string(read)))
	}
	if *pings {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}))
	}
	connection, err := grpc.NewClient(*target, options...)
	check(err)
	defer connection.Close()
	c := &client{connection, readMessages(*descriptors)}
	duration := time.Duration(*seconds * float64(time.Second))
	switch name := flag.Arg(0); name {
	case "steady":
		steady(duration, c.echo)
	case "samplit":
		steady(duration, c.samplit(*key))
	case "keepalive":
		stayConnected(c, duration)
	default:
		cases[name](c)
	}
}

func (c *client) call(
	ctx context.Context, method string, values fields, options ...grpc.CallOption,
) (*dynamicpb.Message, error) {
	request, response := c.messages.pair(method, values)
	dot := strings.LastIndex(method, ".")
	err := c.connection.Invoke(ctx, "/"+method[:dot]+"/"+method[dot+1:], request, response, options...)
	return response, err
}

func require(holds bool, format string, values ...any) {
	if !holds {
		fmt.Fprintf(os.Stderr, format+"\n", values...)
		os.Exit(1)
	}
}

func check(err error) {
	require(err == nil, "%v", err)
}
