/* Coverage-guided fuzzing of the parser of plain requests; the rules are those of
   fuzz_http_request.py. With clang and the sources of llhttp (LLHTTP=its folder):

       make fuzz-native LLHTTP=/usr/src/llhttp FUZZ_SECONDS=600

   Without llhttp what is left is that the parser agrees with itself, on parts and on the whole,
   and stays within its input. Without libFuzzer see standalone.c. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/http_request.h"

#ifdef WITH_LLHTTP
#include "llhttp_reading.h"
#endif

static const struct tr_http_limits LIMITS[] = {
    {.head_max = 2048, .body_max = 4096, .fields_max = TR_HTTP_FIELDS_MAX},
    {.head_max = 200, .body_max = 20, .fields_max = 4},
    {.head_max = 90, .body_max = 0, .fields_max = 100},
};

static void require(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not so: %s\n", what);
        abort();
    }
}

/* Parse a copy that ends where the input ends, so that reading on is seen. */
static int32_t parse(const uint8_t *data, size_t length, const struct tr_http_limits *limits,
                     struct tr_http_request *out)
{
    uint8_t *copy = malloc(length ? length : 1);
    require(copy != NULL, "there is memory");
    memcpy(copy, data, length);
    int32_t said = tr_http_parse(copy, length, limits, out);
    free(copy);
    return said;
}

static int same_request(const struct tr_http_request *one, const struct tr_http_request *other)
{
    return one->method == other->method && one->target == other->target &&
           one->target_length == other->target_length && one->head_length == other->head_length &&
           one->body_length == other->body_length && one->keep_alive == other->keep_alive &&
           one->length_value == other->length_value &&
           one->length_value_length == other->length_value_length &&
           one->seq_value == other->seq_value &&
           one->seq_value_length == other->seq_value_length &&
           one->field_count == other->field_count &&
           memcmp(one->fields, other->fields, one->field_count * sizeof one->fields[0]) == 0;
}

static void check_bounds(size_t length, const struct tr_http_limits *limits,
                         const struct tr_http_request *request)
{
    size_t end = (size_t)request->head_length + request->body_length;
    require(end <= length, "a complete request is within the input");
    require(request->head_length <= limits->head_max, "its head is within the bound");
    require(request->body_length <= limits->body_max, "its body is within the bound");
    require(request->field_count <= limits->fields_max, "its fields are within the bound");
    require(request->field_count <= TR_HTTP_FIELDS_MAX, "its fields are within the table");
    size_t place = (size_t)request->target + request->target_length;
    for (uint32_t i = 0; i < request->field_count; i++) {
        const struct tr_http_field *field = &request->fields[i];
        require(field->name >= place && field->name_length > 0, "fields stand in a row");
        require(field->value > field->name + field->name_length, "a value is behind its name");
        place = (size_t)field->value + field->value_length;
    }
    require(place < request->head_length, "the fields end before the head");
}

/* Whether the bytes are this word in any case. */
static int is_lower(const uint8_t *data, const char *word, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        if (word[i] != (data[i] >= 'A' && data[i] <= 'Z' ? data[i] + 32 : data[i]))
            return 0;
    return 1;
}

/* What is left out of a head is the whole value of a field, and a number. */
static void check_seq(const uint8_t *data, const struct tr_http_request *request)
{
    uint32_t values = 0;
    for (uint32_t i = 0; i < request->seq_value_length; i++)
        require(data[request->seq_value + i] >= '0' && data[request->seq_value + i] <= '9',
                "what is left out is digits");
    for (uint32_t i = 0; i < request->field_count; i++) {
        const struct tr_http_field *field = &request->fields[i];
        if (field->name_length != 12 ||
            !is_lower(data + field->name, "producer-seq", 12))
            continue;
        values++;
        require(field->value_length > 0, "an empty number is not plain");
        require(request->seq_value_length == 0 ||
                    (field->value == request->seq_value &&
                     field->value_length == request->seq_value_length),
                "what is left out is all of the value");
    }
    require(values <= 1 && (values == 1 || request->seq_value_length == 0),
            "it is left out of the one field of its name");
}

static void check_parts(const uint8_t *data, size_t length, const struct tr_http_limits *limits,
                        int32_t said, const struct tr_http_request *request)
{
    size_t end = length;
    if (said == TR_HTTP_COMPLETE)
        end = (size_t)request->head_length + request->body_length;
    int other = 0;
    for (size_t place = 0; place < end; place++) {
        struct tr_http_request part;
        int32_t partly = parse(data, place, limits, &part);
        require(partly != TR_HTTP_COMPLETE, "no part of a request is a request");
        require(partly == TR_HTTP_OTHER || !other, "what is not plain stays so");
        other = partly == TR_HTTP_OTHER;
    }
    if (said != TR_HTTP_OTHER) {
        require(!other, "what is plain was plain before");
    }
    if (said == TR_HTTP_COMPLETE) {
        struct tr_http_request again;
        require(parse(data, end, limits, &again) == said, "a request is complete by itself");
        require(same_request(request, &again), "what follows a request changes nothing");
    }
    require(said != TR_HTTP_PARTIAL || length < (size_t)limits->head_max + limits->body_max,
            "nothing is waited for beyond the bounds");
}

#ifdef WITH_LLHTTP
static const char *const METHODS[] = {
    [TR_HTTP_GET] = "GET",         [TR_HTTP_HEAD] = "HEAD",   [TR_HTTP_POST] = "POST",
    [TR_HTTP_PUT] = "PUT",         [TR_HTTP_PATCH] = "PATCH", [TR_HTTP_DELETE] = "DELETE",
    [TR_HTTP_OPTIONS] = "OPTIONS",
};

static int same_span(struct span span, size_t start, size_t length)
{
    return span.length == length && (length == 0 || span.start == start);
}

static void check_llhttp(const uint8_t *data, size_t length, int32_t said,
                         const struct tr_http_request *request)
{
    struct reading reading;
    enum reading_result result = read_with_llhttp(data, length, &reading);
    if (said == TR_HTTP_PARTIAL)
        require(result != READING_COMPLETE, "llhttp has the whole request that is waited for");
    if (said != TR_HTTP_COMPLETE)
        return;
    require(result == READING_COMPLETE, "llhttp accepts it too");
    require(reading.end == (size_t)request->head_length + request->body_length,
            "the next request begins at the same place");
    const char *method = METHODS[request->method];
    require(reading.method.length == strlen(method) &&
                memcmp(data + reading.method.start, method, strlen(method)) == 0,
            "the method is the same");
    require(same_span(reading.target, request->target, request->target_length),
            "the target is the same");
    require(reading.version.length == 3 && memcmp(data + reading.version.start, "1.1", 3) == 0,
            "the version is 1.1");
    require(reading.fields == request->field_count, "there are as many fields");
    for (uint32_t i = 0; i < request->field_count; i++) {
        const struct tr_http_field *field = &request->fields[i];
        require(same_span(reading.names[i], field->name, field->name_length),
                "the name of a field is the same");
        require(same_span(reading.values[i], field->value, field->value_length),
                "the value of a field is the same");
    }
    require(!reading.chunked, "no coding");
    require(same_span(reading.body, request->head_length, request->body_length),
            "the body is the same");
    require(reading.keep_alive == (int)request->keep_alive, "it stays or it goes for both");
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (length == 0)
        return 0;
    const struct tr_http_limits *limits = &LIMITS[data[length - 1] % 3];
    while (length > 0) {
        struct tr_http_request request;
        int32_t said = parse(data, length, limits, &request);
        check_parts(data, length, limits, said, &request);
        if (said == TR_HTTP_COMPLETE) {
            check_bounds(length, limits, &request);
            check_seq(data, &request);
        }
#ifdef WITH_LLHTTP
        check_llhttp(data, length, said, &request);
#endif
        if (said != TR_HTTP_COMPLETE)
            break;
        data += request.head_length + request.body_length;
        length -= request.head_length + request.body_length;
    }
    return 0;
}
