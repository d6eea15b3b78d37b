/* The messages that calls send. */

#define STRIDE 2654435761ULL       /* prime, 2^32 over the golden ratio: multiples of it are spread evenly */
#define OTHER_STRIDE 2246822519ULL /* so that who returns has nothing to do with when */
#define SPREAD 4294967296ULL

typedef struct {
    Buffer *at;
    size_t count;
} Pieces;

static Pieces heads, tails;
static Buffer body;

static Buffer *add_piece(Pieces *pieces)
{
    pieces->at = realloc(pieces->at, (pieces->count + 1) * sizeof(Buffer));
    if (!pieces->at)
        fail("out of memory", NULL);
    return memset(&pieces->at[pieces->count++], 0, sizeof(Buffer));
}

static void read_requests(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        Buffer *piece = !strncmp(line, "head ", 5)   ? add_piece(&heads)
                        : !strncmp(line, "tail ", 5) ? add_piece(&tails)
                        : !strncmp(line, "body ", 5) ? &body
                                                     : NULL;
        if (!piece)
            fail("a line of stdin begins with neither head nor tail nor body", NULL);
        reserve(piece, 1); /* an empty one is there all the same */
        unsigned byte;
        for (char *hex = line + 5; sscanf(hex, "%2x", &byte) == 1; hex += 2)
            put_byte(piece, byte);
    }
    free(line);
    if (!heads.count && !body.at)
        fail("stdin has no request", NULL);
}

static void put_varint(Buffer *out, size_t value)
{
    for (; value > 127; value >>= 7)
        put_byte(out, value | 128);
    put_byte(out, value);
}

static void put_user(Buffer *out, uint64_t number) /* the AllocateUserRequest of user number `number` */
{
    const char *prefix = options.prefix;
    if (options.returning > 0 && number * STRIDE % SPREAD < options.returning * SPREAD) {
        number = number * OTHER_STRIDE % SPREAD * options.pool / SPREAD;
        prefix = options.known_prefix;
    }
    const Buffer *head = &heads.at[number % heads.count];
    size_t length = strlen(prefix);
    uint8_t digits[10];
    uint64_t rest = number;
    for (int i = 9; i >= 0; i--, rest /= 10)
        digits[i] = '0' + rest % 10;
    put(out, head->at, head->length);
    put_byte(out, 0x12); /* field 2, length-delimited */
    put_byte(out, length + 10);
    put(out, prefix, length);
    put(out, digits, 10);
    if (tails.count) {
        const Buffer *tail = &tails.at[number * STRIDE % tails.count];
        put(out, tail->at, tail->length);
    }
}

static void put_message(Buffer *out, uint64_t number) /* the message of call number `number`, as gRPC prefixes it */
{
    static Buffer user;
    size_t begin = out->length;
    put(out, "\0\0\0\0\0", 5);
    if (body.at)
        put(out, body.at, body.length);
    else if (!options.batch)
        put_user(out, number);
    for (int i = 0; i < options.batch; i++) {
        user.length = 0;
        put_user(&user, number * options.batch + i);
        put_byte(out, 0x0a); /* field 1, length-delimited */
        put_varint(out, user.length);
        put(out, user.at, user.length);
    }
    uint32_t length = htonl(out->length - begin - 5);
    memcpy(out->at + begin + 1, &length, 4);
}
