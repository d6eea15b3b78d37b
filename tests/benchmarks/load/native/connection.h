/* Frames and connections (RFC 9113). */

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 0x20 };
enum { HEADER_TABLE_SIZE = 1, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE };
enum { REFUSED_STREAM = 7, CANCEL = 8, ENHANCE_YOUR_CALM = 11, INADEQUATE_SECURITY = 12 };

#define SLOTS 4096 /* calls of one connection, at most */
#define WINDOW 65535
#define MOST_WINDOW 0x7fffffff
#define FRAME 16384

typedef struct Connection {
    int fd;
    enum { OPENING, OPEN, LEAVING, CLOSED } state; /* until SETTINGS; until GOAWAY; until its calls have ended */
    int under_way, uploads;
    uint32_t next_stream, most_streams, most_frame;
    int64_t window, initial_window;
    uint64_t received; /* since the last WINDOW_UPDATE */
    bool waits_to_write, has_new_table_size, block_ends_stream;
    Buffer in, out, block;
    Table sent, answered;
    struct Connection *next; /* of those that are CLOSED */
    Call calls[SLOTS];       /* by half their stream */
} Connection;

static Connection *connections[MOST_CONNECTIONS]; /* in use, NULL where one is missing */
static Connection *closed;                        /* to be freed */
static int poller, opened;

static void put_frame(Buffer *out, uint32_t length, int kind, int flags, uint32_t stream)
{
    put_number(out, length << 8 | kind);
    put_byte(out, flags);
    put_number(out, stream);
}

static void put_number_frame(Connection *connection, int kind, uint32_t stream, uint32_t number)
{
    put_frame(&connection->out, 4, kind, 0, stream);
    put_number(&connection->out, number);
}

static void watch(Connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (connection->waits_to_write ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(poller, operation, connection->fd, &event);
}

static int connect_to(const char *address) /* a socket, or -1 with errno */
{
    if (!strncmp(address, "unix:", 5)) {
        struct sockaddr_un path = {.sun_family = AF_UNIX};
        snprintf(path.sun_path, sizeof path.sun_path, "%s", address + 5);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return connect(fd, (void *)&path, sizeof path) ? (close(fd), -1) : fd;
    }
    char host[256];
    const char *colon = strrchr(address, ':');
    if (!colon || (size_t)(colon - address) >= sizeof host)
        fail("an address is HOST:PORT, [IPV6]:PORT or unix:PATH", address);
    bool brackets = *address == '[';
    snprintf(host, sizeof host, "%.*s", (int)(colon - address) - 2 * brackets, address + brackets);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error)
        fail(address, gai_strerror(error));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    bool connected = !connect(fd, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (!connected)
        return close(fd), -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static Connection *open_connection(void) /* NULL with errno if nobody listens */
{
    int fd = connect_to(options.address);
    if (fd < 0)
        return NULL;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    Connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("out of memory", NULL);
    connection->fd = fd;
    connection->next_stream = 1;
    connection->most_streams = SLOTS;
    connection->most_frame = FRAME;
    connection->window = connection->initial_window = WINDOW;
    connection->sent.most = connection->answered.most = TABLE_SIZE;
    put(&connection->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(&connection->out, 12, SETTINGS, 0, 0);               /* answers may be as long as they like: */
    put(&connection->out, "\0\2\0\0\0\0\0\4\x7f\xff\xff\xff", 12); /* ENABLE_PUSH 0, INITIAL_WINDOW_SIZE 2^31 - 1 */
    put_number_frame(connection, WINDOW_UPDATE, 0, MOST_WINDOW - WINDOW);
    opened++;
    watch(connection, EPOLL_CTL_ADD);
    return connection;
}

static void free_call(Call *call) /* so that a later stream can have its slot */
{
    Connection *connection = call->connection;
    *(call->older ? &call->older->newer : &oldest) = call->newer;
    *(call->newer ? &call->newer->older : &newest) = call->older;
    connection->uploads -= call->rest.length > 0;
    free(call->rest.at);
    memset(call, 0, sizeof *call);
    connection->under_way--;
    under_way--;
}

static void finish(Call *call, int status, int64_t now)
{
    count_call(call, status, now);
    if (call->rest.length) /* answered before all of it was sent */
        put_number_frame(call->connection, RST_STREAM, call->stream, CANCEL);
    free_call(call);
}

static void send_again(Call *call, bool sent_before)
{
    *add_waiting(true) = (Call){.number = call->number, .due = call->due, .sent_before = sent_before};
    free_call(call);
}

static void upload(Connection *connection, Call *call) /* what the windows let through */
{
    size_t sent = 0;
    while (sent < call->rest.length) {
        int64_t room = connection->window < call->window ? connection->window : call->window;
        if (room <= 0)
            break;
        size_t length = call->rest.length - sent;
        length = length > (size_t)room ? (size_t)room : length;
        length = length > connection->most_frame ? connection->most_frame : length;
        bool last = sent + length == call->rest.length;
        put_frame(&connection->out, length, DATA, last ? END_STREAM : 0, call->stream);
        put(&connection->out, call->rest.at + sent, length);
        connection->window -= length;
        call->window -= length;
        sent += length;
    }
    if (sent) {
        drop(&call->rest, sent);
        connection->uploads -= !call->rest.length;
    }
}

static bool has_room(const Connection *connection)
{
    uint32_t most = connection->most_streams < SLOTS / 2 ? connection->most_streams : SLOTS / 2;
    return connection->state == OPEN && (uint32_t)connection->under_way < most;
}

static void send_call(Connection *connection, uint64_t number, int64_t due, bool sent_before)
{
    static Buffer block;
    while (connection->calls[connection->next_stream / 2 % SLOTS].stream)
        connection->next_stream += 2; /* an old call still has the slot: streams may be left out */
    uint32_t stream = connection->next_stream;
    Call *call = &connection->calls[stream / 2 % SLOTS];
    connection->next_stream += 2;
    *call = (Call){.number = number, .due = due, .sent_before = sent_before, .stream = stream, .status = -1,
                   .window = connection->initial_window, .connection = connection, .older = newest};
    *(newest ? &newest->newer : &oldest) = call;
    newest = call;
    connection->under_way++;
    under_way++;
    block.length = 0;
    if (connection->has_new_table_size)
        put_integer(&block, 0x20, 5, connection->sent.most);
    connection->has_new_table_size = false;
    put_headers(&block, &connection->sent, number);
    put_frame(&connection->out, block.length, HEADERS, END_HEADERS, stream);
    put(&connection->out, block.at, block.length);
    put_message(&call->rest, number);
    connection->uploads++;
    upload(connection, call);
    if (stream > MOST_WINDOW - 2 * SLOTS)
        connection->state = LEAVING; /* its streams are used up */
}

static void close_connection(Connection *connection, int64_t now)
{
    if (connection->state == CLOSED)
        return;
    connection->state = CLOSED;
    for (int i = 0; i < SLOTS && connection->under_way; i++)
        if (connection->calls[i].stream)
            finish(&connection->calls[i], UNAVAILABLE, now);
    close(connection->fd);
    connection->next = closed;
    closed = connection;
}

static void flush(Connection *connection, int64_t now)
{
    size_t sent = 0;
    while (sent < connection->out.length) {
        ssize_t length = send(connection->fd, connection->out.at + sent, connection->out.length - sent, MSG_NOSIGNAL);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && errno != EAGAIN) {
            close_connection(connection, now);
            return;
        }
        if (length < 0)
            break;
        sent += length;
    }
    drop(&connection->out, sent);
    bool waits = connection->out.length > 0;
    if (waits != connection->waits_to_write) {
        connection->waits_to_write = waits;
        watch(connection, EPOLL_CTL_MOD);
    }
}

static void take_settings(Connection *connection, const uint8_t *at, size_t length)
{
    for (; length >= 6; at += 6, length -= 6) {
        uint32_t value = number_at(at + 2);
        switch (at[0] << 8 | at[1]) {
        case HEADER_TABLE_SIZE:
            value = value < TABLE_SIZE ? value : TABLE_SIZE;
            connection->has_new_table_size |= value != connection->sent.most;
            connection->sent.most = value;
            shrink_table(&connection->sent, value);
            break;
        case MAX_CONCURRENT_STREAMS:
            connection->most_streams = value;
            break;
        case INITIAL_WINDOW_SIZE:
            for (int i = 0; i < SLOTS; i++)
                connection->calls[i].window += (int64_t)value - connection->initial_window;
            connection->initial_window = value;
            break;
        case MAX_FRAME_SIZE:
            connection->most_frame = value < FRAME * 4 ? value : FRAME * 4;
        }
    }
    put_frame(&connection->out, 0, SETTINGS, ACK, 0);
    if (connection->state == OPENING)
        connection->state = OPEN;
}

static void take_block(Connection *connection, Call *call, int64_t now)
{
    int status = take_headers(&connection->answered, connection->block.at, connection->block.length);
    if (!call)
        return;
    call->status = status >= 0 ? status : call->status;
    if (connection->block_ends_stream)
        finish(call, call->status >= 0 ? call->status : UNKNOWN, now);
}

static void take_reset(Call *call, uint32_t code, int64_t now)
{
    if (code == REFUSED_STREAM) {
        refused++;
        send_again(call, call->sent_before);
        return;
    }
    finish(call, code == CANCEL ? CANCELLED : code == ENHANCE_YOUR_CALM ? RESOURCE_EXHAUSTED
                 : code == INADEQUATE_SECURITY ? PERMISSION_DENIED : INTERNAL, now);
}

/* The connection takes no more calls. Those that it has not looked at, beyond stream `last`, are sent on another. */
static void take_goaway(Connection *connection, uint32_t last, int64_t now)
{
    connection->state = LEAVING;
    for (int i = 0; i < SLOTS; i++) {
        Call *call = &connection->calls[i];
        if (call->stream > last && call->sent_before)
            finish(call, UNAVAILABLE, now);
        else if (call->stream > last)
            resent++, send_again(call, true);
    }
}

static void take_frame(Connection *connection, int kind, int flags, uint32_t stream, const uint8_t *at, size_t length,
                       int64_t now)
{
    Call *call = &connection->calls[stream / 2 % SLOTS];
    if (!stream || call->stream != stream)
        call = NULL;
    size_t skip = 0, padding = 0;
    if ((kind == HEADERS || kind == DATA) && flags & PADDED && length)
        skip = 1, padding = at[0];
    if (kind == HEADERS && flags & WITH_PRIORITY)
        skip += 5;
    if (skip + padding > length || (length < 4 && (kind == RST_STREAM || kind == GOAWAY || kind == WINDOW_UPDATE)))
        fail("the server sent a malformed frame", NULL);
    switch (kind) {
    case DATA:
        connection->received += length;
        if (connection->received > 1u << 29) {
            put_number_frame(connection, WINDOW_UPDATE, 0, connection->received);
            connection->received = 0;
        }
        if (call && flags & END_STREAM)
            finish(call, UNKNOWN, now); /* without a status */
        break;
    case HEADERS:
        connection->block.length = 0;
        connection->block_ends_stream = flags & END_STREAM;
        /* fall through */
    case CONTINUATION:
        put(&connection->block, at + skip, length - skip - padding);
        if (flags & END_HEADERS)
            take_block(connection, call, now);
        break;
    case RST_STREAM:
        if (call)
            take_reset(call, number_at(at), now);
        break;
    case SETTINGS:
        if (!(flags & ACK))
            take_settings(connection, at, length);
        break;
    case PING:
        if (!(flags & ACK)) {
            put_frame(&connection->out, length, PING, ACK, 0);
            put(&connection->out, at, length);
        }
        break;
    case GOAWAY:
        take_goaway(connection, number_at(at) & MOST_WINDOW, now);
        break;
    case WINDOW_UPDATE:
        if (!stream)
            connection->window += number_at(at);
        else if (call)
            call->window += number_at(at);
    }
    if ((kind == WINDOW_UPDATE || kind == SETTINGS) && connection->uploads)
        for (int i = 0; i < SLOTS; i++)
            if (connection->calls[i].rest.length)
                upload(connection, &connection->calls[i]);
}

static void receive(Connection *connection)
{
    while (connection->state != CLOSED) {
        size_t room = 1 << 18;
        ssize_t length = recv(connection->fd, reserve(&connection->in, room), room, 0);
        int64_t now = clock_now();
        if (length < 0 && errno == EAGAIN)
            break;
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0) {
            close_connection(connection, now);
            return;
        }
        connection->in.length += length;
        size_t taken = 0;
        while (connection->in.length - taken >= 9) {
            const uint8_t *at = connection->in.at + taken;
            size_t payload = number_at(at) >> 8;
            if (connection->in.length - taken < 9 + payload)
                break;
            take_frame(connection, at[3], at[4], number_at(at + 5) & MOST_WINDOW, at + 9, payload, now);
            taken += 9 + payload;
        }
        drop(&connection->in, taken);
        if ((size_t)length < room)
            break;
    }
    if (connection->state == LEAVING) {
        flush(connection, clock_now()); /* nobody else does it any more */
        if (!connection->under_way)
            close_connection(connection, clock_now());
    }
}
