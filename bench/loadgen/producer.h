/* The header fields of an idempotent producer (Durable Streams Protocol, section 5.2.1). */
#ifndef LG_PRODUCER_H
#define LG_PRODUCER_H
#include <stdint.h>

/* At most so many bytes. */
#define PRODUCER_BYTES_MAX 128

/* Writes the three fields, each with its end of line, to `out`; where they end. */
uint8_t *lg_producer_fields(uint8_t *out, uint32_t producer, uint64_t epoch, uint64_t sequence);

/* The sequence number, to the target it is at, of a client that takes every `step`th of so many
   `targets` in turn, at its turn number `turn`: how often it was there before. */
uint64_t lg_producer_sequence(uint32_t targets, uint32_t step, uint64_t turn);
#endif
