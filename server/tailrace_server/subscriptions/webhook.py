"""One webhook request, to an address that was checked (protocol sections 7.1 and 12.8).

The host is resolved once. Every address it has must be allowed, and the connection goes to
one of those very addresses, so a name server that changes its mind in between gains
nothing. Redirects are not followed and proxies are not asked.
"""

from __future__ import annotations

import ipaddress
import ssl
from functools import cache
from typing import Any, Final

import h11
import trio

from tailrace_server.metrics import WebhookFailure
from tailrace_server.protocol import headers
from tailrace_server.protocol.subscription_url import WebhookUrl, may_connect

ANSWER_BYTES_MAX: Final = 64 * 1024
CONNECT_S_MAX: Final = 5.0
_RECEIVE_BYTES: Final = 16 * 1024
_USER_AGENT: Final = "tailrace"


class DeliveryFailed(Exception):
    """The webhook did not take the request; the message says why."""

    def __init__(self, kind: WebhookFailure, message: str) -> None:
        super().__init__(message)
        self.kind: Final = kind


async def post(url: WebhookUrl, body: bytes, signature: str, *, timeout_s: float) -> bytes:
    """POST ``body``; what the webhook answered, if that was a 2xx.

    Raises :class:`DeliveryFailed` for everything else. Of a long answer only the start is read.
    """
    try:
        with trio.fail_after(timeout_s):
            stream = await _connect(url)
            try:
                return await _exchange(stream, url, body, signature)
            finally:
                with trio.move_on_after(0):
                    await stream.aclose()
    except trio.TooSlowError:
        raise DeliveryFailed(WebhookFailure.TIMEOUT, f"no answer within {timeout_s:g} s") from None
    except (OSError, ssl.SSLError, trio.BrokenResourceError) as error:
        cause = error.__cause__ or error
        tls = isinstance(cause, ssl.SSLError)
        kind = WebhookFailure.TLS if tls else WebhookFailure.CONNECTION
        raise DeliveryFailed(kind, f"{kind}: {cause}") from None
    except h11.RemoteProtocolError as error:
        raise DeliveryFailed(WebhookFailure.PROTOCOL, f"not HTTP: {error}") from None


async def addresses(url: WebhookUrl) -> list[tuple[int, tuple[Any, ...]]]:
    """(family, socket address) of the host, every one of them checked.

    One that is not allowed spoils them all: that is what a rebinding name looks like.
    """
    try:
        found = await trio.socket.getaddrinfo(
            url.host, url.port, type=trio.socket.SOCK_STREAM, proto=trio.socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError) as error:
        raise DeliveryFailed(WebhookFailure.DNS, f"cannot resolve {url.host}: {error}") from None
    for *_, place in found:
        if not may_connect(url, ipaddress.ip_address(place[0])):
            raise DeliveryFailed(
                WebhookFailure.REFUSED,
                f"{url.host} has the address {place[0]}, which is not allowed",
            )
    return [(family, place) for family, *_, place in found]


async def _connect(url: WebhookUrl) -> trio.abc.Stream:
    failure: Exception = DeliveryFailed(WebhookFailure.DNS, f"{url.host} has no address")
    for family, place in await addresses(url):
        sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        try:
            with trio.fail_after(CONNECT_S_MAX):
                await sock.connect(place)
        except (OSError, trio.TooSlowError) as error:
            sock.close()
            failure = error if isinstance(error, OSError) else OSError("connecting took too long")
            continue
        except BaseException:
            sock.close()
            raise
        stream = trio.SocketStream(sock)
        if url.scheme == "http":
            return stream
        return trio.SSLStream(stream, _tls(), server_hostname=url.host, https_compatible=True)
    raise failure


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _exchange(stream: trio.abc.Stream, url: WebhookUrl, body: bytes, signature: str) -> bytes:
    """Send the request and read the answer's body."""
    connection = h11.Connection(h11.CLIENT)
    fields = [
        (headers.HOST, url.authority),
        (headers.USER_AGENT, _USER_AGENT),
        (headers.CONTENT_TYPE, "application/json"),
        (headers.CONTENT_LENGTH, str(len(body))),
        (headers.WEBHOOK_SIGNATURE, signature),
        (headers.CONNECTION, "close"),
    ]
    sent: list[h11.Event] = [
        h11.Request(method="POST", target=url.target, headers=fields),
        h11.Data(data=body),
        h11.EndOfMessage(),
    ]
    await stream.send_all(b"".join(connection.send(event) or b"" for event in sent))
    answer = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
        elif isinstance(event, h11.Response):
            if not 200 <= event.status_code < 300:
                raise DeliveryFailed(WebhookFailure.STATUS, f"it answered {event.status_code}")
        elif isinstance(event, h11.Data):
            answer += event.data
            if len(answer) > ANSWER_BYTES_MAX:
                return bytes(answer[:ANSWER_BYTES_MAX])
        elif isinstance(event, h11.EndOfMessage):
            return bytes(answer)
        elif isinstance(event, h11.ConnectionClosed):
            raise DeliveryFailed(
                WebhookFailure.PROTOCOL, "it closed the connection without an answer"
            )
