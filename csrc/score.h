#ifndef TAILRACE_SCORE_H
#define TAILRACE_SCORE_H
#include <stdint.h>

struct tr_part;
struct tr_memory;

/* What searches and merges return instead of a number that is not negative. */
enum {
    TR_SEARCH_DAMAGED = -1, /* a part's bytes are not what its checksums promised */
    TR_SEARCH_NO_MEMORY = -2,
    TR_SEARCH_NO_ROOM = -3, /* a table of the caller's is too small */
    TR_SEARCH_UNSORTED = -4 /* the scope is not sorted */
};

/* One place to search: a part file, or (part null) a memory part's first documents. floors holds
   one ordinal per stream of the source, by index, below which its documents are gone; streams at
   or behind floors_count have none. */
struct tr_source {
    const struct tr_part *part;
    struct tr_memory *memory;
    const uint64_t *floors;
    uint32_t floors_count;
    uint32_t documents;
};

struct tr_query {
    const uint8_t *terms; /* term after term, term_ends[i] behind the i-th */
    const uint32_t *term_ends;
    const double *term_weights; /* how often the query holds the term */
    uint32_t term_count;
    uint32_t scope_all; /* every stream; else the scope_count items below, sorted by id, start */
    const uint64_t *scope_ids;
    const uint64_t *scope_starts;
    const uint64_t *scope_stops; /* exclusive */
    uint64_t scope_count;
    const uint8_t *types; /* as terms */
    const uint32_t *type_ends;
    uint32_t type_count; /* 0: every type */
    uint32_t limit;
    int64_t created_from_ms;  /* inclusive */
    int64_t created_until_ms; /* exclusive, unless it is the largest int64 */
    double k1;
    double b;
};

struct tr_hit {
    double score;
    int64_t created_at_ms;
    uint64_t ordinal;
    uint64_t stream_id;
};

struct tr_stream_hits {
    uint64_t stream_id;
    uint64_t hits;
};

struct tr_search_result {
    uint64_t total;      /* documents that match */
    uint64_t documents;  /* N of the scope */
    uint64_t length_sum; /* terms in the scope's documents */
    uint64_t stream_entries;
    uint32_t hits;
    uint32_t bad_source; /* with _DAMAGED: the source whose bytes are damaged */
};

/* Room for the scores of one search; the bytes must be zero at first, and are again after a
   search that returned 0. */
uint64_t tr_search_scratch_bytes(void);

/* The best documents in hits (limit of them at most, best first) and, where streams is not null,
   matches per stream (a stream may stand there once per source). document_frequencies holds
   term_count numbers. Returns 0, or what went wrong; it is _NO_ROOM if streams_capacity is too
   small (the sum of the sources' streams suffices). */
int32_t tr_search(const struct tr_source *sources, uint32_t source_count,
                  const struct tr_query *query, void *scratch, struct tr_hit *hits,
                  struct tr_stream_hits *streams, uint64_t streams_capacity,
                  uint64_t *document_frequencies, struct tr_search_result *result);

#endif
