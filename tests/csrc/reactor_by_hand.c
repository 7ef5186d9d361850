#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front/http_request.h"
#include "reactor_stress.h"
#include "stress_messages.h"

enum { BY_HAND_WAIT_MS = 30 * 1000 };

static const struct tr_http_limits BY_HAND = {
    .head_max = 512, .body_max = REQUEST_BYTES_MAX, .fields_max = 8};

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

void by_hand_take(uint64_t handle, const struct job *job)
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

void by_hand_give_back(void)
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
