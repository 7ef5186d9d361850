"""``PUT /ds/{bucket}/{stream}/retention/{offset}``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.buckets.test_buckets import make
from tests.server.service_support import Client, Got, serving
from tests.server.streams.stream_support import CLOSE, JSON, TEXT

S = "/ds/demo/a"


async def retain(client: Client, offset: str, stream: str = S) -> Got:
    return await client("PUT", f"{stream}/retention/{offset}")


async def numbers(client: Client, count: int = 5) -> None:
    """A JSON stream of 0, 1, 2, ..."""
    await make(client)
    body = b"[" + b",".join(b"%d" % number for number in range(count)) + b"]"
    assert (await client("PUT", S, body, JSON)).status == 201


async def test_what_is_left_keeps_its_offsets(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        done = await retain(client, "00000002")
        assert done.status == 204 and done.headers["stream-next-offset"] == "00000005"
        assert (await client("GET", f"{S}?offset=00000002")).json == [2, 3, 4]
        assert (await client("GET", f"{S}?offset=00000004")).json == [4]
        assert (await client("POST", S, b"5", JSON)).headers["stream-next-offset"] == "00000006"
        assert (await client("HEAD", S)).headers["stream-next-offset"] == "00000006"


async def test_reads_before_it_are_410(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await retain(client, "00000002")
        for query in ("", "?offset=-1", "?offset=00000000", "?offset=00000001"):
            gone = await client("GET", S + query)
            assert gone.status == 410 and gone.error[0] == "trimmed"
            assert "00000002" in gone.error[1]
        for live in ("sse", "long-poll"):
            assert (await client("GET", f"{S}?offset=00000001&live={live}")).status == 410
        fork = {"stream-forked-from": S, "stream-fork-offset": "00000001"}
        assert (await client("PUT", "/ds/demo/f", b"", JSON | fork)).status == 410


async def test_it_never_goes_backwards(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        for offset, status in (("00000003", 204), ("00000003", 204), ("00000002", 409)):
            assert (await retain(client, offset)).status == status
        refused = await retain(client, "00000000")
        assert refused.status == 409 and "00000003" in refused.error[1]


async def test_it_may_drop_all_but_not_what_is_not_there_yet(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        beyond = await retain(client, "00000006")
        assert beyond.status == 409 and beyond.error[0] == "trim_beyond_tail"
        assert beyond.headers["stream-next-offset"] == "00000005"
        assert (await retain(client, "00000005")).status == 204
        assert (await client("GET", f"{S}?offset=00000005")).json == []
        assert (await client("GET", f"{S}?offset=now")).status == 200


@pytest.mark.parametrize("offset", ["-1", "now", "1", "x", "%zz", "0000000%C3%A9", ""])
async def test_what_is_no_offset_is_400(tmp_path: Path, offset: str) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        assert (await retain(client, offset)).status == 400
        assert (await client("GET", S)).json == [0, 1, 2, 3, 4]


async def test_there_must_be_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await retain(client, "00000000")).status == 404
        await numbers(client)
        assert (await retain(client, "00000000", "/ds/demo/none")).status == 404
        await client("PUT", "/ds/demo/f", b"", JSON | {"stream-forked-from": S})
        assert (await client("DELETE", S)).status == 204
        assert (await retain(client, "00000000")).status == 410


async def test_a_closed_stream_may_be_trimmed(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await make(client)
        await client("PUT", S, b"x", TEXT | CLOSE)
        assert (await retain(client, "00000001")).status == 204
        found = await client("GET", f"{S}?offset=00000001")
        assert found.status == 200 and found.headers["stream-closed"] == "true"


async def test_a_fork_keeps_what_its_source_drops(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await client("PUT", "/ds/demo/f", b"", JSON | {"stream-forked-from": S})
        assert (await retain(client, "00000004")).status == 204
        assert (await client("GET", "/ds/demo/f")).json == [0, 1, 2, 3, 4]
        assert (await retain(client, "00000001", "/ds/demo/f")).status == 204
        assert (await client("GET", "/ds/demo/f?offset=00000001")).json == [1, 2, 3, 4]
        assert (await client("GET", "/ds/demo/f?offset=-1")).status == 410


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await retain(client, "00000002")
    async with serving(tmp_path) as client:
        assert (await client("GET", f"{S}?offset=00000001")).status == 410
        assert (await client("GET", f"{S}?offset=00000002")).json == [2, 3, 4]
        assert (await retain(client, "00000001")).status == 409
