#ifndef TAILRACE_SEARCH_MEMORY_H
#define TAILRACE_SEARCH_MEMORY_H
#include <stdint.h>

/* The part of the index that is still in memory: grows by one thread, is searched by any. */
struct tr_memory;
struct tr_part;

/* One event to index. In the bytes beside it stand, event after event: text_bytes of ASCII text to
   be tokenized, terms_bytes of ready terms with a NUL behind each, type_bytes of its type. */
struct tr_new_document {
    uint64_t stream_id;
    uint64_t ordinal;
    int64_t created_at_ms;
    uint32_t text_bytes;
    uint32_t terms_bytes;
    uint32_t type_bytes;
    uint32_t has_type;
};

/* seed makes the hash tables' order unguessable. Null when there is no memory. */
struct tr_memory *tr_memory_new(uint64_t seed);
void tr_memory_free(struct tr_memory *memory);

/* Add documents; one whose ordinal is not above the last one known of its stream, here or in the
   older parts, is in the index already and passed over. Returns how many were added, or -1 when
   memory ran out or lengths do not add up; then the memory part takes nothing more. */
int64_t tr_memory_add(struct tr_memory *memory, const struct tr_part *const *older,
                      uint32_t older_count, const struct tr_new_document *documents,
                      uint64_t count, const uint8_t *bytes, uint64_t bytes_length);

uint32_t tr_memory_documents(struct tr_memory *memory);
uint32_t tr_memory_streams(struct tr_memory *memory);
uint64_t tr_memory_bytes(struct tr_memory *memory);

/* The stream at an index below tr_memory_streams. */
uint64_t tr_memory_stream_id(struct tr_memory *memory, uint32_t index);

/* The index of a stream here, or -1. */
int64_t tr_memory_find_stream(struct tr_memory *memory, uint64_t stream_id);

#endif
