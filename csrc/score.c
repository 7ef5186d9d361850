#define _GNU_SOURCE
#include "score.h"

#include <math.h>
#include <stdlib.h>

#include "score_best.inc"
#include "score_scope.inc"
#include "score_walk.inc"

/* Scores of one window of 65,536 ids: a container of each term falls into exactly one, and the
   whole stays in the CPU's second cache. */
struct scratch {
    double scores[WINDOW_IDS];
    uint64_t touched[BITMAP_WORDS];
    uint64_t allowed[BITMAP_WORDS];
    uint64_t typed[BITMAP_WORDS];
};

struct search {
    const struct tr_query *query;
    struct scratch *scratch;
    struct best best;
    uint64_t total;
    uint32_t *stream_counts;
    double *idf;
    double base;      /* k1 * (1 - b) */
    double per_term;  /* k1 * b / average length */
};

uint64_t tr_search_scratch_bytes(void)
{
    return sizeof(struct scratch);
}

/* ---- what is done with a posting ---- */

static inline void see_count(struct visit *visit, uint32_t id, uint32_t rank, uint32_t pair_tf)
{
    (void)id;
    (void)rank;
    (void)pair_tf;
    visit->count++;
}

static inline void add_score(struct visit *visit, uint32_t id, double frequency)
{
    struct search *search = visit->search;
    double length = search->base + search->per_term * visit->lengths[id];
    search->scratch->scores[id] += visit->weight * (frequency / (frequency + length));
    search->scratch->touched[id / 64] |= 1ull << (id % 64);
}

static inline void see_pair(struct visit *visit, uint32_t id, uint32_t rank, uint32_t pair_tf)
{
    (void)rank;
    add_score(visit, id, pair_tf);
}

static inline void see_posting(struct visit *visit, uint32_t id, uint32_t rank, uint32_t pair_tf)
{
    (void)pair_tf;
    add_score(visit, id, frequency_at(&visit->cursor->entry, rank));
}

static inline void see_type(struct visit *visit, uint32_t id, uint32_t rank, uint32_t pair_tf)
{
    (void)rank;
    (void)pair_tf;
    visit->search->scratch->typed[id / 64] |= 1ull << (id % 64);
}

/* ---- windows ---- */

static void set_bits(uint64_t *bits, uint32_t low, uint32_t high)
{
    for (; low < high && low % 64; low++)
        bits[low / 64] |= 1ull << (low % 64);
    for (; low + 64 <= high; low += 64)
        bits[low / 64] = ~0ull;
    for (; low < high; low++)
        bits[low / 64] |= 1ull << (low % 64);
}

/* The scope within the window of key. Ranges before *next are done with. Returns 0 if nothing of
   the window is in scope. */
static int window_at(const struct extent *extent, uint32_t key, uint64_t *next,
                     struct scratch *scratch, struct window *window)
{
    uint64_t base = (uint64_t)key * WINDOW_IDS, end = base + WINDOW_IDS;
    uint64_t r = *next;
    while (r < extent->range_count && extent->ranges[r].high <= base)
        r++;
    *next = r;
    if (r == extent->range_count || extent->ranges[r].low >= end)
        return 0;
    window->base = (uint32_t)base;
    window->allowed = NULL;
    uint64_t last = r;
    while (last + 1 < extent->range_count && extent->ranges[last + 1].low < end)
        last++;
    uint64_t low = extent->ranges[r].low, high = extent->ranges[last].high;
    window->low = (uint32_t)(low > base ? low - base : 0);
    window->high = (uint32_t)((high < end ? high : end) - base);
    if (extent->bits) {
        window->allowed = extent->bits + (uint64_t)key * BITMAP_WORDS;
    } else if (last > r) {
        memset(scratch->allowed, 0, sizeof scratch->allowed);
        for (; r <= last; r++) {
            struct range range = extent->ranges[r];
            set_bits(scratch->allowed, (uint32_t)(range.low > base ? range.low - base : 0),
                     (uint32_t)((range.high < end ? range.high : end) - base));
        }
        window->allowed = scratch->allowed;
    }
    return 1;
}

/* How many documents in scope hold the cursor's term. */
static int count_term(struct search *search, struct cursor *cursor, const struct extent *extent,
                      uint64_t *out)
{
    uint64_t next = 0;
    struct visit visit = {search, cursor, NULL, 0, 0};
    while (cursor->live) {
        struct window window;
        const struct tr_container *container = &cursor->container;
        if (window_at(extent, container->key, &next, search->scratch, &window)) {
            if (window.low == 0 && window.high == WINDOW_IDS && !window.allowed) {
                visit.count += container->cardinality;
            } else if (walk(container, &window, see_count, &visit)) {
                return DAMAGED;
            }
        } else if (next == extent->range_count) {
            break;
        }
        if (cursor_next(cursor))
            return DAMAGED;
    }
    *out += visit.count;
    return 0;
}

/* Narrow the window to the wanted types. */
static int apply_types(struct search *search, struct cursor *types, uint32_t count, uint32_t key,
                       struct window *window)
{
    struct scratch *scratch = search->scratch;
    memset(scratch->typed, 0, sizeof scratch->typed);
    for (uint32_t i = 0; i < count; i++) {
        if (cursor_seek(&types[i], key))
            return DAMAGED;
        if (!types[i].live || types[i].container.key != key)
            continue;
        struct visit visit = {search, &types[i], NULL, 0, 0};
        if (walk(&types[i].container, window, see_type, &visit))
            return DAMAGED;
    }
    window->allowed = scratch->typed;
    return 0;
}

/* ---- what is taken of a source ---- */

struct columns {
    const uint64_t *ordinals;
    const int64_t *created;
    const uint32_t *lengths;
    const uint32_t *document_streams;
};

static struct columns columns_of(const struct tr_source *source)
{
    if (source->part)
        return (struct columns){source->part->ordinals, source->part->created,
                                source->part->lengths, source->part->document_streams};
    return (struct columns){source->memory->ordinals, source->memory->created,
                            source->memory->lengths, source->memory->document_streams};
}

static uint64_t stream_id_of(const struct tr_source *source, uint32_t index)
{
    return source->part ? part_stream(source->part, index).stream_id
                        : source->memory->streams[index].stream_id;
}

/* Take every touched document of the window and leave the scratch zero. */
static void collect(struct search *search, const struct tr_source *source,
                    const struct columns *columns, const struct window *window)
{
    struct scratch *scratch = search->scratch;
    int64_t from = search->query->created_from_ms, until = search->query->created_until_ms;
    int timed = from != INT64_MIN || until != INT64_MAX;
    for (uint32_t w = window->low / 64; w < (window->high + 63) / 64; w++) {
        uint64_t word = scratch->touched[w];
        scratch->touched[w] = 0;
        for (; word; word &= word - 1) {
            uint32_t low_id = w * 64 + (uint32_t)__builtin_ctzll(word);
            uint32_t id = window->base + low_id;
            double score = scratch->scores[low_id];
            scratch->scores[low_id] = 0;
            if (timed) {
                int64_t created = columns->created[id];
                if (created < from || (created >= until && until != INT64_MAX))
                    continue;
            }
            search->total++;
            if (search->stream_counts)
                search->stream_counts[columns->document_streams[id]]++;
            if (!may_be_best(&search->best, score))
                continue;
            struct tr_hit hit = {score, columns->created[id], columns->ordinals[id],
                                 stream_id_of(source, columns->document_streams[id])};
            offer(&search->best, &hit);
        }
    }
}

static int score_source(struct search *search, const struct tr_source *source,
                        const struct extent *extent, struct cursor *terms, struct cursor *types)
{
    const struct tr_query *query = search->query;
    struct columns columns = columns_of(source);
    uint64_t next = 0;
    for (;;) {
        uint32_t key = UINT32_MAX;
        for (uint32_t i = 0; i < query->term_count; i++)
            if (terms[i].live && terms[i].container.key < key)
                key = terms[i].container.key;
        if (key == UINT32_MAX)
            return 0;
        struct window window;
        if (!window_at(extent, key, &next, search->scratch, &window)) {
            if (next == extent->range_count)
                return 0;
            uint32_t wanted = extent->ranges[next].low / WINDOW_IDS;
            for (uint32_t i = 0; i < query->term_count; i++)
                if (cursor_seek(&terms[i], wanted))
                    return DAMAGED;
            continue;
        }
        if (query->type_count && apply_types(search, types, query->type_count, key, &window))
            return DAMAGED;
        struct visit visit = {search, NULL, columns.lengths + window.base, 0, 0};
        for (uint32_t i = 0; i < query->term_count; i++) {
            struct cursor *cursor = &terms[i];
            if (!cursor->live || cursor->container.key != key)
                continue;
            visit.cursor = cursor;
            visit.weight = cursor->weight;
            int status = cursor->container.kind == PAIR_CONTAINER
                             ? walk(&cursor->container, &window, see_pair, &visit)
                             : walk(&cursor->container, &window, see_posting, &visit);
            if (status || cursor_next(cursor))
                return DAMAGED;
        }
        collect(search, source, &columns, &window);
    }
}

static int open_cursors(struct cursor *cursors, const struct tr_source *source, int is_type,
                        const uint8_t *names, const uint32_t *ends, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t begin = i ? ends[i - 1] : 0;
        if (cursor_open(&cursors[i], source, is_type, names + begin, ends[i] - begin))
            return DAMAGED;
    }
    return 0;
}

/* ---- the two passes: statistics over all sources, then scores ---- */

static int count_source(struct search *search, const struct tr_source *source,
                        struct extent *extent, struct cursor *terms, uint64_t *frequencies)
{
    const struct tr_query *query = search->query;
    int status = source->part ? part_extent(source, query, extent)
                              : memory_extent(source, query, extent);
    if (status)
        return status;
    if (!extent->documents)
        return 0;
    if (open_cursors(terms, source, 0, query->terms, query->term_ends, query->term_count))
        return DAMAGED;
    int whole = source->part && extent->documents == source->documents;
    for (uint32_t i = 0; i < query->term_count; i++) {
        if (!terms[i].live)
            continue;
        if (whole)
            frequencies[i] += terms[i].entry.count;
        else if (count_term(search, &terms[i], extent, &frequencies[i]))
            return DAMAGED;
    }
    return 0;
}

static int emit_streams(const struct search *search, const struct tr_source *source,
                        uint32_t count, struct tr_stream_hits *streams, uint64_t capacity,
                        struct tr_search_result *result)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!search->stream_counts[i])
            continue;
        if (result->stream_entries == capacity)
            return NO_ROOM;
        streams[result->stream_entries++] =
            (struct tr_stream_hits){stream_id_of(source, i), search->stream_counts[i]};
    }
    return 0;
}

static int scan_source(struct search *search, const struct tr_source *source,
                       const struct extent *extent, struct cursor *terms, struct cursor *types,
                       struct tr_stream_hits *streams, uint64_t capacity,
                       struct tr_search_result *result)
{
    const struct tr_query *query = search->query;
    if (!extent->documents)
        return 0;
    if (open_cursors(terms, source, 0, query->terms, query->term_ends, query->term_count) ||
        open_cursors(types, source, 1, query->types, query->type_ends, query->type_count))
        return DAMAGED;
    for (uint32_t i = 0; i < query->term_count; i++)
        terms[i].weight = search->idf[i] * query->term_weights[i];
    uint32_t stream_count = source->part ? source->part->streams : source->memory->stream_count;
    search->stream_counts = NULL;
    if (streams) {
        search->stream_counts = calloc(stream_count ? stream_count : 1, sizeof(uint32_t));
        if (!search->stream_counts)
            return NO_MEMORY;
    }
    int status = score_source(search, source, extent, terms, types);
    if (!status && streams)
        status = emit_streams(search, source, stream_count, streams, capacity, result);
    free(search->stream_counts);
    search->stream_counts = NULL;
    return status;
}

int32_t tr_search(const struct tr_source *sources, uint32_t source_count,
                  const struct tr_query *query, void *scratch, struct tr_hit *hits,
                  struct tr_stream_hits *streams, uint64_t streams_capacity,
                  uint64_t *document_frequencies, struct tr_search_result *result)
{
    struct search search = {
        .query = query, .scratch = scratch, .best = {.hits = hits, .limit = query->limit}};
    struct extent *extents = calloc(source_count ? source_count : 1, sizeof *extents);
    struct cursor *terms = calloc(query->term_count + 1, sizeof *terms);
    struct cursor *types = calloc(query->type_count + 1, sizeof *types);
    double *idf = calloc(query->term_count + 1, sizeof *idf);
    int status = extents && terms && types && idf ? 0 : NO_MEMORY;
    memset(result, 0, sizeof *result);
    if (query->term_count)
        memset(document_frequencies, 0, 8ull * query->term_count);
    for (uint32_t i = 0; i < source_count && !status; i++) {
        if (sources[i].memory)
            pthread_rwlock_rdlock(&sources[i].memory->lock);
        status = count_source(&search, &sources[i], &extents[i], terms, document_frequencies);
        if (sources[i].memory)
            pthread_rwlock_unlock(&sources[i].memory->lock);
        result->bad_source = i;
        result->documents += extents[i].documents;
        result->length_sum += extents[i].length_sum;
    }
    if (!status && result->length_sum) {
        double documents = (double)result->documents;
        double average = (double)result->length_sum / documents;
        search.base = query->k1 * (1 - query->b);
        search.per_term = query->k1 * query->b / average;
        search.idf = idf;
        for (uint32_t i = 0; i < query->term_count; i++) {
            double frequency = (double)document_frequencies[i];
            idf[i] = log(1 + (documents - frequency + 0.5) / (frequency + 0.5));
        }
        for (uint32_t i = 0; i < source_count && !status; i++) {
            if (sources[i].memory)
                pthread_rwlock_rdlock(&sources[i].memory->lock);
            status = scan_source(&search, &sources[i], &extents[i], terms, types, streams,
                                 streams_capacity, result);
            if (sources[i].memory)
                pthread_rwlock_unlock(&sources[i].memory->lock);
            result->bad_source = i;
        }
    }
    if (!status) {
        result->total = search.total;
        result->hits = search.best.count;
        sort_best(&search.best);
    }
    for (uint32_t i = 0; extents && i < source_count; i++) {
        free(extents[i].ranges);
        free(extents[i].bits);
    }
    free(extents);
    free(terms);
    free(types);
    free(idf);
    return status;
}
