"""Fuzzes the C recogniser of JSON records: ``python -m fuzz.fuzz_json_value --seconds 10``.

Whatever it accepts is, as it stands, the one record that the parser of bodies makes of it. What
it must accept is a value that Python's own encoder wrote.
"""

from __future__ import annotations

import json
import random
from typing import Any, Final

from fuzz.engine_driver import run
from tailrace_server._reactor import ffi, lib
from tailrace_server.protocol import json_mode

SEEDS: Final = (
    b'{"type":"user.message","content":[{"type":"text","text":"hi"}]}',
    b'{"n":[1,-0,0.5,1.5e-7,1E+9,123456789012345678901234567890,1e999,-1e-999],"t":[true,null]}',
    '{"ü😀\u2028\x7f\uffff\U0010ffff":"\\u0069\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\ufffe"}'.encode(),
    b'{ "a" :\t[ ] ,\t"b" : { } , "a":[ 1 , 2 ]}',
    b'"0123456789abcdef0123456789abcdef"',
    b'{"a":' * 119 + b"[0]" + b"}" * 119,
    b'{"a":' * 120 + b"[0]" + b"}" * 120,
    b'{"a":' * 119 + b'"[{[{"' + b"}" * 119,
    b"-0.0e-0",
    b"false",
)
TOKENS: Final = (
    *(
        bytes([byte])
        for byte in b'"\\{}[],:0-+.eE1/ \t\r\n\0\x1f\x7f\x80\xbf\xc1\xc2\xe0\xed\xf4\xff'
    ),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xc3\xa9"),
    *(b"\\ud800", b"\\uDFFF", b"\\ud83d\\ude00", b"\\uD7ff", b"\\ue000", b"\\u12", b"\\x"),
    *(b"NaN", b"Infinity", b"true", b"nul", b"//", b"0x1", b"01", b"1.", b".5", b"1e", b'""'),
    *(b"[[[[", b"]]]]", b'{"a":', b"}}}}", b'"a":', b",,", b"\xe2\x80\xa8"),
)

_POINTS: Final = (
    *((0, 0x20), (0x20, 0x7F), (0x20, 0x7F), (0x7F, 0x800)),
    *((0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)),
)
"""Ranges of characters; those that an encoder has to escape as well."""

counts: Final = {"accepted": 0, "left to Python": 0}


def accepts(body: bytes, nesting_max: int = json_mode.NESTING_MAX) -> bool:
    return bool(lib.tr_json_is_value(ffi.from_buffer(body), len(body), nesting_max))


def target(body: bytes) -> None:
    if not accepts(body):
        counts["left to Python"] += 1
        return
    counts["accepted"] += 1
    assert json_mode.split(body, values_max=1) == [body]
    assert json_mode.split(b"[" + body + b"]", values_max=1) == [body]
    json.loads(body)
    assert not accepts(b"[" + body + b"]")
    for blank in (b" ", b"\t", b"\r", b"\n", b"\0", b","):
        assert not accepts(blank + body)
        assert not accepts(body + blank)


def value(dice: random.Random, depth: int = 0) -> Any:
    """Something that JSON can say."""
    kind = dice.randrange(4 if depth > 4 else 7)
    if kind == 0:
        return dice.choice((None, True, False, 0, -1, 10**30, 0.1, -1.5e-300))
    if kind <= 2:
        return text(dice)
    if kind == 3:
        return dice.randrange(-(2**70), 2**70)
    if kind == 4:
        return [value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {text(dice): value(dice, depth + 1) for _ in range(dice.randrange(4))}


def text(dice: random.Random) -> str:
    return "".join(chr(dice.randrange(*dice.choice(_POINTS))) for _ in range(dice.randrange(20)))


def make(dice: random.Random) -> bytes:
    if dice.random() < 0.4:
        whole = value(dice)
        body = json.dumps(
            whole,
            ensure_ascii=dice.random() < 0.2,
            separators=dice.choice(((",", ":"), (", ", ": "), ("\t, ", " :\t"))),
        )
        written = body.encode()
        # What an encoder writes must not be left: that would cost speed, and show nowhere else.
        surrogates = "\\ud" in body
        assert isinstance(whole, list) or surrogates or accepts(written), written
        if dice.random() < 0.5:
            return written
        data = bytearray(written)
    else:
        data = bytearray(dice.choice(SEEDS))
    for _ in range(dice.randint(0, 4)):
        place = dice.randint(0, len(data))
        what = dice.random()
        if what < 0.4:
            data[place:place] = dice.choice(TOKENS)
        elif what < 0.7:
            data[place : place + dice.randint(1, 4)] = dice.choice(TOKENS)
        elif what < 0.85:
            del data[place : place + dice.randint(1, 8)]
        else:
            data[place : place + 1] = bytes([dice.randrange(256)])
    return bytes(data)


if __name__ == "__main__":
    run(__doc__, target, make)
    print(counts)
