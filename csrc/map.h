#ifndef TAILRACE_MAP_H
#define TAILRACE_MAP_H
#include <stdint.h>

/* The first length bytes of an open file in memory, shared and read only; they outlive the
   descriptor, which is not kept. NULL if that fails: errno says why. */
void *tr_map(int descriptor, uint64_t length);

/* Let go of what tr_map gave. */
void tr_unmap(void *data, uint64_t length);

/* Take the pages that hold bytes start to stop of it out of this process's memory, until they are
   read again. */
void tr_map_release(void *data, uint64_t start, uint64_t stop);

/* Whether bytes start to stop are in the kernel's memory, so that to read them is not to wait for
   a disk: 1, or 0 if not, or if that cannot be told. */
int32_t tr_map_resident(const void *data, uint64_t start, uint64_t stop);

#endif
