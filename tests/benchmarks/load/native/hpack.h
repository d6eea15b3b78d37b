/* Headers (HPACK, RFC 7541). */

#define TABLE_SIZE 4096
#define MOST_ENTRIES (TABLE_SIZE / 32) /* an entry counts 32 bytes and its text */
#define STATIC_FIELDS 61

enum { OTHER, STATUS, GRPC_STATUS }; /* what a field of an answer is; or the index in `fields` of one that was sent */

typedef struct { /* the dynamic table of one direction; of values only what matters here is kept */
    struct Entry {
        int what, value;
        unsigned name_length, size;
    } entries[MOST_ENTRIES];
    unsigned newest, count, size, most;
} Table;

static struct Entry *entry_of(Table *table, unsigned age) /* 0 is the newest */
{
    return &table->entries[(table->newest + MOST_ENTRIES - age) % MOST_ENTRIES];
}

static void shrink_table(Table *table, unsigned most)
{
    while (table->count && table->size > most)
        table->size -= entry_of(table, --table->count)->size;
}

static void add_entry(Table *table, int what, int value, unsigned name_length, unsigned value_length)
{
    unsigned size = name_length + value_length + 32;
    shrink_table(table, size > table->most ? 0 : table->most - size);
    if (size > table->most)
        return;
    table->newest = (table->newest + 1) % MOST_ENTRIES;
    *entry_of(table, 0) = (struct Entry){what, value, name_length, size};
    table->size += size;
    table->count++;
}

/* The Huffman code is canonical, so the lengths of its codes tell all of it (RFC 7541, appendix B). */
static const uint8_t code_lengths[257] = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6,  6,  6,  6,
    7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
    7,  8,  7,  8,  13, 19, 13, 14, 6,  15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,
    5,  6,  7,  7,  7,  7,  7,  15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24,
    24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26,
    27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23,
    22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30};
static uint32_t codes[257], first_codes[32]; /* by symbol; the first of each length */
static uint16_t symbols[257], first_symbols[32], of_length[32]; /* in the order of the codes */

static void make_codes(void)
{
    uint32_t code = 0;
    int place = 0;
    for (int length = 5; length <= 30; length++, code <<= 1) {
        first_codes[length] = code;
        first_symbols[length] = place;
        for (int symbol = 0; symbol < 257; symbol++)
            if (code_lengths[symbol] == length) {
                codes[symbol] = code++;
                symbols[place++] = symbol;
                of_length[length]++;
            }
    }
}

static size_t decode_huffman(const uint8_t *at, size_t length, char *out, size_t room) /* the length of the text */
{
    uint32_t code = 0;
    size_t written = 0;
    for (size_t bit = 0, bits = 0; bit < length * 8; bit++) {
        code = code << 1 | (at[bit / 8] >> (7 - bit % 8) & 1);
        if (++bits > 30)
            break;
        if (bits >= 5 && code - first_codes[bits] < of_length[bits]) {
            if (written < room)
                out[written] = symbols[first_symbols[bits] + code - first_codes[bits]];
            written++;
            code = bits = 0;
        }
    }
    return written;
}

static void put_integer(Buffer *out, uint8_t pattern, int bits, uint32_t value) /* section 5.1 */
{
    uint32_t most = (1u << bits) - 1;
    if (value < most) {
        put_byte(out, pattern | value);
        return;
    }
    put_byte(out, pattern | most);
    put_varint(out, value - most);
}

static void put_text(Buffer *out, const char *text, size_t length) /* section 5.2, in the shorter of both ways */
{
    size_t bits = 0;
    for (size_t i = 0; i < length; i++)
        bits += code_lengths[(uint8_t)text[i]];
    if ((bits + 7) / 8 >= length) {
        put_integer(out, 0, 7, length);
        put(out, text, length);
        return;
    }
    put_integer(out, 0x80, 7, (bits + 7) / 8);
    uint64_t pending = 0;
    int have = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t symbol = text[i];
        pending = pending << code_lengths[symbol] | codes[symbol];
        for (have += code_lengths[symbol]; have >= 8; have -= 8)
            put_byte(out, pending >> (have - 8));
    }
    if (have)
        put_byte(out, pending << (8 - have) | 0xff >> have);
}

typedef struct {
    const char *name, *value;
    int static_name; /* its index in the static table, 0 if it has none */
    bool varies;
} Field;

static Field fields[32];
static int field_count;

static void add_field(const char *name, const char *value, bool varies)
{
    static const struct { const char *name; int index; } known[] = {
        {":authority", 1}, {":path", 4}, {"authorization", 23}, {"content-type", 31}, {"user-agent", 58}};
    Field field = {name, value, 0, varies};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name))
            field.static_name = known[i].index;
    if (field_count == sizeof fields / sizeof *fields)
        fail("too many headers", NULL);
    fields[field_count++] = field;
}

static void make_fields(void)
{
    static char timeout[24];
    bool is_unix = !strncmp(options.address, "unix:", 5);
    add_field(":path", options.path, false);
    add_field(":authority", is_unix ? "localhost" : options.address, false);
    add_field("te", "trailers", false);
    add_field("content-type", "application/grpc", false);
    add_field("user-agent", "samplit-load", false);
    for (int i = 0; i < options.header_count; i++) {
        char *colon = strchr(options.headers[i] + 1, ':');
        *colon = 0;
        add_field(options.headers[i], colon + 1 + strspn(colon + 1, " "), false);
    }
    snprintf(timeout, sizeof timeout, "%dm", (int)(options.timeout * 1000 + .5));
    if (options.varying || options.timeout > 0)
        add_field("grpc-timeout", timeout, options.varying);
    if (options.varying)
        add_field("traceparent", "", true);
}

static const char *varying_value(const Field *field, uint64_t number) /* another one for each call */
{
    static char text[64];
    uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    if (!strcmp(field->name, "grpc-timeout"))
        snprintf(text, sizeof text, "%du", (int)(9000000 + mixed % 1000000)); /* some 9 s: none is late for it */
    else
        snprintf(text, sizeof text, "00-%016llx%016llx-%016llx-01", (unsigned long long)mixed,
                 (unsigned long long)(mixed * STRIDE), (unsigned long long)(mixed * OTHER_STRIDE));
    return text;
}

/* As usual clients do it: every field goes into the table, also those that never come again. */
static void put_headers(Buffer *out, Table *table, uint64_t number)
{
    put(out, "\x83\x86", 2); /* :method POST, :scheme http */
    for (int i = 0; i < field_count; i++) {
        const Field *field = &fields[i];
        unsigned found = 0; /* the index of the newest entry of this field */
        for (unsigned age = 0; age < table->count && !found; age++)
            if (entry_of(table, age)->what == i)
                found = STATIC_FIELDS + 1 + age;
        if (found && !field->varies) {
            put_integer(out, 0x80, 7, found);
            continue;
        }
        const char *value = field->varies ? varying_value(field, number) : field->value;
        put_integer(out, 0x40, 6, field->static_name ? (unsigned)field->static_name : found);
        if (!field->static_name && !found)
            put_text(out, field->name, strlen(field->name));
        put_text(out, value, strlen(value));
        add_entry(table, i, 0, strlen(field->name), strlen(value));
    }
}

static uint32_t take_integer(const uint8_t **at, const uint8_t *end, int bits)
{
    uint32_t most = (1u << bits) - 1, value = *(*at)++ & most;
    if (value < most)
        return value;
    for (int shift = 0; *at < end && shift < 28; shift += 7) {
        uint8_t byte = *(*at)++;
        value += (uint32_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    fail("the server sent a malformed block of headers", NULL);
}

static size_t take_text(const uint8_t **at, const uint8_t *end, char *text, size_t room) /* its length */
{
    memset(text, 0, room);
    if (*at >= end)
        fail("the server sent a malformed block of headers", NULL);
    bool huffman = **at & 0x80;
    size_t length = take_integer(at, end, 7);
    const uint8_t *begin = *at;
    if (length > (size_t)(end - begin))
        fail("the server sent a malformed block of headers", NULL);
    *at += length;
    if (huffman)
        return decode_huffman(begin, length, text, room - 1);
    memcpy(text, begin, length < room ? length : room - 1);
    return length;
}

static int status_of_http(int status) /* as gRPC maps it */
{
    return status == 400 ? 13 : status == 401 ? 16 : status == 403 ? 7 : status == 404 ? 12
           : status == 429 || (status >= 502 && status <= 504) ? 14 : 2;
}

/* The gRPC status that a block of headers tells, or -1 if it tells none. */
static int take_headers(Table *table, const uint8_t *at, size_t length)
{
    static const int http_statuses[] = {200, 204, 206, 304, 400, 404, 500}; /* 8 to 14 in the static table */
    static const uint8_t static_name_lengths[STATIC_FIELDS + 1] = {
        0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16,
        13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10,
        4, 3, 16};
    const uint8_t *end = at + length;
    int grpc = -1, http = 200;
    while (at < end) {
        uint8_t first = *at;
        if ((first & 0xe0) == 0x20) {
            table->most = take_integer(&at, end, 5);
            shrink_table(table, table->most);
            continue;
        }
        bool indexed = first & 0x80, kept = (first & 0xc0) == 0x40;
        unsigned index = take_integer(&at, end, indexed ? 7 : kept ? 6 : 4), name_length;
        int what = OTHER, value = 0;
        char text[24];
        if (index > STATIC_FIELDS + table->count)
            fail("the server sent an index that its table of headers lacks", NULL);
        if (index > STATIC_FIELDS) {
            const struct Entry *entry = entry_of(table, index - STATIC_FIELDS - 1);
            what = entry->what, value = entry->value, name_length = entry->name_length;
        } else if (index) {
            what = index >= 8 && index <= 14 ? STATUS : OTHER;
            value = what == STATUS ? http_statuses[index - 8] : 0;
            name_length = static_name_lengths[index];
        } else {
            name_length = take_text(&at, end, text, sizeof text);
            what = !strcmp(text, "grpc-status") ? GRPC_STATUS : OTHER;
        }
        if (!indexed) {
            size_t value_length = take_text(&at, end, text, sizeof text);
            value = atoi(text);
            if (kept)
                add_entry(table, what, value, name_length, value_length);
        }
        if (what == GRPC_STATUS)
            grpc = value;
        else if (what == STATUS)
            http = value;
    }
    return grpc >= 0 ? grpc : http != 200 ? status_of_http(http) : -1;
}
