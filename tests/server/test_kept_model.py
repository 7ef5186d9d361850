"""Whatever happens to streams and keys, answers given again are those that are made anew."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tailrace
from tailrace.errors import TailraceError
from tailrace.operation import StreamKey
from tailrace_server.keys import Key, Right
from tests.server.kept_support import Head, Running, serving

NAMES = ("a", "b")
KEYS: tuple[tuple[Key, ...], ...] = (
    (),
    (Key("one"),),
    (Key("one"), Key("two", frozenset({Right.APPEND}))),
    (Key("one", sessions=("x*",)), Key("two")),
)
HEADS: tuple[Head, ...] = (
    *(
        (method, f"/v1/stream/{name}{query}", (*key, *fields))
        for name in NAMES
        for key in ((("x-api-key", "one"),), (("authorization", "Bearer two"),))
        for method, query, fields in (
            ("GET", "", ()),
            ("GET", "?offset=00000001", ()),
            ("GET", "?offset=now", ()),
            ("GET", "", (("if-none-match", '"1:0:1"'),)),
            ("GET", "", (("if-none-match", "*"),)),
            ("HEAD", "", ()),
        )
    ),
    *(
        (method, target, (("x-api-key", "one"),))
        for method, target in (
            ("GET", "/v1/sessions/s/events"),
            ("GET", "/v1/sessions/s/events?limit=1"),
            ("HEAD", "/v1/sessions/s/events"),
            ("GET", "/ds/sessions/s"),
        )
    ),
)

_NAME = st.sampled_from(NAMES)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), _NAME, st.sampled_from([None, None, 10**7])),
        st.tuples(st.just("append"), _NAME, st.integers(1, 3)),
        st.tuples(st.just("event"), _NAME, st.just(0)),
        st.tuples(st.just("close"), _NAME, st.just(0)),
        st.tuples(st.just("delete"), _NAME, st.just(0)),
        st.tuples(st.just("trim"), _NAME, st.integers(0, 3)),
        st.tuples(st.just("snapshot"), _NAME, st.integers(0, 3)),
        st.tuples(st.just("metadata"), _NAME, st.integers(0, 3)),
        st.tuples(st.just("fork"), _NAME, st.integers(0, 2)),
        st.tuples(st.just("keys"), st.sampled_from(range(len(KEYS))), st.just(0)),
    ),
    max_size=12,
)


def change(running: Running, kind: str, what: str | int, number: int | None) -> None:
    """Do one step; one that the stream's state does not allow changes nothing."""
    store = running.store
    if kind == "keys":
        assert isinstance(what, int)
        running.keys.replace(KEYS[what])
        return
    assert isinstance(what, str)
    key = StreamKey("flat", what)
    other = StreamKey("flat", NAMES[1 - NAMES.index(what)])
    try:
        if kind == "make":
            store.create(key, content_type="application/json", ttl_ms=number)
        elif kind == "append":
            assert number is not None
            store.append(key, [b'{"n":%d}' % n for n in range(number)])
        elif kind == "event":
            store.append(
                StreamKey("sessions", "s"),
                [b'{"id":"e","offset":"00000000","created_at":"2026-01-01T00:00:00.000Z"}'],
                create=tailrace.StreamOptions(content_type="application/json"),
            )
        elif kind == "close":
            store.close_stream(key)
        elif kind == "delete":
            store.delete(key)
        elif kind == "trim":
            store.trim(key, number or 0)
        elif kind == "snapshot":
            with store.begin_snapshot(key, number or 0) as snapshot:
                snapshot.write(b"folded")
                snapshot.commit()
        elif kind == "metadata":
            store.set_metadata(key, b"%d" % (number or 0))
        else:
            store.fork(key, other, ordinal=number)
    except TailraceError:
        pass


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_whatever_happens_the_answers_are_those_made_anew(
    steps: list[tuple[str, str | int, int | None]],
) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with serving(Path(directory)) as running:
                for step in (("make", "a", None), ("append", "a", 1), *steps):
                    change(running, *step)
                    for head in HEADS:
                        await running.compare(head)
                assert running.given_again

    trio.run(main)
