"""Fuzzes the body of an append: ``python fuzz/fuzz_events_body.py --seconds 10``.

Whatever the bytes, the parser gives events or a 4xx. What it accepts is what Python's own
JSON parser reads, on one line, within the depth that is promised, and stays so when stamped.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from tailrace_server.protocol import events, json_mode, sse, views
from tailrace_server.protocol.errors import RequestError

T = TypeVar("T")

SEEDS: Final = (
    b'{"events":[{"type":"user.message","content":[{"type":"text","text":"hi"}]}]}',
    b'[{"type":"a"},{"type":"b","id":"own","offset":1,"created_at":"x"}]',
    b'{"type":"a","n":[1,-0,1.5e-7,123456789012345678901234567890,1e999],"t":[true,null]}',
    '{"type":"ü😀\u2028","\\u0069d":"\\ud83d\\ude00\\n","k":{"events":[{}]}}'.encode(),
    b' \r\n{ "type" : "x" ,\t"events" : [ ] } ',
    b'{"type":"x","type":"y","id":"","id":7}',
    b"[" * 130 + b"]" * 130,
)
TOKENS: Final = (
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b".",
    b"e",
    b"\n",
    b"\r",
    b" ",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x00",
    b"\\ud800",
    b"\\u0000",
    b"NaN",
    b"Infinity",
    b"//",
    b'"type"',
    b'"id"',
    b'"events"',
    b"null",
    b"[[[[",
    b"]]]]",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
)


def mutated(rng: random.Random) -> bytes:
    """A seed with a few random edits."""
    body = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(body) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            body[at:at] = rng.choice(TOKENS)
        elif kind == 1:
            del body[at : at + rng.randrange(1, 8)]
        elif kind == 2 and at < len(body):
            body[at] = rng.randrange(256)
        else:
            seed = rng.choice(SEEDS)
            start = rng.randrange(len(seed))
            body[at:at] = seed[start : start + rng.randrange(1, 30)]
    return bytes(body)


def check(body: bytes) -> bool:
    """Whether ``body`` was accepted; AssertionError if a promise was broken."""
    check_values(body)
    drafts = accepted_or_none(lambda: events.parse_events(body, events_max=50))
    if drafts is None:
        return False
    for ordinal, record in enumerate(events.EventStamp(drafts)(7, 1_776_263_539_421), 7):
        assert b"\n" not in record
        assert b"\r" not in record
        found = json.loads(record)
        assert isinstance(found["type"], str)
        assert found["type"]
        assert found["offset"] == f"{ordinal:08d}"
        assert isinstance(found["id"], str)
        assert views.event_type(record) == found["type"]
        assert json.loads(views.processed(record)).items() >= found.items()
        scored = json.loads(views.with_members(record, {"score": 1.0}))
        assert scored == found | {"score": 1.0}
        frame = sse.message(found["type"], ordinal, record)
        assert frame.find(b"\n\n") == len(frame) - 2
    return True


def accepted_or_none(parser: Callable[[], T]) -> T | None:
    """What the parser makes of its input; None if it refuses it as the client's mistake."""
    try:
        return parser()
    except RequestError as error:
        if 400 <= error.status < 500 and error.message:
            return None
        raise


def check_values(body: bytes) -> None:
    values = accepted_or_none(lambda: json_mode.split(body, values_max=50))
    if values is None:
        return
    whole = json.loads(body)
    wanted = whole if isinstance(whole, list) else [whole]
    assert [json.loads(value) for value in values] == wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    rng = random.Random(seed)
    until = time.monotonic() + options.seconds
    tried = accepted = 0
    while time.monotonic() < until:
        body = mutated(rng)
        try:
            accepted += check(body)
        except BaseException:
            print(f"seed {seed}, after {tried} bodies: {body!r}")
            raise
        tried += 1
    print(f"{tried} bodies, {accepted} accepted, seed {seed}")


if __name__ == "__main__":
    main()
