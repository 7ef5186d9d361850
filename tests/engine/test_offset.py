"""Offset tokens: protocol section 8."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import InvalidArgument, decode_offset, encode_offset
from tailrace.limits import ORDINAL_MAX

ordinals = st.integers(0, ORDINAL_MAX) | st.sampled_from(
    [edge + step for n in range(19) for edge in [10**n] for step in (-1, 0, 1)] + [ORDINAL_MAX]
)


@pytest.mark.parametrize(
    ("ordinal", "token"),
    [
        (0, "00000000"),
        (1, "00000001"),
        (99_999_999, "99999999"),
        (100_000_000, "a100000000"),
        (999_999_999, "a999999999"),
        (1_000_000_000, "b1000000000"),
        (ORDINAL_MAX, "k9223372036854775807"),
    ],
)
def test_8_tokens_look_as_they_always_did(ordinal: int, token: str) -> None:
    assert encode_offset(ordinal) == token
    assert decode_offset(token) == ordinal


@given(ordinals)
def test_8_a_token_means_its_ordinal(ordinal: int) -> None:
    token = encode_offset(ordinal)
    assert decode_offset(token) == ordinal
    assert token not in ("-1", "now")
    assert set(token) <= set(string.ascii_lowercase + string.digits)
    assert len(token) < 256


@given(ordinals, ordinals)
def test_8_tokens_sort_as_their_ordinals(first: int, second: int) -> None:
    assert (encode_offset(first) < encode_offset(second)) == (first < second)
    assert (encode_offset(first).encode() < encode_offset(second).encode()) == (first < second)


@given(ordinals)
def test_8_no_two_tokens_mean_the_same(ordinal: int) -> None:
    token = encode_offset(ordinal)
    for other in (token[:-1], token + "0", "0" + token, token.upper(), " " + token, token + "\n"):
        if other == token:
            continue
        try:
            assert decode_offset(other) != ordinal
        except InvalidArgument as error:
            field = error.field
            assert field == "offset"


@pytest.mark.parametrize(
    "token",
    ["", "-1", "now", "0", "0000000", "000000000", "a00000000", "a012345678", "a12345678",
     "b123456789", "z1234567890", "٠٠٠٠٠٠٠٠", "0000000१", "+0000001", "1e000000", "0000_000",
     "00000001\n", "0000000000000000_000000000000000", "0000000000000000-0000000000000000",
     "0000000000000000_0000000000000000 ", "a" * 1000],
)  # fmt: skip
def test_8_what_no_server_issued_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_offset(token)
    assert caught.value.field == "offset"
    assert len(str(caught.value)) < 200


@given(st.text(max_size=40))
def test_8_any_text_is_an_ordinal_or_refused(token: str) -> None:
    try:
        ordinal = decode_offset(token)
    except InvalidArgument:
        return
    assert 0 <= ordinal <= ORDINAL_MAX


def test_the_reference_servers_form_is_read() -> None:
    assert decode_offset("0000000000000000_0000000000000000") == 0
    assert decode_offset("9999999999999999_9999999999999999") == ORDINAL_MAX
    assert decode_offset("k9999999999999999999") == ORDINAL_MAX
