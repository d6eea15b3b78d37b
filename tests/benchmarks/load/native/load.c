/* A load generator: unary gRPC calls over HTTP/2 without TLS, by TCP or by a unix socket.
 *
 * It keeps a number of calls under way (closed loop) or starts calls at a rate (open loop). In the open loop, the latency of
 * a call counts from when the call was due. So a stall, of the server or of this program, is seen in all the calls that it
 * delayed. Run it with --help for the options. It prints one JSON object.
 *
 * The requests come from stdin, as lines of a word and hex digits:
 *   head HEX   how an AllocateUserRequest begins: everything before the user identifier. Several take turns.
 *   tail HEX   how it ends: everything after the user identifier. Several are dealt to the users. May be left out.
 *   body HEX   a whole message, which every call sends instead.
 *
 * The other files here are parts of this one, in the order in which it includes them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "times.h"
#include "options.h"
#include "requests.h"
#include "hpack.h"
#include "calls.h"
#include "connection.h"

#define PATIENCE (10 * SECOND) /* after which a call without a deadline is given up */
#define RETRY (SECOND / 10)
#define MOST_RETRIES 50

static void reconnect(int64_t now) /* where a connection is missing */
{
    static int64_t again_at;
    static int failures;
    if (now < again_at)
        return;
    for (int i = 0; i < options.connections; i++) {
        if (connections[i])
            continue;
        connections[i] = open_connection();
        if (!connections[i] && (!started || ++failures > MOST_RETRIES))
            fail(options.address, strerror(errno));
        if (!connections[i]) {
            again_at = now + RETRY;
            return;
        }
        failures = 0;
    }
}

static void forget_connections(void) /* that take no calls any more */
{
    for (int i = 0; i < options.connections; i++)
        if (connections[i] && connections[i]->state >= LEAVING)
            connections[i] = NULL; /* one that leaves ends by itself */
    while (closed) {
        Connection *connection = closed;
        closed = connection->next;
        free(connection->in.at), free(connection->out.at), free(connection->block.at), free(connection);
    }
}

static bool all_are_open(void)
{
    for (int i = 0; i < options.connections; i++)
        if (!connections[i] || connections[i]->state != OPEN)
            return false;
    return true;
}

static void start_closed(void) /* each connection has its share of the calls */
{
    for (int i = 0; i < options.connections; i++) {
        Connection *connection = connections[i];
        int share = options.concurrency / options.connections + (i < options.concurrency % options.connections);
        while (connection && connection->under_way < share && has_room(connection) &&
               under_way + waiting.count < (uint64_t)options.concurrency && started < options.calls)
            send_call(connection, options.first + started++, clock_now(), false);
    }
}

static int64_t due_time(uint64_t number) { return begin + (int64_t)(number / options.rate * SECOND); }

static void start_due(int64_t now)
{
    for (; started < options.calls && due_time(started) <= now; started++)
        *add_waiting(false) = (Call){.number = options.first + started, .due = due_time(started)};
}

static void send_waiting(void) /* each on the next connection with room */
{
    static int next;
    while (waiting.count) {
        Connection *connection = NULL;
        for (int i = 0; i < options.connections && !connection; i++) {
            next = (next + 1) % options.connections;
            if (connections[next] && has_room(connections[next]))
                connection = connections[next];
        }
        if (!connection)
            return;
        Call call = take_waiting();
        send_call(connection, call.number, call.due, call.sent_before);
    }
}

static void expire(int64_t now, int64_t patience)
{
    while (oldest && oldest->due + patience <= now) {
        put_number_frame(oldest->connection, RST_STREAM, oldest->stream, CANCEL);
        oldest->connection->uploads -= oldest->rest.length > 0;
        oldest->rest.length = 0;
        finish(oldest, DEADLINE_EXCEEDED, now);
    }
    while (waiting.count && waiting.at[waiting.first].due + patience <= now) {
        Call call = take_waiting();
        count_call(&call, DEADLINE_EXCEEDED, now);
    }
}

static void receive_until(int64_t wake)
{
    struct epoll_event events[64];
    int64_t left = wake - clock_now();
    left = left < 0 ? 0 : left > RETRY ? RETRY : left;
    struct timespec time = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
    int count = epoll_pwait2(poller, events, 64, &time, NULL);
    for (int i = 0; i < count; i++)
        receive(events[i].data.ptr);
}

static void run(void)
{
    int64_t patience = options.timeout > 0 ? (int64_t)(options.timeout * SECOND) : PATIENCE, end = INT64_MAX;
    bool ready = false; /* once the server has greeted on every connection */
    while (!ready || started < options.calls || under_way || waiting.count) {
        int64_t now = clock_now(), wake = now + RETRY;
        forget_connections();
        reconnect(now);
        if (!ready && all_are_open()) {
            ready = true;
            begin = now;
            counted_from = last_answer = begin + (int64_t)(options.warm_up * SECOND);
            end = counted_from + (int64_t)(options.seconds * SECOND);
        }
        if (ready && options.rate > 0) {
            start_due(now);
            wake = started < options.calls ? due_time(started) : wake;
        } else if (ready) {
            if (now >= end)
                options.calls = started;
            start_closed();
        }
        expire(now, patience);
        send_waiting();
        for (int i = 0; i < options.connections; i++)
            if (connections[i] && connections[i]->out.length)
                flush(connections[i], now);
        if (oldest && oldest->due + patience < wake)
            wake = oldest->due + patience;
        receive_until(wake);
    }
}

static void print_times(const char *name, const Histogram *histogram)
{
    printf(", \"%s\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f", name,
           quantile(histogram, .5), quantile(histogram, .9), quantile(histogram, .99), quantile(histogram, .999),
           histogram->most / 1e3);
    const char *comma = "";
    if (options.histogram) {
        printf(", \"histogram\": [");
        for (uint64_t bucket = 0; bucket < BUCKETS; bucket++)
            if (histogram->counts[bucket]) {
                printf("%s[%llu, %llu]", comma, (unsigned long long)highest_of(bucket),
                       (unsigned long long)histogram->counts[bucket]);
                comma = ", ";
            }
        printf("]");
    }
    printf("}");
}

static void print_report(void)
{
    double seconds = (last_answer - counted_from) / (double)SECOND;
    const char *comma = "";
    printf("{\"calls\": %llu, \"total\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"refused\": %llu, \"resent\": %llu, "
           "\"connections\": %d, \"statuses\": {",
           (unsigned long long)all_times.calls, (unsigned long long)started, seconds,
           seconds > 0 ? all_times.calls / seconds : 0, (unsigned long long)refused, (unsigned long long)resent, opened);
    for (int status = 0; status < STATUSES; status++)
        if (statuses[status]) {
            printf("%s\"%d\": %llu", comma, status, (unsigned long long)statuses[status]);
            comma = ", ";
        }
    printf("}");
    print_times("all_us", &all_times);
    print_times("ok_us", &ok_times);
    printf("}\n");
}

int main(int count, char **arguments)
{
    prctl(PR_SET_TIMERSLACK, 1000UL); /* nanoseconds */
    read_options(count, arguments);
    make_fields();
    make_codes();
    read_requests();
    poller = epoll_create1(EPOLL_CLOEXEC);
    run();
    print_report();
    return 0;
}
