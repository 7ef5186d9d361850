"""A server that says what a test tells it to, byte for byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.loadgen.http import Base

Script = Callable[[bytes], Sequence[bytes] | None]
"""From a whole request to the pieces of its answer, sent one by one; None: hang up."""


def answer(body: bytes = b"", *, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    length = str(len(body)).encode("ascii")
    return b"HTTP/1.1 %s\r\n%sContent-Length: %s\r\n\r\n%s" % (status, headers, length, body)


def _request(data: bytes) -> int:
    """The length of the first request in ``data``; 0 if it is not whole."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return 0
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return len(head) + 4 + length if len(rest) >= length else 0


def _serve(connection: socket.socket, script: Script) -> None:
    data = b""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            length = _request(data)
            if length == 0:
                try:
                    got = connection.recv(65536)
                except OSError:
                    return
                if not got:
                    return
                data += got
                continue
            pieces = script(data[:length])
            data = data[length:]
            if pieces is None:
                return
            for piece in pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return


@contextmanager
def scripted(script: Script) -> Iterator[Base]:
    """Where ``script`` answers, each connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(connection, script), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            host, port = listener.getsockname()
            yield Base(host, port, "")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
