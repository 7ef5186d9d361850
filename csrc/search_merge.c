#define _GNU_SOURCE
#include "search_merge.h"

#include "search_merge.inc"
#include "search_postings.h"

/* ---- postings ---- */

static int read_part_postings(struct tr_merge *merge, uint32_t s, const struct term_entry *entry,
                              uint64_t *used)
{
    const uint32_t *map = merge->maps[s];
    int64_t count = tr_roaring_decode(entry->bitmap, entry->bitmap_bytes, merge->ids,
                                      merge->sources[s].part->documents);
    if (count != (int64_t)entry->count)
        return DAMAGED;
    for (uint32_t rank = 0; rank < entry->count; rank++) {
        if (merge->ids[rank] >= merge->sources[s].part->documents)
            return DAMAGED;
        uint32_t id = map[merge->ids[rank]], frequency = frequency_at(entry, rank);
        if (frequency == 0)
            return DAMAGED;
        if (id != GONE)
            merge->pairs[(*used)++] = (uint64_t)id << 32 | frequency;
    }
    return 0;
}

static void read_memory_postings(struct tr_merge *merge, uint32_t s,
                                 const struct memory_term *term, uint64_t *used)
{
    for (uint32_t i = 0; i < term->count; i++) {
        uint32_t old = (uint32_t)(term->pairs[i] >> 32);
        /* A document that was given up half way left postings but is none. */
        if (old >= merge->sources[s].memory->documents)
            break;
        uint32_t id = merge->maps[s][old];
        if (id != GONE)
            merge->pairs[(*used)++] = (uint64_t)id << 32 | (uint32_t)term->pairs[i];
    }
}

static int compare_pairs(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static void sort_pairs(struct tr_merge *merge, uint64_t count)
{
    uint64_t *pairs = merge->pairs;
    uint64_t i = 1;
    while (i < count && pairs[i - 1] < pairs[i])
        i++;
    if (i >= count)
        return;
    if (count >= merge->documents / 8) {
        /* Dense: lay the frequencies out by id and read them back in order. */
        for (i = 0; i < count; i++)
            merge->by_id[pairs[i] >> 32] = (uint32_t)pairs[i];
        uint64_t used = 0;
        for (uint32_t id = 0; used < count; id++) {
            if (merge->by_id[id]) {
                pairs[used++] = (uint64_t)id << 32 | merge->by_id[id];
                merge->by_id[id] = 0;
            }
        }
    } else if (count < 1024) {
        qsort(pairs, count, sizeof *pairs, compare_pairs);
    } else {
        for (uint32_t shift = 32; shift < 64; shift += 11) {
            uint32_t starts[2048] = {0};
            for (i = 0; i < count; i++)
                starts[pairs[i] >> shift & 2047]++;
            uint32_t sum = 0;
            for (uint32_t bucket = 0; bucket < 2048; bucket++) {
                uint32_t here = starts[bucket];
                starts[bucket] = sum;
                sum += here;
            }
            for (i = 0; i < count; i++)
                merge->spare[starts[pairs[i] >> shift & 2047]++] = pairs[i];
            uint64_t *swap = merge->spare;
            merge->spare = pairs;
            pairs = merge->pairs = swap;
        }
    }
}

static int write_name(struct tr_merge *merge, const uint8_t *name, uint32_t length, uint64_t count)
{
    uint32_t exceptions = 0;
    int all_ones = 1;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t frequency = (uint32_t)merge->pairs[i];
        merge->ids[i] = (uint32_t)(merge->pairs[i] >> 32);
        all_ones &= frequency == 1;
        exceptions += frequency >= 255;
    }
    uint64_t bitmap_bytes = tr_roaring_bytes(merge->ids, count);
    uint64_t bytes = bitmap_bytes;
    uint32_t marker = ALL_ONES;
    if (!all_ones) {
        bytes += count + 8ull * exceptions;
        marker = exceptions;
    }
    uint8_t *out = buffer_room(&merge->chunk, bytes);
    if (!out)
        return NO_MEMORY;
    tr_roaring_encode(merge->ids, count, out, bitmap_bytes);
    if (!all_ones) {
        uint8_t *frequencies = out + bitmap_bytes, *exception = frequencies + count;
        for (uint32_t rank = 0; rank < count; rank++) {
            uint32_t frequency = (uint32_t)merge->pairs[rank];
            frequencies[rank] = frequency < 255 ? (uint8_t)frequency : 255;
            if (frequency >= 255) {
                memcpy(exception, &rank, 4);
                memcpy(exception + 4, &frequency, 4);
                exception += 8;
            }
        }
    }
    uint32_t narrow[4] = {(uint32_t)bitmap_bytes, (uint32_t)count, length, marker};
    struct buffer *table = merge->reading_types ? &merge->types : &merge->terms;
    if (buffer_add(table, &merge->postings_bytes, 8) ||
        buffer_add(table, &merge->name_bytes.used, 8) || buffer_add(table, narrow, 16) ||
        buffer_add(&merge->name_bytes, name, length))
        return NO_MEMORY;
    merge->chunk.used += bytes;
    merge->postings_bytes += bytes;
    if (merge->reading_types)
        merge->type_count++;
    else
        merge->term_count++;
    return 0;
}

/* ---- dictionaries ---- */

struct name_key {
    const uint8_t *name;
    uint32_t length;
    uint32_t index;
};

static int compare_keys(const void *left, const void *right)
{
    const struct name_key *a = left, *b = right;
    return compare_names(a->name, a->length, b->name, b->length);
}

static int open_names(struct tr_merge *merge)
{
    for (uint32_t s = 0; s < merge->source_count; s++) {
        const struct tr_source *source = &merge->sources[s];
        struct names *names = &merge->names[s];
        names->next = 0;
        if (source->part) {
            names->count = merge->reading_types ? source->part->types : source->part->terms;
            continue;
        }
        const struct dictionary *dictionary =
            merge->reading_types ? &source->memory->types : &source->memory->terms;
        names->count = dictionary->count;
        free(names->order);
        names->order = malloc((dictionary->count + 1ull) * sizeof *names->order);
        struct name_key *keys = malloc((dictionary->count + 1ull) * sizeof *keys);
        if (!names->order || !keys) {
            free(keys);
            return NO_MEMORY;
        }
        for (uint32_t i = 0; i < dictionary->count; i++)
            keys[i] = (struct name_key){dictionary->terms[i].name,
                                        dictionary->terms[i].name_length, i};
        qsort(keys, dictionary->count, sizeof *keys, compare_keys);
        for (uint32_t i = 0; i < dictionary->count; i++)
            names->order[i] = keys[i].index;
        free(keys);
    }
    return 0;
}

static const struct memory_term *memory_term_at(const struct tr_merge *merge, uint32_t s)
{
    const struct tr_memory *memory = merge->sources[s].memory;
    const struct dictionary *dictionary = merge->reading_types ? &memory->types : &memory->terms;
    return &dictionary->terms[merge->names[s].order[merge->names[s].next]];
}

static struct term_entry part_entry_at(const struct tr_merge *merge, uint32_t s)
{
    const struct tr_part *part = merge->sources[s].part;
    return part_entry(part, merge->reading_types ? part->type_table : part->term_table,
                      merge->names[s].next);
}

static struct name_key name_at(const struct tr_merge *merge, uint32_t s)
{
    if (merge->sources[s].part) {
        struct term_entry entry = part_entry_at(merge, s);
        return (struct name_key){entry.name, entry.name_length, s};
    }
    const struct memory_term *term = memory_term_at(merge, s);
    return (struct name_key){term->name, term->name_length, s};
}

/* Merge the postings of the first name in order. Returns 1 if there was one, 0 at the end. */
static int merge_name(struct tr_merge *merge)
{
    struct name_key first = {NULL, 0, 0};
    int found = 0;
    for (uint32_t s = 0; s < merge->source_count; s++) {
        if (merge->names[s].next == merge->names[s].count)
            continue;
        struct name_key key = name_at(merge, s);
        if (!found || compare_keys(&key, &first) < 0)
            first = key;
        found = 1;
    }
    if (!found)
        return 0;
    uint64_t count = 0;
    for (uint32_t s = 0; s < merge->source_count; s++) {
        if (merge->names[s].next == merge->names[s].count)
            continue;
        struct name_key key = name_at(merge, s);
        if (compare_keys(&key, &first) != 0)
            continue;
        if (merge->sources[s].part) {
            struct term_entry entry = part_entry_at(merge, s);
            if (read_part_postings(merge, s, &entry, &count))
                return DAMAGED;
        } else {
            read_memory_postings(merge, s, memory_term_at(merge, s), &count);
        }
        merge->names[s].next++;
    }
    if (count == 0)
        return 1;
    sort_pairs(merge, count);
    int status = write_name(merge, first.name, first.length, count);
    return status ? status : 1;
}

int64_t tr_merge_step(struct tr_merge *merge, uint64_t wanted)
{
    merge->chunk.used = 0;
    while (merge->chunk.used < wanted || !merge->chunk.used) {
        int status = merge_name(merge);
        if (status < 0)
            return status;
        if (status == 0) {
            if (!merge->reading_types)
                break;
            merge->reading_types = 0;
            if (open_names(merge))
                return NO_MEMORY;
        }
    }
    return (int64_t)merge->chunk.used;
}

/* ---- the whole ---- */

static int merge_start(struct tr_merge *merge, const struct tr_source *sources)
{
    uint64_t most = 1, total = 1;
    merge->sources = calloc(merge->source_count + 1ull, sizeof *merge->sources);
    merge->maps = calloc(merge->source_count + 1ull, sizeof *merge->maps);
    merge->names = calloc(merge->source_count + 1ull, sizeof *merge->names);
    if (!merge->sources || !merge->maps || !merge->names)
        return NO_MEMORY;
    for (uint32_t s = 0; s < merge->source_count; s++) {
        merge->sources[s] = sources[s];
        uint64_t documents = documents_of(&sources[s]);
        if (documents > most)
            most = documents;
        total += documents;
        merge->maps[s] = malloc((documents + 1) * sizeof **merge->maps);
        if (!merge->maps[s])
            return NO_MEMORY;
        memset(merge->maps[s], 0xff, (documents + 1) * sizeof **merge->maps);
    }
    if (number_documents(merge))
        return NO_MEMORY;
    if (merge->documents > most)
        most = merge->documents;
    merge->pairs = malloc(8 * total);
    merge->spare = malloc(8 * total);
    merge->ids = malloc(4 * most);
    merge->by_id = calloc(merge->documents + 1ull, 4);
    if (!merge->pairs || !merge->spare || !merge->ids || !merge->by_id)
        return NO_MEMORY;
    merge->reading_types = 1;
    return open_names(merge);
}

struct tr_merge *tr_merge_new(const struct tr_source *sources, uint32_t source_count)
{
    struct tr_merge *merge = calloc(1, sizeof *merge);
    if (!merge)
        return NULL;
    merge->source_count = source_count;
    if (merge_start(merge, sources)) {
        tr_merge_free(merge);
        return NULL;
    }
    return merge;
}

void tr_merge_free(struct tr_merge *merge)
{
    if (!merge)
        return;
    for (uint32_t s = 0; s < merge->source_count; s++) {
        if (merge->maps)
            free(merge->maps[s]);
        if (merge->names)
            free(merge->names[s].order);
    }
    free(merge->sources);
    free(merge->maps);
    free(merge->names);
    free(merge->pairs);
    free(merge->spare);
    free(merge->ids);
    free(merge->by_id);
    free(merge->chunk.data);
    free(merge->streams.data);
    free(merge->ordinals.data);
    free(merge->created.data);
    free(merge->lengths.data);
    free(merge->document_streams.data);
    free(merge->types.data);
    free(merge->terms.data);
    free(merge->name_bytes.data);
    free(merge);
}

const uint8_t *tr_merge_chunk(struct tr_merge *merge)
{
    return merge->chunk.data;
}

const uint8_t *tr_merge_section(struct tr_merge *merge, uint32_t section, uint64_t *length)
{
    const struct buffer *buffers[TR_PART_SECTIONS] = {NULL};
    buffers[SECTION_STREAMS] = &merge->streams;
    buffers[SECTION_ORDINALS] = &merge->ordinals;
    buffers[SECTION_CREATED] = &merge->created;
    buffers[SECTION_LENGTHS] = &merge->lengths;
    buffers[SECTION_DOCUMENT_STREAMS] = &merge->document_streams;
    buffers[SECTION_TYPES] = &merge->types;
    buffers[SECTION_TERMS] = &merge->terms;
    buffers[SECTION_NAMES] = &merge->name_bytes;
    if (section >= TR_PART_SECTIONS || !buffers[section]) {
        *length = 0;
        return NULL;
    }
    *length = buffers[section]->used;
    return buffers[section]->data;
}

void tr_merge_count(struct tr_merge *merge, struct tr_merge_counts *out)
{
    *out = (struct tr_merge_counts){merge->documents, merge->stream_count, merge->term_count,
                                    merge->type_count, merge->length_sum};
}
