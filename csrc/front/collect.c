#include "collect.h"

#include <string.h>

#include "heads_table.inc"
#include "json_value.h"

/* What a row that is taken needs of the payload; 0 if it is left. */
static uint64_t record_length(const struct tr_head_lane *lane, const struct tr_row *row,
                              const uint8_t *body, uint32_t nesting_max)
{
    if (lane->lane == 0 || !row->keep_alive || row->body_length == 0 ||
        row->body_length > lane->body_max)
        return 0;
    if (!lane->json)
        return row->body_length;
    if (!tr_json_is_value(body, row->body_length, nesting_max))
        return 0;
    return (uint64_t)row->body_length + 1;
}

static void collect(struct tr_heads *heads, const uint8_t *arena, struct tr_row *rows,
                    uint32_t count, uint32_t take, uint32_t nesting_max,
                    const struct tr_columns *columns, struct tr_collected *out)
{
    *out = (struct tr_collected){0};
    for (uint32_t i = 0; i < count; i++) {
        struct tr_row *row = &rows[i];
        uint64_t length = 0;
        if (row->kind == TR_ROW_REQUEST || row->kind == TR_ROW_HEAD) {
            const uint8_t *head = arena + row->head;
            const struct tr_hole length_hole = {row->length_value, row->length_value_length};
            const struct tr_hole seq_hole = {row->seq_value, row->seq_value_length};
            row->number = tr_heads_find(heads, head, row->head_length, length_hole, seq_hole);
            const struct tr_head_lane *lane = &heads->heads[row->number].lane;
            if (row->kind == TR_ROW_HEAD) {
                if (row->number == 0) /* else nothing is wrong with it */
                    columns->left[out->left++] = i;
                continue;
            }
            if (take)
                length = record_length(lane, row, head + row->head_length, nesting_max);
            if (length != 0 && length <= columns->payload_capacity - out->payload) {
                uint32_t *group = &heads->groups[lane->stream];
                if (*group == 0) {
                    columns->lanes[out->lanes] = lane->lane;
                    columns->streams[out->lanes] = lane->stream;
                    columns->counts[out->lanes] = 0;
                    *group = ++out->lanes;
                }
                if (columns->lanes[*group - 1] == lane->lane) {
                    columns->counts[*group - 1]++;
                    out->payload += length;
                    out->bodies += row->body_length;
                    out->taken++;
                    row->taken = 1;
                    continue;
                }
            }
        }
        columns->left[out->left++] = i;
    }
    if (out->taken == 0)
        return;
    /* From here on a stream's group is the place of its next row. */
    uint32_t place = 0;
    for (uint32_t i = 0; i < out->lanes; i++) {
        heads->groups[columns->streams[i]] = place;
        place += columns->counts[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!rows[i].taken)
            continue;
        const struct tr_head_lane *lane = &heads->heads[rows[i].number].lane;
        place = heads->groups[lane->stream]++;
        columns->indexes[place] = i;
        columns->handles[place] = rows[i].handle;
        columns->lengths[place] = rows[i].body_length + (lane->json ? 1 : 0);
    }
    uint8_t *next = columns->payload;
    for (uint32_t i = 0; i < out->taken; i++) {
        const struct tr_row *row = &rows[columns->indexes[i]];
        memcpy(next, arena + row->head + row->head_length, row->body_length);
        next += row->body_length;
        if (columns->lengths[i] != row->body_length)
            *next++ = ',';
    }
    for (uint32_t i = 0; i < out->lanes; i++)
        heads->groups[columns->streams[i]] = 0;
}

void tr_turn(struct tr_reactor *reactor, uint64_t room, struct tr_heads *heads, uint32_t take,
             uint32_t nesting_max, struct tr_turn *turn)
{
    tr_reactor_poll(reactor, room, turn->arena, turn->arena_capacity, turn->rows,
                    turn->rows_capacity, turn->fields, turn->fields_capacity, &turn->polled);
    collect(heads, turn->arena, turn->rows, turn->polled.rows, take, nesting_max,
            &turn->columns, &turn->collected);
}
