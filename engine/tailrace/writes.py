"""What a caller of the store writes: operations given to the committer, alone or many at once.

The docstrings are those of :class:`tailrace.store.Store`, whose methods have the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tailrace import validate
from tailrace.core import Core
from tailrace.decide_snapshot import refuse_early
from tailrace.errors import InvalidArgument, Rejected
from tailrace.operation import Create, CreateBucket, Operation
from tailrace.outcome import BucketDone, Outcome, Reason, Rejection
from tailrace.plan import Partial
from tailrace.reads import Key, Reads
from tailrace.rows import Rows
from tailrace.snapshot import SnapshotWriter
from tailrace.ticket import RowsTaken, Ticket

_Done = TypeVar("_Done")


class Writes:
    """Safe from any thread. ``background``: a thread sees to what is due after a write."""

    def __init__(self, core: Core, reads: Reads, *, background: bool) -> None:
        self._core = core
        self._reads = reads
        self._background = background

    def submit(
        self,
        operations: Sequence[Operation],
        on_done: Callable[[Ticket], None] | None,
        context: object,
    ) -> list[Ticket]:
        validate.sequence("operations", operations)
        tickets = [Ticket(on_done, context) for _ in operations]
        self._submit(operations, tickets, apart=False, patience_s=0.0)
        return tickets

    def submit_each(
        self, operations: Sequence[Operation], contexts: Sequence[object], patience_s: float
    ) -> list[Ticket]:
        validate.sequence("operations", operations)
        validate.sequence("contexts", contexts)
        if len(contexts) != len(operations):
            raise InvalidArgument("contexts", "must be one for each operation")
        patience_s = validate.seconds("patience_s", patience_s)
        tickets = [Ticket(None, context) for context in contexts]
        self._submit(operations, tickets, apart=True, patience_s=patience_s)
        return tickets

    def _submit(
        self,
        operations: Sequence[Operation],
        tickets: list[Ticket],
        *,
        apart: bool,
        patience_s: float,
    ) -> None:
        partials = [self._partial(operation) for operation in operations]
        committer = self._core.committer
        committer.submit(operations, tickets, partials, apart=apart, patience_s=patience_s)
        self._do_what_is_due()

    def submit_rows(self, rows: Rows, context: object, patience_s: float) -> RowsTaken:
        patience_s = validate.seconds("patience_s", patience_s)
        taken = self._core.committer.submit_rows(rows, context, patience_s=patience_s)
        self._do_what_is_due()
        return taken

    def perform(self, operation: Operation, timeout_s: float | None = None) -> Outcome:
        if timeout_s is not None:
            timeout_s = validate.seconds("timeout_s", timeout_s)
        partial, patient = self._partial(operation), timeout_s is None
        ticket = self._core.committer.perform(operation, partial, patient=patient)
        self._do_what_is_due()
        return ticket.wait(timeout_s)

    def do(self, operation: Operation, kind: type[_Done]) -> _Done:
        """Perform an operation whose outcome is a ``kind``, or else raise Rejected."""
        outcome = self.perform(operation)
        if isinstance(outcome, Rejection):
            raise Rejected(outcome)
        assert isinstance(outcome, kind)
        return outcome

    def create_bucket(self, bucket: str, *, exist_ok: bool) -> None:
        try:
            self.do(CreateBucket(bucket), BucketDone)
        except Rejected as error:
            if not exist_ok or error.rejection.reason is not Reason.BUCKET_EXISTS:
                raise

    def begin_snapshot(
        self, key: Key, ordinal: int, content_type: str, match: bytes | None
    ) -> SnapshotWriter:
        validate.snapshot_place(ordinal, content_type, match)
        state = self._reads.state(key)
        if (refusal := refuse_early(state, ordinal, content_type, match)) is not None:
            raise Rejected(refusal)
        core, key = self._core, state.config.key
        core.committer.check_writable()
        return SnapshotWriter(core.snapshots, self.perform, key, ordinal, content_type, match)

    def _partial(self, operation: Operation) -> Partial | None:
        """The source record that a fork with a byte sub-offset cuts: read before the decision,
        which does no I/O.
        """
        if not isinstance(operation, Create) or operation.fork is None:
            return None
        fork = operation.fork
        try:
            validate.fork(fork)
        except InvalidArgument:
            return None  # told when the operation itself is looked at
        source = self._core.durable.find(fork.source)
        if fork.ordinal is None or fork.sub_offset <= 0 or source is None:
            return None
        if source.config.is_json or not source.start <= fork.ordinal < source.tail:
            return None
        result = self._core.reader.read(source, fork.ordinal, None, 1, 1)
        return Partial(source.config.stream_id, fork.ordinal, bytes(result.payload))

    def _do_what_is_due(self) -> None:
        if not self._background:
            self._core.upkeep.run_due()
