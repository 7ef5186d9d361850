#define _GNU_SOURCE
#include "answer.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

enum { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, END };

void
lg_answer_begin(lg_answer *a)
{
    memset(a, 0, offsetof(lg_answer, offset));
}

/* Decimal digits and nothing else; -1 if not. */
static int64_t
decimal(const uint8_t *text, uint32_t length)
{
    int64_t value = 0;
    if (length == 0 || length > 18)
        return -1;
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

static int
is(const uint8_t *text, uint32_t length, const char *word)
{
    return length == strlen(word) && strncasecmp((const char *)text, word, length) == 0;
}

static int
keep(char *target, uint32_t *target_length, const uint8_t *value, uint32_t length)
{
    if (length >= LG_TOKEN_BYTES_MAX)
        return 0;
    memcpy(target, value, length);
    *target_length = length;
    return 1;
}

static int
header(lg_answer *a, const uint8_t *name, uint32_t name_length, const uint8_t *value,
       uint32_t length)
{
    switch (name[0] | 0x20) {
    case 'c':
        if (is(name, name_length, "content-length")) {
            int64_t number = decimal(value, length);
            if (number < 0 || a->has_length || a->chunked)
                return 0;
            a->has_length = 1;
            a->left = (uint64_t)number;
        } else if (is(name, name_length, "connection")) {
            a->closing = is(value, length, "close");
        }
        return 1;
    case 't':
        if (is(name, name_length, "transfer-encoding")) {
            if (a->has_length || a->chunked || !is(value, length, "chunked"))
                return 0;
            a->chunked = 1;
        }
        return 1;
    case 's':
        if (is(name, name_length, "stream-next-offset"))
            return keep(a->offset, &a->offset_length, value, length);
        if (is(name, name_length, "stream-cursor"))
            return keep(a->cursor, &a->cursor_length, value, length);
        if (is(name, name_length, "stream-up-to-date"))
            a->up_to_date = is(value, length, "true");
        return 1;
    default:
        return 1;
    }
}

/* A whole head, with the empty line that ends it. */
static int
parse_head(lg_answer *a, const uint8_t *head, uint32_t length)
{
    const uint8_t *end = head + length;
    if (length < 17 || memcmp(head, "HTTP/1.1 ", 9) != 0 || head[12] != ' ')
        return 0;
    int64_t status = decimal(head + 9, 3);
    if (status < 200)
        return 0;
    a->status = (int16_t)status;
    const uint8_t *line = (const uint8_t *)memmem(head, length, "\r\n", 2) + 2;
    while (line + 2 < end) {
        const uint8_t *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        const uint8_t *colon = memchr(line, ':', (size_t)(stop - line));
        if (colon == NULL || colon == line)
            return 0;
        const uint8_t *value = colon + 1;
        const uint8_t *value_end = stop;
        while (value < value_end && (*value == ' ' || *value == '\t'))
            value++;
        while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t'))
            value_end--;
        if (!header(a, line, (uint32_t)(colon - line), value, (uint32_t)(value_end - value)))
            return 0;
        line = stop + 2;
    }
    if (status == 204 || status == 304) {
        if (a->chunked || (status == 204 && a->left != 0))
            return 0;
        a->left = 0;
        a->state = END;
    } else if (a->chunked) {
        a->state = CHUNK_SIZE;
    } else if (a->has_length) {
        a->state = a->left == 0 ? END : LENGTH;
    } else {
        return 0; /* a body that ends with the connection */
    }
    return 1;
}

/* Take bytes up to and with `mark`. 1: *text is all of it, 0: more is needed, -1: too long.
   A text that came in one piece is not copied. */
static int
take(lg_answer *a, const char *mark, uint32_t mark_length, const uint8_t *data, uint32_t length,
     uint32_t *used, const uint8_t **text, uint32_t *text_length)
{
    if (a->head_length == 0) {
        const uint8_t *found = memmem(data, length, mark, mark_length);
        if (found != NULL) {
            *text = data;
            *text_length = *used = (uint32_t)(found - data) + mark_length;
            return 1;
        }
    }
    uint32_t room = LG_HEAD_BYTES_MAX - a->head_length;
    uint32_t part = length < room ? length : room;
    uint32_t known = a->head_length;
    memcpy(a->head + known, data, part);
    uint32_t from = known < mark_length ? 0 : known - mark_length + 1;
    const uint8_t *found = memmem(a->head + from, known + part - from, mark, mark_length);
    if (found == NULL) {
        a->head_length = known + part;
        *used = part;
        return a->head_length == LG_HEAD_BYTES_MAX ? -1 : 0;
    }
    *text = a->head;
    *text_length = (uint32_t)(found - a->head) + mark_length;
    *used = *text_length - known;
    a->head_length = 0;
    return 1;
}

static int
chunk_size(lg_answer *a, const uint8_t *line, uint32_t length)
{
    uint64_t value = 0;
    uint32_t i = 0;
    for (; i < length - 2 && line[i] != ';'; i++) {
        uint8_t c = line[i] | 0x20;
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return 0;
    }
    if (i == 0 || i > 15)
        return 0;
    a->left = value;
    a->state = value == 0 ? TRAILER : CHUNK_DATA;
    return 1;
}

int
lg_http_read(lg_answer *a, const uint8_t *data, uint32_t length, uint32_t *used,
             const uint8_t **body, uint32_t *body_length)
{
    const uint8_t *text;
    uint32_t text_length, position = 0, part;
    int got;
    for (;;) {
        *used = position;
        if (a->state == END) {
            a->state = HEAD;
            return LG_DONE;
        }
        if (position == length)
            return LG_MORE;
        if (a->state == LENGTH || a->state == CHUNK_DATA) {
            uint64_t there = length - position;
            *body = data + position;
            *body_length = (uint32_t)(there < a->left ? there : a->left);
            a->left -= *body_length;
            *used = position + *body_length;
            if (a->left == 0)
                a->state = a->state == LENGTH ? END : CHUNK_END;
            return LG_BODY;
        }
        const char *mark = a->state == HEAD ? "\r\n\r\n" : "\r\n";
        got = take(a, mark, a->state == HEAD ? 4 : 2, data + position, length - position, &part,
                   &text, &text_length);
        position += part;
        *used = position;
        if (got < 0)
            return LG_MALFORMED;
        if (got == 0)
            return LG_MORE;
        if (a->state == HEAD)
            return parse_head(a, text, text_length) ? LG_HEAD_READ : LG_MALFORMED;
        if (a->state == CHUNK_SIZE) {
            if (!chunk_size(a, text, text_length))
                return LG_MALFORMED;
        } else if (a->state == CHUNK_END) {
            if (text_length != 2)
                return LG_MALFORMED;
            a->state = CHUNK_SIZE;
        } else if (text_length == 2) { /* the empty line after the trailers */
            a->state = END;
        }
    }
}

int
lg_resp_read(lg_answer *a, const uint8_t *data, uint32_t length, uint32_t *used,
             const uint8_t **body, uint32_t *body_length)
{
    const uint8_t *text;
    uint32_t text_length, part;
    if (a->status == 0) {
        a->status = 200;
        a->left = 1;
    }
    if (a->left == 0) {
        *used = 0;
        return LG_DONE;
    }
    if (length == 0) {
        *used = 0;
        return LG_MORE;
    }
    if (a->bulk != 0) {
        part = (uint32_t)(length < a->bulk ? length : a->bulk);
        a->bulk -= part;
        if (a->bulk == 0)
            a->left--;
        *body = data;
        *body_length = *used = part;
        return LG_BODY;
    }
    int got = take(a, "\r\n", 2, data, length, used, &text, &text_length);
    if (got <= 0)
        return got < 0 ? LG_MALFORMED : LG_MORE;
    *body = text;
    *body_length = 0;
    int64_t number = decimal(text + 1, text_length - 3);
    switch (text[0]) {
    case '+':
    case ':':
        a->left--;
        return LG_BODY;
    case '-':
        a->status = 500;
        a->left--;
        return LG_BODY;
    case '$':
        if (number < 0)
            return LG_MALFORMED;
        a->bulk = (uint64_t)number + 2;
        return LG_BODY;
    case '*':
        if (number < 0)
            return LG_MALFORMED;
        a->left += (uint64_t)number - 1;
        return LG_BODY;
    default:
        return LG_MALFORMED;
    }
}
