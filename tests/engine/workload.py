"""Random operations, and what a store shows, in the form the model shows it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import tailrace
from tailrace.errors import Rejected
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    Expire,
    ForkPoint,
    Operation,
    Producer,
    PutSnapshot,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.outcome import Appended, Outcome, Reason, Rejection, SnapshotStored
from tailrace.stream import plain_for
from tests.engine.model import Model
from tests.engine.model_stream import ModelStream
from tests.engine.snapshot_lab import content_of, put_snapshot, told

START_MS = 1_700_000_000_000
BUCKETS = ("alpha", "beta-1")
KEYS = [StreamKey(bucket, f"s{number}") for bucket in BUCKETS for number in range(6)]
HEAD_FIELDS = (
    "content_type tail start closed ttl_ms expires_at_ms created_at_ms last_write_ms metadata "
    "searchable forked_from fork_ordinal expires_effective_ms"
).split()
TYPES = (None, "application/json", "application/json; charset=utf-8", "text/plain")


class Clock:
    """Milliseconds that pass only when told to."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Workload:
    """A seeded source of operations that are mostly, but not always, acceptable."""

    def __init__(
        self,
        seed: int,
        *,
        keys: Sequence[StreamKey] = KEYS,
        large: float = 0.05,
        ttl: bool = True,
        snapshots: bool = False,
    ) -> None:
        self.dice = random.Random(seed)
        self.keys = list(keys)
        self._large = large
        self._ttl = ttl
        self._snapshots = snapshots
        self._serial = 0

    def records(self, is_json: bool, most: int = 4) -> list[bytes]:
        """Records, each with a word of its own (``w17``) and a common one."""
        return [self.record(is_json) for _ in range(self.dice.randint(1, most))]

    def record(self, is_json: bool) -> bytes:
        self._serial += 1
        size = self.dice.choice((0, 3, 40, 200))
        if self.dice.random() < self._large:
            size = self.dice.randint(5_000, 20_000)
        if is_json:
            text = f"common w{self._serial} " + "x" * size
            return json.dumps({"type": "note", "text": text}, separators=(",", ":")).encode()
        return f"{self._serial}:".encode() + self.dice.randbytes(size)

    def key(self) -> StreamKey:
        return self.dice.choice(self.keys)

    def options(self) -> StreamOptions:
        dice = self.dice
        ttl_ms = expires_at_ms = None
        if self._ttl and dice.random() < 0.25:
            if dice.random() < 0.6:
                ttl_ms = dice.choice((1_000, 5_000, 60_000))
            else:
                expires_at_ms = START_MS + dice.choice((500, 5_000, 100_000))
        return StreamOptions(
            dice.choice(TYPES),
            ttl_ms,
            expires_at_ms,
            dice.random() < 0.7,
            dice.choice((b"", b"{}", b"meta \xff")),
        )

    def operation(self, model: Model, now_ms: int) -> Operation:
        """The next operation, chosen with a view to what exists."""
        dice = self.dice
        key = self.key()
        stream = model.present(key, now_ms)
        if key.bucket not in model.buckets and dice.random() < 0.9:
            return CreateBucket(key.bucket)
        if stream is None:
            if key in model.streams and dice.random() < 0.3:
                return Expire(key)
            choice = dice.random()
            if choice < 0.35:
                return self._create(key)
            if choice < 0.65:
                return self._fork(key, model, now_ms)
            return self._append(key, None)
        if self._snapshots and dice.random() < 0.15:
            return self._put_snapshot(key, stream)
        choice = dice.random()
        if choice < 0.72:
            return self._append(key, stream)
        if choice < 0.76:
            return self._create(key)
        if choice < 0.80:
            return self._fork(key, model, now_ms)
        if choice < 0.86:
            return Delete(key)
        if choice < 0.90:
            return SetMetadata(key, dice.randbytes(dice.choice((0, 5, 300))))
        if choice < 0.94:
            return Trim(key, dice.randint(0, stream.tail + 1))
        if choice < 0.97:
            return Touch(key)
        if choice < 0.98:
            return Expire(key)
        return dice.choice((DeleteBucket(key.bucket), CreateBucket(key.bucket)))

    def rows(self, model: Model, now_ms: int) -> list[Append]:
        """Plain appends to some streams, most of which there are, to be handed over in columns."""
        dice = self.dice
        appends = []
        for key in dice.sample(self.keys, dice.randint(1, min(8, len(self.keys)))):
            stream = model.present(key, now_ms)
            content_type = stream.content_type if stream is not None else "application/json"
            if dice.random() < 0.03:
                content_type = "text/other"
            producer = self._producer(stream) if dice.random() < 0.4 else None
            records = self.records("json" in content_type)
            appends.append(Append(key, records, content_type, producer=producer))
        return appends

    def _put_snapshot(self, key: StreamKey, stream: ModelStream) -> PutSnapshot:
        dice, visible = self.dice, stream.snapshot
        low = stream.start if visible is None else visible.ordinal
        ordinal = dice.choice((dice.randint(low, max(low, stream.tail)), stream.tail))
        content = dice.randbytes(dice.choice((0, 40, 2000)))
        content_type = dice.choice(("text/plain", "application/octet-stream"))
        match = None if visible is None or dice.random() < 0.7 else visible.digest
        choice = dice.random()
        if choice < 0.1 and visible is not None:  # a retry
            return PutSnapshot(key, visible, match)
        if choice < 0.25:
            ordinal = max(0, dice.choice((low - 1, stream.start - 1, stream.tail + 1)))
        elif choice < 0.3:
            match = bytes(32)
        return put_snapshot(key, ordinal, content, content_type, match)

    def _create(self, key: StreamKey) -> Create:
        options = self.options()
        is_json = options.content_type is not None and "json" in options.content_type
        records = self.records(is_json) if self.dice.random() < 0.4 else []
        return Create(key, options, records, self.dice.random() < 0.1)

    def _fork(self, key: StreamKey, model: Model, now_ms: int) -> Create:
        dice = self.dice
        candidates = list(model.streams) or self.keys
        source_key = dice.choice(candidates)
        source = model.present(source_key, now_ms)
        ordinal: int | None = None
        sub_offset = 0
        is_json = False
        if source is not None:
            is_json = source.is_json
            if dice.random() < 0.7:
                ordinal = dice.randint(0, source.tail + (dice.random() < 0.1))
            if dice.random() < 0.4:
                sub_offset = dice.randint(0, 6)
        options = self.options()
        if dice.random() < 0.9:
            options = StreamOptions(None, options.ttl_ms, options.expires_at_ms, True)
        own = self.records(is_json) if dice.random() < 0.2 else []
        return Create(key, options, own, fork=ForkPoint(source_key, ordinal, sub_offset))

    def _append(self, key: StreamKey, stream: ModelStream | None) -> Append:
        dice = self.dice
        create = self.options() if stream is None or dice.random() < 0.1 else None
        content_type = stream.content_type if stream is not None else None
        if create is not None and stream is None:
            content_type = create.content_type
        is_json = content_type is not None and "json" in content_type
        offered = dice.choice((None, None, None, content_type))
        if dice.random() < 0.03:
            offered = "text/other"
        close = dice.random() < 0.06
        records = [] if dice.random() < (0.5 if close else 0.02) else self.records(is_json)
        producer = stream_seq = expected = expected_id = None
        if dice.random() < 0.5:
            producer = self._producer(stream)
        if dice.random() < 0.1:
            stream_seq = f"{dice.randint(0, 99):02d}"
        if dice.random() < 0.1:
            expected = (stream.tail if stream is not None else 0) + (dice.random() < 0.2)
        if dice.random() < 0.05:
            expected_id = dice.randint(0, 1) + (stream.stream_id if stream is not None else 0)
        if dice.random() < 0.1 and is_json and records:
            fixed = list(records)
            return Append(
                key, lambda base, now_ms: fixed, offered, close, producer, stream_seq, expected,
                create, expected_id,
            )  # fmt: skip
        return Append(
            key, records, offered, close, producer, stream_seq, expected, create, expected_id
        )

    def _producer(self, stream: ModelStream | None) -> Producer:
        dice = self.dice
        name = dice.choice(("p1", "p2", "ü"))
        epoch, last = (0, -1) if stream is None else stream.producers.get(name, (0, -1))
        choice = dice.random()
        if choice < 0.75:
            return Producer(name, epoch, last + 1)
        if choice < 0.85:
            return Producer(name, epoch, max(0, last - dice.randint(0, 1)))
        if choice < 0.90:
            return Producer(name, epoch, last + 2)
        if choice < 0.95:
            return Producer(name, epoch + 1, dice.choice((0, 0, 0, 1)))
        return Producer(name, max(0, epoch - 1), 0)


def assert_outcome(expected: Outcome, got: Outcome) -> None:
    """``got`` says what the model said; ids and wording aside."""
    assert type(expected) is type(got), (expected, got)
    if isinstance(expected, Rejection):
        assert isinstance(got, Rejection)
        assert got.reason is expected.reason, (expected, got)
        assert got.closed == expected.closed, (expected, got)
        assert got.tail in (None, expected.tail), (expected, got)
        if expected.reason is Reason.STREAM_CLOSED:
            assert got.tail == expected.tail
        for name in ("producer_epoch", "producer_expected_seq", "producer_received_seq"):
            assert getattr(got, name) == getattr(expected, name), (expected, got)
        assert got.message
        return
    names = set(type(expected).__annotations__) - {"stream_id"}
    if isinstance(expected, SnapshotStored):
        assert isinstance(got, SnapshotStored)
        names.remove("snapshot")
        assert told(got.snapshot) == told(expected.snapshot)
    if isinstance(expected, Appended) and expected.duplicate:
        names.remove("created_at_ms")  # the time of the stream's last write
    for name in names:
        assert getattr(got, name) == getattr(expected, name), (name, expected, got)


def outcome_of(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, or the rejection it raises."""
    try:
        return call()
    except Rejected as error:
        return error.rejection


def read_all(store: tailrace.Store, key: StreamKey, *, page_bytes: int = 4096) -> list[bytes]:
    """Every retained record of a stream, page by page, checked for continuity."""
    head = store.head(key)
    records: list[bytes] = []
    ordinal = head.start
    while True:
        page = store.read(key, ordinal, max_bytes=page_bytes)
        assert page.first == ordinal
        assert page.next == ordinal + page.count
        got = [bytes(record) for record in page.records()]
        assert len(got) == page.count
        assert b"".join(record + b"," * page.is_json for record in got) == bytes(page.payload)
        records += got
        ordinal = page.next
        if page.up_to_date:
            assert ordinal == page.tail == head.tail
            return records
        assert page.count > 0


def observe(store: tailrace.Store, keys: Sequence[StreamKey] = KEYS) -> dict[str, Any]:
    """Everything a reader can see."""
    for state in store._core.durable.streams.values():
        plain = plain_for(state.config, closed=state.closed, deleted=state.deleted)
        assert state.plain == plain
    buckets: dict[str, int] = {}
    listed: dict[StreamKey, Any] = {}
    for bucket in BUCKETS:
        info = outcome_of(partial(store.bucket, bucket))
        if isinstance(info, Rejection):
            assert info.reason is Reason.BUCKET_NOT_FOUND
            continue
        page = store.list_streams(bucket)
        assert not page.has_more
        buckets[bucket] = len(page.streams)
        names = [head.key.stream for head in page.streams]
        assert names == sorted(names, key=str.encode)
        listed |= {head.key: head for head in page.streams}
    streams: dict[StreamKey, Any] = {}
    for key in keys:
        head = outcome_of(partial(store.head, key))
        if isinstance(head, Rejection):
            assert key not in listed
            if head.reason is Reason.STREAM_GONE:
                streams[key] = "gone"
            else:
                assert head.reason is Reason.STREAM_NOT_FOUND
            continue
        assert listed[key] == head
        streams[key] = {name: getattr(head, name) for name in HEAD_FIELDS}
        streams[key]["records"] = read_all(store, key)
        if head.snapshot is not None:
            streams[key]["snapshot"] = told(head.snapshot)
            digest = hashlib.sha256(content_of(store, key)).digest()
            assert digest == head.snapshot.digest
    return {"buckets": buckets, "streams": streams}


def words(record: bytes) -> Iterator[str]:
    """The word of a workload's JSON record that no other record has."""
    text = json.loads(record)["text"]
    yield text.split()[1]


def assert_search(
    store: tailrace.Store,
    model: Model,
    now_ms: int,
    dice: random.Random,
    most: int = 6,
    damaged: list[tailrace.DamagedRange] | None = None,
) -> None:
    """Every acknowledged record of a searchable JSON stream is found, and no other.

    But for those that the answer names as damaged, if ``damaged`` takes them.
    """
    searchable = [
        stream
        for stream in model.streams.values()
        if stream.searchable
        and stream.is_json
        and not stream.soft_deleted
        and not stream.is_expired(now_ms)
    ]
    for stream in searchable:
        if stream.source is not None or stream.start > 0:
            continue
        result = store.search("common", [stream.key], limit=1000)
        ordinals = sorted(hit.ordinal for hit in result.hits)
        lost = {ordinal for part in result.damaged for ordinal in range(part.first, part.stop)}
        if damaged is not None:
            damaged += result.damaged
        else:
            assert not lost
        whole = sorted(set(range(stream.tail)) - lost)
        assert ordinals == whole, (stream.key, ordinals, stream.tail)
        assert result.total == len(whole)
        for ordinal in dice.sample(whole, min(most, len(whole))):
            (word,) = words(stream.records[ordinal])
            hits = store.search(word, None, bucket=stream.key.bucket, limit=100).hits
            found = {(hit.key, hit.ordinal) for hit in hits}
            assert (stream.key, ordinal) in found, (stream.key, ordinal, word, found)
