"""A catalog driven by ``decide`` and ``apply`` alone, for the tests of their rules."""

from __future__ import annotations

from typing import Any

from tailrace.batch import split_records
from tailrace.catalog import Catalog, apply
from tailrace.decide import decide
from tailrace.operation import (
    Create,
    CreateBucket,
    Operation,
    StreamKey,
    StreamOptions,
)
from tailrace.outcome import (
    Outcome,
    Reason,
    Rejection,
)
from tailrace.plan import Context, Partial, Plan
from tailrace.validate import operation as validate_operation

NOW_MS = 1_000_000
A = StreamKey("bucket", "a")
B = StreamKey("bucket", "b")
C = StreamKey("bucket", "c")
JSON = StreamOptions("application/json")
TEXT = StreamOptions("text/plain")
CLOSED = (False, True)


class Engine:
    """A catalog with one bucket, a clock, and the records of every batch."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.now_ms = NOW_MS
        self.batch_bytes_max = 1 << 20
        self.records: dict[tuple[int, int], bytes] = {}
        self.done(CreateBucket("bucket"))

    def do(self, operation: Operation, partial: bytes | None = None) -> Outcome:
        validate_operation(operation)
        context = Context(self.now_ms, self.batch_bytes_max, self._partial(operation, partial))
        decision = decide(self.catalog, operation, context)
        if not isinstance(decision, Plan):
            return decision
        batch = decision.batch
        self.catalog.install(apply(self.catalog, batch))
        if len(batch.ends):
            is_json = self.catalog.streams[batch.stream_id].config.is_json
            for i, record in enumerate(split_records(batch.payload, batch.ends, is_json)):
                self.records[batch.stream_id, batch.base_ordinal + i] = record
        return decision.outcome

    def _partial(self, operation: Operation, record: bytes | None) -> Partial | None:
        if record is None:
            return None
        assert isinstance(operation, Create)
        assert operation.fork is not None
        assert operation.fork.ordinal is not None
        source = self.catalog.find(operation.fork.source)
        assert source is not None
        return Partial(source.config.stream_id, operation.fork.ordinal, record)

    def done(self, operation: Operation, partial: bytes | None = None) -> Any:
        outcome = self.do(operation, partial)
        assert not isinstance(outcome, Rejection), outcome
        return outcome

    def refused(self, operation: Operation, partial: bytes | None = None) -> Rejection:
        before = dict(self.catalog.streams), dict(self.catalog.names), dict(self.catalog.buckets)
        outcome = self.do(operation, partial)
        assert isinstance(outcome, Rejection), outcome
        after = dict(self.catalog.streams), dict(self.catalog.names), dict(self.catalog.buckets)
        assert before == after, "a rejection changes nothing"
        return outcome

    def reason(self, operation: Operation) -> Reason:
        return self.refused(operation).reason
