/* One client of the load: its connection (client.c), what it asks for (ask.c), and what comes back,
   which says how it goes on (receive.c). load.c has many of them. */
#ifndef LG_CLIENT_H
#define LG_CLIENT_H
#include "answer.h"
#include "load.h"
#include <stddef.h>

#define RECEIVE_BYTES (256u * 1024)
#define SEQUENCE_DIGITS 8
#define TIME_DIGITS 19
#define STAMP_BYTES (SEQUENCE_DIGITS + 1 + TIME_DIGITS) /* the number, a hyphen, the time */
#define SECOND 1000000000LL

enum { FRESH, CONNECTING, IDLE, WAITING, OVER };

typedef struct {
    int fd;
    uint8_t state;
    uint8_t want_write;
    uint8_t ready; /* a subscriber that is being served */
    uint32_t group, number, target;
    uint32_t answers_left;
    uint64_t turn, granted; /* requests sent; requests that the clock has allowed */
    int64_t intended_ns;    /* when what is under way should have begun */
    uint8_t *out;
    uint32_t out_length, out_sent, out_room;
    uint32_t matched, collected; /* of the marker, of the stamp behind it */
    uint64_t next_sequence;
    char stamp[STAMP_BYTES];
    char offset[LG_TOKEN_BYTES_MAX], cursor[LG_TOKEN_BYTES_MAX];
    uint32_t offset_length, cursor_length;
    lg_answer in;
} connection;

typedef struct {
    lg_plan *plan;
    connection *all;
    uint32_t length;
    uint32_t *first; /* per group: its first connection */
    uint64_t *asked; /* per group: requests sent */
    uint64_t *due;   /* per group with a rate: the number of the next request */
    uint64_t **sequences; /* per group that stamps: the next number of each target */
    uint32_t fresh, unconnected, unready, open;
    int epoll, timer;
    int sending; /* new requests may be sent */
    int64_t start_ns, window_ns, end_ns;
    uint8_t *buffer;
} run;

int64_t now_ns(void);
lg_group *group_of(run *r, connection *c);
int subscribes(const lg_group *g);

/* Whether the clock has allowed a request that is not sent yet. */
int is_due(const lg_group *g, const connection *c);

/* Zeroed memory; without it, no run. */
void *zeros(uint64_t count, size_t size);

/* Whether that is measured: neither before the warm-up is over nor after the end. */
int in_window(run *r, int64_t ns);

/* Begin connections that have not begun, not too many at a time. */
void dial_some(run *r);

/* The server has ended a connection that owed nothing: take another. */
void dial_again(run *r, connection *c);

/* What epoll says about a connection: it is made, can be written to, can be read from. */
void connected(run *r, connection *c);
void flush(run *r, connection *c);
void receive(run *r, connection *c);

/* A subscriber is being served, or will never be. */
void now_ready(run *r, connection *c);

/* Set a client on a target, at its start. */
void rewind_to(lg_group *g, connection *c, uint64_t target);

/* Send the next request; it should have begun at `intended_ns`. */
void ask(run *r, connection *c, int64_t intended_ns);

/* An idle connection sends what is due, or is done. */
void go_on(run *r, connection *c, int64_t now);

/* Close it: it is done. */
void leave(run *r, connection *c);

/* Close it and count why: `kind` is one of LG_E_*; the first `text` of a group is kept. */
void give_up(run *r, connection *c, int kind, const void *text, uint32_t length);
#endif
