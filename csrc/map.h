#ifndef TAILRACE_MAP_H
#define TAILRACE_MAP_H
#include <stdint.h>

/* The first length bytes of an open file in memory, shared and read only; they outlive the
   descriptor, which is not kept. NULL if that fails: errno says why. */
void *tr_map(int descriptor, uint64_t length);

/* Let go of what tr_map gave. */
void tr_unmap(void *data, uint64_t length);

#endif
