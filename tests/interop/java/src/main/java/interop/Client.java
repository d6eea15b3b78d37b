package interop;

import com.google.gson.Gson;
import com.google.protobuf.DynamicMessage;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.stub.BlockingClientCall;
import io.grpc.stub.ClientCalls;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** A client on grpc-java. It fails if the server does not answer as it should. Options are as in go/main.go. */
public final class Client {
    final Channel channel;
    final Messages messages;

    private Client(Channel channel, Messages messages) {
        this.channel = channel;
        this.messages = messages;
    }

    Client on(Channel other) {
        return new Client(other, messages);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        String name = arguments[arguments.length - 1];
        for (String argument : Arrays.copyOf(arguments, arguments.length - 1)) {
            String[] pair = argument.split("=", 2);
            options.put(pair[0], pair[pair.length - 1]);
        }
        ManagedChannel channel = connect(options);
        Client client = new Client(channel, new Messages(options.get("--descriptors")));
        long milliseconds = (long) (1000 * Double.parseDouble(options.getOrDefault("--seconds", "0")));
        switch (name) {
            case "steady" -> Steady.call(milliseconds, user -> Steady.echo(client));
            case "samplit" -> Steady.call(milliseconds, user -> Steady.allocate(client, options.get("--key"), user));
            case "keepalive" -> Steady.stayConnected(client, milliseconds);
            default -> Cases.ALL.get(name).run(client);
        }
        System.exit(0);
    }

    private static ManagedChannel connect(Map<String, String> options) throws Exception {
        String target = options.get("--target");
        NettyChannelBuilder builder;
        if (target.startsWith("unix:")) {
            builder = NettyChannelBuilder.forAddress(new DomainSocketAddress(target.substring("unix:".length())))
                    .channelType(EpollDomainSocketChannel.class)
                    .eventLoopGroup(new EpollEventLoopGroup())
                    .overrideAuthority("localhost");
        } else {
            builder = NettyChannelBuilder.forTarget(target);
        }
        String authority = options.get("--ca");
        if (authority == null) {
            builder.usePlaintext();
        } else {
            builder.sslContext(GrpcSslContexts.forClient().trustManager(new File(authority)).build());
        }
        String config = options.get("--service-config");
        if (config != null) {
            builder.defaultServiceConfig(new Gson().<Map<String, ?>>fromJson(Files.readString(Path.of(config)), Map.class));
        }
        if (options.containsKey("--keepalive")) {
            builder.keepAliveTime(10, TimeUnit.SECONDS).keepAliveTimeout(5, TimeUnit.SECONDS).keepAliveWithoutCalls(true);
        }
        return builder.build();
    }

    DynamicMessage call(String path, Map<String, ?> fields, CallOptions options) {
        var method = messages.method(path, MethodType.UNARY);
        return ClientCalls.blockingUnaryCall(channel, method, options, messages.request(path, fields));
    }

    DynamicMessage echo(Map<String, ?> fields) {
        return call("interop.Interop/Echo", fields, CallOptions.DEFAULT);
    }

    BlockingClientCall<DynamicMessage, DynamicMessage> chat(CallOptions options) {
        var method = messages.method("interop.Interop/Chat", MethodType.BIDI_STREAMING);
        return ClientCalls.blockingBidiStreamingCall(channel, method, options);
    }
}
