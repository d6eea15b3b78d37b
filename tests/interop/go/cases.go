package main

import (
	"bytes"
	"context"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	mebibyte = 1 << 20
	text     = "\t\nspaces\r\nBMP ☺, beyond 😈, 100 %\t\n"
)

var cases = map[string]func(*client){
	"empty_unary":           emptyUnary,
	"large_unary":           largeUnary,
	"server_streaming":      serverStreaming,
	"ping_pong":             pingPong,
	"empty_stream":          emptyStream,
	"status":                statusWithDetails,
	"metadata":              customMetadata,
	"deadline":              deadline,
	"cancel_before":         cancelBefore,
	"cancel_after":          cancelAfter,
	"compressed":            compressed,
	"unimplemented_method":  func(c *client) { c.expect(codes.Unimplemented, "interop.Interop.Missing") },
	"unimplemented_service": func(c *client) { c.expect(codes.Unimplemented, "interop.Absent.Echo") },
}

func (c *client) expect(code codes.Code, method string) {
	_, err := c.call(context.Background(), method, nil)
	require(status.Code(err) == code, "%v", err)
}

func emptyUnary(c *client) {
	response, err := c.call(context.Background(), "interop.Interop.Echo", nil)
	check(err)
	require(len(get(response, "payload").Bytes()) == 0, "a payload came")
}

func largeUnary(c *client) {
	payload := bytes.Repeat([]byte("m"), mebibyte)
	response, err := c.call(context.Background(), "interop.Interop.Echo", fields{"payload": payload})
	check(err)
	require(bytes.Equal(get(response, "payload").Bytes(), payload), "another payload came")
}

func serverStreaming(c *client) {
	sizes := []uint32{31415, 0, 9, 2653, 589793}
	stream := c.stream(context.Background(), "Sizes")
	stream.send(fields{"sizes": sizes})
	check(stream.CloseSend())
	for _, size := range sizes {
		require(len(stream.payload()) == int(size), "a payload has not %d bytes", size)
	}
	stream.ends()
}

func pingPong(c *client) {
	stream := c.stream(context.Background(), "Chat")
	for _, size := range []int{27182, 8, 0, 1828, 459045} {
		payload := bytes.Repeat([]byte("p"), size)
		stream.send(fields{"payload": payload})
		require(bytes.Equal(stream.payload(), payload), "another payload came")
	}
	check(stream.CloseSend())
	stream.ends()
}

func emptyStream(c *client) {
	stream := c.stream(context.Background(), "Chat")
	check(stream.CloseSend())
	stream.ends()
}

func statusWithDetails(c *client) {
	failing := fields{"code": uint32(codes.FailedPrecondition), "status_message": text, "reason": "INTEROP"}
	_, unary := c.call(context.Background(), "interop.Interop.Echo", failing)
	stream := c.stream(context.Background(), "Chat")
	stream.send(failing)
	for _, err := range []error{unary, stream.RecvMsg(stream.response())} {
		got := status.Convert(err)
		require(got.Code() == codes.FailedPrecondition && got.Message() == text, "%q", got)
		require(len(got.Details()) == 1, "details: %v", got.Details())
		require(got.Details()[0].(*errdetails.ErrorInfo).Reason == "INTEROP", "details: %v", got.Details())
	}
}

func customMetadata(c *client) {
	values := metadata.Pairs("x-interop", "a text", "x-interop-bin", "\x00\xff\x01", "x-interop-bin", "")
	ctx := metadata.NewOutgoingContext(context.Background(), values)
	var header, trailer metadata.MD
	_, err := c.call(ctx, "interop.Interop.Echo", nil, grpc.Header(&header), grpc.Trailer(&trailer))
	check(err)
	cameBack(header, trailer)
	stream := c.stream(ctx, "Chat")
	stream.send(nil)
	stream.payload()
	check(stream.CloseSend())
	stream.ends()
	header, err = stream.Header()
	check(err)
	cameBack(header, stream.Trailer())
}

func cameBack(header, trailer metadata.MD) {
	initial, final := header.Get("x-interop"), trailer.Get("x-interop-bin")
	require(len(initial) == 1 && initial[0] == "a text", "%q", initial)
	require(len(final) == 2 && final[0] == "\x00\xff\x01" && final[1] == "", "%q", final)
}

func deadline(c *client) {
	emptyUnary(c) // connects, which takes a part of the time
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := c.call(ctx, "interop.Interop.Echo", fields{"wait_milliseconds": uint32(10_000)})
	require(status.Code(err) == codes.DeadlineExceeded, "%v", err)
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	stream := c.stream(ctx, "Chat")
	err = stream.RecvMsg(stream.response())
	require(status.Code(err) == codes.DeadlineExceeded, "%v", err)
}

func cancelBefore(c *client) {
	ctx, cancel := context.WithCancel(context.Background())
	stream := c.stream(ctx, "Chat")
	cancel()
	err := stream.RecvMsg(stream.response())
	require(status.Code(err) == codes.Canceled, "%v", err)
	emptyUnary(c)
}

func cancelAfter(c *client) {
	ctx, cancel := context.WithCancel(context.Background())
	stream := c.stream(ctx, "Chat")
	stream.send(fields{"payload": []byte("x")})
	stream.payload()
	cancel()
	err := stream.RecvMsg(stream.response())
	require(status.Code(err) == codes.Canceled, "%v", err)
	emptyUnary(c)
}

func compressed(c *client) {
	payload := bytes.Repeat([]byte("z"), mebibyte)
	zipped := grpc.UseCompressor(gzip.Name)
	response, err := c.call(context.Background(), "interop.Interop.Echo", fields{"payload": payload}, zipped)
	check(err)
	require(bytes.Equal(get(response, "payload").Bytes(), payload), "another payload came")
}

// stream is a call of several messages.
type stream struct {
	grpc.ClientStream
	client *client
	method string
}

func (c *client) stream(ctx context.Context, name string) *stream {
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	opened, err := c.connection.NewStream(ctx, description, "/interop.Interop/"+name)
	check(err)
	return &stream{opened, c, "interop.Interop." + name}
}

func (s *stream) send(values fields) {
	request, _ := s.client.messages.pair(s.method, values)
	check(s.SendMsg(request))
}

func (s *stream) response() any {
	_, response := s.client.messages.pair(s.method, nil)
	return response
}

func (s *stream) payload() []byte {
	_, response := s.client.messages.pair(s.method, nil)
	check(s.RecvMsg(response))
	return get(response, "payload").Bytes()
}

func (s *stream) ends() {
	err := s.RecvMsg(s.response())
	require(err == io.EOF, "%v", err)
}
