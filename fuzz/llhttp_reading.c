#include "llhttp_reading.h"

#include <string.h>

#include <llhttp.h>

struct reader {
    llhttp_t parser; /* first, so that a callback's argument leads here */
    const uint8_t *data;
    struct reading *reading;
};

static struct reader *reader_of(llhttp_t *parser)
{
    return (struct reader *)(void *)parser;
}

/* llhttp may give a thing in parts; in one piece of input these are neighbours. */
static int extend(llhttp_t *parser, struct span *span, const char *at, size_t length)
{
    size_t start = (size_t)((const uint8_t *)at - reader_of(parser)->data);
    if (span->length == 0)
        span->start = start;
    else if (span->start + span->length != start)
        return HPE_USER;
    span->length += length;
    return 0;
}

static int on_method(llhttp_t *parser, const char *at, size_t length)
{
    return extend(parser, &reader_of(parser)->reading->method, at, length);
}

static int on_url(llhttp_t *parser, const char *at, size_t length)
{
    return extend(parser, &reader_of(parser)->reading->target, at, length);
}

static int on_version(llhttp_t *parser, const char *at, size_t length)
{
    return extend(parser, &reader_of(parser)->reading->version, at, length);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t length)
{
    struct reading *reading = reader_of(parser)->reading;
    if (reading->fields == READING_FIELDS_MAX)
        return HPE_USER;
    return extend(parser, &reading->names[reading->fields], at, length);
}

static int on_header_value(llhttp_t *parser, const char *at, size_t length)
{
    struct reading *reading = reader_of(parser)->reading;
    return extend(parser, &reading->values[reading->fields], at, length);
}

static int on_header_value_complete(llhttp_t *parser)
{
    struct reader *reader = reader_of(parser);
    struct span *value = &reader->reading->values[reader->reading->fields++];
    while (value->length > 0) {
        uint8_t last = reader->data[value->start + value->length - 1];
        if (last != ' ' && last != '\t')
            break;
        value->length--;
    }
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct reading *reading = reader_of(parser)->reading;
    reading->head_complete = 1;
    reading->keep_alive = llhttp_should_keep_alive(parser);
    return 0;
}

static int on_chunk_header(llhttp_t *parser)
{
    reader_of(parser)->reading->chunked = 1;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    struct reading *reading = reader_of(parser)->reading;
    return reading->chunked ? 0 : extend(parser, &reading->body, at, length);
}

static int on_message_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

enum reading_result read_with_llhttp(const uint8_t *data, size_t length, struct reading *reading)
{
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_method = on_method;
    settings.on_url = on_url;
    settings.on_version = on_version;
    settings.on_header_field = on_header_field;
    settings.on_header_value = on_header_value;
    settings.on_header_value_complete = on_header_value_complete;
    settings.on_headers_complete = on_headers_complete;
    settings.on_chunk_header = on_chunk_header;
    settings.on_body = on_body;
    settings.on_message_complete = on_message_complete;

    memset(reading, 0, sizeof *reading);
    struct reader reader = {.data = data, .reading = reading};
    llhttp_init(&reader.parser, HTTP_REQUEST, &settings);
    llhttp_errno_t result = llhttp_execute(&reader.parser, (const char *)data, length);
    if (result == HPE_OK)
        return READING_INCOMPLETE;
    if (result != HPE_PAUSED && result != HPE_PAUSED_UPGRADE)
        return READING_REFUSED;
    const char *end = llhttp_get_error_pos(&reader.parser);
    reading->end = (size_t)((const uint8_t *)end - data);
    return READING_COMPLETE;
}
