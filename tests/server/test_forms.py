"""Answers by filling in forms: what they are cut at, how they are checked, when they change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from tailrace.limits import ORDINAL_MAX
from tailrace.offset import encode_offset
from tailrace_server.fast import append_answer, forms, page_answer
from tailrace_server.fast.forms import (
    BadForm,
    Forms,
    Hole,
    class_number,
    cut,
    ordinal_class,
)

BORDERS = sorted({10**n + d for n in range(19) for d in (-1, 0, 1)} - {0, -1})


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(forms, "time", self)

    def time(self) -> float:
        return self.now


def test_the_classes_of_ordinals_have_no_gap() -> None:
    end = 0
    for number in sorted({class_number(ordinal) for ordinal in (*BORDERS, ORDINAL_MAX)}):
        found = ordinal_class(number)
        assert found.first == end + 1
        assert found.first <= found.sample <= found.last
        assert class_number(found.first) == class_number(found.last) == number
        end = found.last
    assert end == ORDINAL_MAX


@given(
    ordinal=st.integers(1, ORDINAL_MAX) | st.sampled_from(BORDERS),
    pattern=st.lists(st.sampled_from(("token", "number", "id", "name", "%d", " and ", ":"))),
)
def test_a_form_has_its_holes_where_the_values_stand(ordinal: int, pattern: list[str]) -> None:
    def answer(ordinal: int, stream_id: int, name: bytes) -> bytes:
        texts = {
            "token": encode_offset(ordinal).encode(),
            "number": b"%d" % ordinal,
            "id": b"%x" % stream_id,
            "name": name,
        }
        # Values do not touch in an answer.
        return b"|".join(texts.get(item, item.encode()) for item in pattern)

    ordinals = ordinal_class(class_number(ordinal))
    holes = {**ordinals.holes(0), b"beef": Hole(1, "x"), b"a-name": Hole(2, "b")}
    sample = answer(ordinals.sample, 0xBEEF, b"a-name")
    if {"token", "number", "id", "name"}.isdisjoint(pattern):
        with pytest.raises(BadForm):
            cut(sample, holes)
        return
    values = ordinal, 2**64 - 1, b"%x another"
    assert cut(sample, holes).fill(values) == answer(*values)


def test_a_form_holds_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return f"{key} at {clock.now}"

    kept = Forms[str, str](make)
    assert [kept.of(key) for key in "aba"] == ["a at 1000.0", "b at 1000.0", "a at 1000.0"]
    clock.now = 1000.9
    assert kept.of("a") == "a at 1000.0"
    clock.now = 1001.0
    assert kept.of("a") == "a at 1001.0"
    assert made == ["a", "b", "a"]
    clock.now = 1000.5  # a clock that was set back
    assert kept.of("b") == "b at 1000.5"


def test_a_form_is_not_of_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Date may change between the cut and the check: that is no defect of the form."""
    clock = Clock(monkeypatch)

    def make(key: int) -> float:
        before = clock.now
        if before < 1000 + key:
            clock.now += 1
            raise BadForm
        return before

    kept = Forms[int, float](make)
    assert kept.of(2) == 1002.0
    clock.now = 1000.0
    with structlog.testing.capture_logs() as logs:
        assert kept.of(9) is None
        clock.now = 1009.0
        assert kept.of(9) == 1009.0
    assert not logs


def test_a_bad_form_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    tries = 0

    def make(key: int) -> int:
        nonlocal tries
        tries += 1
        if key:
            raise BadForm
        return key

    kept = Forms[int, int](make)
    assert kept.of(0) == 0
    with structlog.testing.capture_logs() as logs:
        assert kept.of(1) is None
        assert kept.of(1) is None
    assert [line["log_level"] for line in logs] == ["error"]
    clock.now += 1
    assert kept.of(0) is None
    assert tries == 2


def test_a_form_that_is_not_the_answer_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that says something of the sample in words of its own."""
    odd = b"Odd: %d" % (ordinal_class(8).sample + 1)

    def other(general: Callable[..., bytes], *arguments: object) -> bytes:
        answer = general(*arguments)
        return answer + odd * (b"7654321" in answer)

    for module in (append_answer, page_answer):
        monkeypatch.setattr(module, "_general", partial(other, module._general))
    with pytest.raises(BadForm):
        append_answer.make_forms(8)
    with pytest.raises(BadForm):
        page_answer.make_form((False, True, 8))
    with structlog.testing.capture_logs():
        assert append_answer.AppendForms().answer(append_answer.appended(1, 2, 3)) is None


def test_threads_get_forms_of_their_second() -> None:
    def make(key: int) -> tuple[int, int]:
        return key, int(time.time())

    kept = Forms[int, tuple[int, int]](make)
    wrong: list[object] = []
    end = time.monotonic() + 1.2

    def ask(number: int) -> None:
        while time.monotonic() < end:
            key = number % 3
            before = int(time.time())
            found = kept.of(key)
            if found is None or found[0] != key or not before <= found[1] <= int(time.time()):
                wrong.append((key, before, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
