/* Columns, most of them sound and some not, made into batches and read back. Every column and the
   batches stand in memory of their own, which ends where they end, so that a sanitizer sees a
   step beyond.

   How many rounds, and the seed, come on standard input. Prints how often which result came. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_build.h"
#include "batch_layout.inc"
#include "batch_scan.h"

#define STREAMS_MAX 8
#define COUNT_MAX 5
#define LENGTH_MAX 40
#define POSITION 4096

static uint64_t state;

static uint64_t draw(uint64_t below) /* xorshift64* */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1Dull >> 33) % below;
}

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

static void *exactly(uint64_t bytes)
{
    void *made = malloc(bytes ? bytes : 1);
    require(made != NULL, "there is memory");
    return made;
}

struct columns {
    uint64_t *ids, *bases, *times;
    uint8_t *flags, *payload;
    uint32_t *counts, *lengths, *offsets;
    uint64_t streams, records, payload_length;
    int by_producers;
    uint64_t *epochs, *seqs;
    uint32_t *fields_lengths;
    uint8_t *fields;
    uint64_t fields_length;
};

static struct columns make_columns(void)
{
    struct columns made;
    made.streams = draw(STREAMS_MAX + 1);
    made.ids = exactly(8 * made.streams);
    made.bases = exactly(8 * made.streams);
    made.times = exactly(8 * made.streams);
    made.flags = exactly(made.streams);
    made.counts = exactly(4 * made.streams);
    made.offsets = exactly(4 * made.streams);
    made.records = 0;
    for (uint64_t i = 0; i < made.streams; i++) {
        made.ids[i] = draw(4) ? draw(1u << 30) + 1 : 0;
        made.bases[i] = draw(1u << 30);
        made.times[i] = draw(1u << 30);
        made.flags[i] = draw(2) ? TR_BUILD_JSON : 0;
        made.counts[i] = 1 + (uint32_t)draw(COUNT_MAX);
        made.records += made.counts[i];
    }
    made.by_producers = draw(2) != 0;
    made.epochs = exactly(8 * made.streams);
    made.seqs = exactly(8 * made.streams);
    made.fields_lengths = exactly(4 * made.streams);
    made.fields_length = 0;
    for (uint64_t i = 0; i < made.streams; i++) {
        made.epochs[i] = draw(1u << 30);
        made.seqs[i] = draw(1u << 30);
        made.fields_lengths[i] = draw(3) ? (uint32_t)draw(LENGTH_MAX) : 0;
        made.fields_length += made.fields_lengths[i];
    }
    made.fields = exactly(made.fields_length);
    for (uint64_t i = 0; i < made.fields_length; i++)
        made.fields[i] = (uint8_t)draw(256);
    made.lengths = exactly(4 * made.records);
    made.payload_length = 0;
    for (uint64_t i = 0, row = 0; i < made.streams; i++)
        for (uint32_t j = 0; j < made.counts[i]; j++, row++) {
            made.lengths[row] = (uint32_t)draw(LENGTH_MAX) + (made.flags[i] ? 2 : 0);
            made.payload_length += made.lengths[row];
        }
    made.payload = exactly(made.payload_length);
    uint64_t end = 0;
    for (uint64_t row = 0; row < made.records; row++) {
        for (uint32_t j = 0; j < made.lengths[row]; j++)
            made.payload[end++] = (uint8_t)draw(256);
        if (made.lengths[row])
            made.payload[end - 1] = ',';
    }
    return made;
}

/* Something that does not fit, or fits by chance. */
static void spoil(struct columns *columns)
{
    static const uint32_t odd[] = {0, 1, 2, 3, 41, 1000, 0x7fffffffu, 0xffffffffu};
    uint32_t value = odd[draw(sizeof odd / sizeof odd[0])];
    switch (draw(7)) {
    case 5:
        if (columns->streams)
            columns->fields_lengths[draw(columns->streams)] = value;
        break;
    case 6:
        columns->fields_length = draw(columns->fields_length + 1);
        columns->fields =
            realloc(columns->fields, columns->fields_length + !columns->fields_length);
        break;
    case 0:
        if (columns->streams)
            columns->counts[draw(columns->streams)] = value;
        break;
    case 1:
        if (columns->records)
            columns->lengths[draw(columns->records)] = value;
        break;
    case 2: /* the last ones are not there any more */
        columns->records = draw(columns->records + 1);
        columns->lengths = realloc(columns->lengths, 4 * columns->records + !columns->records);
        break;
    case 3:
        columns->payload_length = draw(columns->payload_length + 1);
        columns->payload =
            realloc(columns->payload, columns->payload_length + !columns->payload_length);
        break;
    default:
        if (columns->payload_length)
            columns->payload[draw(columns->payload_length)] = '.';
    }
    require(columns->lengths && columns->payload && columns->fields, "there is memory");
}

static void free_columns(struct columns *columns)
{
    free(columns->ids);
    free(columns->bases);
    free(columns->times);
    free(columns->flags);
    free(columns->counts);
    free(columns->offsets);
    free(columns->lengths);
    free(columns->payload);
    free(columns->epochs);
    free(columns->seqs);
    free(columns->fields_lengths);
    free(columns->fields);
}

static uint64_t bytes_needed(const struct columns *columns)
{
    uint64_t needed = 0;
    for (uint64_t i = 0, row = 0; i < columns->streams; i++) {
        uint64_t size = TR_BATCH_HEADER_BYTES + 4ull * columns->counts[i];
        for (uint32_t j = 0; j < columns->counts[i]; j++)
            size += columns->lengths[row++];
        size += columns->by_producers ? columns->fields_lengths[i] : 0;
        needed += columns->ids[i] ? (size + 7) & ~7ull : 0;
    }
    return needed;
}

static int64_t build(const struct columns *columns, uint8_t *out, uint64_t capacity)
{
    const struct tr_build_producers producers = {columns->epochs, columns->seqs,
                                                 columns->fields_lengths, columns->fields,
                                                 columns->fields_length};
    return tr_batch_build(columns->ids, columns->bases, columns->times, columns->flags,
                          columns->counts, columns->streams,
                          columns->by_producers ? &producers : NULL, columns->lengths,
                          columns->records, columns->payload, columns->payload_length, POSITION,
                          POSITION - 8, out, capacity, columns->offsets);
}

/* What is in the batches is what stood in the columns. */
static void check(const struct columns *columns, uint8_t *out, uint64_t used)
{
    struct tr_batch_ref refs[STREAMS_MAX];
    uint64_t next, taken = 0, at = 0, fields_at = 0;
    uint64_t sealed = used ? tr_batch_seal(out, used) : 0;
    require(tr_batch_scan(out, used, 0, POSITION, refs, STREAMS_MAX, &next) == sealed &&
                next == used,
            "all of it is batches");
    for (uint64_t i = 0, row = 0; i < columns->streams; i++) {
        uint32_t size = 0, count = columns->counts[i];
        const uint32_t length = columns->by_producers ? columns->fields_lengths[i] : 0;
        const uint32_t *lengths = columns->lengths + row;
        for (uint32_t j = 0; j < count; j++)
            size += lengths[j];
        if (columns->ids[i]) {
            const struct tr_batch_ref *ref = &refs[taken++];
            require(taken <= sealed && ref->offset == columns->offsets[i], "it stands there");
            require(ref->stream_id == columns->ids[i] && ref->record_count == count &&
                        ref->base_ordinal == columns->bases[i] && ref->flags == columns->flags[i] &&
                        ref->kind == TR_BUILD_KIND && ref->watermark == POSITION - 8,
                    "its header says what the columns say");
            const uint8_t *ends = out + ref->offset + TR_BATCH_HEADER_BYTES;
            for (uint32_t j = 0, end = 0; j < count; j++) {
                end += lengths[j];
                require(memcmp(ends + 4ull * j, &end, 4) == 0, "a record ends there");
            }
            const uint8_t *fields = ends + 4ull * count, *payload = fields + length;
            require(memcmp(out + ref->offset + AT_FIELDS_LENGTH, &length, 4) == 0 &&
                        (length == 0 || memcmp(fields, columns->fields + fields_at, length) == 0),
                    "its fields are there");
            const uint64_t epoch = columns->by_producers ? columns->epochs[i] : 0;
            const uint64_t seq = columns->by_producers ? columns->seqs[i] : 0;
            require(memcmp(out + ref->offset + AT_PRODUCER_EPOCH, &epoch, 8) == 0 &&
                        memcmp(out + ref->offset + AT_PRODUCER_SEQ, &seq, 8) == 0,
                    "its producer's numbers are there");
            require(memcmp(payload, columns->payload + at, size) == 0, "its payload is there");
            for (const uint8_t *p = payload + size; p < out + ref->offset + ref->length; p++)
                require(*p == 0, "zeros follow");
        }
        row += count;
        at += size;
        fields_at += length;
    }
    require(taken == sealed, "there are no more batches");
    require(at == columns->payload_length, "the payload was used up");
}

int main(void)
{
    unsigned long long rounds, seed;
    require(scanf("%llu %llu", &rounds, &seed) == 2, "two numbers are given");
    uint64_t results[5] = {0};
    state = seed | 1;
    for (; rounds > 0; rounds--) {
        struct columns columns = make_columns();
        uint64_t capacity = bytes_needed(&columns);
        int spoiled = draw(2) == 0;
        if (spoiled)
            spoil(&columns);
        else if (capacity && draw(8) == 0)
            capacity -= 1 + draw(capacity);
        uint8_t *out = exactly(capacity);
        memset(out, 0xee, capacity);
        int64_t used = build(&columns, out, capacity);
        require(used >= TR_BUILD_NO_ROOM && used <= (int64_t)capacity, "it fits");
        if (used >= 0)
            check(&columns, out, (uint64_t)used);
        results[used < 0 ? -used : 0]++;
        free(out);
        free_columns(&columns);
    }
    printf("built %llu\ncounts %llu\nlengths %llu\ncomma %llu\nroom %llu\n",
           (unsigned long long)results[0], (unsigned long long)results[1],
           (unsigned long long)results[2], (unsigned long long)results[3],
           (unsigned long long)results[4]);
    return 0;
}
