"""Offset tokens from clients: any text is one ordinal or refused."""

from __future__ import annotations

import random

from fuzz.engine_driver import run
from tailrace import InvalidArgument, decode_offset, encode_offset
from tailrace.limits import ORDINAL_MAX


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name atheris calls
    token = data.decode("utf-8", "surrogateescape")
    try:
        ordinal = decode_offset(token)
    except InvalidArgument:
        return
    assert 0 <= ordinal <= ORDINAL_MAX
    again = encode_offset(ordinal)
    assert decode_offset(again) == ordinal
    if ordinal < ORDINAL_MAX and "_" not in token:
        assert again == token, "two tokens for one ordinal"


def make(dice: random.Random) -> bytes:
    alphabet = "0123456789" + dice.choice(("", "abcdefghijkl", "_", "-+ \n", "\0\u0660\u00e9z"))
    length = dice.choice((7, 8, 9, 10, 19, 20, 21, 32, 33, 34, dice.randrange(40)))
    token = "".join(dice.choice(alphabet) for _ in range(length))
    if dice.random() < 0.3:
        token = dice.choice("abcdefghijklm") + token
    return token.encode("utf-8")


if __name__ == "__main__":
    run(__doc__, TestOneInput, make)
