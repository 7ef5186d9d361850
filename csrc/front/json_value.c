#include "json_value.h"

#include <stddef.h>
#include <string.h>

/* Bytes that end a run of plain ones in a string. */
static const uint8_t SPECIAL[256] = {
    [0x00 ... 0x1f] = 1,
    ['"'] = 1,
    ['\\'] = 1,
    [0x80 ... 0xff] = 1,
};

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether one of eight bytes may be special; never 0 if one is. */
static uint64_t may_be_special(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    const uint64_t quote = word ^ EACH('"'), backslash = word ^ EACH('\\');
    return (word | (word - EACH(0x20)) | (quote - EACH(1)) | (backslash - EACH(1))) & EACH(0x80);
}

/* The bytes of the character that begins at p with a byte of 0x80 or more; 0 if it is none
   (RFC 3629 section 4). */
static ptrdiff_t utf8_length(const uint8_t *p, const uint8_t *end)
{
    const uint8_t first = p[0];
    ptrdiff_t length;
    uint8_t low = 0x80, high = 0xbf; /* of the second byte */
    if (first < 0xc2 || first > 0xf4)
        return 0;
    if (first < 0xe0) {
        length = 2;
    } else if (first < 0xf0) {
        length = 3;
        if (first == 0xe0)
            low = 0xa0;
        else if (first == 0xed)
            high = 0x9f;
    } else {
        length = 4;
        if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4)
            high = 0x8f;
    }
    if (end - p < length || p[1] < low || p[1] > high)
        return 0;
    for (ptrdiff_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind the escape whose backslash is at p; NULL if it is none, or half of a pair. */
static const uint8_t *skip_escape(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 2)
        return NULL;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 2;
    case 'u':
        break;
    default:
        return NULL;
    }
    if (end - p < 6)
        return NULL;
    unsigned code = 0;
    for (int i = 2; i < 6; i++) {
        const int digit = hex_value(p[i]);
        if (digit < 0)
            return NULL;
        code = code << 4 | (unsigned)digit;
    }
    return code >= 0xd800 && code <= 0xdfff ? NULL : p + 6;
}

/* Behind the string whose opening quote is at p, or NULL. */
static const uint8_t *skip_string(const uint8_t *p, const uint8_t *end)
{
    p++;
    for (;;) {
        while (end - p >= 8 && !may_be_special(p))
            p += 8;
        while (p != end && !SPECIAL[*p])
            p++;
        if (p == end || *p < 0x20)
            return NULL;
        if (*p == '"')
            return p + 1;
        if (*p == '\\') {
            p = skip_escape(p, end);
            if (p == NULL)
                return NULL;
        } else {
            const ptrdiff_t length = utf8_length(p, end);
            if (length == 0)
                return NULL;
            p += length;
        }
    }
}

/* Behind the digits at p, of which there must be one; else NULL. */
static const uint8_t *skip_digits(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *const start = p;
    while (p != end && *p >= '0' && *p <= '9')
        p++;
    return p == start ? NULL : p;
}

static const uint8_t *skip_number(const uint8_t *p, const uint8_t *end)
{
    if (*p == '-')
        p++;
    if (p != end && *p == '0')
        p++;
    else
        p = skip_digits(p, end);
    if (p != NULL && p != end && *p == '.')
        p = skip_digits(p + 1, end);
    if (p != NULL && p != end && (*p | 0x20) == 'e') {
        p++;
        if (p != end && (*p == '+' || *p == '-'))
            p++;
        p = skip_digits(p, end);
    }
    return p;
}

static const uint8_t *skip_word(const uint8_t *p, const uint8_t *end, const char *word,
                                ptrdiff_t length)
{
    return end - p >= length && memcmp(p, word, (size_t)length) == 0 ? p + length : NULL;
}

/* Behind the string, number or word at p, or NULL. */
static const uint8_t *skip_scalar(const uint8_t *p, const uint8_t *end)
{
    switch (*p) {
    case '"':
        return skip_string(p, end);
    case 't':
        return skip_word(p, end, "true", 4);
    case 'f':
        return skip_word(p, end, "false", 5);
    case 'n':
        return skip_word(p, end, "null", 4);
    default:
        return skip_number(p, end);
    }
}

/* A line break is no blank here: it would have to be taken out of the record. */
static const uint8_t *skip_blanks(const uint8_t *p, const uint8_t *end)
{
    while (p != end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* The objects and arrays that are open, the innermost last. */
struct nest {
    uint64_t objects[TR_JSON_NESTING_MAX / 64]; /* a bit for each that is an object */
    uint32_t depth;
    uint32_t depth_max;
};

static int enter(struct nest *nest, int object)
{
    if (nest->depth == nest->depth_max)
        return 0;
    const uint64_t bit = UINT64_C(1) << (nest->depth % 64);
    uint64_t *const word = &nest->objects[nest->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    nest->depth++;
    return 1;
}

static int in_object(const struct nest *nest)
{
    const uint32_t last = nest->depth - 1;
    return (int)(nest->objects[last / 64] >> (last % 64) & 1);
}

enum expected { VALUE, KEY, BEHIND };

/* Behind the value at p, which is not the end, if it nests at most nesting_max deep; else NULL. */
static const uint8_t *skip_value(const uint8_t *p, const uint8_t *end, uint32_t nesting_max)
{
    struct nest nest = {{0}, 0, nesting_max};
    enum expected expected = VALUE;

    for (;;) {
        if (p == end)
            return NULL;
        switch (expected) {
        case VALUE:
            expected = BEHIND;
            if (*p != '{' && *p != '[') {
                p = skip_scalar(p, end);
                if (p == NULL)
                    return NULL;
                break;
            }
            const int object = *p == '{';
            if (!enter(&nest, object))
                return NULL;
            p = skip_blanks(p + 1, end);
            if (p == end)
                return NULL;
            if (*p == (object ? '}' : ']')) {
                p++;
                nest.depth--;
            } else {
                expected = object ? KEY : VALUE;
            }
            break;
        case KEY:
            if (*p != '"')
                return NULL;
            p = skip_string(p, end);
            if (p == NULL)
                return NULL;
            p = skip_blanks(p, end);
            if (p == end || *p != ':')
                return NULL;
            p = skip_blanks(p + 1, end);
            expected = VALUE;
            break;
        case BEHIND:
            p = skip_blanks(p, end);
            if (p == end)
                return NULL;
            if (*p == ',') {
                p = skip_blanks(p + 1, end);
                expected = in_object(&nest) ? KEY : VALUE;
            } else if (*p == (in_object(&nest) ? '}' : ']')) {
                p++;
                nest.depth--;
            } else {
                return NULL;
            }
            break;
        }
        if (nest.depth == 0)
            return p;
    }
}

/* What stands around records is not kept: a line break is as good as a space. */
static const uint8_t *skip_space(const uint8_t *p, const uint8_t *end)
{
    while (p != end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

uint32_t tr_json_records(const uint8_t *data, uint64_t length, uint32_t nesting_max,
                         struct tr_json_span *spans, uint32_t capacity)
{
    const uint8_t *const end = data + length, *p = skip_space(data, end);
    uint32_t count = 0;

    if (nesting_max > TR_JSON_NESTING_MAX || length > UINT32_MAX || p == end)
        return 0;
    const int in_array = *p == '[';
    do {
        if (in_array)
            p = skip_space(p + 1, end);
        if (p == end || count == capacity)
            return 0;
        const uint8_t *const behind = skip_value(p, end, nesting_max);
        if (behind == NULL)
            return 0;
        spans[count++] = (struct tr_json_span){(uint32_t)(p - data), (uint32_t)(behind - data)};
        p = skip_space(behind, end);
    } while (in_array && p != end && *p == ',');
    if (in_array) {
        if (p == end || *p != ']')
            return 0;
        p = skip_space(p + 1, end);
    }
    return p == end ? count : 0;
}
