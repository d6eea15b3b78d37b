/* Calls: those under way, those that wait for a connection, and what became of the others. */

enum { OK = 0, CANCELLED = 1, UNKNOWN = 2, DEADLINE_EXCEEDED = 4, PERMISSION_DENIED = 7, RESOURCE_EXHAUSTED = 8,
       INTERNAL = 13, UNAVAILABLE = 14, STATUSES = 17 };

typedef struct Call {
    uint64_t number;
    int64_t due;
    bool sent_before; /* a call that the server has not looked at is sent once more */
    uint32_t stream;  /* 0: this slot is free */
    int status;       /* told before the end, or -1 */
    int64_t window;
    Buffer rest; /* what the windows have not let through yet */
    struct Connection *connection;
    struct Call *older, *newer; /* of those under way */
} Call;

static Call *oldest, *newest;
static uint64_t started, under_way, refused, resent, statuses[STATUSES];
static int64_t begin, counted_from, last_answer;

static void count_call(const Call *call, int status, int64_t now)
{
    if (call->due < counted_from)
        return;
    uint64_t latency = now > call->due ? now - call->due : 0;
    statuses[status >= 0 && status < STATUSES ? status : UNKNOWN]++;
    record(&all_times, latency);
    if (status == OK)
        record(&ok_times, latency);
    last_answer = now;
}

static struct { /* a ring */
    Call *at;
    size_t room, first, count;
} waiting;

static Call *add_waiting(bool in_front)
{
    if (waiting.count == waiting.room) {
        size_t room = waiting.room ? waiting.room * 2 : 1024;
        Call *at = calloc(room, sizeof(Call));
        if (!at)
            fail("out of memory", NULL);
        for (size_t i = 0; i < waiting.count; i++)
            at[i] = waiting.at[(waiting.first + i) % waiting.room];
        free(waiting.at);
        waiting.at = at, waiting.room = room, waiting.first = 0;
    }
    if (in_front)
        waiting.first = (waiting.first + waiting.room - 1) % waiting.room;
    size_t index = in_front ? waiting.first : (waiting.first + waiting.count) % waiting.room;
    waiting.count++;
    return &waiting.at[index];
}

static Call take_waiting(void)
{
    Call call = waiting.at[waiting.first];
    waiting.first = (waiting.first + 1) % waiting.room;
    waiting.count--;
    return call;
}
