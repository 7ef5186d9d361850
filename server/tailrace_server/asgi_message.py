"""What goes out by ASGI: the messages of an answer, and what a WebSocket handshake is answered."""

from __future__ import annotations

from typing import Any, Final, cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

from tailrace_server.front import CONTENT_LENGTH, no_websocket, whole_length
from tailrace_server.protocol.message import HeaderList

END: Final[Any] = {"type": "http.response.body", "body": b"", "more_body": False}


def response_start(status: int, headers: HeaderList, length: int | None) -> Any:
    """The message that an answer begins with."""
    fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if length is not None:
        fields.append((CONTENT_LENGTH.encode(), b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": fields}


class WebSocketRefusal:
    """Answers a WebSocket handshake: there is none here, tailing is SSE or long-poll."""

    def __init__(self, app: object, scope: dict[str, Any]) -> None:
        self._scope = scope

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()  # websocket.connect
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1000, "reason": None})
            return
        response = no_websocket().response()
        begin = response_start(response.status, response.headers, whole_length(response, "GET"))
        begin["type"] = "websocket.http.response.start"
        await send(begin)
        body = b"".join(response.body)
        await send(
            cast(Any, {"type": "websocket.http.response.body", "body": body, "more_body": False})
        )
