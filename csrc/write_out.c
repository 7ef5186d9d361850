#define _GNU_SOURCE
#include "write_out.h"

#include <fcntl.h>
#include <unistd.h>

void tr_write_out(int descriptor, uint64_t start, uint64_t length)
{
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(descriptor, (off_t)start, (off_t)length,
                          SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
#else
    (void)descriptor, (void)start, (void)length;
#endif
}
