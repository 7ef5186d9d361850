"""The store against a model of dicts and lists, with restarts and crashes among the steps.

TAILRACE_EXAMPLES=N runs N examples.
"""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import tailrace
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    ForkPoint,
    Operation,
    Producer,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.outcome import Appended, Created, Outcome, Reason, Rejection
from tailrace.upkeep import Upkeep
from tests.engine.crash_lab import OPTIONS, assert_no_strays, open_store, upkeep
from tests.engine.faulty_storage import DROPPED, KEPT, KILLED, FaultyStorage
from tests.engine.model import Model
from tests.engine.model_stream import ModelStream
from tests.engine.rows_lab import perform_as_rows
from tests.engine.snapshot_lab import CONTENTS, perform, put_snapshot, told
from tests.engine.workload import (
    BUCKETS,
    START_MS,
    Clock,
    assert_outcome,
    assert_search,
    observe,
    outcome_of,
)

KEYS = [StreamKey(bucket, name) for bucket in BUCKETS for name in ("a", "b", "ü")]
TYPES = st.sampled_from((None, "application/json", "Application/JSON; charset=utf-8", "text/plain"))
SIZES = st.sampled_from((0, 1, 30, 700, 9000))

keys = st.sampled_from(KEYS)
options = st.builds(
    lambda content_type, expiry, searchable, metadata: StreamOptions(
        content_type, expiry[0], expiry[1], searchable, metadata
    ),
    TYPES,
    st.sampled_from(((None, None),) * 4 + ((4_000, None), (100_000, None), (None, 20_000))).map(
        lambda pair: (pair[0], None if pair[1] is None else START_MS + pair[1])
    ),
    st.booleans(),
    st.sampled_from((b"", b"m")),
)
producers = st.none() | st.builds(
    Producer, st.sampled_from(("p", "q")), st.integers(0, 2), st.integers(0, 3)
)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.model = Model()
        self.storage = FaultyStorage()
        self.store = open_store(self.storage, self.clock)
        self.serial = 0
        self.ids: dict[StreamKey, int] = {}
        self.old_ids: set[int] = set()
        self.readers: list[tuple[tailrace.SnapshotReader, bytes]] = []

    @initialize()
    def a_bucket(self) -> None:
        self.do(CreateBucket(BUCKETS[0]))

    # ---- what every step does

    def expect(self, operation: Operation, outcome: Outcome) -> None:
        expected = self.model.perform(operation, self.clock.now_ms)
        assert_outcome(expected, outcome)
        if isinstance(outcome, (Created, Appended)):
            assert isinstance(operation, (Create, Append))
            known = self.ids.get(operation.key)
            if getattr(outcome, "created", False) or getattr(outcome, "existed", True) is False:
                if known is not None:
                    self.old_ids.add(known)
                assert outcome.stream_id not in self.old_ids, "an incarnation is used again"
                self.ids[operation.key] = outcome.stream_id
            else:
                assert outcome.stream_id == known

    def do(self, operation: Operation) -> None:
        self.expect(operation, self.store.perform(operation, 60))

    def records(
        self, key: StreamKey, sizes: list[int], create: StreamOptions | None
    ) -> list[bytes]:
        stream = self.model.present(key, self.clock.now_ms)
        content_type = stream.content_type if stream is not None else (
            create.content_type if create is not None else None
        )  # fmt: skip
        made = []
        for size in sizes:
            self.serial += 1
            if content_type is not None and "json" in content_type.lower():
                text = f'{{"type":"t","text":"common w{self.serial} {"x" * size}"}}'
                made.append(text.encode())
            else:
                made.append(random.Random(self.serial).randbytes(size))
        return made

    # ---- rules

    @rule(bucket=st.sampled_from(BUCKETS), delete=st.booleans())
    def bucket(self, bucket: str, delete: bool) -> None:
        self.do(DeleteBucket(bucket) if delete else CreateBucket(bucket))

    @rule(key=keys, options=options, sizes=st.lists(SIZES, max_size=2), closed=st.booleans())
    def create(
        self, key: StreamKey, options: StreamOptions, sizes: list[int], closed: bool
    ) -> None:
        existing = self.model.present(key, self.clock.now_ms)
        records = [] if existing is not None else self.records(key, sizes, options)
        self.do(Create(key, options, records, closed))

    @rule(key=keys)
    def create_again(self, key: StreamKey) -> None:
        stream = self.model.present(key, self.clock.now_ms)
        if stream is not None:
            self.do(Create(key, stream.asked, (), stream.closed, stream.fork_asked))

    @rule(
        key=keys, sizes=st.lists(SIZES, max_size=3), close=st.integers(0, 9).map(lambda n: n == 0),
        producer=producers, seq=st.none() | st.sampled_from(("1", "2", "10", "ü")),
        expected=st.none() | st.integers(-1, 1), create=st.none() | options, stamped=st.booleans(),
        incarnation=st.none() | st.integers(-1, 1),
    )  # fmt: skip
    def append(
        self, key: StreamKey, sizes: list[int], close: bool, producer: Producer | None,
        seq: str | None, expected: int | None, create: StreamOptions | None, stamped: bool,
        incarnation: int | None,
    ) -> None:  # fmt: skip
        records: Any = self.records(key, sizes, create)
        stream = self.model.present(key, self.clock.now_ms)
        if expected is not None:
            expected = max(0, (stream.tail if stream is not None else 0) + expected)
        if incarnation is not None:
            incarnation = max(0, (stream.stream_id if stream is not None else 0) + incarnation)
        if stamped and records:
            made = records
            records = lambda base, now_ms: made  # noqa: E731
        self.do(Append(key, records, None, close, producer, seq, expected, create, incarnation))

    @rule(key=keys, makes=st.booleans())
    def made_again_at_once(self, key: StreamKey, makes: bool) -> None:
        """An append that was meant for the stream that the same group deletes."""
        stream = self.model.present(key, self.clock.now_ms)
        known = 0 if stream is None else stream.stream_id
        expected = 0 if stream is None else stream.tail
        operations: list[Operation] = [
            Delete(key),
            Append(key, [b"1"], create=StreamOptions() if makes else None),
            Append(key, [b"2"], expected_ordinal=expected, expected_stream_id=known),
        ]
        tickets = self.store.submit(operations)
        for operation, ticket in zip(operations, tickets, strict=True):
            self.expect(operation, ticket.wait(60))

    @rule(key=keys, sizes=st.lists(SIZES, min_size=1, max_size=3), name=st.sampled_from(("p", "q")),
          again=st.booleans())  # fmt: skip
    def produce(self, key: StreamKey, sizes: list[int], name: str, again: bool) -> None:
        """The producer's right next step, and perhaps a retry of it."""
        stream = self.model.present(key, self.clock.now_ms)
        epoch, last = (0, -1) if stream is None else stream.producers.get(name, (0, -1))
        producer = Producer(name, epoch, last + 1)
        operation = Append(key, self.records(key, sizes, None), producer=producer)
        self.do(operation)
        if again:
            self.do(operation)

    @rule(key=keys, content_type=st.sampled_from(("text/plain", "application/json", "x/y")))
    def append_of_a_type(self, key: StreamKey, content_type: str) -> None:
        self.do(Append(key, self.records(key, [5], None), content_type=content_type))

    @rule(keys=st.lists(keys, min_size=1, max_size=6), size=SIZES)
    def several_at_once(self, keys: list[StreamKey], size: int) -> None:
        operations: list[Operation] = []
        for number, key in enumerate(keys):
            operations.append(Append(key, self.records(key, [size], None)))
            if number == 3:
                operations.append(Append(key, close=True))
        tickets = self.store.submit(operations)
        for operation, ticket in zip(operations, tickets, strict=True):
            self.expect(operation, ticket.wait(60))

    @rule(
        counts=st.dictionaries(keys, st.integers(1, 4), min_size=1), size=SIZES,
        odd=st.integers(0, 9).map(lambda n: n == 0), name=st.sampled_from((None, "p", "q")),
    )  # fmt: skip
    def rows(self, counts: dict[StreamKey, int], size: int, odd: bool, name: str | None) -> None:
        appends = []
        for key, count in counts.items():
            stream = self.model.present(key, self.clock.now_ms)
            content_type = "x/y" if odd or stream is None else stream.content_type
            producer = None
            if name is not None:
                epoch, last = (0, -1) if stream is None else stream.producers.get(name, (0, -1))
                producer = Producer(name, epoch, last + 1)
            records = self.records(key, [size] * count, None)
            appends.append(Append(key, records, content_type, producer=producer))
        staged, outcomes = perform_as_rows(self.store, appends)
        for append, outcome in zip(staged, outcomes, strict=True):
            self.expect(append, outcome)

    @rule(key=keys, source=keys, ordinal=st.none() | st.integers(0, 8), sub=st.integers(0, 3),
          options=options, sizes=st.lists(SIZES, max_size=1))  # fmt: skip
    def fork(
        self, key: StreamKey, source: StreamKey, ordinal: int | None, sub: int,
        options: StreamOptions, sizes: list[int],
    ) -> None:  # fmt: skip
        found = self.model.present(source, self.clock.now_ms)
        if found is None or found.soft_deleted or ordinal == 8:
            records: list[bytes] = []
        else:
            options = StreamOptions(None, options.ttl_ms, options.expires_at_ms, True)
            records = self.records(source, sizes, None)
        self.do(Create(key, options, records, fork=ForkPoint(source, ordinal, sub)))

    @rule(key=keys)
    def delete(self, key: StreamKey) -> None:
        self.do(Delete(key))

    @rule(key=keys, ordinal=st.integers(0, 12))
    def trim(self, key: StreamKey, ordinal: int) -> None:
        self.do(Trim(key, ordinal))

    @rule(
        key=keys, behind=st.integers(-1, 4), size=st.sampled_from((0, 1, 1500)),
        content_type=st.sampled_from(("text/plain", "a/b")),
        match=st.sampled_from((None, None, "visible", "other")), again=st.booleans(),
    )  # fmt: skip
    def put_snapshot(
        self, key: StreamKey, behind: int, size: int, content_type: str, match: str | None,
        again: bool,
    ) -> None:  # fmt: skip
        stream = self.model.present(key, self.clock.now_ms)
        tail = 0 if stream is None else stream.tail
        digest = None if match is None else bytes(32)
        if match == "visible" and stream is not None and stream.snapshot is not None:
            digest = stream.snapshot.digest
        content = random.Random(size).randbytes(size)
        operation = put_snapshot(key, max(0, tail - behind), content, content_type, digest)
        for _ in range(1 + again):
            self.expect(operation, perform(self.store, operation))

    @rule(key=keys)
    def open_snapshot(self, key: StreamKey) -> None:
        """To be read to its end later, whatever happens to it until then."""
        reader = outcome_of(lambda: self.store.open_snapshot(key))
        stream = self.model.present(key, self.clock.now_ms)
        if stream is None or stream.soft_deleted:
            assert isinstance(reader, Rejection)
            return
        self.model.touch(stream, self.clock.now_ms)
        if stream.snapshot is None:
            assert isinstance(reader, Rejection)
            assert reader.reason is Reason.SNAPSHOT_NOT_FOUND
            return
        assert told(reader.snapshot) == told(stream.snapshot)
        self.readers.append((reader, CONTENTS[stream.snapshot.digest]))

    @rule()
    def read_opened_snapshots(self) -> None:
        for reader, content in self.readers:
            with reader:
                read = b""
                while piece := reader.read(400):
                    read += piece
                assert read == content
        self.readers = []

    @rule(key=keys, metadata=st.binary(max_size=20))
    def set_metadata(self, key: StreamKey, metadata: bytes) -> None:
        self.do(SetMetadata(key, metadata))

    @rule(key=keys)
    def touch(self, key: StreamKey) -> None:
        self.do(Touch(key))

    @rule(passed_ms=st.sampled_from((0, 1, 900, 1100, 5_000, 30_000)))
    def time_passes(self, passed_ms: int) -> None:
        self.clock.now_ms += passed_ms

    @rule()
    def sweep(self) -> None:
        Upkeep.sweep(self.store._core.upkeep)
        self.model.sweep(self.clock.now_ms)

    @rule()
    def upkeep(self) -> None:
        upkeep(self.store)

    @rule(
        key=keys, ordinal=st.integers(0, 12), max_bytes=st.sampled_from((1, 100, 20_000)),
        max_records=st.none() | st.integers(1, 3), span=st.none() | st.integers(0, 4),
    )  # fmt: skip
    def read(
        self, key: StreamKey, ordinal: int, max_bytes: int, max_records: int | None,
        span: int | None,
    ) -> None:  # fmt: skip
        stop = None if span is None else ordinal + span
        page = outcome_of(
            lambda: self.store.read(
                key, ordinal, max_bytes=max_bytes, max_records=max_records, stop=stop
            )
        )
        stream = self.model.present(key, self.clock.now_ms)
        if stream is None or stream.soft_deleted:
            assert isinstance(page, Rejection)
            gone = Reason.STREAM_NOT_FOUND if stream is None else Reason.STREAM_GONE
            assert page.reason is gone
            return
        self.model.touch(stream, self.clock.now_ms)
        if ordinal < stream.start:
            assert isinstance(page, Rejection)
            assert page.reason is Reason.TRIMMED
            return
        self.check_page(stream, page, ordinal, max_bytes, max_records, stop)

    def check_page(
        self, stream: ModelStream, page: tailrace.ReadResult, ordinal: int, max_bytes: int,
        max_records: int | None, stop: int | None,
    ) -> None:  # fmt: skip
        first = min(ordinal, stream.tail)
        end = stream.tail if stop is None else max(first, min(stop, stream.tail))
        if max_records is not None:
            end = min(end, first + max_records)
        wanted: list[bytes] = []
        used = 0
        for record in stream.records[first:end]:
            size = len(record) + stream.is_json
            if wanted and used + size > max_bytes:
                break
            wanted.append(record)
            used += size
        assert [bytes(record) for record in page.records()] == wanted
        assert (page.first, page.next) == (first, first + len(wanted))
        assert (page.tail, page.closed) == (stream.tail, stream.closed)
        assert page.stream_id == self.ids[stream.key]
        assert page.is_json == stream.is_json

    @rule(key=keys, ordinal=st.integers(0, 12))
    def wait(self, key: StreamKey, ordinal: int) -> None:
        stream = self.model.present(key, self.clock.now_ms)
        woken = outcome_of(lambda: self.store.wait(key, ordinal, 0.0))
        if stream is None or stream.soft_deleted:
            assert isinstance(woken, Rejection)
        else:
            self.model.touch(stream, self.clock.now_ms)
            assert woken == (stream.closed or stream.tail > ordinal)

    @rule(bucket=st.sampled_from(BUCKETS), prefix=st.sampled_from(("", "a", "b", "z")),
          after=st.none() | st.sampled_from(("", "a", "aa", "b", "ü")), limit=st.integers(1, 3),
          descending=st.booleans())  # fmt: skip
    def list_streams(
        self, bucket: str, prefix: str, after: str | None, limit: int, descending: bool
    ) -> None:
        page = outcome_of(
            lambda: self.store.list_streams(
                bucket, prefix=prefix, after=after, limit=limit, descending=descending
            )
        )
        if bucket not in self.model.buckets:
            assert isinstance(page, Rejection)
            return
        names = sorted(
            (
                key.stream
                for key, stream in self.model.streams.items()
                if key.bucket == bucket
                and key.stream.startswith(prefix)
                and not stream.soft_deleted
                and not stream.is_expired(self.clock.now_ms)
            ),
            key=str.encode,
            reverse=descending,
        )
        if after is not None:
            names = [
                name
                for name in names
                if (
                    name.encode() < after.encode() if descending else name.encode() > after.encode()
                )
            ]
        assert [head.key.stream for head in page.streams] == names[:limit]
        assert page.has_more == (len(names) > limit)

    @rule(seed=st.integers(0, 1000))
    def search(self, seed: int) -> None:
        assert_search(self.store, self.model, self.clock.now_ms, random.Random(seed))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store.close()
        self.store = open_store(self.storage, self.clock)

    @rule(mode=st.sampled_from((DROPPED, KEPT, KILLED)) | st.integers(0, 1000))
    def crash(self, mode: int) -> None:
        """Everything was acknowledged, so everything must be there whatever the disk kept."""
        self.storage = self.storage.image(mode)
        self.store = open_store(self.storage, self.clock)
        assert_no_strays(self.storage, self.store)
        self.readers = []

    @precondition(lambda self: self.serial % 7 == 0)
    @invariant()
    def all_that_is_seen_is_the_models(self) -> None:
        assert observe(self.store, KEYS) == self.model.observe(self.clock.now_ms, KEYS)

    def teardown(self) -> None:
        assert observe(self.store, KEYS) == self.model.observe(self.clock.now_ms, KEYS)
        self.store.close()
        self.store = open_store(self.storage, self.clock)
        assert observe(self.store, KEYS) == self.model.observe(self.clock.now_ms, KEYS)
        assert_no_strays(self.storage, self.store)
        self.store.close()


assert not OPTIONS.background

TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=int(os.environ.get("TAILRACE_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
