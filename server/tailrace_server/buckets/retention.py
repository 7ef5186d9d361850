"""Retention: dropping the records of a stream before an offset."""

from __future__ import annotations

from tailrace.offset import encode_offset
from tailrace.operation import Trim
from tailrace.outcome import Rejection, Updated
from tailrace_server.context import Answer, Call, Context
from tailrace_server.keys import Right
from tailrace_server.protocol import headers, parse, render
from tailrace_server.streams.address import refused, stream_key


async def put_retention(context: Context, call: Call) -> Answer:
    """204 once what is before the offset is dropped; what is left keeps its offsets.

    409 for an offset before what is still kept, beyond the tail, or newer than the visible
    snapshot, if there is one; 400 for what is no offset, the words for moving places (``-1``,
    ``now``) included.
    """
    key = stream_key(call, Right.MANAGE)
    ordinal = parse.offset_token(call.params["offset"], "retention offset")
    outcome = await context.bridge.perform(Trim(key, ordinal))
    if isinstance(outcome, Rejection):
        return refused(outcome, key)
    assert isinstance(outcome, Updated)
    return render.empty(204, ((headers.STREAM_NEXT_OFFSET, encode_offset(outcome.tail)),))
