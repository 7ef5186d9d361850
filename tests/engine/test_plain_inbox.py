"""Many callers' plain appends, staged in one go, come to what they come to one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailrace.catalog import Catalog, apply
from tailrace.decide import decide
from tailrace.errors import Overloaded
from tailrace.limits import BATCH_BYTES_MAX, SEAL_BYTES, SEGMENT_HEADER_BYTES
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Operation,
    Producer,
    StreamKey,
    StreamOptions,
)
from tailrace.outcome import Appended, Outcome
from tailrace.plain_inbox import FEWEST, PlainRun, Room, Waiting, plain_run
from tailrace.plan import Context, Plan
from tailrace.staging import Staging
from tailrace.ticket import Ticket

NOW_MS = 1_000
SEGMENT_BYTES = 64 * 1024
JSON = "application/json"
KEYS = [StreamKey("bench", name) for name in ("json", "text", "late", "closed", "expires")]
A, B = KEYS[:2]
ROOM = Room(SEGMENT_BYTES, BATCH_BYTES_MAX, 1 << 30)


def do(catalog: Catalog, operation: Operation, now_ms: int = NOW_MS) -> None:
    plan = decide(catalog, operation, Context(now_ms, BATCH_BYTES_MAX))
    assert isinstance(plan, Plan)
    catalog.install(apply(catalog, plan.batch))


def begun() -> Catalog:
    catalog = Catalog()
    do(catalog, CreateBucket("bench"))
    json, text, late, closed, expires = KEYS
    do(catalog, Create(json, StreamOptions(JSON, searchable=True)))
    do(catalog, Append(json, [b"0"], producer=Producer("p", 0, 0), stream_seq="a"))
    do(catalog, Create(text, StreamOptions("text/plain", metadata=b"m")))
    do(catalog, Create(late, StreamOptions(JSON), [b"1"]), NOW_MS + 50)
    do(catalog, Create(closed, StreamOptions(JSON), closed=True))
    do(catalog, Create(expires, StreamOptions(JSON, ttl_ms=60_000)))
    return catalog


def waiting_for(operations: Sequence[Operation]) -> list[Waiting]:
    return [(operation, None, Ticket(None, None)) for operation in operations]


def run(
    operations: Sequence[Operation], *, room: Room = ROOM, catalog: Catalog | None = None
) -> PlainRun | None:
    waiting = waiting_for(operations)
    found = plain_run(catalog or begun(), waiting, NOW_MS, 4096, room, 4000)
    if found is not None:
        assert [ticket for ticket, _ in found.answers] == [
            ticket for _, _, ticket in waiting[: len(found.answers)]
        ]
    return found


def shown(staging: Staging, waiting: Sequence[Waiting]) -> dict[str, object]:
    """What a caller or the log could tell."""
    answers: dict[Ticket, object] = {}
    for entry in staging.queue:
        if entry.ticket is not None:
            answers[entry.ticket] = entry.outcome, repr(entry.error)
        for ticket, outcome in entry.answers:
            answers[ticket] = outcome, repr(None)
    positions = [entry.position for entry in staging.queue if entry.parts]
    assert positions == sorted(positions)
    return {
        "bytes": b"".join(part for entry in staging.queue for part in entry.parts),
        "states": staging.catalog.streams,
        "names": staging.catalog.names,
        "answers": [answers[ticket] for _, _, ticket in waiting],
        "position": staging.cursor.position,
        "staged": staging.staged_bytes,
    }


records = st.one_of(
    st.sampled_from([b"1", b"{}", b"22"]),
    st.binary(max_size=40),
    st.sampled_from([b"x" * 4096, b"x" * 4097, b"x" * 9_000]),
)
appends = st.builds(
    lambda key, record, says, as_tuple: Append(
        key,
        (record,) if as_tuple else [record],
        content_type=(JSON if key in (KEYS[0], KEYS[2]) else "text/plain") if says else None,
    ),
    st.sampled_from([A, A, B, KEYS[2]]),
    records,
    st.booleans(),
    st.booleans(),
)
others = st.one_of(
    st.builds(lambda key: Append(key, [b"1"]), st.sampled_from([*KEYS, StreamKey("bench", "no")])),
    st.builds(lambda key, seq: Append(key, [b"1"], stream_seq=seq), st.just(A), st.text("ab")),
    st.builds(lambda seq: Append(A, [b"1"], producer=Producer("p", 0, seq)), st.integers(0, 3)),
    st.builds(lambda at: Append(B, [b"1"], expected_ordinal=at), st.integers(0, 5)),
    st.builds(lambda at: Append(A, [b"1"], expected_stream_id=at), st.integers(1, 3)),
    st.just(Append(A, [b"1"], "text/plain")),
    st.just(Append(A, [b"1", b"2"])),
    st.just(Append(A, [])),
    st.just(Append(A, [b"1"], close=True)),
    st.just(Append(A, lambda base, _: [b"%d" % base])),
    st.just(Create(StreamKey("bench", "new"), StreamOptions(JSON))),
    st.just(Append(StreamKey("bench", "new"), [b"1"])),
)


@settings(max_examples=300, deadline=None)
@given(
    operations=st.lists(
        st.one_of(appends, appends, appends, appends, appends, others), max_size=40
    ),
    before_end=st.integers(SEAL_BYTES, 3_000) | st.just(SEGMENT_BYTES - SEGMENT_HEADER_BYTES),
    batch_bytes_max=st.sampled_from([200, 5_000, 60_000]),
    staged_bytes_max=st.sampled_from([300, 2_000, 1 << 30]),
    now_ms=st.integers(NOW_MS - 10, NOW_MS + 100),
)
@example([Append(A, [b"1"])] * 20, SEAL_BYTES, 60_000, 1 << 30, NOW_MS)
def test_it_comes_to_the_same_batches_states_and_answers(
    operations: list[Operation],
    before_end: int,
    batch_bytes_max: int,
    staged_bytes_max: int,
    now_ms: int,
) -> None:
    waiting = waiting_for(operations)
    position = (SEGMENT_BYTES - before_end) & ~7
    together, alone = (
        Staging(
            begun(),
            position,
            SEGMENT_BYTES,
            batch_bytes_max=batch_bytes_max,
            staged_bytes_max=staged_bytes_max,
        )
        for _ in range(2)
    )

    def full(staging: Staging) -> Overloaded | None:
        return (
            Overloaded("full", retry_after_s=1)
            if staging.staged_bytes >= staged_bytes_max
            else None
        )

    together.decide_each(waiting, now_ms, lambda: full(together))
    context = Context(now_ms, batch_bytes_max)
    for operation, _, ticket in waiting:
        outcome: Outcome | None = None
        error: BaseException | None = full(alone)
        if error is None:
            outcome, error = alone.decide(operation, context, ticket)
        if outcome is not None or error is not None:
            alone.answer(ticket, outcome, error)
    assert shown(together, waiting) == shown(alone, waiting)
    states = together.catalog.streams
    assert all(type(state) is type(alone.catalog.streams[key]) for key, state in states.items())


def test_many_are_one_entry_of_the_queue_and_few_are_not_worth_it() -> None:
    found = run([Append(A, [b"1"]), Append(B, [b"2"])] * 20)
    assert found is not None
    assert found.rows.batches == len(found.answers) == 40
    assert found.answers[-1][1] == Appended(2, 19, 20, False, False, False, NOW_MS)
    assert run([Append(A, [b"1"])] * FEWEST) is not None
    assert run([Append(A, [b"1"])] * (FEWEST - 1)) is None
    assert run([]) is None


@pytest.mark.parametrize(
    "operation",
    [
        Append(StreamKey("bench", "two"), [b"1"]),
        Append(("bench", "json"), [b"1"]),  # type: ignore[arg-type]
        Append(StreamKey("bench", ["json"]), [b"1"]),  # type: ignore[arg-type]
        Append(3, [b"1"]),  # type: ignore[arg-type]
        Append(A, []),
        Append(A, [b""]),
        Append(A, [b"1", b"2"]),
        Append(A, ["1"]),  # type: ignore[list-item]
        Append(A, b"1"),  # type: ignore[arg-type]
        Append(A, None),  # type: ignore[arg-type]
        Append(A, [b"1"], close=True),
        Append(A, [b"1"], producer=Producer("p", 0, 1)),
        Append(A, [b"1"], stream_seq="b"),
        Append(A, [b"1"], expected_ordinal=1),
        Append(A, [b"1"], expected_stream_id=1),
        Append(A, [b"1"], content_type="text/plain"),
        Append(A, [b"1"], content_type=7),  # type: ignore[arg-type]
        Append(A, lambda _, __: [b"1"]),
        Append(A, [b"x" * 4097]),
        Append(KEYS[3], [b"1"]),
        Append(KEYS[4], [b"1"]),
        Create(A),
    ],
)
def test_what_is_not_plain_ends_the_run(operation: Operation) -> None:
    plain = [Append(A, [b"1"], JSON)] * FEWEST
    found = run([*plain, operation, *plain])
    assert found is not None
    assert len(found.answers) == FEWEST


def test_a_full_segment_a_small_batch_and_a_full_queue_end_the_run() -> None:
    operations = [Append(A, [b"1"])] * 10
    found = run(operations)
    assert found is not None
    length = len(found.rows.data) // 10

    def taken(room: Room) -> int:
        some = run(operations, room=room)
        return 0 if some is None else len(some.answers)

    assert taken(ROOM._replace(segment=6 * length + SEAL_BYTES)) == 6
    assert taken(ROOM._replace(segment=6 * length + SEAL_BYTES - 1)) == 5
    assert taken(ROOM._replace(batch=length)) == 10
    assert taken(ROOM._replace(batch=length - 1)) == 0
    assert taken(ROOM._replace(staged=6 * length)) == 6
    assert taken(ROOM._replace(staged=5 * length + 1)) == 6
    assert taken(ROOM._replace(staged=0)) == 0
