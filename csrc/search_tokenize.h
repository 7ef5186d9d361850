#ifndef TAILRACE_SEARCH_TOKENIZE_H
#define TAILRACE_SEARCH_TOKENIZE_H
#include <stdint.h>

/* The terms of ASCII text, by the rules of tailrace.search.analyzer (which does the same for all
   of Unicode, and is what a test compares this with). Each term is written with a NUL behind it.
   Returns the bytes written, or -1 if capacity is too small; 4 * length + 66 always suffices. */
int64_t tr_tokenize(const uint8_t *text, uint64_t length, uint8_t *out, uint64_t capacity);

#endif
