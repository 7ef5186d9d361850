/* Many records made into one buffer, in one step. */

#ifndef TR_JOIN_RECORDS_H
#define TR_JOIN_RECORDS_H

/* A new bytearray, for a caller that holds the GIL: front, the records' ends (u32 each, counted
   from the first record's first byte), middle, and the records; with separated a comma behind
   each. spare bytes more are allocated, so that so many can be appended without a copy; but not to
   what is shorter than they are, of which a copy costs nothing.

   front and middle are bytes, records a list or tuple. None if any record is not of the type
   bytes itself, or all of them, with their commas, have more than bytes_max bytes, which is
   what a u32 can say at most. NULL where there is no memory, as any call of Python's API.

   Pointers are to Python objects, which cffi has no word for. */
void *tr_join_records(void *front, void *middle, void *records, int separated,
                      int64_t bytes_max, int64_t spare);

#endif
