#define _GNU_SOURCE /* for a lock that does not starve the writer */
#include "search_memory.h"
#include "search_memory.inc"

#include <stdlib.h>

#include "search_part.inc"
#include "search_tokenize.inc"

#define ARENA_BLOCK_WORDS (128u * 1024u)
#define FIRST_SLOTS 1024u

static void *arena_take(struct arena *arena, uint64_t bytes)
{
    uint64_t words = (bytes + 7) / 8;
    struct arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < words) {
        uint64_t capacity = words > ARENA_BLOCK_WORDS ? words : ARENA_BLOCK_WORDS;
        block = malloc(sizeof *block + 8 * capacity);
        if (!block)
            return NULL;
        block->next = arena->blocks;
        block->used = 0;
        block->capacity = capacity;
        arena->blocks = block;
        arena->bytes += 8 * capacity;
    }
    void *out = block->data + block->used;
    block->used += words;
    return out;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash_name(uint64_t seed, const uint8_t *name, uint32_t length)
{
    uint64_t hash = mix(seed ^ 0xa0761d6478bd642full, length + 0xe7037ed1a0b428dbull);
    while (length >= 8) {
        hash = mix(hash ^ load64(name), seed ^ 0x8ebc6af09c88c6e3ull);
        name += 8;
        length -= 8;
    }
    uint64_t rest = 0;
    if (length)
        memcpy(&rest, name, length);
    hash = mix(hash ^ rest, seed ^ 0x589965cc75374cc3ull);
    return (uint32_t)(hash ^ (hash >> 32));
}

static uint32_t hash_id(uint64_t seed, uint64_t id)
{
    uint64_t hash = mix(id ^ 0xa0761d6478bd642full, seed ^ 0xe7037ed1a0b428dbull);
    return (uint32_t)(hash ^ (hash >> 32));
}

int64_t dictionary_find(const struct tr_memory *memory, const struct dictionary *dictionary,
                        const uint8_t *name, uint32_t length)
{
    if (!dictionary->slots)
        return -1;
    uint32_t hash = hash_name(memory->seed, name, length);
    for (uint32_t slot = hash & dictionary->slot_mask; dictionary->slots[slot];
         slot = (slot + 1) & dictionary->slot_mask) {
        const struct memory_term *term = &dictionary->terms[dictionary->slots[slot] - 1];
        if (term->hash == hash && term->name_length == length &&
            memcmp(term->name, name, length) == 0)
            return dictionary->slots[slot] - 1;
    }
    return -1;
}

static int grow_slots(uint32_t **slots, uint32_t *mask)
{
    uint32_t size = *slots ? (*mask + 1) * 2 : FIRST_SLOTS;
    uint32_t *fresh = size ? calloc(size, sizeof *fresh) : NULL;
    if (!fresh)
        return -1;
    free(*slots);
    *slots = fresh;
    *mask = size - 1;
    return 0;
}

static struct memory_term *dictionary_take(struct tr_memory *memory, struct dictionary *dictionary,
                                           const uint8_t *name, uint32_t length)
{
    uint32_t hash = hash_name(memory->seed, name, length);
    if (dictionary->slots) {
        for (uint32_t slot = hash & dictionary->slot_mask; dictionary->slots[slot];
             slot = (slot + 1) & dictionary->slot_mask) {
            struct memory_term *term = &dictionary->terms[dictionary->slots[slot] - 1];
            if (term->hash == hash && term->name_length == length &&
                memcmp(term->name, name, length) == 0)
                return term;
        }
    }
    if (dictionary->count == dictionary->capacity) {
        uint32_t capacity = dictionary->capacity ? dictionary->capacity * 2 : FIRST_SLOTS;
        struct memory_term *terms = realloc(dictionary->terms, capacity * sizeof *terms);
        if (!terms)
            return NULL;
        dictionary->terms = terms;
        dictionary->capacity = capacity;
    }
    if (!dictionary->slots || dictionary->count >= (dictionary->slot_mask + 1) / 2) {
        if (grow_slots(&dictionary->slots, &dictionary->slot_mask))
            return NULL;
        for (uint32_t i = 0; i < dictionary->count; i++) {
            uint32_t slot = dictionary->terms[i].hash & dictionary->slot_mask;
            while (dictionary->slots[slot])
                slot = (slot + 1) & dictionary->slot_mask;
            dictionary->slots[slot] = i + 1;
        }
    }
    uint8_t *copy = arena_take(&memory->arena, length ? length : 1);
    if (!copy)
        return NULL;
    if (length)
        memcpy(copy, name, length);
    uint32_t slot = hash & dictionary->slot_mask;
    while (dictionary->slots[slot])
        slot = (slot + 1) & dictionary->slot_mask;
    struct memory_term *term = &dictionary->terms[dictionary->count++];
    dictionary->slots[slot] = dictionary->count;
    *term = (struct memory_term){copy, length, hash, NULL, 0, 0};
    return term;
}

static int term_push(struct tr_memory *memory, struct memory_term *term, uint32_t id)
{
    if (term->count && (uint32_t)(term->pairs[term->count - 1] >> 32) == id) {
        term->pairs[term->count - 1]++;
        return 0;
    }
    if (term->count == term->capacity) {
        uint32_t capacity = term->capacity ? term->capacity * 2 : 2;
        uint64_t *pairs = arena_take(&memory->arena, 8ull * capacity);
        if (!pairs)
            return -1;
        if (term->count)
            memcpy(pairs, term->pairs, 8ull * term->count);
        term->pairs = pairs;
        term->capacity = capacity;
    }
    term->pairs[term->count++] = (uint64_t)id << 32 | 1;
    return 0;
}

int64_t memory_find_stream(const struct tr_memory *memory, uint64_t stream_id)
{
    if (!memory->stream_slots)
        return -1;
    for (uint32_t slot = hash_id(memory->seed, stream_id) & memory->stream_mask;
         memory->stream_slots[slot]; slot = (slot + 1) & memory->stream_mask)
        if (memory->streams[memory->stream_slots[slot] - 1].stream_id == stream_id)
            return memory->stream_slots[slot] - 1;
    return -1;
}

static void stream_place(struct tr_memory *memory, uint32_t index)
{
    uint32_t slot = hash_id(memory->seed, memory->streams[index].stream_id) & memory->stream_mask;
    while (memory->stream_slots[slot])
        slot = (slot + 1) & memory->stream_mask;
    memory->stream_slots[slot] = index + 1;
}

static int64_t stream_take(struct tr_memory *memory, const struct tr_part *const *older,
                           uint32_t older_count, uint64_t stream_id)
{
    int64_t found = memory_find_stream(memory, stream_id);
    if (found >= 0)
        return found;
    if (memory->stream_count == memory->stream_capacity) {
        uint32_t capacity = memory->stream_capacity ? memory->stream_capacity * 2 : 256;
        struct memory_stream *streams = realloc(memory->streams, capacity * sizeof *streams);
        if (!streams)
            return -1;
        memory->streams = streams;
        memory->stream_capacity = capacity;
    }
    if (!memory->stream_slots || memory->stream_count >= (memory->stream_mask + 1) / 2) {
        if (grow_slots(&memory->stream_slots, &memory->stream_mask))
            return -1;
        for (uint32_t i = 0; i < memory->stream_count; i++)
            stream_place(memory, i);
    }
    struct memory_stream stream = {stream_id, 0, 0, NULL, 0, 0};
    for (uint32_t i = 0; i < older_count; i++) {
        int64_t index = tr_part_find_stream(older[i], stream_id);
        if (index < 0)
            continue;
        struct stream_entry entry = part_stream(older[i], (uint32_t)index);
        uint64_t last = older[i]->ordinals[entry.first + entry.count - 1];
        if (!stream.has_last || last > stream.last_ordinal)
            stream.last_ordinal = last;
        stream.has_last = 1;
    }
    uint32_t index = memory->stream_count++;
    memory->streams[index] = stream;
    stream_place(memory, index);
    return index;
}

static int stream_push(struct tr_memory *memory, struct memory_stream *stream, uint32_t id)
{
    if (stream->count == stream->capacity) {
        uint32_t capacity = stream->capacity ? stream->capacity * 2 : 2;
        uint32_t *documents = arena_take(&memory->arena, 4ull * capacity);
        if (!documents)
            return -1;
        if (stream->count)
            memcpy(documents, stream->documents, 4ull * stream->count);
        stream->documents = documents;
        stream->capacity = capacity;
    }
    stream->documents[stream->count++] = id;
    return 0;
}

static int grow_column(void *column, uint64_t bytes)
{
    void *old;
    memcpy(&old, column, sizeof old);
    void *grown = realloc(old, bytes);
    if (!grown)
        return -1;
    memcpy(column, &grown, sizeof grown);
    return 0;
}

static int grow_documents(struct tr_memory *memory)
{
    if (memory->documents < memory->document_capacity)
        return 0;
    if (memory->document_capacity >= UINT32_MAX / 4)
        return -1;
    uint32_t capacity = memory->document_capacity ? memory->document_capacity * 2 : 1024;
    if (grow_column(&memory->ordinals, 8ull * capacity) ||
        grow_column(&memory->created, 8ull * capacity) ||
        grow_column(&memory->lengths, 4ull * capacity) ||
        grow_column(&memory->document_streams, 4ull * capacity) ||
        grow_column(&memory->length_sums, 8ull * capacity))
        return -1;
    memory->document_capacity = capacity;
    return 0;
}

struct add_context {
    struct tr_memory *memory;
    uint32_t length;
};

static int add_term(void *context, const uint8_t *name, uint32_t length)
{
    struct add_context *add = context;
    struct memory_term *term = dictionary_take(add->memory, &add->memory->terms, name, length);
    if (!term)
        return -1;
    add->length++;
    return term_push(add->memory, term, add->memory->documents);
}

static int add_document(struct tr_memory *memory, const struct tr_part *const *older,
                        uint32_t older_count, const struct tr_new_document *document,
                        const uint8_t *bytes)
{
    int64_t index = stream_take(memory, older, older_count, document->stream_id);
    if (index < 0)
        return -1;
    struct memory_stream *stream = &memory->streams[index];
    if (stream->has_last && document->ordinal <= stream->last_ordinal)
        return 0;
    if (grow_documents(memory))
        return -1;
    struct add_context add = {memory, 0};
    if (tr_tokenize_each(bytes, document->text_bytes, add_term, &add))
        return -1;
    const uint8_t *term = bytes + document->text_bytes;
    const uint8_t *end = term + document->terms_bytes;
    while (term < end) {
        const uint8_t *stop = memchr(term, 0, (size_t)(end - term));
        if (!stop || add_term(&add, term, (uint32_t)(stop - term)))
            return -1;
        term = stop + 1;
    }
    uint32_t id = memory->documents;
    if (document->has_type) {
        struct memory_term *type =
            dictionary_take(memory, &memory->types, end, document->type_bytes);
        if (!type || term_push(memory, type, id))
            return -1;
    }
    if (stream_push(memory, stream, id))
        return -1;
    stream->has_last = 1;
    stream->last_ordinal = document->ordinal;
    memory->ordinals[id] = document->ordinal;
    memory->created[id] = document->created_at_ms;
    memory->lengths[id] = add.length;
    memory->document_streams[id] = (uint32_t)index;
    memory->length_sums[id] = add.length + (id ? memory->length_sums[id - 1] : 0);
    memory->documents++;
    return 1;
}

int64_t tr_memory_add(struct tr_memory *memory, const struct tr_part *const *older,
                      uint32_t older_count, const struct tr_new_document *documents,
                      uint64_t count, const uint8_t *bytes, uint64_t bytes_length)
{
    int64_t added = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct tr_new_document *document = &documents[i];
        uint64_t length =
            (uint64_t)document->text_bytes + document->terms_bytes + document->type_bytes;
        /* One document under the lock at a time, so that a search waits for microseconds. */
        pthread_rwlock_wrlock(&memory->lock);
        int status = -1;
        if (!memory->failed && length <= bytes_length)
            status = add_document(memory, older, older_count, document, bytes);
        if (status < 0)
            memory->failed = 1;
        pthread_rwlock_unlock(&memory->lock);
        if (status < 0)
            return -1;
        added += status;
        bytes += length;
        bytes_length -= length;
    }
    return added;
}

struct tr_memory *tr_memory_new(uint64_t seed)
{
    struct tr_memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return NULL;
    memory->seed = seed;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
#ifdef __GLIBC__
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    int status = pthread_rwlock_init(&memory->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    if (status) {
        free(memory);
        return NULL;
    }
    return memory;
}

void tr_memory_free(struct tr_memory *memory)
{
    if (!memory)
        return;
    for (struct arena_block *block = memory->arena.blocks; block;) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    free(memory->terms.terms);
    free(memory->terms.slots);
    free(memory->types.terms);
    free(memory->types.slots);
    free(memory->streams);
    free(memory->stream_slots);
    free(memory->ordinals);
    free(memory->created);
    free(memory->lengths);
    free(memory->document_streams);
    free(memory->length_sums);
    pthread_rwlock_destroy(&memory->lock);
    free(memory);
}

uint32_t tr_memory_documents(struct tr_memory *memory)
{
    pthread_rwlock_rdlock(&memory->lock);
    uint32_t documents = memory->documents;
    pthread_rwlock_unlock(&memory->lock);
    return documents;
}

uint32_t tr_memory_streams(struct tr_memory *memory)
{
    pthread_rwlock_rdlock(&memory->lock);
    uint32_t streams = memory->stream_count;
    pthread_rwlock_unlock(&memory->lock);
    return streams;
}

uint64_t tr_memory_bytes(struct tr_memory *memory)
{
    pthread_rwlock_rdlock(&memory->lock);
    uint64_t bytes = memory->arena.bytes + 32ull * memory->document_capacity +
                     sizeof(struct memory_term) * (uint64_t)memory->terms.capacity +
                     4ull * ((uint64_t)memory->terms.slot_mask + 1) +
                     (sizeof(struct memory_stream) + 8) * (uint64_t)memory->stream_capacity;
    pthread_rwlock_unlock(&memory->lock);
    return bytes;
}

int64_t tr_memory_find_stream(struct tr_memory *memory, uint64_t stream_id)
{
    pthread_rwlock_rdlock(&memory->lock);
    int64_t index = memory_find_stream(memory, stream_id);
    pthread_rwlock_unlock(&memory->lock);
    return index;
}

uint64_t tr_memory_stream_id(struct tr_memory *memory, uint32_t index)
{
    pthread_rwlock_rdlock(&memory->lock);
    uint64_t id = index < memory->stream_count ? memory->streams[index].stream_id : 0;
    pthread_rwlock_unlock(&memory->lock);
    return id;
}
