/* Coverage-guided fuzzing of the recogniser of JSON records; what its inputs mean to the parser of
   bodies is fuzz_json_value.py's to say. Here it stays within its input and agrees with itself.
   Without libFuzzer see standalone.c. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/json_value.h"

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

/* Asks about before, data and behind, in memory that ends where they end. */
static int32_t ask(const char *before, const uint8_t *data, size_t length, const char *behind,
                   uint32_t nesting_max)
{
    const size_t first = strlen(before), last = strlen(behind), whole = first + length + last;
    uint8_t *copy = malloc(whole ? whole : 1);
    require(copy != NULL, "there is memory");
    memcpy(copy, before, first);
    if (length)
        memcpy(copy + first, data, length);
    memcpy(copy + first + length, behind, last);
    const int32_t said = tr_json_is_value(copy, whole, nesting_max);
    free(copy);
    return said;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    const uint32_t most = TR_JSON_NESTING_MAX;
    const int32_t said = ask("", data, length, "", most);
    require(said == 0 || said == 1, "it says yes or no");
    require(!ask("", data, length, "", most + 1), "the depth that is asked for is bounded");
    for (uint32_t depth = 0; depth < most; depth += 1 + depth / 3)
        require(!ask("", data, length, "", depth) || said, "what may nest less may nest more");
    const int32_t flat = ask("", data, length, "", most - 1);
    require(ask("{\"\":", data, length, "}", most) >= flat, "a value can be a member");
    require(ask("{\"\":[0,", data, length, "]}", most) >= ask("", data, length, "", most - 2),
            "a value can be an item");
    if (!said)
        return 0;
    require(memchr(data, '\n', length) == NULL && memchr(data, '\r', length) == NULL,
            "a record is on one line");
    require(data[0] != '[' && data[0] > ' ' && data[length - 1] > ' ', "nothing is around it");
    require(!ask("[", data, length, "]", most) && !ask("", data, length, ",", most) &&
                !ask(" ", data, length, "", most) && !ask("", data, length, " ", most),
            "nothing is put around it");
    for (size_t part = 0; part < length; part++)
        require(!ask("", data, part, "", most) || data[0] == '-' ||
                    (data[0] >= '0' && data[0] <= '9'),
                "only a number begins with another value");
    return 0;
}
