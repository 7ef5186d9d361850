"""The rules of creating a stream: confirm, make, fork (protocol sections 4.2 and 5.1)."""

from __future__ import annotations

from array import array

from tailrace import limits
from tailrace.batch import Flag, Kind
from tailrace.catalog import Catalog
from tailrace.offset import encode_offset
from tailrace.operation import Create, ForkPoint, StreamOptions
from tailrace.outcome import Created, Outcome, Reason, Rejection
from tailrace.plan import (
    Context,
    Decision,
    Plan,
    create_fields,
    join,
    make_batch,
    no_bucket,
    too_large,
)
from tailrace.stream import (
    DEFAULT_CONTENT_TYPE,
    StreamState,
    is_expired,
    is_json_type,
    media_type,
)


def decide_create(catalog: Catalog, operation: Create, context: Context) -> Decision:
    """Make the stream, or confirm one of that name if it is just like it."""
    if operation.key.bucket not in catalog.buckets:
        return no_bucket(operation.key.bucket)
    state = catalog.find(operation.key)
    if state is not None and not is_expired(state, context.now_ms):
        return _confirm(state, operation)
    if operation.fork is not None:
        return _fork(catalog, operation, operation.fork, context)
    return _new_stream(catalog, operation, context)


def _new_stream(catalog: Catalog, operation: Create, context: Context) -> Decision:
    options = operation.options
    content_type = options.content_type or DEFAULT_CONTENT_TYPE
    now_ms = context.now_ms
    joined = join(operation.records, 0, now_ms, is_json_type(content_type), context)
    flags = Flag.CLOSES if operation.closed else 0
    fields = create_fields(operation.key, content_type, options)
    return _created(catalog, flags, 0, context, joined, fields, content_type)


def _created(
    catalog: Catalog,
    flags: int,
    base: int,
    context: Context,
    joined: tuple[array[int], bytes] | Rejection,
    fields: bytes,
    content_type: str,
) -> Decision:
    if isinstance(joined, Rejection):
        return joined
    ends, payload = joined
    if (refusal := too_large(len(ends), len(fields), len(payload), context)) is not None:
        return refusal
    if is_json_type(content_type):
        flags |= Flag.JSON
    stream_id = catalog.next_stream_id
    batch = make_batch(Kind.CREATE, flags, context.now_ms, fields, stream_id, base, ends, payload)
    closed = bool(flags & Flag.CLOSES)
    return Plan(batch, Created(stream_id, base + len(ends), closed, content_type, existed=False))


def _confirm(state: StreamState, operation: Create) -> Outcome:
    """The name is in use: the same configuration is confirmed, any other refused."""
    config, options, fork = state.config, operation.options, operation.fork
    if state.deleted:
        return Rejection(
            Reason.STREAM_GONE,
            f"stream {config.key} was deleted; its name is free once its forks are deleted",
        )
    wanted_type = options.content_type or (
        config.content_type if fork is not None else DEFAULT_CONTENT_TYPE
    )
    inherits = config.expiry_inherited and options.ttl_ms is None and options.expires_at_ms is None
    differences = {
        "content type": media_type(wanted_type) != media_type(config.content_type),
        "TTL": not inherits and options.ttl_ms != config.ttl_ms,
        "expiry": not inherits and options.expires_at_ms != config.expires_at_ms,
        "closure": operation.closed != state.closed,
        "fork": not _same_fork(state, fork),
    }
    different = [name for name, differs in differences.items() if differs]
    if different:
        return Rejection(
            Reason.CONFIG_MISMATCH,
            f"stream {config.key} exists with another {' and '.join(different)}",
            tail=state.tail,
            closed=state.closed,
        )
    return Created(config.stream_id, state.tail, state.closed, config.content_type, existed=True)


def _same_fork(state: StreamState, fork: ForkPoint | None) -> bool:
    config = state.config
    if fork is None:
        return config.source_id is None
    return (
        config.source_key == fork.source
        and (fork.ordinal is None or fork.ordinal == config.fork_ordinal)
        and fork.sub_offset == config.fork_sub_offset
    )


def _fork(catalog: Catalog, operation: Create, fork: ForkPoint, context: Context) -> Decision:
    source = catalog.find(fork.source)
    if source is None or is_expired(source, context.now_ms):
        return Rejection(
            Reason.FORK_SOURCE_NOT_FOUND, f"source stream {fork.source} does not exist"
        )
    if source.deleted:
        return Rejection(Reason.FORK_SOURCE_GONE, f"source stream {fork.source} was deleted")
    content_type = operation.options.content_type or source.config.content_type
    if media_type(content_type) != media_type(source.config.content_type):
        return Rejection(
            Reason.CONTENT_TYPE_MISMATCH,
            f"content type {content_type} is not the source's {source.config.content_type}",
        )
    if _depth(catalog, source) >= limits.FORK_DEPTH_MAX:
        return Rejection(Reason.FORK_TOO_DEEP, f"forks nest at most {limits.FORK_DEPTH_MAX} deep")
    point = _fork_point(source, fork, context)
    if isinstance(point, Rejection):
        return point
    ordinal, base, prefix = point
    is_json = source.config.is_json
    first = base + len(prefix)
    joined = join(operation.records, first, context.now_ms, is_json, context, prefix)
    options, inherited = _fork_expiry(operation.options, source)
    origin = (source.config.stream_id, ordinal, fork.sub_offset)
    fields = create_fields(operation.key, source.config.content_type, options, origin, inherited)
    flags = Flag.CLOSES if operation.closed else 0
    return _created(catalog, flags, base, context, joined, fields, source.config.content_type)


def _depth(catalog: Catalog, state: StreamState) -> int:
    depth = 1
    while state.config.source_id is not None:
        state = catalog.streams[state.config.source_id]
        depth += 1
    return depth


def _fork_point(
    source: StreamState, fork: ForkPoint, context: Context
) -> tuple[int, int, list[bytes]] | Rejection:
    """``(fork ordinal, first own ordinal, records to copy)`` (protocol section 4.2)."""
    ordinal = source.tail if fork.ordinal is None else fork.ordinal
    if ordinal > source.tail:
        return Rejection(
            Reason.FORK_BEYOND_TAIL,
            f"fork offset {encode_offset(ordinal)} is beyond the source's tail "
            f"{encode_offset(source.tail)}",
        )
    if ordinal < source.start:
        return Rejection(
            Reason.TRIMMED,
            f"fork offset {encode_offset(ordinal)} is before what is kept, which begins at "
            f"{encode_offset(source.start)}",
        )
    if fork.sub_offset == 0:
        return ordinal, ordinal, []
    beyond = Rejection(
        Reason.FORK_SUB_OFFSET, f"sub-offset {fork.sub_offset} goes past the next data boundary"
    )
    if source.config.is_json:
        base = ordinal + fork.sub_offset
        return beyond if base > source.tail else (ordinal, base, [])
    partial = context.partial
    if partial is None or (partial.source_id, partial.ordinal) != (
        source.config.stream_id,
        ordinal,
    ):
        return beyond
    if fork.sub_offset > len(partial.record):
        return beyond
    if fork.sub_offset == len(partial.record):
        return ordinal, ordinal + 1, []
    return ordinal, ordinal, [partial.record[: fork.sub_offset]]


def _fork_expiry(options: StreamOptions, source: StreamState) -> tuple[StreamOptions, bool]:
    """The fork's expiry by the table of protocol section 4.2, and whether it was inherited."""
    if options.ttl_ms is not None or options.expires_at_ms is not None:
        return options, False
    inherited = StreamOptions(
        content_type=options.content_type,
        ttl_ms=source.config.ttl_ms,
        expires_at_ms=source.config.expires_at_ms,
        searchable=options.searchable,
        metadata=options.metadata,
    )
    return inherited, True
