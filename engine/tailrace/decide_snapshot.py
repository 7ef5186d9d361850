"""The rules of snapshots: what may become the visible one of its stream.

A stream has one visible snapshot, or none. The next one must stand at a later ordinal. The very
same one (ordinal, content type and bytes) is confirmed before anything else is compared, so
that a retry never fails on its own success.
"""

from __future__ import annotations

from tailrace.batch import Kind
from tailrace.catalog import Catalog, snapshot_fields
from tailrace.fields import encode_fields
from tailrace.offset import encode_offset
from tailrace.operation import PutSnapshot, Snapshot
from tailrace.outcome import Reason, Rejection, SnapshotStored
from tailrace.plan import Context, Decision, Plan, live_stream, make_batch
from tailrace.stream import StreamState


def decide_snapshot(catalog: Catalog, operation: PutSnapshot, context: Context) -> Decision:
    """Make the snapshot the visible one, or confirm that it is."""
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    wanted, visible = operation.snapshot, state.snapshot
    if visible is not None and _same(visible, wanted):
        return SnapshotStored(state.config.stream_id, state.tail, visible, existed=True)
    if (refusal := _refuse(state, wanted.ordinal, operation.match)) is not None:
        return refusal
    fields = encode_fields(snapshot_fields(wanted))
    batch = make_batch(Kind.SNAPSHOT, 0, context.now_ms, fields, state.config.stream_id)
    outcome = SnapshotStored(state.config.stream_id, state.tail, wanted, existed=False)
    return Plan(batch, outcome)


def refuse_early(
    state: StreamState, ordinal: int, content_type: str, match: bytes | None
) -> Rejection | None:
    """Why a snapshot at ``ordinal`` is refused whatever its bytes are; None if it may not be.

    Asked before the bytes are read; the decision itself is made when they are there.
    """
    visible = state.snapshot
    if visible is not None and (visible.ordinal, visible.content_type) == (ordinal, content_type):
        return None  # only the bytes can tell whether this is a retry
    return _refuse(state, ordinal, match)


def _same(visible: Snapshot, wanted: Snapshot) -> bool:
    return visible._replace(file=wanted.file) == wanted


def _refuse(state: StreamState, ordinal: int, match: bytes | None) -> Rejection | None:
    visible = state.snapshot
    key, at = state.config.key, encode_offset(ordinal)
    if ordinal > state.tail:
        reason = Reason.SNAPSHOT_BEYOND_TAIL
        message = f"a snapshot at {at} is beyond the tail {encode_offset(state.tail)} of {key}"
    elif ordinal < state.start:
        reason = Reason.TRIMMED
        start = encode_offset(state.start)
        message = f"a snapshot at {at} is before the retained start {start} of {key}"
    elif match is not None and (visible is None or visible.digest != match):
        reason = Reason.SNAPSHOT_MISMATCH
        message = f"the visible snapshot of stream {key} is not the one that was to be replaced"
    elif visible is not None and ordinal < visible.ordinal:
        reason = Reason.SNAPSHOT_STALE
        message = f"stream {key} has a newer snapshot, at {encode_offset(visible.ordinal)}"
    elif visible is not None and ordinal == visible.ordinal:
        reason = Reason.SNAPSHOT_CONFLICT
        message = f"stream {key} has another snapshot at {at}; snapshots never change"
    else:
        return None
    return Rejection(reason, message, tail=state.tail, closed=state.closed, snapshot=visible)
