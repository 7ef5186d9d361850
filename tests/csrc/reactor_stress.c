/* The reactor under clients that leave in every state: no answer may reach another client.

   reactor_stress SECONDS CLIENTS SEED

   One thread polls, as the server's does. Answers come from it, and, later and in another order,
   from two others, mixed with answers to handles that are nobody's any more. Some are sent in
   pieces, of memory that is freed as soon as the reactor says so, and not before. Records of
   lanes come as columns, and most of them are answered by their form. Some requests are parked
   until there is a crowd of them, which is answered with one call; who leaves is let go of when
   a row says so. Connections that are offered, and some that have a request out, are taken,
   served by hand, and given back. What the clients check is in stress_messages.h. */

#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dice.h"
#include "front/http_request.h"
#include "reactor_stress.h"
#include "stress_clients.h"
#include "stress_messages.h"

enum {
    ROWS = 64,
    RECORDS = 4 * ROWS,
    HEADS = 6,
    FIELDS = 512,
    ANSWERERS = 2,
    SEND_BUFFER = 16 * 1024,
    PATIENCE_MS = 30,
    IDLE_MS = 600 * 1000,
    END_WAIT_MS = 10 * 1000,
};

struct shared shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

const struct tr_reactor_limits LIMITS = {
    .connections_max = 600,
    .head_max = 512,
    .body_max = 8 * 1024, /* larger ones are served by hand */
    .fields_max = 8,
    .receive_max = 4096,
};

void broken(const char *what)
{
    fprintf(stderr, "server: %s\n", what);
    exit(1);
}

void pause_ms(uint64_t ms)
{
    struct timespec time = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&time, NULL);
}

/* ---- the polling thread */

static struct job read_row(const struct tr_row *row, const uint8_t *arena)
{
    const uint8_t *head = arena + row->head;
    struct job job = {.handle = row->handle, .keep_alive = row->keep_alive};
    if (!request_read(head + row->target, row->target_length, head + row->head_length,
                      row->body_length, &job.id, &job.number))
        broken("a request that nobody sent");
    uint32_t wanted = row->body_length ? TR_HTTP_POST : TR_HTTP_GET;
    if (row->method != wanted)
        broken("another method than was sent");
    return job;
}

struct parked {
    struct job jobs[CROWD_MAX];
    uint32_t count;
};

/* The client of a request that was parked, and perhaps still is, has left. */
static void let_go(struct parked *parked, uint64_t handle)
{
    for (uint32_t i = 0; i < parked->count; i++) {
        if (parked->jobs[i].handle != handle)
            continue;
        struct tr_taken taken;
        uint8_t input[16 * 1024];
        if (tr_reactor_take(shared.reactor, handle, input, sizeof input, &taken) != 0)
            broken("a parked connection is gone, or holds more than was read");
        close(taken.descriptor);
        parked->jobs[i] = parked->jobs[--parked->count];
        return;
    }
}

static void park(struct parked *parked, struct job job)
{
    uint32_t left;
    tr_reactor_park(shared.reactor, &job.handle, 1, &left);
    parked->jobs[parked->count++] = job;
    if (left == TR_ROW_LEFT)
        let_go(parked, job.handle);
}

/* Now and then those that wait are answered, here or elsewhere. */
static void perhaps_answer(struct parked *parked, uint64_t *dice, uint8_t *blob)
{
    if (parked->count == 0 || (parked->count < CROWD_MAX / 2 && roll(dice, 6)))
        return;
    if (roll(dice, 3) == 0) {
        answer_alike(parked->jobs, parked->count, dice, blob);
        parked->count = 0;
        return;
    }
    pthread_mutex_lock(&shared.lock);
    if (shared.crowd_count == 0) {
        memcpy(shared.crowd, parked->jobs, parked->count * sizeof *parked->jobs);
        shared.crowd_count = parked->count;
        parked->count = 0;
        pthread_cond_signal(&shared.wake);
    }
    pthread_mutex_unlock(&shared.lock);
}

static uint32_t is_producers(uint32_t lane)
{
    return lane >= LANES / 2;
}

/* A producer's lane has a group for each of its rows, which says their number; others one. */
static void check_lane(const struct tr_turn *turn, uint32_t group, uint32_t number)
{
    const struct tr_columns *columns = &turn->columns;
    const uint32_t lane = columns->lanes[group];
    if (is_producers(lane - 1)) {
        if (columns->counts[group] != 1 || columns->seqs[group] != number)
            broken("a producer's row is not by itself");
        return;
    }
    if (columns->seqs[group] != 0)
        broken("a number that is nobody's");
    for (uint32_t other = 0; other < group; other++)
        if (columns->lanes[other] == lane)
            broken("a lane's rows are in two groups");
}

/* Those that the columns hold, in their order; how many. */
static uint32_t read_columns(const struct tr_turn *turn, struct job *jobs)
{
    const struct tr_columns *columns = &turn->columns;
    const uint32_t *length = columns->lengths;
    const uint8_t *record = columns->payload;
    uint32_t rows = 0;
    for (uint32_t group = 0; group < turn->collected.groups; group++) {
        uint32_t end = 0;
        for (const uint32_t behind = rows + columns->counts[group]; rows < behind; rows++) {
            const struct tr_row *row = &turn->rows[columns->indexes[rows]];
            struct job job = {.handle = columns->handles[rows], .keep_alive = 1};
            for (uint32_t i = 0; i < row->taken; i++) {
                uint64_t id = job.id;
                uint32_t number = job.number;
                if (record[*length - 1] != ',')
                    broken("a record in the columns has no comma");
                job.records = record_read(record, *length - 1, &job.id, &job.number);
                if (job.records != row->taken ||
                    (i != 0 && (job.id != id || job.number != number)))
                    broken("a column holds what nobody sent");
                record += *length++;
            }
            end += row->taken;
            if (row->handle != job.handle || job.records == 0 || columns->ends[rows] != end)
                broken("a row is not the one in the columns");
            jobs[rows] = job;
        }
        if (columns->records[group] != end)
            broken("a group does not say how many records it has");
        check_lane(turn, group, jobs[rows - 1].number);
    }
    uint32_t known = 0; /* heads of which there is nothing to say */
    for (uint32_t i = 0; i < turn->polled.rows; i++)
        known += turn->rows[i].kind == TR_ROW_HEAD && turn->rows[i].number != 0;
    if (rows != turn->collected.taken ||
        rows + turn->collected.left + known != turn->polled.rows)
        broken("rows are lost between the columns");
    if (length != columns->lengths + turn->collected.records ||
        record != columns->payload + turn->collected.payload)
        broken("the payload is not its records");
    return rows;
}

static void serve_rows(const struct tr_turn *turn, struct parked *parked, uint64_t *dice,
                       uint8_t *blob)
{
    struct job jobs[ROWS], own[BATCH_MAX];
    uint32_t own_count = 0, count = read_columns(turn, jobs);
    shared.rows += count;
    shared.records += turn->collected.records;
    for (uint32_t i = 0; i < turn->collected.left; i++) {
        const struct tr_row *row = &turn->rows[turn->columns.left[i]];
        if (row->kind == TR_ROW_REFUSED)
            broken("a client was refused");
        if (row->kind == TR_ROW_HANDOVER)
            by_hand_take(row->handle, NULL);
        else if (row->kind == TR_ROW_LEFT)
            let_go(parked, row->handle);
        else if (row->kind == TR_ROW_HEAD && roll(dice, 3) == 0)
            by_hand_take(row->handle, NULL);
        else if (row->kind == TR_ROW_REQUEST) /* who is only leaving may still be reading */
            jobs[count++] = read_row(row, turn->arena);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t fate = roll(dice, 14);
        if (fate == 0) {
            by_hand_take(jobs[i].handle, &jobs[i]);
        } else if (fate <= 3 && own_count < BATCH_MAX) {
            own[own_count++] = jobs[i];
        } else if (fate >= 10 && parked->count < CROWD_MAX) {
            park(parked, jobs[i]);
        } else {
            pthread_mutex_lock(&shared.lock);
            assert(shared.job_count < sizeof shared.jobs / sizeof *shared.jobs);
            shared.jobs[shared.job_count++] = jobs[i];
            pthread_cond_signal(&shared.wake);
            pthread_mutex_unlock(&shared.lock);
        }
    }
    if (own_count)
        answer(own, own_count, dice, blob);
}

/* Gives a lane's head a number, in place of another one now and then. */
static void learn(struct tr_heads *heads, uint64_t *dice)
{
    char key[128];
    uint32_t lane = (uint32_t)roll(dice, LANES);
    int length = record_head_make(lane, "", "", key, sizeof key);
    struct tr_head_lane place = {.lane = lane + 1, .json = 1, .producer = is_producers(lane),
                                 .body_max = LIMITS.body_max, .records_max = 5 + lane};
    tr_heads_put(heads, 1 + (uint32_t)roll(dice, HEADS), (const uint8_t *)key, (uint32_t)length,
                 &place);
}

static int stopped(void)
{
    pthread_mutex_lock(&shared.lock);
    int stop = shared.stop;
    pthread_mutex_unlock(&shared.lock);
    return stop;
}

static void *poller_main(void *argument)
{
    uint64_t dice = *(uint64_t *)argument;
    uint64_t arena_capacity = 4 * tr_reactor_arena_min(&LIMITS);
    uint8_t *arena = malloc(arena_capacity), *payload = malloc(arena_capacity + ROWS);
    uint8_t *blob = blob_new();
    static const uint8_t seed[TR_HEAD_SEED_BYTES] = {4};
    struct tr_heads *heads = tr_heads_new(HEADS, 200, seed);
    struct tr_row rows[ROWS];
    struct tr_row_field fields[FIELDS];
    uint32_t columns[9][ROWS], lengths[RECORDS];
    struct tr_json_span spans[RECORDS];
    uint64_t handles[ROWS], seqs[ROWS];
    assert(arena && payload && heads);
    struct parked parked = {.count = 0};
    uint32_t turns = 0;
    while (!stopped()) {
        struct pollfd readable = {.fd = tr_reactor_descriptor(shared.reactor), .events = POLLIN};
        poll(&readable, 1, 5);
        /* Now and then there is hardly any space. */
        struct tr_turn turn = {
            .arena = arena,
            .arena_capacity = roll(&dice, 3) ? arena_capacity : tr_reactor_arena_min(&LIMITS),
            .rows = rows,
            .rows_capacity = 1 + (uint32_t)roll(&dice, ROWS),
            .fields = fields,
            .fields_capacity = roll(&dice, 3) ? FIELDS : TR_HTTP_FIELDS_MAX,
            .columns = {.lanes = columns[0], .groups = columns[1], .counts = columns[2],
                        .records = columns[3], .indexes = columns[4], .handles = handles,
                        .ends = columns[5], .left = columns[6], .lengths = lengths,
                        .payload = payload,
                        .payload_capacity = roll(&dice, 9) ? arena_capacity + ROWS : 300,
                        .records_capacity = roll(&dice, 9) ? RECORDS : 10,
                        .firsts = columns[7], .places = columns[8], .seqs = seqs,
                        .spans = spans},
        };
        tr_reactor_limit_bodies(shared.reactor, roll(&dice, 4) ? UINT64_MAX : roll(&dice, 40000));
        tr_turn(shared.reactor, LIMITS.connections_max, heads, roll(&dice, 9) != 0, 8, &turn);
        if (turn.polled.released || roll(&dice, 50) == 0)
            free_released();
        if (turn.polled.accept_error)
            broken("cannot accept");
        if (turn.polled.rows > turn.rows_capacity || turn.polled.fields > turn.fields_capacity ||
            turn.polled.arena > turn.arena_capacity ||
            turn.collected.payload > turn.columns.payload_capacity ||
            turn.collected.records > turn.columns.records_capacity)
            broken("more rows than there is space");
        serve_rows(&turn, &parked, &dice, blob);
        perhaps_answer(&parked, &dice, blob);
        by_hand_give_back();
        learn(heads, &dice);
        if (roll(&dice, 200) == 0)
            tr_heads_clear(heads);
        if (++turns % 2 == 0)
            tr_reactor_sweep(shared.reactor, PATIENCE_MS, IDLE_MS, IDLE_MS);
    }
    tr_heads_free(heads);
    free(payload);
    free(arena);
    free(blob);
    return NULL;
}

/* ---- */

static int listen_on_loopback(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    int size = SEND_BUFFER;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        broken("cannot listen");
    *port = ntohs(address.sin_port);
    return listener;
}

/* Every client has left: so has every connection, soon. */
static void wait_until_empty(void)
{
    for (int waited = 0; waited < END_WAIT_MS; waited++) {
        struct tr_reactor_counters counters;
        tr_reactor_counters(shared.reactor, &counters);
        pthread_mutex_lock(&shared.lock);
        int outside = shared.hands > 0 || shared.returned != NULL;
        pthread_mutex_unlock(&shared.lock);
        if (counters.open == 0 && !outside)
            return;
        pause_ms(1);
    }
    broken("connections stay open that nobody has");
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fprintf(stderr, "reactor_stress SECONDS CLIENTS SEED\n");
        return 2;
    }
    double seconds = atof(arguments[1]);
    int clients = atoi(arguments[2]);
    shared.seed = strtoull(arguments[3], NULL, 10);
    shared.reactor = tr_reactor_new(&LIMITS);
    make_form(&shared.form);
    uint16_t port;
    int listener = listen_on_loopback(&port);
    if (shared.reactor == NULL || tr_reactor_listen(shared.reactor, listener) != 0)
        broken("no reactor");

    pthread_t threads[1 + ANSWERERS];
    uint64_t seeds[1 + ANSWERERS];
    for (int i = 0; i < 1 + ANSWERERS; i++) {
        seeds[i] = dice_next(&shared.seed);
        if (pthread_create(&threads[i], NULL, i ? answerer_main : poller_main, &seeds[i]) != 0)
            broken("no thread");
    }
    struct crowd_counts crowd = crowd_run(port, clients, seconds, dice_next(&shared.seed));
    wait_until_empty();
    pthread_mutex_lock(&shared.lock);
    shared.stop = 1;
    pthread_cond_broadcast(&shared.wake);
    pthread_mutex_unlock(&shared.lock);
    for (int i = 0; i < 1 + ANSWERERS; i++)
        pthread_join(threads[i], NULL);

    struct tr_reactor_counters counters;
    tr_reactor_counters(shared.reactor, &counters);
    tr_reactor_close(shared.reactor);
    free_released();
    if (shared.held != 0)
        broken("pieces of an answer were never let go of");
    tr_reactor_free(shared.reactor);
    close(listener);
    if (counters.bodies != 0)
        broken("bodies are held that nobody sent");
    if (counters.idle != 0)
        broken("a connection was closed for idling that did not");
#define SHOW(counts, name) printf("%s %llu\n", #name, (unsigned long long)counts.name)
    SHOW(crowd, connections);
    SHOW(crowd, requests);
    SHOW(crowd, answers);
    SHOW(crowd, received);
    SHOW(crowd, left);
    SHOW(crowd, handed);
    SHOW(counters, adopted);
    SHOW(counters, answered);
    SHOW(counters, stale);
    SHOW(counters, unsent);
    SHOW(counters, offered);
    SHOW(shared, rows);
    SHOW(shared, records);
    SHOW(counters, departed);
    SHOW(counters, kept);
    return 0;
}
