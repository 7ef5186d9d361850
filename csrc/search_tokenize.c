#include "search_tokenize.h"
#include "search_tokenize.inc"

#include <string.h>

enum { SEPARATOR = 0, LOWER = 1, UPPER = 2, DIGIT = 4, JOINER = 8, WORD = LOWER | UPPER | DIGIT };

static uint8_t class_of[256];
static uint8_t lower_of[256];

__attribute__((constructor)) static void fill_classes(void)
{
    for (int c = 0; c < 256; c++)
        lower_of[c] = (uint8_t)c;
    for (int c = 'a'; c <= 'z'; c++)
        class_of[c] = LOWER;
    for (int c = 'A'; c <= 'Z'; c++) {
        class_of[c] = UPPER;
        lower_of[c] = (uint8_t)(c + 'a' - 'A');
    }
    for (int c = '0'; c <= '9'; c++)
        class_of[c] = DIGIT;
    class_of['_'] = class_of['-'] = class_of['.'] = class_of['\''] = JOINER;
}

static void lower_copy(uint8_t *out, const uint8_t *text, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        out[i] = lower_of[text[i]];
}

/* The parts of a camelCase piece: aWord, HTTPServer -> a, word, http, server. */
static int emit_humps(const uint8_t *piece, const uint8_t *lowered, uint32_t length,
                      term_sink sink, void *context)
{
    uint32_t start = 0;
    while (start < length) {
        uint32_t end = start;
        while (end < length && class_of[piece[end]] == UPPER)
            end++;
        if (end < length) {
            if (end - start >= 2) {
                end--; /* the last capital begins the next word */
            } else {
                while (end < length && class_of[piece[end]] == LOWER)
                    end++;
            }
        }
        if (start == 0 && end == length)
            return 0; /* one hump: the piece itself, which was emitted */
        int status = sink(context, lowered + start, end - start);
        if (status)
            return status;
        start = end;
    }
    return 0;
}

static int emit_piece(const uint8_t *piece, uint64_t length, int classes, term_sink sink,
                      void *context)
{
    uint8_t lowered[TERM_BYTES_MAX];
    uint32_t kept = length < TERM_BYTES_MAX ? (uint32_t)length : TERM_BYTES_MAX;
    lower_copy(lowered, piece, kept);
    int status = sink(context, lowered, kept);
    if (status || classes != (LOWER | UPPER) || length > TERM_BYTES_MAX)
        return status;
    return emit_humps(piece, lowered, kept, sink, context);
}

int tr_tokenize_each(const uint8_t *text, uint64_t length, term_sink sink, void *context)
{
    uint64_t i = 0;
    while (i < length) {
        if (!(class_of[text[i]] & WORD)) {
            i++;
            continue;
        }
        uint64_t run = i;
        uint32_t pieces = 0;
        for (;;) {
            uint64_t piece = i;
            int classes = 0;
            while (i < length && (class_of[text[i]] & WORD))
                classes |= class_of[text[i++]];
            int status = emit_piece(text + piece, i - piece, classes, sink, context);
            if (status)
                return status;
            pieces++;
            if (i + 1 >= length || class_of[text[i]] != JOINER || !(class_of[text[i + 1]] & WORD))
                break;
            i++;
        }
        if (pieces > 1 && i - run <= TERM_BYTES_MAX) {
            uint8_t lowered[TERM_BYTES_MAX];
            lower_copy(lowered, text + run, (uint32_t)(i - run));
            int status = sink(context, lowered, (uint32_t)(i - run));
            if (status)
                return status;
        }
    }
    return 0;
}

struct out_buffer {
    uint8_t *data;
    uint64_t used;
    uint64_t capacity;
};

static int write_term(void *context, const uint8_t *term, uint32_t length)
{
    struct out_buffer *out = context;
    if (out->capacity - out->used < (uint64_t)length + 1)
        return -1;
    memcpy(out->data + out->used, term, length);
    out->data[out->used + length] = 0;
    out->used += (uint64_t)length + 1;
    return 0;
}

int64_t tr_tokenize(const uint8_t *text, uint64_t length, uint8_t *out, uint64_t capacity)
{
    struct out_buffer buffer = {out, 0, capacity};
    if (tr_tokenize_each(text, length, write_term, &buffer))
        return -1;
    return (int64_t)buffer.used;
}
