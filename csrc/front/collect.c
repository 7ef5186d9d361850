#include "collect.h"

#include <string.h>

#include "heads_table.inc"

/* How many records the body of a row is that may be taken, with their spans; 0 if it is left. */
static uint32_t find_records(const struct tr_head_lane *lane, const struct tr_row *row,
                             const uint8_t *body, uint32_t nesting_max,
                             struct tr_json_span *spans, uint32_t capacity)
{
    if (lane->lane == 0 || !row->keep_alive || row->body_length == 0 ||
        row->body_length > lane->body_max || (lane->producer && row->seq_value_length == 0))
        return 0;
    if (capacity > lane->records_max)
        capacity = lane->records_max;
    if (lane->json)
        return tr_json_records(body, row->body_length, nesting_max, spans, capacity);
    if (capacity == 0)
        return 0;
    *spans = (struct tr_json_span){0, row->body_length};
    return 1;
}

/* What they need of the payload. */
static uint64_t payload_length(const struct tr_json_span *spans, uint32_t count, uint32_t comma)
{
    uint64_t length = 0;
    for (uint32_t i = 0; i < count; i++)
        length += spans[i].end - spans[i].begin + comma;
    return length;
}

/* Puts a row's records behind those that are there; the end of the payload. */
static uint8_t *put_records(const struct tr_json_span *spans, uint32_t count, uint32_t comma,
                            const uint8_t *body, uint32_t *lengths, uint8_t *payload)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t length = spans[i].end - spans[i].begin;
        memcpy(payload, body + spans[i].begin, length);
        payload += length;
        if (comma)
            *payload++ = ',';
        lengths[i] = length + comma;
    }
    return payload;
}

static uint64_t read_digits(const uint8_t *digits, uint32_t length)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < length; i++)
        number = number * 10 + (digits[i] - '0');
    return number;
}

/* The group for a row of a lane: a new one for a producer's. */
static uint32_t group_of(struct tr_heads *heads, const struct tr_head_lane *lane,
                         const struct tr_row *row, const uint8_t *head,
                         const struct tr_columns *columns, struct tr_collected *out)
{
    uint32_t *known = &heads->groups[lane->lane];
    if (!lane->producer && *known != 0)
        return *known - 1;
    const uint32_t group = out->groups++;
    columns->lanes[group] = lane->lane;
    columns->counts[group] = columns->records[group] = 0;
    columns->seqs[group] = 0;
    if (lane->producer)
        columns->seqs[group] = read_digits(head + row->seq_value, row->seq_value_length);
    else
        *known = group + 1;
    return group;
}

/* Takes what can be taken of the rows, and leaves the others. */
static void choose(struct tr_heads *heads, const uint8_t *arena, struct tr_row *rows,
                   uint32_t count, uint32_t take, uint32_t nesting_max,
                   const struct tr_columns *columns, struct tr_collected *out)
{
    for (uint32_t i = 0; i < count; i++) {
        struct tr_row *row = &rows[i];
        if (row->kind == TR_ROW_REQUEST || row->kind == TR_ROW_HEAD) {
            const uint8_t *head = arena + row->head;
            const struct tr_hole length_hole = {row->length_value, row->length_value_length};
            const struct tr_hole seq_hole = {row->seq_value, row->seq_value_length};
            row->number = tr_heads_find(heads, head, row->head_length, length_hole, seq_hole);
            if (row->kind == TR_ROW_HEAD) {
                if (row->number == 0) /* else nothing is wrong with it */
                    columns->left[out->left++] = i;
                continue;
            }
            const struct tr_head_lane *lane = &heads->heads[row->number].lane;
            struct tr_json_span *spans = columns->spans + out->records;
            uint32_t records = 0;
            if (take)
                records = find_records(lane, row, head + row->head_length, nesting_max, spans,
                                       columns->records_capacity - out->records);
            const uint64_t length = payload_length(spans, records, lane->json != 0);
            if (records != 0 && length <= columns->payload_capacity - out->payload) {
                const uint32_t group = group_of(heads, lane, row, head, columns, out);
                columns->counts[group]++;
                columns->records[group] += records;
                columns->groups[i] = group;
                columns->firsts[i] = out->records;
                row->taken = records;
                out->records += records;
                out->payload += length;
                out->bodies += row->body_length;
                out->taken++;
                continue;
            }
        }
        columns->left[out->left++] = i;
    }
    for (uint32_t i = 0; i < out->groups; i++)
        heads->groups[columns->lanes[i]] = 0;
}

static void collect(struct tr_heads *heads, const uint8_t *arena, struct tr_row *rows,
                    uint32_t count, uint32_t take, uint32_t nesting_max,
                    const struct tr_columns *columns, struct tr_collected *out)
{
    *out = (struct tr_collected){0};
    choose(heads, arena, rows, count, take, nesting_max, columns, out);
    uint32_t place = 0;
    for (uint32_t i = 0; i < out->groups; i++) {
        columns->places[i] = place;
        place += columns->counts[i];
    }
    for (uint32_t i = 0; i < count && out->taken != 0; i++) {
        if (!rows[i].taken)
            continue;
        place = columns->places[columns->groups[i]]++;
        columns->indexes[place] = i;
        columns->handles[place] = rows[i].handle;
    }
    uint8_t *payload = columns->payload;
    uint32_t *lengths = columns->lengths;
    place = 0;
    for (uint32_t i = 0; i < out->groups; i++) {
        uint32_t end = 0;
        for (const uint32_t behind = place + columns->counts[i]; place < behind; place++) {
            const uint32_t index = columns->indexes[place];
            const struct tr_row *row = &rows[index];
            const struct tr_head_lane *lane = &heads->heads[row->number].lane;
            payload = put_records(columns->spans + columns->firsts[index], row->taken,
                                  lane->json != 0, arena + row->head + row->head_length, lengths,
                                  payload);
            lengths += row->taken;
            end += row->taken;
            columns->ends[place] = end;
        }
    }
}

void tr_turn(struct tr_reactor *reactor, uint64_t room, struct tr_heads *heads, uint32_t take,
             uint32_t nesting_max, struct tr_turn *turn)
{
    tr_reactor_poll(reactor, room, turn->arena, turn->arena_capacity, turn->rows,
                    turn->rows_capacity, turn->fields, turn->fields_capacity, &turn->polled);
    collect(heads, turn->arena, turn->rows, turn->polled.rows, take, nesting_max,
            &turn->columns, &turn->collected);
}
