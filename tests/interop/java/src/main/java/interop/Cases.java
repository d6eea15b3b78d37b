package interop;

import com.google.protobuf.ByteString;
import com.google.protobuf.DynamicMessage;
import com.google.rpc.ErrorInfo;
import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.StreamSupport;

final class Cases {
    interface Case {
        void run(Client client) throws Exception;
    }

    static final Map<String, Case> ALL = Map.ofEntries(
            Map.entry("empty_unary", Cases::emptyUnary),
            Map.entry("large_unary", client -> largeUnary(client, CallOptions.DEFAULT)),
            Map.entry("server_streaming", Cases::serverStreaming),
            Map.entry("ping_pong", Cases::pingPong),
            Map.entry("empty_stream", Cases::emptyStream),
            Map.entry("status", Cases::statusWithDetails),
            Map.entry("metadata", Cases::customMetadata),
            Map.entry("deadline", Cases::deadline),
            Map.entry("cancel_before", Cases::cancelBefore),
            Map.entry("cancel_after", Cases::cancelAfter),
            Map.entry("compressed", client -> largeUnary(client, CallOptions.DEFAULT.withCompression("gzip"))),
            Map.entry("unimplemented_method", client -> isUnimplemented(client, "interop.Interop/Missing")),
            Map.entry("unimplemented_service", client -> isUnimplemented(client, "interop.Absent/Echo")));

    private static final String TEXT = "\t\nspaces\r\nBMP ☺, beyond 😈, 100 %\t\n";
    private static final Metadata.Key<String> TEXT_KEY =
            Metadata.Key.of("x-interop", Metadata.ASCII_STRING_MARSHALLER);
    private static final Metadata.Key<byte[]> BINARY_KEY =
            Metadata.Key.of("x-interop-bin", Metadata.BINARY_BYTE_MARSHALLER);

    private Cases() {}

    static void emptyUnary(Client client) {
        require(payload(client.echo(Map.of())).isEmpty(), "a payload came");
    }

    private static void largeUnary(Client client, CallOptions options) {
        ByteString sent = ByteString.copyFrom(new byte[1 << 20]);
        DynamicMessage response = client.call("interop.Interop/Echo", Map.of("payload", sent), options);
        require(payload(response).equals(sent), "another payload came");
    }

    private static void serverStreaming(Client client) throws Exception {
        List<Integer> sizes = List.of(31415, 0, 9, 2653, 589793);
        var method = client.messages.method("interop.Interop/Sizes", MethodType.SERVER_STREAMING);
        DynamicMessage request = client.messages.request("interop.Interop/Sizes", Map.of("sizes", sizes));
        var stream = ClientCalls.blockingV2ServerStreamingCall(client.channel, method, CallOptions.DEFAULT, request);
        for (int size : sizes) {
            require(payload(stream.read()).size() == size, "a payload has another size than " + size);
        }
        require(stream.read() == null, "the stream does not end");
    }

    private static void pingPong(Client client) throws Exception {
        var stream = client.chat(CallOptions.DEFAULT);
        for (int size : List.of(27182, 8, 0, 1828, 459045)) {
            ByteString sent = ByteString.copyFrom(new byte[size]);
            stream.write(chatRequest(client, Map.of("payload", sent)));
            require(payload(stream.read()).equals(sent), "another payload came");
        }
        stream.halfClose();
        require(stream.read() == null, "the stream does not end");
    }

    private static void emptyStream(Client client) throws Exception {
        var stream = client.chat(CallOptions.DEFAULT);
        stream.halfClose();
        require(stream.read() == null, "the stream does not end");
    }

    private static void statusWithDetails(Client client) throws Exception {
        int code = Status.Code.FAILED_PRECONDITION.value();
        var failing = Map.of("code", code, "status_message", TEXT, "reason", "INTEROP");
        var stream = client.chat(CallOptions.DEFAULT);
        stream.write(chatRequest(client, failing));
        for (Throwable failure : List.of(failure(() -> client.echo(failing)), failure(stream::read))) {
            var status = StatusProto.fromThrowable(failure);
            require(status.getCode() == code && status.getMessage().equals(TEXT), status.toString());
            require(Status.fromThrowable(failure).getDescription().equals(TEXT), failure.toString());
            String reason = status.getDetails(0).unpack(ErrorInfo.class).getReason();
            require(reason.equals("INTEROP"), reason);
        }
    }

    private static void customMetadata(Client client) throws Exception {
        Metadata sent = new Metadata();
        sent.put(TEXT_KEY, "a text");
        sent.put(BINARY_KEY, new byte[] {0, -1, 1});
        sent.put(BINARY_KEY, new byte[0]);
        AtomicReference<Metadata> header = new AtomicReference<>();
        AtomicReference<Metadata> trailer = new AtomicReference<>();
        Client with = client.on(ClientInterceptors.intercept(
                client.channel,
                MetadataUtils.newAttachHeadersInterceptor(sent),
                MetadataUtils.newCaptureMetadataInterceptor(header, trailer)));
        with.echo(Map.of());
        cameBack(header.get(), trailer.get());
        var stream = with.chat(CallOptions.DEFAULT);
        stream.write(chatRequest(client, Map.of()));
        stream.read();
        stream.halfClose();
        require(stream.read() == null, "the stream does not end");
        cameBack(header.get(), trailer.get());
    }

    private static void cameBack(Metadata header, Metadata trailer) {
        require("a text".equals(header.get(TEXT_KEY)), header.toString());
        List<ByteString> values = StreamSupport.stream(trailer.getAll(BINARY_KEY).spliterator(), false)
                .map(ByteString::copyFrom)
                .toList();
        List<ByteString> sent = List.of(ByteString.copyFrom(new byte[] {0, -1, 1}), ByteString.EMPTY);
        require(values.equals(sent), trailer.toString());
    }

    private static void deadline(Client client) throws Exception {
        emptyUnary(client); // connects, which takes a part of the time
        fails(Status.Code.DEADLINE_EXCEEDED, () -> client.call(
                "interop.Interop/Echo", Map.of("wait_milliseconds", 10_000), soon()));
        fails(Status.Code.DEADLINE_EXCEEDED, () -> client.chat(soon()).read());
    }

    private static CallOptions soon() {
        return CallOptions.DEFAULT.withDeadlineAfter(200, TimeUnit.MILLISECONDS);
    }

    private static void cancelBefore(Client client) throws Exception {
        var stream = client.chat(CallOptions.DEFAULT);
        stream.cancel("before anything was sent", null);
        fails(Status.Code.CANCELLED, stream::read);
        emptyUnary(client);
    }

    private static void cancelAfter(Client client) throws Exception {
        var stream = client.chat(CallOptions.DEFAULT);
        stream.write(chatRequest(client, Map.of()));
        stream.read();
        stream.cancel("after an answer", null);
        fails(Status.Code.CANCELLED, stream::read);
        emptyUnary(client);
    }

    private static void isUnimplemented(Client client, String path) {
        fails(Status.Code.UNIMPLEMENTED, () -> client.call(path, Map.of(), CallOptions.DEFAULT));
    }

    private interface Step {
        Object take() throws Exception;
    }

    private static void fails(Status.Code code, Step step) {
        Throwable failure = failure(step);
        require(Status.fromThrowable(failure).getCode() == code, failure.toString());
    }

    private static Throwable failure(Step step) {
        try {
            step.take();
        } catch (StatusException | StatusRuntimeException failure) {
            return failure;
        } catch (Exception other) {
            throw new IllegalStateException(other);
        }
        throw new IllegalStateException("the call did not fail");
    }

    private static DynamicMessage chatRequest(Client client, Map<String, ?> fields) {
        return client.messages.request("interop.Interop/Chat", fields);
    }

    private static ByteString payload(DynamicMessage response) {
        return (ByteString) Messages.get(response, "payload");
    }

    static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
