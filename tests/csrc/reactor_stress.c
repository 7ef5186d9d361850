/* The reactor under clients that leave in every state: no answer may reach another client.

   reactor_stress SECONDS CLIENTS SEED

   One thread polls, as the server's does. Answers come from it, and, later and in another order,
   from two others, mixed with answers to handles that are nobody's any more. Records of lanes come
   as columns, and most of them are answered by their form. Some requests are parked until there is
   a crowd of them, which is answered with one call; who leaves is let go of when a row says so.
   Connections that are offered, and some that have a request out, are taken, served by hand, and
   given back. What the clients check is in stress_clients.h. */

#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "front/collect.h"
#include "front/http_request.h"
#include "front/reactor.h"
#include "stress_clients.h"

enum {
    ROWS = 64,
    HEADS = 6,
    FIELDS = 512,
    ANSWERERS = 2,
    BATCH_MAX = 32,
    CROWD_MAX = 64,
    DEAD_MAX = 256,
    SEND_BUFFER = 16 * 1024,
    PATIENCE_MS = 30,
    IDLE_MS = 600 * 1000,
    BY_HAND_WAIT_MS = 30 * 1000,
    END_WAIT_MS = 10 * 1000,
};

static const struct tr_reactor_limits LIMITS = {
    .connections_max = 600,
    .head_max = 512,
    .body_max = 8 * 1024, /* larger ones are served by hand */
    .fields_max = 8,
    .receive_max = 4096,
};
static const struct tr_http_limits BY_HAND = {
    .head_max = 512, .body_max = REQUEST_BYTES_MAX, .fields_max = 8};

struct job {
    uint64_t handle;
    uint64_t id;
    uint32_t number;
    uint32_t keep_alive;
    uint32_t is_row; /* it came as one of a lane's columns */
};

/* A connection outside of the reactor. */
struct by_hand {
    struct by_hand *next;
    int descriptor;
    int closing;
    int has_job; /* a request that was out when it was taken */
    struct job job;
    uint8_t *input;
    size_t input_length;
    uint8_t *output;
    size_t output_length;
};

static struct {
    struct tr_reactor *reactor;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job jobs[1024]; /* one for each connection at most */
    uint32_t job_count;
    struct job crowd[CROWD_MAX]; /* parked until now, to be answered together */
    uint32_t crowd_count;
    uint64_t dead[DEAD_MAX]; /* handles that are nobody's */
    uint32_t dead_count;
    struct by_hand *returned;
    int hands; /* threads that serve by hand */
    int stop;
    uint64_t seed;
    struct tr_form form;
    uint64_t rows;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void pause_ms(uint64_t ms)
{
    struct timespec time = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&time, NULL);
}

static void broken(const char *what)
{
    fprintf(stderr, "server: %s\n", what);
    exit(1);
}

static uint64_t roll(uint64_t *dice, uint64_t bound)
{
    return dice_next(dice) % bound;
}

/* ---- by hand */

/* 0 if the client is gone. */
static int send_all(int descriptor, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(descriptor, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = descriptor, .events = POLLOUT};
            if (poll(&writable, 1, BY_HAND_WAIT_MS) == 0)
                broken("a client takes nothing");
            continue;
        }
        if (sent < 0)
            return 0;
        data += sent;
        length -= (size_t)sent;
    }
    return 1;
}

/* More bytes into input; 0 if there will be none. */
static int receive_more(struct by_hand *hand)
{
    size_t capacity = BY_HAND.head_max + REQUEST_BYTES_MAX + LIMITS.receive_max;
    struct pollfd readable = {.fd = hand->descriptor, .events = POLLIN};
    if (poll(&readable, 1, BY_HAND_WAIT_MS) == 0)
        broken("a client sends nothing");
    if (hand->input_length == capacity)
        broken("a request larger than there are");
    ssize_t got = recv(hand->descriptor, hand->input + hand->input_length,
                       capacity - hand->input_length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return 1;
    if (got <= 0)
        return 0;
    hand->input_length += (size_t)got;
    return 1;
}

static void say_farewell(struct by_hand *hand)
{
    char text[64];
    size_t length = farewell_make(hand->input, hand->input_length, text);
    if (length == 0)
        broken("bytes were handed over that nobody sent");
    if (!send_all(hand->descriptor, (const uint8_t *)text, length))
        return;
    shutdown(hand->descriptor, SHUT_WR);
    do
        hand->input_length = 0;
    while (receive_more(hand)); /* or the farewell is lost in a reset */
}

/* 1 if it can go back to the reactor: between two requests, nothing read ahead. */
static int serve(struct by_hand *hand, uint8_t *answer)
{
    if (!send_all(hand->descriptor, hand->output, hand->output_length) || hand->closing)
        return 0;
    if (hand->has_job) {
        size_t length = answer_make(hand->job.id, hand->job.number, answer);
        if (!send_all(hand->descriptor, answer, length) || !hand->job.keep_alive)
            return 0;
    }
    while (hand->input_length > 0) {
        struct tr_http_request request;
        int32_t found = tr_http_parse(hand->input, hand->input_length, &BY_HAND, &request);
        if (found == TR_HTTP_PARTIAL) {
            if (!receive_more(hand))
                return 0;
            continue;
        }
        if (found == TR_HTTP_OTHER) {
            say_farewell(hand);
            return 0;
        }
        uint64_t id;
        uint32_t number;
        if (!request_read(hand->input + request.target, request.target_length,
                          hand->input + request.head_length, request.body_length, &id, &number))
            broken("a request that nobody sent was handed over");
        size_t length = answer_make(id, number, answer);
        if (!send_all(hand->descriptor, answer, length) || !request.keep_alive)
            return 0;
        size_t whole = request.head_length + request.body_length;
        hand->input_length -= whole;
        memmove(hand->input, hand->input + whole, hand->input_length);
    }
    return 1;
}

static void discard(struct by_hand *hand)
{
    close(hand->descriptor);
    free(hand->input);
    free(hand->output);
    free(hand);
}

static void *by_hand_main(void *argument)
{
    struct by_hand *hand = argument;
    uint8_t *answer = malloc(ANSWER_BYTES_MAX);
    assert(answer);
    int returns = serve(hand, answer);
    free(answer);
    if (!returns)
        discard(hand);
    pthread_mutex_lock(&shared.lock);
    if (returns) {
        hand->next = shared.returned;
        shared.returned = hand;
    }
    shared.hands--;
    pthread_cond_broadcast(&shared.wake);
    pthread_mutex_unlock(&shared.lock);
    return NULL;
}

static void take(uint64_t handle, const struct job *job)
{
    struct tr_taken taken;
    struct by_hand *hand = calloc(1, sizeof *hand);
    size_t capacity = BY_HAND.head_max + REQUEST_BYTES_MAX + LIMITS.receive_max;
    assert(hand);
    int32_t found = tr_reactor_take(shared.reactor, handle, NULL, 0, &taken);
    if (found < 0)
        broken("a connection that was offered is gone");
    uint8_t *both = malloc(taken.input + taken.output + 1);
    hand->input = malloc(capacity);
    hand->output = malloc(taken.output + 1);
    assert(both && hand->input && hand->output && taken.input <= capacity);
    if (found == 1 &&
        tr_reactor_take(shared.reactor, handle, both, taken.input + taken.output, &taken) != 0)
        broken("a connection cannot be taken");
    memcpy(hand->input, both, taken.input);
    memcpy(hand->output, both + taken.input, taken.output);
    free(both);
    hand->input_length = taken.input;
    hand->output_length = taken.output;
    hand->descriptor = taken.descriptor;
    hand->closing = (int)taken.closing;
    if (job) {
        hand->has_job = 1;
        hand->job = *job;
    }
    pthread_mutex_lock(&shared.lock);
    shared.hands++;
    shared.dead[shared.dead_count++ % DEAD_MAX] = handle;
    pthread_mutex_unlock(&shared.lock);
    pthread_t thread;
    if (pthread_create(&thread, NULL, by_hand_main, hand) != 0)
        broken("no thread");
    pthread_detach(thread);
}

static void give_back(void)
{
    pthread_mutex_lock(&shared.lock);
    struct by_hand *hand = shared.returned;
    shared.returned = NULL;
    pthread_mutex_unlock(&shared.lock);
    while (hand) {
        struct by_hand *next = hand->next;
        if (tr_reactor_adopt(shared.reactor, hand->descriptor, 7) == 0)
            broken("no room for a connection that was taken");
        free(hand->input);
        free(hand->output);
        free(hand);
        hand = next;
    }
}

/* ---- answers */

/* What nobody may ever receive. */
static size_t stale_answer(uint8_t *out)
{
    static const char text[] = "HTTP/1.1 599 Not For You\r\nContent-Length: 0\r\n\r\n";
    memcpy(out, text, sizeof text - 1);
    return sizeof text - 1;
}

static void make_form(struct tr_form *form)
{
    static const uint32_t holes[] = {TR_HOLE_STREAM, TR_HOLE_TAIL, TR_HOLE_NONE};
    *form = (struct tr_form){.piece_count = 3};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t length = (uint32_t)strlen(FORM_PIECES[i]);
        form->pieces[i] = (struct tr_form_piece){length, holes[i], i == 1 ? 8 : 0};
        memcpy(form->bytes + form->byte_count, FORM_PIECES[i], length);
        form->byte_count += length;
    }
}

/* A handle that is nobody's. */
static uint64_t dead_handle(uint64_t other, uint64_t *dice)
{
    pthread_mutex_lock(&shared.lock);
    uint32_t dead = shared.dead_count < DEAD_MAX ? shared.dead_count : DEAD_MAX;
    uint64_t handle = dead && roll(dice, 2) ? shared.dead[roll(dice, dead)]
                                            : other - (UINT64_C(1) << 32);
    pthread_mutex_unlock(&shared.lock);
    return handle;
}

/* Send these rows their form, with groups between that are stale or get nothing. */
static void answer_rows(const struct job *jobs, uint32_t count, uint64_t *dice)
{
    uint64_t handles[4 * BATCH_MAX], ids[2 * BATCH_MAX], firsts[2 * BATCH_MAX];
    uint32_t counts[2 * BATCH_MAX], groups = 0, used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (roll(dice, 3) == 0) {
            int nobody = roll(dice, 2) != 0;
            ids[groups] = nobody ? 0 : 0x599;
            firsts[groups] = 1;
            counts[groups] = 1 + (uint32_t)roll(dice, 3);
            for (uint32_t j = 0; j < counts[groups]; j++)
                handles[used++] = nobody ? jobs[roll(dice, count)].handle
                                         : dead_handle(jobs[i].handle, dice);
            groups++;
        }
        ids[groups] = jobs[i].id;
        firsts[groups] = jobs[i].number;
        counts[groups++] = 1;
        handles[used++] = jobs[i].handle;
    }
    if (tr_reactor_answer_rows(shared.reactor, &shared.form, handles, used, ids, firsts, counts,
                               groups) != count)
        broken("a row's answer found its connection gone, or a stale one found one");
}

/* Send these answers in a random order, with stale ones between. */
static void answer(struct job *jobs, uint32_t count, uint64_t *dice, uint8_t *blob)
{
    uint64_t handles[2 * BATCH_MAX], ends[2 * BATCH_MAX];
    uint8_t flags[2 * BATCH_MAX];
    uint32_t used = 0, live = 0, row_count = 0;
    size_t length = 0;
    struct job rows[BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = i + (uint32_t)roll(dice, count - i);
        struct job job = jobs[other];
        jobs[other] = jobs[i];
        if (job.is_row && roll(dice, 8)) {
            rows[row_count++] = job;
            continue;
        }
        if (roll(dice, 2)) {
            handles[used] = dead_handle(job.handle, dice);
            length += stale_answer(blob + length);
            flags[used] = (uint8_t)roll(dice, 2);
            ends[used++] = length;
        }
        length += answer_make(job.id, job.number, blob + length);
        handles[used] = job.handle;
        flags[used] = job.keep_alive ? 0 : TR_ANSWER_CLOSE;
        ends[used++] = length;
        live++;
    }
    if (used != 0 && tr_reactor_answer(shared.reactor, handles, ends, flags, used, blob,
                                       length) != live)
        broken("an answer found its connection gone, or a stale one found one");
    if (row_count)
        answer_rows(rows, row_count, dice);
}

/* The same with one call for all, in which equal answers are one piece. */
static void answer_alike(const struct job *jobs, uint32_t count, uint64_t *dice, uint8_t *blob)
{
    uint64_t handles[2 * CROWD_MAX], ends[CROWD_MAX + 1];
    uint32_t which[2 * CROWD_MAX], used = 0, pieces = 1;
    uint8_t flags[CROWD_MAX + 1];
    int64_t common[COMMON_ANSWERS][2];
    memset(common, -1, sizeof common);
    size_t length = stale_answer(blob);
    ends[0] = length;
    flags[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct job *job = &jobs[i];
        const int shared_with = answer_common(job->id, job->number);
        int64_t *known = shared_with < 0 ? NULL : &common[shared_with][job->keep_alive != 0];
        if (roll(dice, 4) == 0) {
            handles[used] = job->handle - (UINT64_C(1) << 32);
            which[used++] = 0;
        }
        handles[used] = job->handle;
        if (known && *known >= 0) {
            which[used++] = (uint32_t)*known;
            continue;
        }
        length += answer_make(job->id, job->number, blob + length);
        flags[pieces] = job->keep_alive ? 0 : TR_ANSWER_CLOSE;
        ends[pieces] = length;
        if (known)
            *known = pieces;
        which[used++] = pieces++;
    }
    if (tr_reactor_answer_alike(shared.reactor, handles, which, used, ends, flags, pieces, blob,
                                length) != count)
        broken("an answer found its parked connection gone, or a stale one found one");
}

static uint8_t *blob_new(void)
{
    uint8_t *blob = malloc((size_t)(CROWD_MAX + 1) * (ANSWER_BYTES_MAX + 64));
    assert(blob);
    return blob;
}

static void *answerer_main(void *argument)
{
    uint64_t dice = *(uint64_t *)argument;
    uint8_t *blob = blob_new();
    struct job batch[BATCH_MAX], crowd[CROWD_MAX];
    for (;;) {
        uint32_t count = 0;
        pthread_mutex_lock(&shared.lock);
        while (shared.job_count == 0 && shared.crowd_count == 0 && !shared.stop)
            pthread_cond_wait(&shared.wake, &shared.lock);
        uint32_t crowd_count = shared.crowd_count;
        memcpy(crowd, shared.crowd, crowd_count * sizeof *crowd);
        shared.crowd_count = 0;
        while (shared.job_count > 0 && count < BATCH_MAX)
            batch[count++] = shared.jobs[--shared.job_count];
        int stop = shared.stop;
        pthread_mutex_unlock(&shared.lock);
        if (crowd_count)
            answer_alike(crowd, crowd_count, &dice, blob);
        if (count == 0 && stop)
            break;
        if (count == 0)
            continue;
        if (roll(&dice, 2))
            pause_ms(roll(&dice, 3));
        char peer[64];
        int32_t peer_length = tr_reactor_peer(shared.reactor, batch[0].handle, peer, sizeof peer);
        if (peer_length >= 0 && strcmp(peer, "127.0.0.1") != 0)
            broken("a peer that is none");
        answer(batch, count, &dice, blob);
    }
    free(blob);
    return NULL;
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

/* Those that the columns hold, in their order; how many. */
static uint32_t read_columns(const struct tr_turn *turn, struct job *jobs)
{
    const struct tr_columns *columns = &turn->columns;
    const uint8_t *record = columns->payload;
    uint32_t rows = 0;
    for (uint32_t lane = 0; lane < turn->collected.lanes; lane++)
        rows += columns->counts[lane];
    if (rows != turn->collected.taken || rows + turn->collected.left != turn->polled.rows)
        broken("rows are lost between the columns");
    for (uint32_t i = 0; i < rows; i++) {
        struct job *job = &jobs[i];
        uint32_t length = columns->lengths[i];
        *job = (struct job){.handle = columns->handles[i], .keep_alive = 1, .is_row = 1};
        if (turn->rows[columns->indexes[i]].handle != job->handle || record[length - 1] != ',' ||
            !record_read(record, length - 1, &job->id, &job->number))
            broken("a column holds what nobody sent");
        record += length;
    }
    if (record != columns->payload + turn->collected.payload)
        broken("the payload is not its records");
    return rows;
}

static void serve_rows(const struct tr_turn *turn, struct parked *parked, uint64_t *dice,
                       uint8_t *blob)
{
    struct job jobs[ROWS], own[BATCH_MAX];
    uint32_t own_count = 0, count = read_columns(turn, jobs);
    shared.rows += count;
    for (uint32_t i = 0; i < turn->collected.left; i++) {
        const struct tr_row *row = &turn->rows[turn->columns.left[i]];
        if (row->kind == TR_ROW_REFUSED)
            broken("a client was refused");
        if (row->kind == TR_ROW_HANDOVER)
            take(row->handle, NULL);
        else if (row->kind == TR_ROW_LEFT)
            let_go(parked, row->handle);
        else if (row->kind == TR_ROW_REQUEST) /* who is only leaving may still be reading */
            jobs[count++] = read_row(row, turn->arena);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t fate = roll(dice, 14);
        if (fate == 0) {
            take(jobs[i].handle, &jobs[i]);
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
    /* Two lanes lead to one stream. */
    struct tr_head_lane place = {
        .lane = lane + 1, .stream = lane / 2 + 1, .json = 1, .body_max = LIMITS.body_max};
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
    uint32_t columns[6][ROWS];
    uint64_t handles[ROWS];
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
            .columns = {columns[0], columns[1], columns[2], columns[3], handles, columns[4],
                        columns[5], payload, roll(&dice, 9) ? arena_capacity + ROWS : 100},
        };
        tr_turn(shared.reactor, LIMITS.connections_max, heads, roll(&dice, 9) != 0, 8, &turn);
        if (turn.polled.accept_error)
            broken("cannot accept");
        if (turn.polled.rows > turn.rows_capacity || turn.polled.fields > turn.fields_capacity ||
            turn.polled.arena > turn.arena_capacity ||
            turn.collected.payload > turn.columns.payload_capacity)
            broken("more rows than there is space");
        serve_rows(&turn, &parked, &dice, blob);
        perhaps_answer(&parked, &dice, blob);
        give_back();
        learn(heads, &dice);
        if (roll(&dice, 200) == 0)
            tr_heads_clear(heads);
        if (++turns % 2 == 0)
            tr_reactor_sweep(shared.reactor, PATIENCE_MS, IDLE_MS);
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
    tr_reactor_free(shared.reactor);
    close(listener);
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
    SHOW(counters, departed);
    return 0;
}
