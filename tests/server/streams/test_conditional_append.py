"""Optimistic concurrency: ``If-Match`` and ``Stream-Expected-Offset``, on both surfaces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.server.service_support import Client, Got, serving
from tests.server.streams.stream_support import CLOSE, JSON, TEXT, producer

pytestmark = pytest.mark.parametrize("url", ["/v1/stream/a", "/ds/demo/a"])

Post = Callable[..., Awaitable[Got]]


async def opened(client: Client, url: str) -> Post:
    """Make the stream; what appends to it."""
    await client("PUT", "/ds/demo")
    assert (await client("PUT", url, b"", TEXT)).status == 201

    async def post(body: bytes, headers: dict[str, str], tag: str | None = None) -> Got:
        sent = TEXT | headers
        return await client("POST", url, body, sent if tag is None else sent | {"if-match": tag})

    return post


async def tag_of(client: Client, url: str) -> str:
    return (await client("HEAD", url)).headers["etag"]


async def test_if_match_appends_to_the_tail_it_names_only(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        tag = await tag_of(client, url)
        first = await post(b"one", {}, tag)
        assert first.status == 204
        late = await post(b"two", {}, tag)
        assert late.status == 412 and late.error[0] == "precondition_failed"
        assert late.headers["stream-next-offset"] == "00000001"
        # Each append tells the tag that the next one needs.
        assert first.headers["etag"] == await tag_of(client, url) != tag
        assert (await post(b"two", {}, first.headers["etag"])).status == 204
        assert (await client("GET", url)).body == b"onetwo"


async def test_if_match_takes_the_tag_of_a_read_that_ended_at_the_tail(
    tmp_path: Path, url: str
) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        await post(b"one", {})
        await post(b"two", {})
        for query in ("", "?offset=00000001", "?offset=-1&live=long-poll"):
            tag = (await client("GET", url + query)).headers["etag"]
            assert (await post(b"x", {}, tag)).status == 204
            assert (await post(b"x", {}, tag)).status == 412


async def test_if_match_takes_a_list_and_an_asterisk(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        old = await tag_of(client, url)
        assert (await post(b"x", {}, "*")).status == 204
        new = await tag_of(client, url)
        assert (await post(b"x", {}, f'"other", {old}, {new}')).status == 204
        assert (await post(b"x", {}, f"{old}, {new}")).status == 412


@pytest.mark.parametrize("tag", ["", "x", '""', '"x"', '"1:0:0:v"', '"zz:0:0"', "W/{tag}", "{tag"])
async def test_if_match_refuses_every_other_tag(tmp_path: Path, url: str, tag: str) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        own = await tag_of(client, url)
        sent = tag.replace("{tag}", own).replace("{tag", own.rstrip('"'))
        assert (await post(b"x", {}, sent)).status == 412
        assert (await client("GET", url)).body == b""


async def test_if_match_is_of_one_incarnation(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        old = await tag_of(client, url)
        assert (await client("DELETE", url)).status == 204
        assert (await post(b"x", {}, old)).status == 404
        await client("PUT", url, b"", TEXT)
        assert (await post(b"x", {}, old)).status == 412


async def test_if_match_lets_a_repetition_and_a_closed_stream_speak_first(
    tmp_path: Path, url: str
) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        tag = await tag_of(client, url)
        first = producer("p", 0, 0)
        assert (await post(b"one", first, tag)).status == 200
        assert (await post(b"one", first, tag)).status == 204
        assert (await post(b"", CLOSE, tag)).status == 412
        assert (await post(b"", CLOSE, await tag_of(client, url))).status == 204
        closed = await post(b"x", {}, tag)
        assert closed.status == 409 and closed.headers["stream-closed"] == "true"


async def test_expected_offset_is_409_with_the_tail_and_dedup_comes_first(
    tmp_path: Path, url: str
) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        first = producer("p", 0, 0) | {"stream-expected-offset": "00000000"}
        assert (await post(b"one", first)).status == 200
        assert (await post(b"one", first)).status == 204
        late = await post(b"two", {"stream-expected-offset": "00000000"})
        assert late.status == 409 and late.headers["stream-next-offset"] == "00000001"
        assert (await post(b"two", {"stream-expected-offset": "00000001"})).status == 204
        assert (await client("GET", url)).body == b"onetwo"


async def test_expected_offset_and_if_match_exclude_each_other(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        both = {"stream-expected-offset": "-1"}
        refused = await post(b"x", both, await tag_of(client, url))
        assert refused.status == 400 and refused.error[1].startswith("If-Match: ")


async def test_a_bad_body_is_told_before_the_condition(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", "/ds/demo")
        await client("PUT", url, b"", JSON)
        for body in (b"{", b"[]"):
            assert (await client("POST", url, body, JSON | {"if-match": '"x"'})).status == 400


async def test_4_1_stream_closed_sent_twice_closes(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        await opened(client, url)
        for second, closed in (("false", None), ("TRUE", "true")):
            sent = [*TEXT.items(), ("stream-closed", "true"), ("stream-closed", second)]
            found = await client("POST", url, b"x", sent)
            assert found.status == 204 and found.headers.get("stream-closed") == closed


async def test_of_writers_with_one_tag_one_wins(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path) as client:
        post = await opened(client, url)
        tag = await tag_of(client, url)
        found: list[int] = []

        async def write(number: int) -> None:
            found.append((await post(b"%d" % number, {}, tag)).status)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(write, number)
        assert sorted(found) == [204] + [412] * 7
        assert len((await client("GET", url)).body) == 1
