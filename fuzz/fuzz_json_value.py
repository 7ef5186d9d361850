"""Fuzzes the C recogniser of JSON records: ``python -m fuzz.fuzz_json_value --seconds 10``.

The records that it finds in a body are those that the parser of bodies makes of it, byte for
byte. What it must accept is a value, or an array of values, that Python's own encoder wrote.
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
    b'[{"n":1},{"n":2},[3,[4]],"[5,6]",-7e8,null]',
    b'\n[ {"n" : 1}\t,\r\n "a" , [ ] ]\r\n',
    b'[["' + b"[" * 130 + b'"],' + b"[" * 120 + b"]" * 120 + b"]",
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

counts: Final = {"values": 0, "records of arrays": 0, "left to Python": 0}


def cut(
    body: bytes, *, records_max: int = 1000, nesting_max: int = json_mode.NESTING_MAX
) -> list[bytes]:
    """The records that C finds in a body; none if it leaves it."""
    # In memory of their own, so that a sanitizer sees one too many.
    spans = ffi.new("struct tr_json_span[]", records_max)
    data = ffi.new("uint8_t[]", body) if body else ffi.new("uint8_t[]", 1)
    count = lib.tr_json_records(data, len(body), nesting_max, spans, records_max)
    assert count <= records_max
    return [body[spans[i].begin : spans[i].end] for i in range(count)]


def target(body: bytes) -> None:
    found = cut(body)
    if not found:
        counts["left to Python"] += 1
        return
    counts["records of arrays" if body.strip()[:1] == b"[" else "values"] += len(found)
    assert json_mode.split(body, values_max=len(found)) == found
    json.loads(body)
    assert cut(body, records_max=len(found)) == found
    assert not cut(body, records_max=len(found) - 1)
    for record in found:
        if record[:1] != b"[":
            assert cut(record, records_max=1) == [record]
    assert cut(b"\r[\n" + b" ,\t".join(found) + b"\n]\r\n") == found
    for wrong in (b"\0", b",", b"]", b"1]", b'"'):
        assert not cut(wrong + body)
        assert not cut(body + wrong)


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
        assert whole == [] or surrogates or cut(written), written
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
