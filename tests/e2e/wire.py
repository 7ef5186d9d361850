"""Small HTTP and SSE clients for the end-to-end tests: nothing of the server is used in them."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from tests.e2e.server_process import PATIENCE_S, ServerProcess

JSON: Final = {"Content-Type": "application/json"}
SSE: Final = "offset=now&live=sse"
LIVE_READERS: Final = "tailrace_live_readers"
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


class Reply(NamedTuple):
    """A whole answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def next_offset(self) -> int:
        return int(self.headers["stream-next-offset"])


class Client:
    """One connection, kept alive. Every failure of it is an ``OSError`` or ``HTTPException``."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        self._connection.request(method, path, body, dict(headers or {}))
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.request("GET", path, None, headers)

    def post(self, path: str, value: object, headers: Mapping[str, str] | None = None) -> Reply:
        body = json.dumps(value).encode("utf-8")
        return self.request("POST", path, body, {**JSON, **(headers or {})})


def events_path(session: str) -> str:
    return f"/v1/sessions/{quote(session, safe='')}/events"


def read_all(client: Client, session: str, start: int = 0) -> list[dict[str, Any]]:
    """Every event of a session from ``start``, page after page."""
    events: list[dict[str, Any]] = []
    at = start
    while True:
        reply = client.get(f"{events_path(session)}?offset={at:08d}")
        assert reply.status == 200, reply
        page = reply.json()["data"]
        assert reply.next_offset == at + len(page)
        events += page
        at += len(page)
        if reply.headers.get("stream-up-to-date") == "true":
            return events
        assert page, "a page that is not the last holds something"


@dataclass(frozen=True, slots=True)
class Message:
    """One SSE message as an EventSource would dispatch it."""

    event: str
    data: str
    id: str

    def json(self) -> Any:
        return json.loads(self.data)


class SseParser:
    """The parsing of section 9.2.6 of the HTML standard. ``retries`` and ``comments`` are kept."""

    def __init__(self) -> None:
        self.comments: list[str] = []
        self.retries: list[int] = []
        self._text = ""
        self._event = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, text: str) -> Iterator[Message]:
        """The messages that ``text`` completes."""
        self._text += text
        while (end := _LINE_END.search(self._text)) is not None:
            if end[0] == "\r" and end.end() == len(self._text):
                return  # half of a CRLF, perhaps
            line, self._text = self._text[: end.start()], self._text[end.end() :]
            if line:
                self._field(line)
            elif self._data or self._event:
                message = Message(self._event, "\n".join(self._data), self._id)
                self._event, self._data = "", []
                if message.data:
                    yield message

    @property
    def rest(self) -> str:
        """What came after the last complete message."""
        return self._text + "".join(self._data) + self._event

    def _field(self, line: str) -> None:
        if line.startswith(":"):
            self.comments.append(line[1:].removeprefix(" "))
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "retry":
            self.retries.append(int(value))
        else:
            raise AssertionError(f"not a field of an event stream: {line!r}")


class EventSource:
    """A live reader over a real socket. Iterate over its messages; it ends when the server does.

    An end in the middle of a chunk or of a message is an error.
    """

    def __init__(
        self, server: ServerProcess, path: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE_S)
        self._connection.request("GET", path, headers=dict(headers or {}))
        assert self._connection.sock is not None
        # http.client lets go of it once the answer says Connection: close.
        self.socket: socket.socket = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self.parser = SseParser()
        self.ended = False
        self._messages = self._read()

    def __enter__(self) -> Self:
        assert self.status == 200, (self.status, self._answer.read())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message]:
        return self._messages

    def next(self) -> Message:
        message = next(self._messages, None)
        assert message is not None, "the stream ended"
        return message

    def control(self) -> dict[str, Any]:
        """The next message, which must be a control event."""
        message = self.next()
        assert message.event == "control", message
        fields: dict[str, Any] = message.json()
        return fields

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def reset(self) -> None:
        """Leave with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _read(self) -> Iterator[Message]:
        while data := self._answer.read1(65_536):
            yield from self.parser.feed(data.decode("utf-8"))
        assert not self.parser.rest, f"cut off within a message: {self.parser.rest!r}"
        self.ended = True


def gauge(client: Client, name: str) -> float:
    """The value of a metric without labels."""
    text = client.get("/metrics").body.decode("utf-8")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def events_of(message: Message) -> list[dict[str, Any]]:
    """The events of a ``data`` message."""
    assert message.event == "data"
    found: list[dict[str, Any]] = message.json()
    return found


def follow(source: EventSource, count: int) -> list[dict[str, Any]]:
    """The next ``count`` events; control events are checked on the way."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = source.next()
        if message.event == "control":
            fields = message.json()
            if found:
                assert fields["streamNextOffset"] > found[-1]["offset"]
            continue
        found += events_of(message)
    return found
