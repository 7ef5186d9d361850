#ifndef TAILRACE_FUZZ_MADE_LOG_H
#define TAILRACE_FUZZ_MADE_LOG_H
#include <stddef.h>
#include <stdint.h>

/* Logs as engine/FORMAT.md draws them, that know what is in them; and damage to them. */

enum {
    LOG_BATCHES_MAX = 12,
    LOG_STREAMS = 3,
    LOG_RECORDS_MAX = 40, /* of one batch */
    LOG_START = 64,       /* where the first batch stands */
};

#define LOG_BASE_POSITION (UINT64_C(1) << 33)

struct record {
    uint32_t batch; /* offset in the log */
    uint32_t at;
    uint32_t length;
};

struct stream {
    uint64_t base; /* ordinal of the first record */
    uint32_t count;
    struct record records[LOG_BATCHES_MAX * LOG_RECORDS_MAX];
};

struct log {
    uint8_t *data; /* exactly as many bytes as it says */
    uint32_t length;
    uint32_t end; /* of the batches */
    uint32_t places[LOG_BATCHES_MAX];
    uint32_t batches;
    int edited;
    struct stream streams[LOG_STREAMS];
};

/* Ends the program unless it holds. */
void require(int holds, const char *what);

/* Memory of exactly so many bytes, so that reading on is seen. */
void *exactly(uint64_t length);

/* A number below bound, the next of a sequence (splitmix64). */
uint64_t roll(uint64_t *dice, uint64_t bound);

/* A valid log, whose data is to be freed. */
void make_log(struct log *log, uint64_t *dice);

/* Edits of five bytes each: a place, and what is put there; most hit headers and tables. sealed:
   the checksum of whatever a header then claims to be long is made right. */
void edit_log(struct log *log, const uint8_t *data, size_t length, int sealed);

#endif
