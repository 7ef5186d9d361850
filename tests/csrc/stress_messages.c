#include "stress_messages.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "dice.h"

enum { HEAD_MAX = 256, RECORD_MAX = 64, RECORDS_MAX = 8 * (RECORD_MAX + 3) };

static uint64_t mix(uint64_t id, uint32_t number, uint64_t salt)
{
    uint64_t seed = (id * 0x100000001b3u + number) * 8 + salt;
    return dice_next(&seed);
}

static void fill(uint8_t *out, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (uint8_t)(seed >> (8 * (i % 7))) ^ (uint8_t)(i / 7);
}

static size_t body_length(uint64_t id, uint32_t number)
{
    uint64_t size = mix(id, number, 1);
    if (size % 100 < 85)
        return (size >> 8) % 400;
    return (size >> 8) % (REQUEST_BYTES_MAX - HEAD_MAX);
}

static size_t answer_body_length(uint64_t id, uint32_t number)
{
    uint64_t size = mix(id, number, 2);
    if (size % 100 < 85)
        return (size >> 8) % 500;
    return (size >> 8) % (ANSWER_BYTES_MAX - HEAD_MAX);
}

const char *const FORM_PIECES[3] = {"HTTP/1.1 204 No Content\r\nETag: \"", ":", "\"\r\n\r\n"};

int is_record(uint64_t id, uint32_t number)
{
    return mix(id, number, 5) % 3 == 0;
}

int record_head_make(uint32_t lane, const char *digits, const char *seq, char *out,
                     size_t capacity)
{
    const char *form = lane % 2
                           ? "POST /lane/%u HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n"
                             "Producer-Seq: %s\r\n\r\n"
                           : "POST /lane/%u HTTP/1.1\r\nProducer-Seq: %s\r\nHost: a\r\n"
                             "Content-Length: %s\r\n\r\n";
    return snprintf(out, capacity, form, lane, lane % 2 ? digits : seq, lane % 2 ? seq : digits);
}

/* How many records its body has; 0: one, in two lines, which makes it nothing for a lane. */
static uint32_t record_count(uint64_t id, uint32_t number)
{
    return (uint32_t)mix(id, number, 6) % 8;
}

static int record_make(uint64_t id, uint32_t number, char *out, size_t capacity)
{
    return snprintf(out, capacity, "{%s\"id\":\"%016llx\",\"number\":\"%08x\"}",
                    record_count(id, number) ? "" : "\n", (unsigned long long)id, number);
}

/* One record as it is, more as an array of as many that are equal. */
static int body_make(uint64_t id, uint32_t number, char *out, size_t capacity)
{
    uint32_t count = record_count(id, number);
    int length = 0;
    if (count <= 1)
        return record_make(id, number, out, capacity);
    for (uint32_t i = 0; i < count; i++) {
        length += snprintf(out + length, capacity - (size_t)length, i ? " ,\n" : "[");
        length += record_make(id, number, out + length, capacity - (size_t)length);
    }
    return length + snprintf(out + length, capacity - (size_t)length, "\n]");
}

uint32_t record_read(const uint8_t *record, size_t length, uint64_t *id, uint32_t *number)
{
    char text[RECORD_MAX], again[RECORD_MAX];
    unsigned long long found;
    if (length >= sizeof text)
        return 0;
    memcpy(text, record, length);
    text[length] = 0;
    if (sscanf(text, "{\"id\":\"%16llx\",\"number\":\"%8x\"}", &found, number) != 2)
        return 0;
    *id = found;
    record_make(*id, *number, again, sizeof again);
    return is_record(*id, *number) && strcmp(text, again) == 0 ? record_count(*id, *number) : 0;
}

/* Whether a body is that of some connection's records. */
static int records_read(const uint8_t *body, size_t length, uint64_t *id, uint32_t *number)
{
    char text[RECORDS_MAX], again[RECORDS_MAX];
    unsigned long long found;
    if (length >= sizeof text)
        return 0;
    memcpy(text, body, length);
    text[length] = 0;
    if (sscanf(text + (text[0] == '['), "{ \"id\":\"%16llx\",\"number\":\"%8x\"}", &found,
               number) != 2)
        return 0;
    *id = found;
    body_make(*id, *number, again, sizeof again);
    return is_record(*id, *number) && strcmp(text, again) == 0;
}

size_t request_make(uint64_t id, uint32_t number, int last, uint8_t *out)
{
    if (is_record(id, number)) {
        char body[RECORDS_MAX], digits[48], seq[16];
        int size = body_make(id, number, body, sizeof body);
        snprintf(digits, sizeof digits, "%d%s", size, last ? "\r\nConnection: close" : "");
        snprintf(seq, sizeof seq, "%u", number);
        int head = record_head_make((uint32_t)mix(id, number, 7) % LANES, digits, seq,
                                    (char *)out, HEAD_MAX);
        assert(head > 0 && head < HEAD_MAX);
        memcpy(out + head, body, (size_t)size);
        return (size_t)(head + size);
    }
    size_t length = body_length(id, number);
    const char *method = length == 0 ? "GET" : "POST";
    char framing[48] = "";
    if (length)
        snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", length);
    const char *closing = last ? "Connection: close\r\n" : "";
    int head = snprintf((char *)out, HEAD_MAX, "%s /%016llx/%08x HTTP/1.1\r\nHost: a\r\n%s%s\r\n",
                        method, (unsigned long long)id, number, closing, framing);
    assert(head > 0 && head < HEAD_MAX);
    fill(out + head, length, mix(id, number, 3));
    return (size_t)head + length;
}

size_t odd_request_make(uint64_t id, uint32_t number, uint8_t *out)
{
    int length =
        snprintf((char *)out, HEAD_MAX,
                 "POST /%016llx/%08x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "1\r\nx\r\n0\r\n\r\n",
                 (unsigned long long)id, number);
    assert(length > 0 && length < HEAD_MAX);
    return (size_t)length;
}

static int path_read(const char *path, uint64_t *id, uint32_t *number)
{
    unsigned long long found_id;
    int end = 0;
    if (sscanf(path, "/%16llx/%8x%n", &found_id, number, &end) != 2 || end != 26)
        return 0;
    *id = found_id;
    return 1;
}

int request_read(const uint8_t *path, size_t path_length, const uint8_t *body, size_t length,
                 uint64_t *id, uint32_t *number)
{
    static _Thread_local uint8_t wanted[REQUEST_BYTES_MAX];
    char text[27];
    if (path_length > 6 && memcmp(path, "/lane/", 6) == 0)
        return records_read(body, length, id, number);
    if (path_length != sizeof text - 1)
        return 0;
    memcpy(text, path, path_length);
    text[path_length] = 0;
    if (!path_read(text, id, number) || is_record(*id, *number) ||
        body_length(*id, *number) != length)
        return 0;
    fill(wanted, length, mix(*id, *number, 3));
    return length == 0 || memcmp(wanted, body, length) == 0;
}

int answer_common(uint64_t id, uint32_t number)
{
    uint64_t found = mix(id, number, 0) % (3 * COMMON_ANSWERS);
    return found < COMMON_ANSWERS && !is_record(id, number) ? (int)found : -1;
}

size_t answer_make(uint64_t id, uint32_t number, uint8_t *out)
{
    if (is_record(id, number))
        return (size_t)snprintf((char *)out, HEAD_MAX, "%s%llx%s%08u%s", FORM_PIECES[0],
                                (unsigned long long)id, FORM_PIECES[1], number + 1,
                                FORM_PIECES[2]);
    int common = answer_common(id, number);
    if (common >= 0)
        id = number = (uint32_t)common;
    size_t length = answer_body_length(id, number);
    int head = snprintf((char *)out, HEAD_MAX,
                        "HTTP/1.1 200 OK\r\nX-Id: %016llx\r\nContent-Length: %zu\r\n\r\n",
                        (unsigned long long)id, length);
    assert(head > 0 && head < HEAD_MAX);
    fill(out + head, length, mix(id, number, 4));
    return (size_t)head + length;
}

size_t farewell_text(uint64_t id, uint32_t number, char *out)
{
    return (size_t)snprintf(out, 64, "handed over %016llx/%08x\n", (unsigned long long)id, number);
}

size_t farewell_make(const uint8_t *data, size_t length, char *out)
{
    uint8_t wanted[HEAD_MAX];
    char text[64];
    uint64_t id;
    uint32_t number;
    if (length < 31 || memcmp(data, "POST ", 5) != 0)
        return 0;
    memcpy(text, data + 5, 26);
    text[26] = 0;
    if (!path_read(text, &id, &number))
        return 0;
    size_t whole = odd_request_make(id, number, wanted);
    if (length > whole || memcmp(data, wanted, length) != 0)
        return 0;
    return farewell_text(id, number, out);
}
