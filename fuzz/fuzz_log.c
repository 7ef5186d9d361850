/* The engine's C that reads mapped logs, on logs that are valid and on damaged ones.

   An input is the seed of a log, a byte of choices, and edits of five bytes each: a place in the
   log and what is put there. Checksums may be made right again behind the edits, as by a disk that
   lies or a writer that errs. From a log without edits every record must come as it was written;
   from any log nothing may be read beyond its last byte, and what is given must lie within it.

       make fuzz-native FUZZ_SECONDS=600

   Without libFuzzer see standalone.c. */

#define _GNU_SOURCE /* memfd_create */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch_scan.h"
#include "checksum.h"
#include "gather.h"
#include "gather_small.h"
#include "made_log.h"
#include "map.h"

enum { SEED_BYTES = 8, MAPPED_ONE_IN = 16 };

/* ---- scanning */

static void check_scan(const struct log *log, uint64_t *dice)
{
    struct tr_batch_ref refs[3];
    uint64_t at = LOG_START, next, count = 0, found;
    do {
        const uint64_t capacity = 1 + roll(dice, 3);
        found = tr_batch_scan(log->data, log->length, at, LOG_BASE_POSITION, refs, capacity, &next);
        require(found <= capacity && next >= at && next <= log->length, "a scan has bounds");
        for (uint64_t i = 0; i < found; i++) {
            require(refs[i].offset == at, "batches stand in a row");
            require(refs[i].length >= TR_BATCH_HEADER_BYTES + 4ull * refs[i].record_count,
                    "a batch has room for its table");
            at += refs[i].length;
        }
        require(at == next, "a scan goes on behind its last batch");
        count += found;
    } while (found > 0);
    require(log->edited || (count == log->batches && at == log->end), "every batch is found");

    const uint64_t from = roll(dice, log->length + 1);
    found = tr_batch_find(log->data, log->length, from, LOG_BASE_POSITION);
    require(found == log->length || (found >= from && (found - from) % 8 == 0), "find is behind");
    found = tr_nonzero_end(log->data, log->length, from);
    require(found >= from && found <= log->length, "the end is within the log");
    require(found == from || log->data[found - 1] != 0, "the last byte is not zero");
    for (uint64_t i = found; i < log->length; i++)
        require(log->data[i] == 0, "behind the end all is zero");
    for (int i = 0; i < 10; i++)
        tr_batch_check(log->data, log->length, roll(dice, 2 * (uint64_t)log->length),
                       LOG_BASE_POSITION);

    const uint64_t length = roll(dice, 2) * roll(dice, log->length - LOG_START + 1);
    const uint64_t sealed = length ? length : log->end - LOG_START;
    uint8_t *copy = exactly(sealed);
    memcpy(copy, log->data + LOG_START, sealed);
    found = tr_batch_seal(copy, sealed);
    require(log->edited || length || found == log->batches, "what is whole is sealed again");
    free(copy);
}

static void check_checksum(const struct log *log, uint64_t *dice)
{
    const uint64_t from = roll(dice, log->length), length = roll(dice, log->length - from + 1);
    const uint64_t part = roll(dice, length + 1);
    uint8_t *copy = exactly(length);
    memcpy(copy, log->data + from, length);
    const uint32_t whole = tr_crc32c(copy, length, 0);
    require(whole == tr_crc32c_portable(copy, length, 0), "both ways give one checksum");
    require(whole == tr_crc32c(copy + part, length - part, tr_crc32c(copy, part, 0)),
            "a checksum goes on");
    free(copy);
}

static void check_map(const struct log *log, uint64_t *dice)
{
    const int file = memfd_create("log", MFD_CLOEXEC);
    require(file >= 0, "there is a file");
    require(write(file, log->data, log->length) == (ssize_t)log->length, "it is written");
    uint8_t *mapped = tr_map(file, log->length);
    close(file);
    require(mapped != NULL, "it is mapped");
    const uint64_t from = roll(dice, log->length + 1);
    tr_map_release(mapped, from, from + roll(dice, log->length - from + 1));
    require(memcmp(mapped, log->data, log->length) == 0, "what was released is read again");
    tr_unmap(mapped, log->length);
}

/* ---- gathering */

/* The records of a stream from first on, as they were written. */
static uint8_t *written(const struct log *log, const struct stream *stream, uint32_t first,
                        uint64_t count, uint64_t *length)
{
    *length = 0;
    for (uint64_t i = first; i < first + count; i++)
        *length += stream->records[i].length;
    uint8_t *whole = exactly(*length), *at = whole;
    for (uint64_t i = first; i < first + count; i++) {
        memcpy(at, log->data + stream->records[i].at, stream->records[i].length);
        at += stream->records[i].length;
    }
    return whole;
}

/* The index entries of those records; on a damaged log some of them are damaged, too. */
static uint32_t *entries_of(const struct log *log, const struct stream *stream, uint32_t first,
                            uint32_t count, uint64_t *dice)
{
    uint32_t *entries = exactly(4ull * count);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = stream->records[first + i].batch;
        if (!log->edited || roll(dice, 16))
            continue;
        if (roll(dice, 2))
            entries[i] = log->places[roll(dice, log->batches)];
        else
            entries[i] = (uint32_t)roll(dice, roll(dice, 2) ? log->length + 100ull : UINT32_MAX);
    }
    return entries;
}

static void check_gather(const struct log *log, const struct stream *stream, uint64_t id,
                         uint32_t first, uint32_t count, uint64_t *dice)
{
    uint32_t *entries = entries_of(log, stream, first, count, dice);
    const uint64_t capacity = roll(dice, 4) ? 100000 : roll(dice, 2000);
    const uint32_t ends_base = (uint32_t)roll(dice, 1000);
    uint8_t *out = exactly(capacity);
    uint32_t *ends = exactly(4ull * count);
    struct tr_gather_result got;
    tr_gather(log->data, log->length, LOG_BASE_POSITION, id, stream->base + first, entries, count,
              out, capacity, ends, ends_base, &got);
    require(got.records <= count && got.bytes <= capacity, "no more is copied than there is room");
    require((got.records == count) == (got.status == TR_GATHER_DONE), "done is done");
    uint64_t before = ends_base;
    for (uint64_t i = 0; i < got.records; i++) {
        require(ends[i] >= before, "records end in their order");
        before = ends[i];
    }
    require(before == ends_base + got.bytes, "the last record ends where the copy ends");
    if (!log->edited) {
        uint64_t length;
        uint8_t *whole = written(log, stream, first, got.records, &length);
        require(got.bytes == length && memcmp(out, whole, length) == 0,
                "records come as they were written");
        require(got.status != TR_GATHER_BAD, "nothing is damaged");
        require(got.status != TR_GATHER_FULL ||
                    (got.next_bytes == stream->records[first + got.records].length &&
                     got.bytes + got.next_bytes > capacity),
                "what is left out does not fit");
        free(whole);
    }
    free(entries);
    free(out);
    free(ends);
}

/* The pieces of one call, checked, at the end of whole. Returns its length then. */
static uint64_t join(const struct log *log, const struct tr_piece *pieces,
                     const struct tr_pieces_result *got, const uint8_t *out, uint64_t capacity,
                     uint64_t min_mapped, uint8_t *whole, uint64_t used)
{
    const uint64_t before = used;
    for (uint32_t i = 0; i < got->pieces; i++) {
        const uint64_t room = pieces[i].copied ? capacity : log->length;
        require(pieces[i].offset <= room && pieces[i].length <= room - pieces[i].offset,
                "a piece is within what it is of");
        require(pieces[i].copied || pieces[i].length >= min_mapped, "short pieces are copied");
        memcpy(whole + used, (pieces[i].copied ? out : log->data) + pieces[i].offset,
               pieces[i].length);
        used += pieces[i].length;
    }
    require(used - before == got->bytes, "the pieces are all there is");
    return used;
}

/* Reads on as the engine does: with fresh memory when there is no more room, until it is enough. */
static void check_pieces(const struct log *log, const struct stream *stream, uint64_t id,
                         uint32_t first, uint32_t count, uint64_t *dice)
{
    const uint64_t max_bytes = roll(dice, 4) ? 20000 : roll(dice, 1000);
    const uint64_t min_mapped = 1 + roll(dice, roll(dice, 2) ? 200 : 8000);
    const uint64_t capacity = min_mapped + roll(dice, 500);
    const uint32_t pieces_capacity = 1 + (uint32_t)roll(dice, 4);
    uint32_t *entries = entries_of(log, stream, first, count, dice);
    uint8_t *out = exactly(capacity), *whole = exactly(max_bytes + log->length);
    struct tr_piece *pieces = exactly(pieces_capacity * sizeof *pieces);
    struct tr_pieces_result got = {.checked = 0, .status = TR_GATHER_ROOM};
    uint64_t used = 0, done = 0;
    while (done < count && used < max_bytes && got.status == TR_GATHER_ROOM) {
        const int forced = done == 0;
        tr_gather_pieces(log->data, log->length, LOG_BASE_POSITION, id,
                         stream->base + first + done, entries + done, count - done,
                         max_bytes - used, forced, min_mapped, out, capacity, pieces,
                         pieces_capacity, NULL, &got);
        require(got.pieces <= pieces_capacity && got.records <= count - done, "it has bounds");
        require(got.bytes <= max_bytes - used || (forced && got.records > 0),
                "only the first record may be larger than what was asked for");
        require(got.status != TR_GATHER_ROOM || got.records > 0, "fresh memory is room enough");
        require(got.status != TR_GATHER_FULL || !forced || got.records > 0, "one at least");
        used = join(log, pieces, &got, out, capacity, min_mapped, whole, used);
        done += got.records;
    }
    if (!log->edited) {
        uint64_t length;
        uint8_t *expected = written(log, stream, first, done, &length);
        require(used == length && memcmp(whole, expected, length) == 0,
                "pieces are what was written");
        require(got.status != TR_GATHER_BAD, "nothing is damaged");
        require(got.status != TR_GATHER_DONE || done == count, "done is done");
        free(expected);
    }
    free(entries);
    free(out);
    free(whole);
    free(pieces);
}

/* Several small reads of a stream at once. */
static void check_small(const struct log *log, const struct stream *stream, uint64_t id,
                        uint64_t *dice)
{
    enum { READS = 4 };
    uint64_t ids[READS], ordinals[READS], ends[READS];
    uint32_t firsts[READS], counts[READS], *entries = NULL, all = 0;
    for (uint32_t i = 0; i < READS; i++) {
        ids[i] = id;
        firsts[i] = (uint32_t)roll(dice, stream->count);
        ordinals[i] = stream->base + firsts[i];
        counts[i] = (uint32_t)roll(dice, stream->count - firsts[i] + 1);
        uint32_t *more = entries_of(log, stream, firsts[i], counts[i], dice);
        uint32_t *joined = exactly(4ull * (all + counts[i]));
        if (all != 0)
            memcpy(joined, entries, 4ull * all);
        if (counts[i] != 0)
            memcpy(joined + all, more, 4ull * counts[i]);
        free(more);
        free(entries);
        entries = joined;
        all += counts[i];
    }
    const uint64_t bytes_max = roll(dice, 4) ? 100000 : roll(dice, 2000);
    const uint64_t capacity = roll(dice, 4) ? READS * bytes_max : roll(dice, 2000);
    uint8_t *out = exactly(capacity);
    tr_gather_small(log->data, log->length, LOG_BASE_POSITION, ids, ordinals, counts, entries,
                    READS, (int32_t)roll(dice, 2), bytes_max, out, capacity, ends);
    uint64_t begin = 0;
    for (uint32_t i = 0; i < READS; begin = ends[i++]) {
        require(ends[i] >= begin && ends[i] <= capacity, "reads come one behind the other");
        require(ends[i] - begin <= bytes_max, "a small read is small");
        if (log->edited || ends[i] == begin)
            continue;
        uint64_t length;
        uint8_t *whole = written(log, stream, firsts[i], counts[i], &length);
        require(ends[i] - begin == length && memcmp(out + begin, whole, length) == 0,
                "a small read is all of what was written");
        free(whole);
    }
    free(entries);
    free(out);
}

static void check_streams(const struct log *log, uint64_t *dice)
{
    for (uint64_t id = 0; id < LOG_STREAMS; id++) {
        const struct stream *stream = &log->streams[id];
        if (stream->count == 0)
            continue;
        for (int i = 0; i < 4; i++) {
            const uint32_t first = (uint32_t)roll(dice, stream->count);
            const uint32_t count = 1 + (uint32_t)roll(dice, stream->count - first);
            check_gather(log, stream, id, first, count, dice);
            check_pieces(log, stream, id, first, count, dice);
            check_small(log, stream, id, dice);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    uint64_t dice;
    struct log log;
    if (length <= SEED_BYTES)
        return 0;
    memcpy(&dice, data, SEED_BYTES);
    make_log(&log, &dice);
    edit_log(&log, data + SEED_BYTES + 1, length - SEED_BYTES - 1, data[SEED_BYTES] % 4 != 0);
    check_scan(&log, &dice);
    check_streams(&log, &dice);
    check_checksum(&log, &dice);
    if (roll(&dice, MAPPED_ONE_IN) == 0)
        check_map(&log, &dice);
    free(log.data);
    return 0;
}
