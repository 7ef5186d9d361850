"""Operations of one submit: each is decided in the state that those before it left, staged or not.

What a caller looked at before it asked may have changed by then, so a condition that only the
caller checks does not hold.
"""

from __future__ import annotations

from pathlib import Path

import tailrace
from tailrace.operation import Operation, StreamKey, Trim
from tailrace.outcome import Outcome, Reason, Rejection, Updated

KEY = StreamKey("bucket", "a")
PATIENCE_S = 30


def outcomes(store: tailrace.Store, *operations: Operation) -> list[Outcome]:
    return [ticket.wait(PATIENCE_S) for ticket in store.submit(operations)]


def test_of_two_trims_at_once_the_one_that_goes_backwards_is_refused(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        store.create_bucket("bucket")
        store.create(KEY, records=[b"1", b"2", b"3"])
        forwards, backwards, again = outcomes(store, Trim(KEY, 2), Trim(KEY, 1), Trim(KEY, 2))
        assert isinstance(forwards, Updated) and isinstance(again, Updated)
        assert isinstance(backwards, Rejection)
        assert (backwards.reason, backwards.tail) == (Reason.TRIM_BACKWARDS, 3)
        assert store.head(KEY).start == 2
