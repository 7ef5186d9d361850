"""GET and HEAD of snapshots."""

from __future__ import annotations

from functools import partial

import structlog

import tailrace
from tailrace.errors import Corrupted, Overloaded, Rejected
from tailrace_server.context import Answer, Call, Context
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.keys import Right
from tailrace_server.live import CutOff, LiveResponse, Send
from tailrace_server.protocol import caching, headers, snapshot_message
from tailrace_server.protocol.message import Response
from tailrace_server.streams.address import refused, stream_key

_log = structlog.get_logger("tailrace.snapshots")


async def get_newest(context: Context, call: Call) -> Answer:
    """307 to the visible snapshot; 404 when there is none."""
    key = stream_key(call, Right.READ)
    try:
        head = context.store.head(key)
    except Rejected as error:
        return refused(error.rejection, key)
    if head.snapshot is None:
        raise snapshot_message.no_snapshot(key)
    return snapshot_message.redirect(call.request.path, head, head.snapshot)


async def get_snapshot(context: Context, call: Call) -> Answer:
    """The bytes of the visible snapshot, if it is the one at this offset; else 404.

    Whoever began to read it gets all of it, whatever replaces it meanwhile.
    """
    key = stream_key(call, Right.READ)
    ordinal = snapshot_message.offset(call.params["offset"])
    private = not context.keys.is_open
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    try:
        head = context.store.head(key)
        snapshot = head.snapshot
        if snapshot is None or snapshot.ordinal != ordinal:
            raise snapshot_message.no_snapshot(key, ordinal)
        told = snapshot_message.read_headers(head, snapshot, private=private)
        if caching.none_match(if_none_match, snapshot_message.etag(head, snapshot)):
            return Response(304, told)
        if call.request.method == "HEAD":
            kind = (headers.CONTENT_TYPE, snapshot.content_type)
            return LiveResponse(200, (kind, *told), _nothing, snapshot.length, ends=True)
        reader = await context.bridge.on_disk(partial(context.store.open_snapshot, key, ordinal))
    except Rejected as error:
        return refused(error.rejection, key)
    told = snapshot_message.read_headers(reader.head, reader.snapshot, private=private)
    return LiveResponse(
        200,
        ((headers.CONTENT_TYPE, reader.snapshot.content_type), *told),
        partial(send_snapshot, context.bridge, reader),
        reader.snapshot.length,
        ends=True,
        on_close=reader.close,
    )


async def send_snapshot(bridge: EngineBridge, reader: tailrace.SnapshotReader, send: Send) -> None:
    """Send the snapshot; CutOff, the last piece not sent, if it is not what was stored."""
    while piece := await _next_piece(bridge, reader):
        await send(piece)


async def _next_piece(bridge: EngineBridge, reader: tailrace.SnapshotReader) -> bytes:
    try:
        return await bridge.on_disk(reader.read)
    except (Corrupted, Overloaded, OSError) as error:
        _log.error("snapshot_unreadable", stream=str(reader.head.key), error=str(error))
        raise CutOff from error


async def _nothing(_send: Send) -> None:
    """The body of an answer to HEAD."""
