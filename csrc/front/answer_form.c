#include "answer_form.h"

#include <string.h>

enum { DIGITS_MAX = 20 }; /* of 64 bits in decimal */

_Static_assert(sizeof(((struct tr_form *)0)->pieces) / sizeof(struct tr_form_piece) ==
                   TR_FORM_PIECES_MAX, "one bound");
_Static_assert(sizeof(((struct tr_form *)0)->bytes) == TR_FORM_BYTES_MAX, "one bound");

/* Writes the digits so that they end at end; how many there are. */
static uint32_t write_digits(uint64_t number, uint32_t base, uint32_t width, uint8_t *end)
{
    uint8_t *p = end;
    do {
        *--p = (uint8_t)"0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0 || (uint32_t)(end - p) < width);
    return (uint32_t)(end - p);
}

uint32_t tr_form_fill(const struct tr_form *form, const struct tr_form_numbers *numbers,
                      uint8_t *out)
{
    const uint8_t *bytes = form->bytes;
    uint32_t left = form->byte_count, used = 0;
    if (form->piece_count > TR_FORM_PIECES_MAX || left > TR_FORM_BYTES_MAX)
        return 0;
    for (uint32_t i = 0; i < form->piece_count; i++) {
        const struct tr_form_piece *piece = &form->pieces[i];
        uint8_t digits[DIGITS_MAX];
        uint32_t count = 0;
        if (piece->length > left || piece->width > DIGITS_MAX)
            return 0;
        switch (piece->hole) {
        case TR_HOLE_TAIL:
            count = write_digits(numbers->tail, 10, piece->width, digits + DIGITS_MAX);
            break;
        case TR_HOLE_STREAM:
            count = write_digits(numbers->stream_id, 16, piece->width, digits + DIGITS_MAX);
            break;
        case TR_HOLE_EPOCH:
            count = write_digits(numbers->epoch, 10, piece->width, digits + DIGITS_MAX);
            break;
        case TR_HOLE_SEQ:
            count = write_digits(numbers->seq, 10, piece->width, digits + DIGITS_MAX);
            break;
        }
        if (TR_FORM_BYTES_MAX - used < piece->length + count)
            return 0;
        memcpy(out + used, bytes, piece->length);
        memcpy(out + used + piece->length, digits + DIGITS_MAX - count, count);
        bytes += piece->length;
        left -= piece->length;
        used += piece->length + count;
    }
    return used;
}
