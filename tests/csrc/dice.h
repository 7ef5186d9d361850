#ifndef TAILRACE_TESTS_DICE_H
#define TAILRACE_TESTS_DICE_H
#include <stdint.h>

/* Numbers that look random and follow from a seed, so that a run can be had again. */

/* The next number of a sequence that seed names (splitmix64). */
uint64_t dice_next(uint64_t *seed);

/* The next number below bound. */
uint64_t roll(uint64_t *dice, uint64_t bound);

#endif
