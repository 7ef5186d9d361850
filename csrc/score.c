#define _GNU_SOURCE
#include "score.h"

#include <math.h>
#include <stdlib.h>

#include "search_memory.inc"
#include "search_part.inc"

enum { DAMAGED = -1, NO_MEMORY = -2, NO_ROOM = -3, UNSORTED = -4 };

/* Scores of one window of 65,536 ids: a container of each term falls into exactly one, and the
   whole stays in the CPU's second cache. */
struct scratch {
    double scores[WINDOW_IDS];
    uint64_t touched[BITMAP_WORDS];
    uint64_t allowed[BITMAP_WORDS];
    uint64_t typed[BITMAP_WORDS];
};

struct range {
    uint32_t low;
    uint32_t high;
};

/* What of a source is in scope: ranges of a part (whose ids follow streams), bits of a memory
   part (whose ids follow arrival), or all. */
struct extent {
    struct range *ranges;
    uint64_t range_count;
    uint64_t range_capacity;
    uint64_t *bits;
    uint64_t documents;
    uint64_t length_sum;
};

/* One posting list, container by container. Of a memory part, a container is a slice of pairs. */
struct cursor {
    int live;
    struct term_entry entry;
    struct tr_bitmap bitmap;
    struct tr_container container;
    const uint64_t *pairs;
    uint32_t pairs_left;
    double weight;
};

struct search {
    const struct tr_query *query;
    struct scratch *scratch;
    struct tr_hit *heap;
    uint32_t heap_count;
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

/* ---- the scope ---- */

static int add_range(struct extent *extent, uint32_t low, uint32_t high)
{
    if (low >= high)
        return 0;
    if (extent->range_count) {
        struct range *last = &extent->ranges[extent->range_count - 1];
        if (low < last->low)
            return UNSORTED;
        if (low <= last->high) {
            if (high > last->high)
                last->high = high;
            return 0;
        }
    }
    if (extent->range_count == extent->range_capacity) {
        uint64_t capacity = extent->range_capacity ? extent->range_capacity * 2 : 16;
        struct range *ranges = realloc(extent->ranges, capacity * sizeof *ranges);
        if (!ranges)
            return NO_MEMORY;
        extent->ranges = ranges;
        extent->range_capacity = capacity;
    }
    extent->ranges[extent->range_count++] = (struct range){low, high};
    return 0;
}

static uint64_t floor_of(const struct tr_source *source, uint32_t stream)
{
    return source->floors && stream < source->floors_count ? source->floors[stream] : 0;
}

static int part_extent(const struct tr_source *source, const struct tr_query *query,
                       struct extent *extent)
{
    const struct tr_part *part = source->part;
    int status = 0;
    if (query->scope_all && !source->floors) {
        status = add_range(extent, 0, part->documents);
    } else if (query->scope_all) {
        for (uint32_t i = 0; i < part->streams && !status; i++) {
            struct stream_entry stream = part_stream(part, i);
            uint32_t end = stream.first + stream.count;
            uint64_t start = floor_of(source, i);
            status = add_range(
                extent, start ? part_lower_bound(part, stream.first, end, start) : stream.first,
                end);
        }
    } else {
        for (uint64_t i = 0; i < query->scope_count && !status; i++) {
            int64_t index = tr_part_find_stream(part, query->scope_ids[i]);
            if (index < 0)
                continue;
            struct stream_entry stream = part_stream(part, (uint32_t)index);
            uint32_t low = stream.first, high = stream.first + stream.count;
            uint64_t start = floor_of(source, (uint32_t)index);
            if (query->scope_starts[i] > start)
                start = query->scope_starts[i];
            if (part->ordinals[low] < start)
                low = part_lower_bound(part, low, high, start);
            if (part->ordinals[high - 1] >= query->scope_stops[i])
                high = part_lower_bound(part, low, high, query->scope_stops[i]);
            status = add_range(extent, low, high);
        }
    }
    for (uint64_t r = 0; r < extent->range_count; r++) {
        struct range range = extent->ranges[r];
        extent->documents += range.high - range.low;
        if (range.low == 0 && range.high == part->documents) {
            extent->length_sum = part->length_sum;
            break;
        }
        for (uint32_t i = range.low; i < range.high; i++)
            extent->length_sum += part->lengths[i];
    }
    return status;
}

/* The first of a stream's documents (in arrival order) whose ordinal is not below ordinal. */
static uint32_t memory_lower_bound(const struct tr_memory *memory,
                                   const struct memory_stream *stream, uint64_t ordinal)
{
    uint32_t low = 0, high = stream->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memory->ordinals[stream->documents[middle]] < ordinal)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int memory_extent(const struct tr_source *source, const struct tr_query *query,
                         struct extent *extent)
{
    const struct tr_memory *memory = source->memory;
    uint32_t documents = source->documents;
    if (documents == 0)
        return 0;
    int status = add_range(extent, 0, documents);
    if (status || (query->scope_all && !source->floors)) {
        extent->documents = documents;
        extent->length_sum = memory->length_sums[documents - 1];
        return status;
    }
    uint64_t words = ((uint64_t)documents + WINDOW_IDS - 1) / WINDOW_IDS * BITMAP_WORDS;
    extent->bits = calloc(words, 8);
    if (!extent->bits)
        return NO_MEMORY;
    uint64_t items = query->scope_all ? memory->stream_count : query->scope_count;
    for (uint64_t i = 0; i < items; i++) {
        int64_t index = (int64_t)i;
        uint64_t start = 0, stop = UINT64_MAX;
        if (!query->scope_all) {
            index = memory_find_stream(memory, query->scope_ids[i]);
            if (index < 0)
                continue;
            start = query->scope_starts[i];
            stop = query->scope_stops[i];
        }
        const struct memory_stream *stream = &memory->streams[index];
        uint64_t floor = floor_of(source, (uint32_t)index);
        uint32_t from = memory_lower_bound(memory, stream, floor > start ? floor : start);
        for (uint32_t d = from; d < stream->count; d++) {
            uint32_t id = stream->documents[d];
            if (id >= documents || memory->ordinals[id] >= stop)
                break;
            uint64_t bit = 1ull << (id % 64);
            if (!(extent->bits[id / 64] & bit)) {
                extent->bits[id / 64] |= bit;
                extent->documents++;
                extent->length_sum += memory->lengths[id];
            }
        }
    }
    return 0;
}

/* ---- posting lists ---- */

static int cursor_next(struct cursor *cursor)
{
    if (cursor->pairs) {
        const uint64_t *pairs = cursor->pairs;
        uint32_t left = cursor->pairs_left;
        if (!left) {
            cursor->live = 0;
            return 0;
        }
        uint32_t key = (uint32_t)(pairs[0] >> 48);
        uint32_t low = 1, high = left; /* the first pair of a later window */
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if ((uint32_t)(pairs[middle] >> 48) == key)
                low = middle + 1;
            else
                high = middle;
        }
        cursor->container.kind = PAIR_CONTAINER;
        cursor->container.key = key;
        cursor->container.cardinality = low;
        cursor->container.data = (const uint8_t *)pairs;
        cursor->pairs = pairs + low;
        cursor->pairs_left = left - low;
        return 0;
    }
    int status = tr_bitmap_next(&cursor->bitmap, &cursor->container);
    cursor->live = status == 1;
    if (status < 0)
        return DAMAGED;
    /* Ranks index the frequencies, so the sets must not hold more ids than the entry says. */
    if (status == 1 &&
        cursor->container.rank + (uint64_t)cursor->container.cardinality > cursor->entry.count)
        return DAMAGED;
    return 0;
}

static int cursor_seek(struct cursor *cursor, uint32_t key)
{
    while (cursor->live && cursor->container.key < key) {
        int status = cursor_next(cursor);
        if (status)
            return status;
    }
    return 0;
}

static int cursor_open(struct cursor *cursor, const struct tr_source *source, int is_type,
                       const uint8_t *name, uint32_t length)
{
    cursor->live = 0;
    cursor->pairs = NULL;
    if (source->part) {
        const struct tr_part *part = source->part;
        const uint8_t *table = is_type ? part->type_table : part->term_table;
        uint32_t count = is_type ? part->types : part->terms;
        if (!part_find(part, table, count, name, length, &cursor->entry))
            return 0;
        if (tr_bitmap_open(&cursor->bitmap, cursor->entry.bitmap, cursor->entry.bitmap_bytes))
            return DAMAGED;
        cursor->live = 1;
        return cursor_next(cursor);
    }
    const struct tr_memory *memory = source->memory;
    const struct dictionary *dictionary = is_type ? &memory->types : &memory->terms;
    int64_t index = dictionary_find(memory, dictionary, name, length);
    if (index < 0)
        return 0;
    const struct memory_term *term = &dictionary->terms[index];
    uint32_t low = 0, high = term->count; /* only documents of the snapshot */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint32_t)(term->pairs[middle] >> 32) < source->documents)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return 0;
    cursor->pairs = term->pairs;
    cursor->pairs_left = low;
    cursor->live = 1;
    return cursor_next(cursor);
}

/* ---- walking a container ---- */

struct window {
    uint32_t base;
    uint32_t low; /* within the window; ids outside [low, high) are not in scope */
    uint32_t high;
    const uint64_t *allowed; /* null: all of [low, high) */
};

struct visit {
    struct search *search;
    const struct cursor *cursor;
    const uint32_t *lengths; /* of the window's documents */
    double weight;
    uint64_t count;
};

typedef void (*visitor)(struct visit *visit, uint32_t low_id, uint32_t rank, uint32_t pair_tf);

static inline int is_allowed(const struct window *window, uint32_t id)
{
    return !window->allowed || (window->allowed[id / 64] >> (id % 64)) & 1;
}

/* Call see for every id of the container in the window. Inlined with each visitor. */
__attribute__((always_inline)) static inline int
walk(const struct tr_container *container, const struct window *window, visitor see,
     struct visit *visit)
{
    uint32_t low = window->low, high = window->high;
    const uint8_t *data = container->data;
    if (container->kind == PAIR_CONTAINER) {
        const uint64_t *pairs = (const uint64_t *)data;
        for (uint32_t i = 0; i < container->cardinality; i++) {
            uint32_t id = (uint32_t)(pairs[i] >> 32) & 0xffff;
            if (id >= high)
                break;
            if (id >= low && is_allowed(window, id))
                see(visit, id, 0, (uint32_t)pairs[i]);
        }
    } else if (container->kind == ARRAY_CONTAINER) {
        uint32_t first = 0, end = container->cardinality;
        if (low) {
            while (first < end) {
                uint32_t middle = first + (end - first) / 2;
                if (load16(data + 2 * middle) < low)
                    first = middle + 1;
                else
                    end = middle;
            }
        }
        for (uint32_t i = first; i < container->cardinality; i++) {
            uint32_t id = load16(data + 2 * i);
            if (id >= high)
                break;
            if (is_allowed(window, id))
                see(visit, id, container->rank + i, 0);
        }
    } else if (container->kind == BITMAP_CONTAINER) {
        uint32_t rank = container->rank;
        uint32_t rank_end = container->rank + container->cardinality;
        uint32_t last_word = (high + 63) / 64;
        for (uint32_t w = 0; w < low / 64; w++)
            rank += popcount64(load64(data + 8 * w));
        for (uint32_t w = low / 64; w < last_word; w++) {
            uint64_t word = load64(data + 8 * w);
            uint64_t wanted = word;
            uint32_t in_word = popcount64(word);
            if (window->allowed)
                wanted &= window->allowed[w];
            if (w == low / 64)
                wanted &= ~0ull << (low % 64);
            if (w == high / 64)
                wanted &= (1ull << (high % 64)) - 1;
            if (in_word > rank_end - rank)
                return DAMAGED;
            if (wanted == word) {
                for (uint32_t r = rank; wanted; wanted &= wanted - 1)
                    see(visit, w * 64 + (uint32_t)__builtin_ctzll(wanted), r++, 0);
            } else {
                for (; wanted; wanted &= wanted - 1) {
                    uint64_t below = (wanted & (~wanted + 1)) - 1;
                    see(visit, w * 64 + (uint32_t)__builtin_ctzll(wanted),
                        rank + popcount64(word & below), 0);
                }
            }
            rank += in_word;
        }
    } else {
        uint32_t rank = container->rank;
        for (uint32_t r = 0; r < container->runs; r++) {
            uint32_t start = load16(data + 2 + 4 * r);
            uint32_t end = start + load16(data + 4 + 4 * r) + 1;
            if (start >= high)
                break;
            for (uint32_t id = start < low ? low : start; id < end && id < high; id++)
                if (is_allowed(window, id))
                    see(visit, id, rank + (id - start), 0);
            rank += end - start;
        }
    }
    return 0;
}

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

/* ---- the best documents ---- */

/* Whether a is the better hit: higher score, then newer, then a fixed order. */
static int better(const struct tr_hit *a, const struct tr_hit *b)
{
    if (a->score != b->score)
        return a->score > b->score;
    if (a->created_at_ms != b->created_at_ms)
        return a->created_at_ms > b->created_at_ms;
    if (a->ordinal != b->ordinal)
        return a->ordinal > b->ordinal;
    return a->stream_id > b->stream_id;
}

static void sink_down(struct tr_hit *heap, uint32_t count, uint32_t i)
{
    struct tr_hit moving = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= count)
            break;
        if (child + 1 < count && better(&heap[child], &heap[child + 1]))
            child++;
        if (!better(&moving, &heap[child]))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

/* heap[0] is the worst of the best. */
static void offer(struct search *search, const struct tr_hit *hit)
{
    struct tr_hit *heap = search->heap;
    if (search->heap_count < search->query->limit) {
        uint32_t i = search->heap_count++;
        while (i > 0 && better(&heap[(i - 1) / 2], hit)) {
            heap[i] = heap[(i - 1) / 2];
            i = (i - 1) / 2;
        }
        heap[i] = *hit;
    } else if (search->heap_count && better(hit, &heap[0])) {
        heap[0] = *hit;
        sink_down(heap, search->heap_count, 0);
    }
}

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
            if (search->heap_count == search->query->limit &&
                (!search->heap_count || score < search->heap[0].score))
                continue;
            struct tr_hit hit = {score, columns->created[id], columns->ordinals[id],
                                 stream_id_of(source, columns->document_streams[id])};
            offer(search, &hit);
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
    struct search search = {.query = query, .scratch = scratch, .heap = hits};
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
        result->hits = search.heap_count;
        for (uint32_t end = search.heap_count; end > 1; end--) {
            struct tr_hit worst = hits[0];
            hits[0] = hits[end - 1];
            sink_down(hits, end - 1, 0);
            hits[end - 1] = worst;
        }
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
