#ifndef TAILRACE_CHECKSUM_H
#define TAILRACE_CHECKSUM_H
#include <stdint.h>

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4) of length bytes, continuing from crc (0 to begin).
   Uses the CPU's instruction where there is one. */
uint32_t tr_crc32c(const uint8_t *data, uint64_t length, uint32_t crc);

/* The same by table, for CPUs without the instruction; here so that a test can compare the two. */
uint32_t tr_crc32c_portable(const uint8_t *data, uint64_t length, uint32_t crc);

#endif
