// Command noop is what grpc-go itself costs, where nothing is decided: it answers AllocateUser with the same message
// every time. It listens on a free port of the loopback interface, prints "ready PORT", and ends when stdin does.
//
// The package allocation is generated from protos/ before this is built: see ../go_noop.py.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "noop/allocation"
)

var keys = map[[sha256.Size]byte]bool{sha256.Sum256([]byte("noop")): true}

// authenticate checks the key of a call, as the server does.
func authenticate(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	values := headers.Get("authorization")
	if len(values) == 0 || !keys[sha256.Sum256([]byte(strings.TrimPrefix(values[0], "Bearer ")))] {
		return nil, status.Error(codes.Unauthenticated, "this API key is unknown or revoked")
	}
	return handler(ctx, request)
}

// answer returns a message as long as the server's are.
func answer() *pb.AllocateUserResponse {
	content, err := structpb.NewStruct(map[string]any{"text": "Start now"})
	if err != nil {
		panic(err)
	}
	return &pb.AllocateUserResponse{
		AssignmentId:       "AAAAAQAAAAC1mZQ2Zb6m5xQe3kYyq8oV",
		VariantId:          "variant-a",
		Variant:            &pb.Variant{VariantId: "variant-a", Name: "Variant A", Content: content},
		SegmentKey:         "global",
		SegmentDisplayName: "Everyone",
		Reason:             pb.Reason_REASON_SAMPLED,
		AssignmentState:    pb.AssignmentState_ASSIGNMENT_STATE_NEW,
		AssignedAt:         &timestamppb.Timestamp{Seconds: 1_790_000_000},
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	constant := answer()
	allocateUser := func(
		service any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
	) (any, error) {
		request := new(pb.AllocateUserRequest)
		if err := decode(request); err != nil {
			return nil, err
		}
		info := &grpc.UnaryServerInfo{Server: service, FullMethod: "/samplit.allocation.v1.AllocationService/AllocateUser"}
		return interceptor(ctx, request, info, func(context.Context, any) (any, error) { return constant, nil })
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(authenticate))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "samplit.allocation.v1.AllocationService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "AllocateUser", Handler: allocateUser}},
	}, nil)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); err != nil {
		panic(err)
	}
}
