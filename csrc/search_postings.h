#ifndef TAILRACE_SEARCH_POSTINGS_H
#define TAILRACE_SEARCH_POSTINGS_H
#include <stdint.h>

/* Sets of document ids in the portable serialized roaring form
   (github.com/RoaringBitmap/RoaringFormatSpec), written, and walked in place. */

/* The serialized form of count ascending, distinct ids. Each container takes its smallest kind.
   Returns the bytes written, or -1 if capacity is too small. */
int64_t tr_roaring_encode(const uint32_t *ids, uint64_t count, uint8_t *out, uint64_t capacity);

/* Bytes that tr_roaring_encode will write. */
uint64_t tr_roaring_bytes(const uint32_t *ids, uint64_t count);

/* The ids of a serialized set. Returns their number, -1 if the bytes are not such a set (or go on
   after its end), -2 if capacity is too small. */
int64_t tr_roaring_decode(const uint8_t *data, uint64_t length, uint32_t *ids, uint64_t capacity);

#endif
