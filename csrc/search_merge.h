#ifndef TAILRACE_SEARCH_MERGE_H
#define TAILRACE_SEARCH_MERGE_H
#include <stdint.h>

struct tr_source;

/* Makes the bytes of a new part from sources (parts, or one memory part) in log order: documents
   below their stream's floor are left out, the rest is ordered by stream and ordinal. The sources
   must stay as they are until it is freed. */
struct tr_merge;

struct tr_merge_counts {
    uint32_t documents;
    uint32_t streams;
    uint32_t terms;
    uint32_t types;
    uint64_t length_sum;
};

/* Null when there is no memory, or more documents than ids. */
struct tr_merge *tr_merge_new(const struct tr_source *sources, uint32_t source_count);
void tr_merge_free(struct tr_merge *merge);

/* Make the next bytes of the postings section, about wanted of them. Returns their number, 0 at
   the end, or TR_SEARCH_DAMAGED or _NO_MEMORY (score.h). */
int64_t tr_merge_step(struct tr_merge *merge, uint64_t wanted);

/* The bytes the last step made. */
const uint8_t *tr_merge_chunk(struct tr_merge *merge);

/* A section other than the postings, by its number in the file. Complete once a step returned 0. */
const uint8_t *tr_merge_section(struct tr_merge *merge, uint32_t section, uint64_t *length);
void tr_merge_count(struct tr_merge *merge, struct tr_merge_counts *out);

#endif
