"""Operations of one submit: each is decided in the state that those before it left, staged or not.

What a caller looked at before it asked may have changed by then, so a condition that only the
caller checks does not hold.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import tailrace
from tailrace.operation import Append, Create, Delete, Operation, StreamKey, StreamOptions, Trim
from tailrace.outcome import Appended, Outcome, Reason, Rejection, Updated

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


@pytest.mark.parametrize("makes", ["create", "append"])
def test_an_append_meant_for_a_stream_that_is_made_again_at_once_is_refused(
    tmp_path: Path, makes: str
) -> None:
    with tailrace.open(tmp_path) as store:
        store.create_bucket("bucket")
        store.create(KEY, records=[b"1"])
        known = store.head(KEY)
        meant = Append(KEY, [b"2"], expected_ordinal=known.tail, expected_stream_id=known.stream_id)
        again: Operation = Create(KEY, records=[b"other"])
        if makes == "append":
            again = Append(KEY, [b"other"], create=StreamOptions())
        *_, refused, fits = outcomes(
            store, Delete(KEY), again, meant, Append(KEY, [b"3"], expected_ordinal=known.tail)
        )
        assert isinstance(refused, Rejection)
        assert (refused.reason, refused.tail) == (Reason.PRECONDITION_FAILED, 1)
        assert isinstance(fits, Appended), "by its offset alone the new stream is the same"
        assert [bytes(record) for record in store.read(KEY, 0).records()] == [b"other", b"3"]
