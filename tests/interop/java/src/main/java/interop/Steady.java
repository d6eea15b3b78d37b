package interop;

import com.google.gson.Gson;
import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

final class Steady {
    private static final int CALLERS = 8;
    private static final int PAUSE_MILLISECONDS = 5;
    private static final int TIMEOUT_SECONDS = 10;

    private Steady() {}

    /** Calls from several threads, and prints how many calls there were and which failed. */
    static void call(long milliseconds, Consumer<String> once) throws Exception {
        long end = System.currentTimeMillis() + milliseconds;
        AtomicInteger calls = new AtomicInteger();
        Map<String, Integer> failures = new ConcurrentHashMap<>();
        ExecutorService threads = Executors.newFixedThreadPool(CALLERS);
        List<Future<?>> callers = new ArrayList<>();
        for (int caller = 0; caller < CALLERS; caller++) {
            String prefix = "java-" + ProcessHandle.current().pid() + "-" + caller + "-";
            callers.add(threads.submit(() -> {
                for (int n = 0; System.currentTimeMillis() < end; n++) {
                    calls.incrementAndGet();
                    try {
                        once.accept(prefix + n);
                    } catch (StatusRuntimeException failure) {
                        failures.merge(failure.getMessage(), 1, Integer::sum);
                    }
                    Thread.sleep(PAUSE_MILLISECONDS);
                }
                return null;
            }));
        }
        for (Future<?> caller : callers) {
            caller.get();
        }
        System.out.println(new Gson().toJson(Map.of("calls", calls.get(), "failures", failures)));
    }

    static void echo(Client client) {
        client.call("interop.Interop/Echo", Map.of("wait_milliseconds", 1), options());
    }

    /** Allocates a user, and converts it. */
    static void allocate(Client client, String key, String user) {
        Metadata metadata = new Metadata();
        metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
        Client with = client.on(
                ClientInterceptors.intercept(client.channel, MetadataUtils.newAttachHeadersInterceptor(metadata)));
        String service = "samplit.allocation.v1.AllocationService/";
        var request = Map.of("experiment_id", "cta", "user_identifier", user);
        var answer = with.call(service + "AllocateUser", request, options());
        String assignment = (String) Messages.get(answer, "assignment_id");
        Cases.require(!assignment.isEmpty(), user + " has no assignment");
        with.call(service + "RecordConversion", Map.of("assignment_id", assignment, "event_id", user), options());
    }

    /** Makes a call, waits without any, and makes a call that takes as long. */
    static void stayConnected(Client client, long milliseconds) throws Exception {
        Cases.emptyUnary(client);
        Thread.sleep(milliseconds);
        Cases.emptyUnary(client);
        client.echo(Map.of("wait_milliseconds", (int) milliseconds));
    }

    private static CallOptions options() {
        return CallOptions.DEFAULT.withDeadlineAfter(TIMEOUT_SECONDS, TimeUnit.SECONDS);
    }
}
