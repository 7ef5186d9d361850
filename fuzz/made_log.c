#include "made_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_scan.h"
#include "checksum.h"

#include "batch_layout.inc"

enum { EDIT_BYTES = 5, TAIL_MAX = 300, PAYLOAD_OF_RECORD_MAX = 7000, FIELDS_MAX = 40 };

void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

void *exactly(uint64_t length)
{
    void *memory = malloc(length ? length : 1);
    require(memory != NULL, "there is memory");
    return memory;
}

uint64_t roll(uint64_t *dice, uint64_t bound)
{
    uint64_t z = *dice += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

static void put64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, 8);
}

static uint32_t record_length(uint64_t *dice)
{
    switch (roll(dice, 8)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)roll(dice, PAYLOAD_OF_RECORD_MAX);
    default:
        return (uint32_t)roll(dice, 120);
    }
}

/* One batch of a stream at the end of the log, which has room for it. */
static void add_batch(struct log *log, uint64_t *dice)
{
    const uint32_t number = (uint32_t)roll(dice, LOG_STREAMS);
    struct stream *stream = &log->streams[number];
    const uint32_t count = (uint32_t)roll(dice, roll(dice, 3) ? 4 : LOG_RECORDS_MAX + 1);
    const uint32_t fields = (uint32_t)roll(dice, 2) * (uint32_t)roll(dice, FIELDS_MAX);
    const uint32_t place = log->end;
    uint8_t *batch = log->data + place;
    uint32_t payload = 0;
    const uint32_t payload_at = TR_BATCH_HEADER_BYTES + 4 * count + fields;
    memset(batch, 0, TR_BATCH_HEADER_BYTES);
    put64(batch + AT_BASE_ORDINAL, stream->base + stream->count);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t length = record_length(dice);
        stream->records[stream->count++] =
            (struct record){place, place + payload_at + payload, length};
        payload += length;
        put32(batch + TR_BATCH_HEADER_BYTES + 4 * i, payload);
    }
    const uint32_t used = payload_at + payload;
    for (uint32_t i = payload_at - fields; i < used; i++)
        batch[i] = (uint8_t)roll(dice, 256);
    const uint32_t length = (used + 7) / 8 * 8;
    memset(batch + used, 0, length - used);
    put32(batch + AT_LENGTH, length);
    batch[AT_VERSION] = TR_BATCH_VERSION;
    batch[AT_KIND] = (uint8_t)(1 + roll(dice, 3));
    put32(batch + AT_RECORD_COUNT, count);
    put64(batch + AT_POSITION, LOG_BASE_POSITION + place);
    put64(batch + AT_WATERMARK, LOG_BASE_POSITION);
    put64(batch + AT_STREAM_ID, number);
    put32(batch + AT_FIELDS_LENGTH, fields);
    put32(batch + AT_PAYLOAD_LENGTH, payload);
    log->places[log->batches++] = place;
    log->end += length;
}

void make_log(struct log *log, uint64_t *dice)
{
    const uint64_t batch_max = TR_BATCH_HEADER_BYTES + FIELDS_MAX + 8 +
                               LOG_RECORDS_MAX * (4 + PAYLOAD_OF_RECORD_MAX);
    memset(log, 0, sizeof *log);
    log->data = exactly(LOG_START + LOG_BATCHES_MAX * batch_max);
    memset(log->data, 0xa5, LOG_START);
    log->end = LOG_START;
    for (uint32_t i = 0; i < LOG_STREAMS; i++)
        log->streams[i].base = roll(dice, 2) ? 0 : roll(dice, UINT64_C(1) << 40);
    for (uint64_t wanted = roll(dice, LOG_BATCHES_MAX + 1); log->batches < wanted;)
        add_batch(log, dice);
    require(tr_batch_seal(log->data + LOG_START, log->end - LOG_START) == log->batches,
            "every batch of a valid log is sealed");
    log->length = log->end + (uint32_t)(roll(dice, 3) ? roll(dice, TAIL_MAX) : 0);
    uint8_t *exact = exactly(log->length);
    memcpy(exact, log->data, log->end);
    memset(exact + log->end, 0, log->length - log->end);
    free(log->data);
    log->data = exact;
}

/* Makes the checksum of whatever each header claims to be long right. */
static void seal_again(struct log *log)
{
    for (uint32_t i = 0; i < log->batches; i++) {
        uint8_t *batch = log->data + log->places[i];
        const uint32_t length = get32(batch + AT_LENGTH);
        if (length >= TR_BATCH_HEADER_BYTES && length <= log->length - log->places[i])
            put32(batch, tr_crc32c(batch + AT_LENGTH, length - AT_LENGTH, 0));
    }
}

/* A batch that claims to be longer than it is, and whose lengths agree. */
static void stretch(uint8_t *batch, uint32_t by)
{
    put32(batch + AT_LENGTH, get32(batch + AT_LENGTH) + by);
    put32(batch + AT_PAYLOAD_LENGTH, get32(batch + AT_PAYLOAD_LENGTH) + by);
}

void edit_log(struct log *log, const uint8_t *data, size_t length, int sealed)
{
    for (; length >= EDIT_BYTES; data += EDIT_BYTES, length -= EDIT_BYTES) {
        const uint32_t place = get32(data);
        const uint8_t value = data[EDIT_BYTES - 1];
        const uint32_t batch = log->batches ? log->places[place / 8 % log->batches] : 0;
        if (!log->batches || place % 8 == 0)
            log->data[place % log->length] = value;
        else if (place % 8 == 1)
            stretch(log->data + batch, 8u * value);
        else /* its header or its table */
            log->data[(batch + place / 128 % 200) % log->length] = value;
        log->edited = 1;
    }
    if (sealed)
        seal_again(log);
}
