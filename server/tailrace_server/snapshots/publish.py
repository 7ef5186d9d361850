"""PUT and DELETE of a snapshot."""

from __future__ import annotations

from functools import partial
from typing import Final

import tailrace
from tailrace import limits
from tailrace.errors import Rejected
from tailrace_server.context import Answer, Call, Context
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.keys import Right
from tailrace_server.protocol import snapshot_message
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import BodyStream
from tailrace_server.streams.address import refused, stream_key

WRITE_BYTES: Final = 256 * limits.KIB
"""So much of a body is gathered for one visit to a worker thread."""


async def put_snapshot(context: Context, call: Call) -> Answer:
    """204 once it is the visible snapshot and durable.

    The body goes to disk as it comes. What is certain without it is refused before it is read:
    400, 404, 409, 410; what is not, when it is there. 413 as soon as it is too large.
    """
    key = stream_key(call, Right.APPEND)
    request, bridge = call.request, context.bridge
    ordinal = snapshot_message.offset(call.params["offset"])
    begin = partial(
        context.store.begin_snapshot,
        key,
        ordinal,
        content_type=snapshot_message.content_type(request),
        match=snapshot_message.match(request),
    )
    limit = context.config.snapshot_bytes_max
    try:
        writer = await bridge.on_disk(begin)
        try:
            if snapshot_message.announced_length(request) > limit:
                raise snapshot_message.larger_than(limit)
            if request.stream is not None:
                await _receive(request.stream, writer, bridge, limit)
            outcome = await bridge.on_disk(writer.commit)
        finally:
            await bridge.clean_up(writer.abort)
    except Rejected as error:
        return refused(error.rejection, key)
    return snapshot_message.stored(outcome)


async def _receive(
    stream: BodyStream, writer: tailrace.SnapshotWriter, bridge: EngineBridge, limit: int
) -> None:
    pieces: list[bytes] = []
    held = received = 0
    while piece := await stream.receive():
        received += len(piece)
        if received > limit:
            raise snapshot_message.larger_than(limit)
        pieces.append(piece)
        held += len(piece)
        if held >= WRITE_BYTES:
            await bridge.on_disk(partial(writer.write, b"".join(pieces)))
            pieces.clear()
            held = 0
    if held:
        await bridge.on_disk(partial(writer.write, b"".join(pieces)))


async def delete_snapshot(context: Context, call: Call) -> Answer:
    """409 for the visible one, which only a newer one can replace; 404 for any other."""
    key = stream_key(call, Right.MANAGE)
    ordinal = snapshot_message.offset(call.params["offset"])
    try:
        visible = context.store.head(key).snapshot
    except Rejected as error:
        return refused(error.rejection, key)
    if visible is not None and visible.ordinal == ordinal:
        raise RequestError(
            409,
            "snapshot_visible",
            "the visible snapshot cannot be deleted; store a newer one to replace it",
        )
    raise snapshot_message.no_snapshot(key, ordinal)
