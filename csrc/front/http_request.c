#include "http_request.h"

#include <stddef.h>

/* What a byte may be part of. */
enum { TOKEN = 1, TARGET = 2, VALUE = 4 };

/* Target characters are those of RFC 3986 alone: no quotes, no brackets, no fragment. Values
   are printable ASCII and spaces: no tabs, no bytes above. */
static const uint8_t CLASS[256] = {
    [' '] = VALUE,
    ['!'] = TOKEN | TARGET | VALUE,
    ['"'] = VALUE,
    ['#'] = TOKEN | VALUE,
    ['$' ... '\''] = TOKEN | TARGET | VALUE,
    ['(' ... ')'] = TARGET | VALUE,
    ['*' ... '+'] = TOKEN | TARGET | VALUE,
    [','] = TARGET | VALUE,
    ['-' ... '.'] = TOKEN | TARGET | VALUE,
    ['/'] = TARGET | VALUE,
    ['0' ... '9'] = TOKEN | TARGET | VALUE,
    [':' ... ';'] = TARGET | VALUE,
    ['<'] = VALUE,
    ['='] = TARGET | VALUE,
    ['>'] = VALUE,
    ['?' ... '@'] = TARGET | VALUE,
    ['A' ... 'Z'] = TOKEN | TARGET | VALUE,
    ['[' ... ']'] = VALUE,
    ['^'] = TOKEN | VALUE,
    ['_'] = TOKEN | TARGET | VALUE,
    ['`'] = TOKEN | VALUE,
    ['a' ... 'z'] = TOKEN | TARGET | VALUE,
    ['{'] = VALUE,
    ['|'] = TOKEN | VALUE,
    ['}'] = VALUE,
    ['~'] = TOKEN | TARGET | VALUE,
};

struct word {
    const char *text;
    uint32_t length;
};

#define WORD(text) {text, sizeof(text) - 1}

static const struct word METHODS[] = {
    [TR_HTTP_GET] = WORD("GET "),       [TR_HTTP_HEAD] = WORD("HEAD "),
    [TR_HTTP_POST] = WORD("POST "),     [TR_HTTP_PUT] = WORD("PUT "),
    [TR_HTTP_PATCH] = WORD("PATCH "),   [TR_HTTP_DELETE] = WORD("DELETE "),
    [TR_HTTP_OPTIONS] = WORD("OPTIONS "),
};

static const struct word VERSION = WORD("HTTP/1.1\r\n");

static int same(const uint8_t *data, uint64_t length, const char *lower)
{
    uint64_t i = 0;
    for (; i < length && lower[i] != '\0'; i++) {
        uint8_t c = data[i];
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c != (uint8_t)lower[i])
            return 0;
    }
    return i == length && lower[i] == '\0';
}

/* COMPLETE, PARTIAL (all there is so far agrees) or OTHER. */
static int32_t match(const uint8_t *p, const uint8_t *end, struct word word)
{
    for (uint32_t i = 0; i < word.length; i++) {
        if (p + i == end)
            return TR_HTTP_PARTIAL;
        if (p[i] != (uint8_t)word.text[i])
            return TR_HTTP_OTHER;
    }
    return TR_HTTP_COMPLETE;
}

/* What has been seen of the fields that say where a request ends and what follows it. */
struct framing {
    uint32_t hosts;
    uint32_t lengths;
    uint32_t connections;
    uint32_t seqs;
};

static int32_t read_length(const uint8_t *value, uint32_t length, uint32_t body_max,
                           uint32_t *out)
{
    uint32_t found = 0;
    if (length == 0 || length > 9 || (value[0] == '0' && length > 1))
        return TR_HTTP_OTHER;
    for (uint32_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return TR_HTTP_OTHER;
        found = found * 10 + (value[i] - '0');
    }
    if (found > body_max)
        return TR_HTTP_OTHER;
    *out = found;
    return TR_HTTP_COMPLETE;
}

/* Whether a value is digits alone, without a leading zero, and not too many. */
static int is_plain_number(const uint8_t *value, uint32_t length)
{
    if (length == 0 || length > TR_HTTP_SEQ_DIGITS_MAX || (value[0] == '0' && length > 1))
        return 0;
    for (uint32_t i = 0; i < length; i++)
        if (value[i] < '0' || value[i] > '9')
            return 0;
    return 1;
}

/* Looks at one field. OTHER: the field asks for more than is understood here. */
static int32_t note(const uint8_t *data, const struct tr_http_field *field,
                    const struct tr_http_limits *limits, struct framing *seen,
                    struct tr_http_request *out)
{
    const uint8_t *name = data + field->name, *value = data + field->value;
    switch (field->name_length) {
    case 4:
        if (same(name, 4, "host") && ++seen->hosts > 1)
            return TR_HTTP_OTHER;
        break;
    case 6:
        if (same(name, 6, "expect"))
            return TR_HTTP_OTHER;
        break;
    case 7:
        if (same(name, 7, "upgrade"))
            return TR_HTTP_OTHER;
        break;
    case 10:
        if (!same(name, 10, "connection"))
            break;
        if (++seen->connections > 1)
            return TR_HTTP_OTHER;
        if (same(value, field->value_length, "close"))
            out->keep_alive = 0;
        else if (!same(value, field->value_length, "keep-alive"))
            return TR_HTTP_OTHER;
        break;
    case 12:
        if (!same(name, 12, "producer-seq"))
            break;
        /* An empty one would look like one whose digits are left out. */
        if (++seen->seqs > 1 || field->value_length == 0)
            return TR_HTTP_OTHER;
        if (is_plain_number(value, field->value_length)) {
            out->seq_value = field->value;
            out->seq_value_length = field->value_length;
        }
        break;
    case 14:
        if (!same(name, 14, "content-length"))
            break;
        if (++seen->lengths > 1)
            return TR_HTTP_OTHER;
        out->length_value = field->value;
        out->length_value_length = field->value_length;
        return read_length(value, field->value_length, limits->body_max, &out->body_length);
    case 16:
        if (same(name, 16, "proxy-connection"))
            return TR_HTTP_OTHER;
        break;
    case 17:
        if (same(name, 17, "transfer-encoding"))
            return TR_HTTP_OTHER;
        break;
    default:
        break;
    }
    return TR_HTTP_COMPLETE;
}

int32_t tr_http_parse(const uint8_t *data, uint64_t length, const struct tr_http_limits *limits,
                      struct tr_http_request *out)
{
    const uint64_t bound = length < limits->head_max ? length : limits->head_max;
    const uint8_t *p = data, *const end = data + bound;
    /* Where the bytes run out: more may come, unless a head may not be that long. */
    const int32_t cut = length < limits->head_max ? TR_HTTP_PARTIAL : TR_HTTP_OTHER;
    const uint32_t fields_max =
        limits->fields_max < TR_HTTP_FIELDS_MAX ? limits->fields_max : TR_HTTP_FIELDS_MAX;
    struct framing seen = {0, 0, 0, 0};
    int32_t found = TR_HTTP_OTHER;

    out->head_length = out->body_length = out->field_count = 0;
    out->length_value = out->length_value_length = 0;
    out->seq_value = out->seq_value_length = 0;
    out->keep_alive = 1;
    for (uint32_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        const int32_t matched = match(p, end, METHODS[i]);
        if (matched == TR_HTTP_COMPLETE) {
            out->method = i;
            p += METHODS[i].length;
            found = matched;
            break;
        }
        if (matched == TR_HTTP_PARTIAL)
            found = cut;
    }
    if (found != TR_HTTP_COMPLETE)
        return found;

    out->target = (uint32_t)(p - data);
    if (p == end)
        return cut;
    if (*p != '/')
        return TR_HTTP_OTHER;
    while (p != end && (CLASS[*p] & TARGET))
        p++;
    if (p == end)
        return cut;
    if (*p != ' ')
        return TR_HTTP_OTHER;
    out->target_length = (uint32_t)(p - data) - out->target;
    p++;
    found = match(p, end, VERSION);
    if (found != TR_HTTP_COMPLETE)
        return found == TR_HTTP_PARTIAL ? cut : found;
    p += VERSION.length;

    for (;;) {
        if (p == end)
            return cut;
        if (*p == '\r')
            break;
        if (out->field_count == fields_max)
            return TR_HTTP_OTHER;
        struct tr_http_field *field = &out->fields[out->field_count];
        const uint8_t *start = p;
        while (p != end && (CLASS[*p] & TOKEN))
            p++;
        if (p == end)
            return cut;
        if (*p != ':' || p == start)
            return TR_HTTP_OTHER;
        field->name = (uint32_t)(start - data);
        field->name_length = (uint32_t)(p - start);
        p++;
        while (p != end && *p == ' ')
            p++;
        start = p;
        while (p != end && (CLASS[*p] & VALUE))
            p++;
        if (p == end)
            return cut;
        if (*p != '\r')
            return TR_HTTP_OTHER;
        const uint8_t *last = p;
        while (last != start && last[-1] == ' ')
            last--;
        field->value = (uint32_t)(start - data);
        field->value_length = (uint32_t)(last - start);
        if (++p == end)
            return cut;
        if (*p != '\n')
            return TR_HTTP_OTHER;
        p++;
        if (note(data, field, limits, &seen, out) != TR_HTTP_COMPLETE)
            return TR_HTTP_OTHER;
        out->field_count++;
    }
    if (++p == end)
        return cut;
    if (*p != '\n' || seen.hosts != 1)
        return TR_HTTP_OTHER;
    p++;
    out->head_length = (uint32_t)(p - data);
    if (length - out->head_length < out->body_length)
        return TR_HTTP_PARTIAL;
    return TR_HTTP_COMPLETE;
}
