/* Bytes, and how this program gives up. */

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "load: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    exit(1);
}

typedef struct {
    uint8_t *at;
    size_t length, room;
} Buffer;

static uint8_t *reserve(Buffer *buffer, size_t more)
{
    if (buffer->length + more > buffer->room) {
        buffer->room = (buffer->length + more) * 2;
        buffer->at = realloc(buffer->at, buffer->room);
        if (!buffer->at)
            fail("out of memory", NULL);
    }
    return buffer->at + buffer->length;
}

static void put(Buffer *buffer, const void *bytes, size_t length)
{
    memcpy(reserve(buffer, length), bytes, length);
    buffer->length += length;
}

static void put_byte(Buffer *buffer, uint8_t byte) { put(buffer, &byte, 1); }

static void put_number(Buffer *buffer, uint32_t value) /* big endian, 4 bytes */
{
    uint8_t bytes[4] = {value >> 24, value >> 16, value >> 8, value};
    put(buffer, bytes, 4);
}

static uint32_t number_at(const uint8_t *at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void drop(Buffer *buffer, size_t length) /* from its beginning */
{
    buffer->length -= length;
    memmove(buffer->at, buffer->at + length, buffer->length);
}
