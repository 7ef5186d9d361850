#ifndef TAILRACE_REACTOR_H
#define TAILRACE_REACTOR_H
#include <stdint.h>

#include "answer_form.h"

/* The sockets of many HTTP/1.1 connections in one epoll set.

   tr_reactor_poll reads whatever has come and gives the plain requests (http_request.h) as
   rows, of which tr_turn (collect.h) can make columns; tr_reactor_answer sends many answers,
   tr_reactor_answer_rows those that have one form, and tr_reactor_answer_pieces one that is too
   large to be copied. A connection has one request out at a time, so
   answers go out in order; what a client sends meanwhile waits in the kernel, or, if it came
   in the same read, here. Everything that is not plain is offered for hand-over: its
   descriptor, with the bytes read and not yet sent, is then taken with tr_reactor_take.

   A request that waits for something to happen is parked: that its client left is then told at
   once, by a row, and not by the answer that finds nobody.

   A handle names a request, or an offered connection: it is a slot and the slot's generation, which
   changes with each connection and each answer. So the handle of a request that was answered, and
   that of a connection that has ended, are nobody's: calls with them do nothing and are counted as
   stale.

   Threads: tr_reactor_answer, _answer_rows, _answer_alike, _answer_pieces, _peer and _counters may
   be called from any. All others belong to one thread, and tr_reactor_free comes when no other
   call is in progress.

   Memory: a connection that waits for a request holds its slot alone (about 100 bytes); one
   in the middle of a request at most head_max + body_max, or receive_max, bytes; one whose
   client does not take its answer, that answer, or, of one in pieces, where they are. */

enum {
    TR_ROW_REQUEST = 1,
    TR_ROW_HANDOVER = 2, /* to be taken */
    TR_ROW_REFUSED = 3,  /* handle is the descriptor of a client beyond the room; it is yours */
    TR_ROW_LEAVING = 4,  /* the client of a parked request has closed its sending side */
    TR_ROW_LEFT = 5,     /* that of a parked request is gone: reset, or closed both ways */
    TR_ROW_HEAD = 6,     /* a request without its body, of which not all has come: may be taken */

    TR_ANSWER_CLOSE = 1, /* flags of an answer: end the connection behind it */

    TR_PIECES_STALE = 0, /* the handle was nobody's */
    TR_PIECES_OVER = 1,  /* sent, or there is nobody to send it to */
    TR_PIECES_KEPT = 2,  /* the client did not take all at once */

    TR_LISTENERS_MAX = 16
};

struct tr_reactor;

struct tr_reactor_limits {
    uint32_t connections_max;
    uint32_t head_max;
    uint32_t body_max;
    uint32_t fields_max;
    uint32_t receive_max; /* bytes asked of the kernel at a time */
};

struct tr_row {
    uint64_t handle;
    uint32_t kind;
    uint32_t method; /* TR_HTTP_GET, ... */
    uint32_t keep_alive;
    uint32_t head; /* offset in the arena; the body follows the head */
    uint32_t head_length;
    uint32_t body_length;
    uint32_t target; /* offset from the head, as in the fields */
    uint32_t target_length;
    uint32_t first_field; /* index in the field table */
    uint32_t field_count;
    uint32_t length_value; /* the digits of Content-Length; no length if it was not sent */
    uint32_t length_value_length;
    uint32_t seq_value; /* the digits of a plain Producer-Seq; no length if there is none */
    uint32_t seq_value_length;
    uint32_t number; /* of the head; 0 unless tr_turn says more */
    uint32_t taken;  /* how many records it has in a lane; 0 likewise */
};

/* The same shape as struct tr_http_field. */
struct tr_row_field {
    uint32_t name;
    uint32_t name_length;
    uint32_t value;
    uint32_t value_length;
};

struct tr_polled {
    uint32_t rows;
    uint32_t fields;
    uint32_t arena;
    int32_t accept_error; /* errno of an accept for which there were no means; else 0 */
    uint32_t released;    /* there is something for tr_reactor_released */
    uint32_t reserved;
};

/* Bytes of the caller's. */
struct tr_span {
    const uint8_t *begin;
    uint64_t length;
};

struct tr_taken {
    int32_t descriptor;
    uint32_t tag;     /* as given to tr_reactor_adopt; 0 once a request was answered here */
    uint32_t closing; /* nothing more is to be answered once the output is out */
    uint64_t input;   /* bytes read and not yet given as a request; out begins with them */
    uint64_t output;  /* bytes of an answer still to be sent; they follow in out */
};

struct tr_reactor_counters {
    uint64_t open;
    uint64_t accepted;
    uint64_t adopted;
    uint64_t requests;
    uint64_t answered;
    uint64_t stale;
    uint64_t unsent; /* answers whose client was gone */
    uint64_t offered;
    uint64_t idle; /* closed because nothing came */
    uint64_t departed; /* clients of parked requests that left, half or whole */
    uint64_t bodies; /* bytes of the bodies of requests that are out, or have a head by now */
    uint64_t kept;     /* answers in pieces that were not taken at once */
    uint64_t stalled;  /* connections ended because of such an answer nothing was taken */
};

/* NULL and errno, or a reactor without listeners. */
struct tr_reactor *tr_reactor_new(const struct tr_reactor_limits *limits);

/* Closes every connection; those being answered, behind their answer. The reactor can be asked
   and answered after, and knows no handle any more. */
void tr_reactor_close(struct tr_reactor *reactor);

/* Closes and frees. */
void tr_reactor_free(struct tr_reactor *reactor);

/* Readable when tr_reactor_poll has something to do. */
int32_t tr_reactor_descriptor(struct tr_reactor *reactor);

/* Accept from this non-blocking, listening descriptor, which stays the caller's and open until
   tr_reactor_drain or _close. 0 or errno. */
int32_t tr_reactor_listen(struct tr_reactor *reactor, int32_t descriptor);

/* The least an arena, and a field table, can be. */
uint64_t tr_reactor_arena_min(const struct tr_reactor_limits *limits);

/* Accepts while fewer than room connections are open, reads, parses. Never waits. What there
   was no space for keeps the descriptor readable. */
void tr_reactor_poll(struct tr_reactor *reactor, uint64_t room, uint8_t *arena,
                     uint64_t arena_capacity, struct tr_row *rows, uint32_t rows_capacity,
                     struct tr_row_field *fields, uint32_t fields_capacity,
                     struct tr_polled *out);

/* From now on a request with whose body there would be more bytes of them than that, from their
   heads to their answers, is offered for hand-over. For the thread that polls. */
void tr_reactor_limit_bodies(struct tr_reactor *reactor, uint64_t bytes_max);

/* Sends count answers, each to the connection its handle names: answer i is blob[ends[i - 1]]
   to blob[ends[i]]. An answer that the client does not take at once is offered for hand-over.
   Returns how many handles were not stale. */
uint32_t tr_reactor_answer(struct tr_reactor *reactor, const uint64_t *handles,
                           const uint64_t *ends, const uint8_t *flags, uint32_t count,
                           const uint8_t *blob, uint64_t blob_length);

/* Sends many answers of one form: to each handle of group i, the form filled with stream_ids[i],
   firsts[i] + the handle's of ends, epochs[i] and seqs[i]. Group i is the next counts[i] handles; a
   group whose stream_id is 0 gets nothing. Otherwise as tr_reactor_answer, with flags of 0. */
uint32_t tr_reactor_answer_rows(struct tr_reactor *reactor, const struct tr_form *form,
                                const uint64_t *handles, const uint32_t *ends,
                                uint32_t handle_count, const uint64_t *stream_ids,
                                const uint64_t *firsts, const uint64_t *epochs,
                                const uint64_t *seqs, const uint32_t *counts, uint32_t groups);

/* The same where many answers are one: connection handles[i] gets piece which[i], and piece p is
   blob[ends[p - 1]] to blob[ends[p]], with flags[p]. */
uint32_t tr_reactor_answer_alike(struct tr_reactor *reactor, const uint64_t *handles,
                                 const uint32_t *which, uint32_t count, const uint64_t *ends,
                                 const uint8_t *flags, uint32_t pieces, const uint8_t *blob,
                                 uint64_t blob_length);

/* Sends one answer in pieces, which need not be copied: as much as the client takes at once, the
   rest by and by, in tr_reactor_poll. With TR_PIECES_KEPT the pieces must stay as they are until
   tr_reactor_released gives the token, which is any number that no such answer has; otherwise they
   are not looked at any more. The spans themselves are used up. If memory of theirs cannot be read
   (a file that is mapped was cut off), or nothing is taken for long, the connection ends there. */
int32_t tr_reactor_answer_pieces(struct tr_reactor *reactor, uint64_t handle,
                                 struct tr_span *pieces, uint32_t count, uint8_t flags,
                                 uint64_t token);

/* Tokens of answers of which nothing is sent any more, each once. Their number: with capacity of
   them there may be others. */
uint32_t tr_reactor_released(struct tr_reactor *reactor, uint64_t *tokens, uint32_t capacity);

/* Requests that are out wait from now on until they are answered or taken: a client of theirs
   that leaves is told as a row. left[i] becomes that row's kind if it has left already, else 0. */
void tr_reactor_park(struct tr_reactor *reactor, const uint64_t *handles, uint32_t count,
                     uint32_t *left);

/* Gives a connection away, with its descriptor: one that was offered, one whose head this poll
   told, or one whose request is out, without that request's bytes. 0; -1 for a stale handle; 1
   if capacity is too small, with the lengths in taken. */
int32_t tr_reactor_take(struct tr_reactor *reactor, uint64_t handle, uint8_t *out,
                        uint64_t capacity, struct tr_taken *taken);

/* Takes a connected, non-blocking socket in, between two of its requests. Its handle, or 0 if
   there is no room; then the descriptor stays the caller's. */
uint64_t tr_reactor_adopt(struct tr_reactor *reactor, int32_t descriptor, uint32_t tag);

/* Offers connections whose request has been incomplete for patience_ms, closes those that have
   waited for one for idle_ms, or have taken nothing of an answer in pieces for stall_ms, and
   accepts again after an accept_error. */
void tr_reactor_sweep(struct tr_reactor *reactor, uint64_t patience_ms, uint64_t idle_ms,
                      uint64_t stall_ms);

/* Stops accepting, closes connections without a request, offers those with part of one; the
   others are closed behind their answer. */
void tr_reactor_drain(struct tr_reactor *reactor);

/* The client's address in text, with its 0; the length without, or -1 for a stale handle. */
int32_t tr_reactor_peer(struct tr_reactor *reactor, uint64_t handle, char *out,
                        uint32_t capacity);

void tr_reactor_counters(struct tr_reactor *reactor, struct tr_reactor_counters *out);

#endif
