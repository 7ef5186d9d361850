"""GET of a bootstrap: the visible snapshot, then every record after it.

All of it is of one moment, that at which the request was looked at: the snapshot's file is
held open and the tail is remembered. What is appended, replaced or trimmed later does not
change what is sent. Only a trim that overtakes the reader, or the stream's deletion, takes
away what was to come: then the response is cut off, and without the closing delimiter nobody
takes it for whole.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import NamedTuple

import structlog

import tailrace
from tailrace.errors import Corrupted, Overloaded, Rejected, StoreClosed
from tailrace.operation import StreamKey
from tailrace.outcome import Reason
from tailrace.stream import DEFAULT_CONTENT_TYPE
from tailrace_server.context import Answer, Call, Context
from tailrace_server.keys import Right
from tailrace_server.live import CutOff, LiveResponse, Send
from tailrace_server.protocol import snapshot_message
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.multipart import ENTROPY_BYTES, Multipart
from tailrace_server.snapshots.read import send_snapshot
from tailrace_server.streams.address import refused, stream_key

_log = structlog.get_logger("tailrace.snapshots")


class View(NamedTuple):
    """A stream at one moment, and its snapshot then, open."""

    head: tailrace.Head
    snapshot: tailrace.SnapshotReader | None

    @property
    def start(self) -> int:
        """The first record that the snapshot does not fold."""
        return self.head.start if self.head.snapshot is None else self.head.snapshot.ordinal


async def get_bootstrap(context: Context, call: Call) -> Answer:
    """200 with ``multipart/mixed``; 400 for ``live``: tailing is a request of its own."""
    key = stream_key(call, Right.READ)
    if "live" in call.query:
        raise bad_request("live", "cannot be combined with a bootstrap; read on from where it ends")
    try:
        if call.request.method == "HEAD":
            view = View(context.store.head(key), None)
        else:
            view = await _open(context, key)
    except Rejected as error:
        return refused(error.rejection, key)
    body = Multipart(secrets.token_bytes(ENTROPY_BYTES))
    return LiveResponse(
        200,
        snapshot_message.bootstrap_headers(view.head, body.content_type),
        partial(_send, context, call, view, body),
        ends=True,
        on_close=None if view.snapshot is None else view.snapshot.close,
    )


async def _open(context: Context, key: StreamKey) -> View:
    while True:
        head = context.store.head(key)
        if head.snapshot is None:
            if head.ttl_ms is not None:  # a read renews a sliding TTL, whatever it finds
                await context.bridge.read(key, head.tail, max_bytes=1)
            return View(head, None)
        try:
            reader = await context.bridge.on_disk(partial(context.store.open_snapshot, key))
        except Rejected as error:
            # The stream was made again, without a snapshot: look at it once more.
            if error.rejection.reason is not Reason.SNAPSHOT_NOT_FOUND:
                raise
        else:
            return View(reader.head, reader)


async def _send(context: Context, call: Call, view: View, body: Multipart, send: Send) -> None:
    head, reader = view.head, view.snapshot
    kind = DEFAULT_CONTENT_TYPE if reader is None else reader.snapshot.content_type
    await send(body.head(kind, first=True))
    if reader is not None:
        await send_snapshot(context.bridge, reader, send)
    before = body.head(head.content_type)
    ordinal = view.start
    while ordinal < head.tail:
        if call.grant.revoked:
            raise CutOff
        page = await _page(context, head, ordinal)
        await send(b"".join([piece for record in page.records() for piece in (before, record)]))
        ordinal = page.next
    await send(body.end)


async def _page(context: Context, head: tailrace.Head, ordinal: int) -> tailrace.ReadResult:
    try:
        page = await context.bridge.read(
            head.key, ordinal, max_bytes=context.config.read_bytes_max, stop=head.tail
        )
    except (Rejected, StoreClosed, Overloaded) as error:
        raise CutOff from error  # trimmed past the reader, deleted, or no thread to read in
    except Corrupted as error:
        _log.error("corrupted", stream=str(head.key), error=str(error))
        raise CutOff from error
    if page.stream_id != head.stream_id:
        raise CutOff  # deleted, and made again
    return page
