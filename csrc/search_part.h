#ifndef TAILRACE_SEARCH_PART_H
#define TAILRACE_SEARCH_PART_H
#include <stdint.h>

enum {
    TR_PART_HEADER_BYTES = 288,
    TR_PART_VERSION = 1,
    TR_PART_SECTIONS = 9,

    /* What tr_part_open found wrong; the numbers are told in messages. */
    TR_PART_NO_PART = 1, /* shorter than a header, or a file of another kind */
    TR_PART_OTHER_VERSION = 2,
    TR_PART_BAD_HEADER = 3, /* its checksum */
    TR_PART_CUT_OFF = 4,    /* the file is not as long as its header says */
    TR_PART_BAD_TABLE = 5,  /* a section is not where it must be, or bytes between are not zero */
    TR_PART_BAD_SECTION = 6, /* a section's checksum */
    TR_PART_BAD_COUNTS = 7,  /* the sections' sizes do not fit the header's numbers */
    TR_PART_BAD_STREAMS = 8,
    TR_PART_BAD_TYPES = 9,
    TR_PART_BAD_TERMS = 10,
    TR_PART_UNALIGNED = 11 /* data is not */
};

/* A view of one part file; the bytes are specified in engine/SEARCH_FORMAT.md. */
struct tr_part {
    const uint8_t *data;
    uint64_t length;
    uint32_t documents;
    uint32_t streams;
    uint32_t terms;
    uint32_t types;
    uint32_t analyzer;
    uint32_t checksum; /* of the header, which holds those of all sections */
    uint64_t length_sum; /* terms in all documents */
    uint64_t first_position;
    uint64_t end_position;
    const uint8_t *postings;
    uint64_t postings_bytes;
    const uint8_t *stream_table;
    const uint64_t *ordinals;
    const int64_t *created;
    const uint32_t *lengths;
    const uint32_t *document_streams;
    const uint8_t *type_table;
    const uint8_t *term_table;
    const uint8_t *names;
    uint64_t names_bytes;
};

/* Check every checksum and every bound of the file and fill in the view, which points into data
   (8-byte aligned). Returns 0, or what is wrong. */
int32_t tr_part_open(const uint8_t *data, uint64_t length, struct tr_part *out);

/* The index of a stream in the part's table, or -1. */
int64_t tr_part_find_stream(const struct tr_part *part, uint64_t stream_id);

/* Documents of the part at or above their stream's floor. floors holds one ordinal per stream of
   the part, by index; streams at or behind floors_count have none. */
uint64_t tr_part_live(const struct tr_part *part, const uint64_t *floors, uint32_t floors_count);

#endif
