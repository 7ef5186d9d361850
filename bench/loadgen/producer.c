#include "producer.h"

#include <inttypes.h>
#include <stdio.h>

uint8_t *
lg_producer_fields(uint8_t *out, uint32_t producer, uint64_t epoch, uint64_t sequence)
{
    return out
           + snprintf((char *)out, PRODUCER_BYTES_MAX,
                      "Producer-Id: load-%" PRIu32 "\r\nProducer-Epoch: %" PRIu64
                      "\r\nProducer-Seq: %" PRIu64 "\r\n",
                      producer, epoch, sequence);
}

uint64_t
lg_producer_sequence(uint32_t targets, uint32_t step, uint64_t turn)
{
    uint32_t a = targets, b = step;
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return turn / (targets / a);
}
