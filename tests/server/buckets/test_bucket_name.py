"""Ids in ``/ds/{bucket}/{stream}``."""

from __future__ import annotations

import pytest

from tailrace_server.protocol.bucket_name import bucket_id, is_internal, stream_id
from tailrace_server.protocol.errors import RequestError


@pytest.mark.parametrize("text", ["demo", "a-_9", "b" * 64, "__ds"])
def test_bucket_ids(text: str) -> None:
    assert bucket_id(text) == text


@pytest.mark.parametrize("text", ["", "abc", "b" * 65, "Demo", "d.mo", "démo", "demo\n", "a/bc"])
def test_what_is_no_bucket_id_is_400(text: str) -> None:
    with pytest.raises(RequestError) as raised:
        bucket_id(text)
    assert raised.value.status == 400 and raised.value.message.startswith("bucket id: ")


def test_internal_buckets_begin_with_two_underscores() -> None:
    assert is_internal("__ds")
    assert not is_internal("_ds_")


@pytest.mark.parametrize("text", ["a", "é", "a b", "a.b", ".a", "a%2Fb", "Streams", "s" * 118])
def test_stream_ids(text: str) -> None:
    assert stream_id("demo", text) == text


@pytest.mark.parametrize(
    "text", ["", "streams", "a/b", "..", "a..b", ".", "a\0", "a\n", "a\x7f", "s" * 119, "é" * 60]
)
def test_what_is_no_stream_id_is_400(text: str) -> None:
    with pytest.raises(RequestError) as raised:
        stream_id("demo", text)
    assert raised.value.status == 400 and raised.value.message.startswith("stream id: ")


def test_the_bound_is_for_bucket_and_stream_together() -> None:
    assert stream_id("b" * 64, "s" * 58)
    with pytest.raises(RequestError):
        stream_id("b" * 64, "s" * 59)
