#define _GNU_SOURCE
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM (64u * 1024)
#define EVENTS_MAX 256

typedef struct {
    int fd;
    uint32_t length; /* bytes of a head that is not whole yet */
    uint64_t skip;   /* bytes of a body still to come */
    uint8_t data[ROOM];
} client;

typedef struct {
    const uint8_t *get, *other;
    uint32_t get_length, other_length;
    int file;
    off_t file_length;
} answers;

static int
send_all(int fd, const uint8_t *data, uint32_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0)
            return 0;
        data += sent;
        length -= (uint32_t)sent;
    }
    return 1;
}

static int
answer(const answers *a, int fd, int is_get)
{
    if (!is_get)
        return send_all(fd, a->other, a->other_length);
    if (!send_all(fd, a->get, a->get_length))
        return 0;
    off_t position = 0;
    while (a->file >= 0 && position < a->file_length)
        if (sendfile(fd, a->file, &position, (size_t)(a->file_length - position)) <= 0)
            return 0;
    return 1;
}

static uint64_t
body_length(const uint8_t *head, uint32_t length)
{
    static const char name[] = "\r\nContent-Length: ";
    const uint8_t *found = memmem(head, length, name, sizeof name - 1);
    return found == NULL ? 0 : strtoull((const char *)found + sizeof name - 1, NULL, 10);
}

/* Answer what has come; 0 when the client is to be dropped. */
static int
serve(const answers *a, client *c)
{
    ssize_t got = recv(c->fd, c->data + c->length, ROOM - c->length, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    uint32_t end = c->length + (uint32_t)got, at = 0;
    while (at < end) {
        if (c->skip > 0) {
            uint64_t part = end - at < c->skip ? end - at : c->skip;
            at += (uint32_t)part;
            c->skip -= part;
            if (c->skip == 0 && !answer(a, c->fd, 0))
                return 0;
            continue;
        }
        const uint8_t *stop = memmem(c->data + at, end - at, "\r\n\r\n", 4);
        if (stop == NULL)
            break;
        uint32_t head = (uint32_t)(stop + 4 - (c->data + at));
        c->skip = body_length(c->data + at, head);
        if (c->skip == 0 && !answer(a, c->fd, c->data[at] == 'G'))
            return 0;
        at += head;
    }
    c->length = end - at;
    memmove(c->data, c->data + at, c->length);
    return c->length < ROOM;
}

int
lg_serve(int listener, const uint8_t *get, uint32_t get_length, const uint8_t *other,
         uint32_t other_length, const char *path)
{
    answers a = {get, other, get_length, other_length, -1, 0};
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN, .data.ptr = NULL};
    struct stat about;
    int one = 1, epoll = epoll_create1(EPOLL_CLOEXEC);
    if (path != NULL) {
        a.file = open(path, O_RDONLY | O_CLOEXEC);
        if (a.file < 0 || fstat(a.file, &about) != 0)
            return -1;
        a.file_length = about.st_size;
    }
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        return -1;
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            return -1;
        for (int i = 0; i < count; i++) {
            client *c = events[i].data.ptr;
            if (c == NULL) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                c = calloc(1, sizeof *c);
                if (c == NULL)
                    abort();
                c->fd = fd;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.ptr = c;
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            } else if (!serve(&a, c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
