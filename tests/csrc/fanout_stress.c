/* Fan-out to sockets that stall, take a part and leave: every byte received belongs to its stream.

   fanout_stress SECONDS SOCKETS SEED

   Two crews send, each its own stream of messages to its own audience, as a server's threads do.
   Whoever does not take all of a message is let go with the rest; a third thread, the helper,
   brings it up to date and gives it back, replaces those who left, and cuts some off, so that the
   kernel gives numbers of descriptors out again while the crews are sending. Clients know
   every byte they must receive: a function of the crew and of the message's number. */

#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dice.h"
#include "fanout_clients.h"
#include "front/fanout.h"

enum {
    CREWS = STREAMS,
    SOCKETS_MAX = 512,
    PAUSE_US = 1000,
    BUFFER_BYTES = 8 * 1024,
    FINISH_S = 30,
};

struct member {
    struct member *next;
    int descriptor;
    uint32_t crew;
    uint64_t message; /* the one it is to get next */
    uint64_t sent;    /* bytes of it that it has */
};

struct crew {
    pthread_mutex_t lock;
    struct member *joining;
    atomic_uint_fast64_t messages; /* sent so far */
    uint64_t dice;
    uint64_t shorts;
};

static struct {
    struct crew crews[CREWS];
    pthread_mutex_t lock;
    struct member *let_go; /* for the helper */
    atomic_int stop;       /* no more messages */
    atomic_int last;       /* the crews are gone */
    uint64_t seed;
    uint64_t replaced, caught_up, cut; /* the helper's */
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void pause_us(long us)
{
    struct timespec time = {.tv_nsec = us * 1000};
    nanosleep(&time, NULL);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- crews */

static void let_go(struct member *member)
{
    pthread_mutex_lock(&shared.lock);
    member->next = shared.let_go;
    shared.let_go = member;
    pthread_mutex_unlock(&shared.lock);
}

/* All of a list that others push to. */
static struct member *take_all(pthread_mutex_t *lock, struct member **list)
{
    pthread_mutex_lock(lock);
    struct member *all = *list;
    *list = NULL;
    pthread_mutex_unlock(lock);
    return all;
}

/* Those who are up to date join; the others have more to catch up with. */
static uint32_t take_in(struct crew *crew, struct member **audience, uint32_t count)
{
    struct member *member = take_all(&crew->lock, &crew->joining);
    while (member != NULL) {
        struct member *next = member->next;
        if (member->message == atomic_load(&crew->messages))
            audience[count++] = member;
        else
            let_go(member);
        member = next;
    }
    return count;
}

static uint32_t broadcast(struct crew *crew, struct member **audience, uint32_t count)
{
    const uint32_t number = (uint32_t)(crew - shared.crews);
    int32_t descriptors[SOCKETS_MAX];
    struct tr_fanout_short shorts[SOCKETS_MAX];
    uint64_t message = atomic_load(&crew->messages);
    const uint64_t length = message_length(number, message);
    for (uint32_t i = 0; i < count; i++)
        descriptors[i] = audience[i]->descriptor;
    uint32_t found = tr_fanout_send(descriptors, count, message_bytes(number, message), length,
                                    shorts);
    if (found > count)
        broken("more are short than there are");
    atomic_store(&crew->messages, message + 1);
    crew->shorts += found;
    uint32_t kept = 0, next_short = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct member *member = audience[i];
        if (next_short < found && shorts[next_short].index == i) {
            if (shorts[next_short].sent > length ||
                (length > 0 && shorts[next_short].sent == length))
                broken("one is short that took all");
            member->sent = shorts[next_short++].sent;
            let_go(member);
        } else {
            member->message++;
            audience[kept++] = member;
        }
    }
    if (next_short != found)
        broken("those who are short are not in their order");
    return kept;
}

static void *crew_main(void *argument)
{
    struct crew *crew = argument;
    struct member *audience[SOCKETS_MAX];
    uint32_t count = 0;
    while (!atomic_load(&shared.stop)) {
        count = take_in(crew, audience, count);
        count = broadcast(crew, audience, count);
        if (count > 0 && roll(&crew->dice, 50) == 0)
            let_go(audience[--count]); /* it goes where it likes between two messages */
        pause_us((long)roll(&crew->dice, PAUSE_US));
    }
    while (count > 0)
        let_go(audience[--count]);
    return NULL;
}

/* ---- the helper */

static void connect_pair(int listener, int ends[2])
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int size = BUFFER_BYTES;
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        broken("no listener");
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ends[0] < 0 || setsockopt(ends[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0 ||
        connect(ends[0], (struct sockaddr *)&address, length) != 0)
        broken("cannot connect");
    ends[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (ends[1] < 0 || setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) != 0 ||
        fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0)
        broken("cannot accept");
}

/* A new member at its crew's newest message, and the client at the other end. */
static struct member *admit(int listener, uint64_t *dice)
{
    int ends[2];
    struct member *member = calloc(1, sizeof *member);
    if (member == NULL)
        broken("no memory");
    connect_pair(listener, ends);
    const uint32_t crew = (uint32_t)roll(dice, CREWS);
    const uint64_t message = atomic_load(&shared.crews[crew].messages);
    *member = (struct member){.descriptor = ends[1], .crew = crew, .message = message};
    listeners_add(ends[0], crew, message, dice_next(dice));
    return member;
}

enum progress { UP_TO_DATE, BLOCKED, GONE };

static enum progress catch_up(struct member *member)
{
    while (member->message < atomic_load(&shared.crews[member->crew].messages)) {
        const uint64_t length = message_length(member->crew, member->message);
        const uint8_t *data = message_bytes(member->crew, member->message);
        while (member->sent < length) {
            ssize_t out = send(member->descriptor, data + member->sent, length - member->sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
            if (out < 0)
                return errno == EAGAIN ? BLOCKED : GONE;
            member->sent += (uint64_t)out;
        }
        member->message++;
        member->sent = 0;
    }
    return UP_TO_DATE;
}

static void push_all(struct member *from, struct member **to)
{
    while (from != NULL) {
        struct member *next = from->next;
        from->next = *to;
        *to = from;
        from = next;
    }
}

/* What becomes of one that is not in an audience: NULL if it is not seen to here any more. */
static struct member *see_to(struct member *member, int last, int listener, uint64_t *dice)
{
    enum progress progress = catch_up(member);
    if (progress == BLOCKED)
        return member;
    if (progress == UP_TO_DATE && !last && roll(dice, 40) == 0) {
        shared.cut++;
        progress = GONE;
    }
    if (progress == GONE || last) {
        close(member->descriptor);
        free(member);
        if (last)
            return NULL;
        member = admit(listener, dice);
        shared.replaced++;
    } else {
        shared.caught_up++;
    }
    struct crew *crew = &shared.crews[member->crew];
    pthread_mutex_lock(&crew->lock);
    member->next = crew->joining;
    crew->joining = member;
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

static void *helper_main(void *argument)
{
    const int listener = *(int *)argument;
    uint64_t dice = shared.seed;
    struct member *waiting = NULL;
    for (;;) {
        const int last = atomic_load(&shared.last);
        push_all(take_all(&shared.lock, &shared.let_go), &waiting);
        for (int i = 0; last && i < CREWS; i++)
            push_all(take_all(&shared.crews[i].lock, &shared.crews[i].joining), &waiting);
        struct member *blocked = NULL;
        while (waiting != NULL) {
            struct member *next = waiting->next;
            waiting->next = NULL;
            push_all(see_to(waiting, last, listener, &dice), &blocked);
            waiting = next;
        }
        waiting = blocked;
        if (last && waiting == NULL)
            return NULL;
        pause_us(200);
    }
}

/* ---- the whole */

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 64) != 0)
        broken("cannot listen");
    return listener;
}

/* Members come from the helper, as those do that replace others: their first clients have left. */
static void let_in(uint32_t sockets)
{
    for (uint32_t i = 0; i < sockets; i++) {
        struct member *member = calloc(1, sizeof *member);
        int ends[2];
        if (member == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
            broken("no sockets");
        close(ends[0]);
        member->descriptor = ends[1];
        let_go(member);
    }
}

static void listen_to_the_end(const uint64_t *totals, double give_up)
{
    while (listeners_turn(totals) > 0)
        if (now_s() > give_up)
            broken("a client waits for what it does not get");
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fprintf(stderr, "fanout_stress SECONDS SOCKETS SEED\n");
        return 2;
    }
    double seconds = atof(arguments[1]);
    uint32_t sockets = (uint32_t)atoi(arguments[2]);
    shared.seed = strtoull(arguments[3], NULL, 10);
    if (sockets == 0 || sockets > SOCKETS_MAX)
        broken("not that many sockets");
    int listener = listen_on_loopback();
    messages_new(dice_next(&shared.seed));
    let_in(sockets);
    pthread_t threads[CREWS], helper;
    for (uint32_t i = 0; i < CREWS; i++) {
        pthread_mutex_init(&shared.crews[i].lock, NULL);
        shared.crews[i].dice = dice_next(&shared.seed);
        if (pthread_create(&threads[i], NULL, crew_main, &shared.crews[i]) != 0)
            broken("no thread");
    }
    if (pthread_create(&helper, NULL, helper_main, &listener) != 0)
        broken("no thread");

    const double end = now_s() + seconds;
    while (now_s() < end) {
        listeners_turn(NULL);
        pause_us(20);
    }
    atomic_store(&shared.stop, 1);
    uint64_t totals[CREWS], messages = 0, shorts = 0;
    for (uint32_t i = 0; i < CREWS; i++) {
        pthread_join(threads[i], NULL);
        totals[i] = atomic_load(&shared.crews[i].messages);
        messages += totals[i];
        shorts += shared.crews[i].shorts;
    }
    atomic_store(&shared.last, 1);
    listen_to_the_end(totals, end + FINISH_S);
    pthread_join(helper, NULL);
    listen_to_the_end(totals, end + FINISH_S); /* those that it let in last */
    close(listener);

    const struct listeners_counts counts = listeners_counts();
    if (counts.ended > shared.cut)
        broken("a stream ended before its last message");
#define SHOW(name, value) printf("%s %llu\n", name, (unsigned long long)(value))
    SHOW("messages", messages);
    SHOW("shorts", shorts);
    SHOW("received", counts.received);
    SHOW("left", counts.left);
    SHOW("replaced", shared.replaced);
    SHOW("caught_up", shared.caught_up);
    SHOW("ended", counts.ended);
    return 0;
}
