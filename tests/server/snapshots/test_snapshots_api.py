"""``/ds/{bucket}/{stream}/snapshot``: every status of the Durable Streams Extensions, snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tailrace import limits
from tailrace_server.keys import Key, Right
from tailrace_server.live import CutOff, LiveResponse
from tailrace_server.protocol.message import Request
from tests.server.front_support import eventually
from tests.server.service_support import got, request, serving
from tests.server.snapshots.snapshot_support import (
    LARGE,
    TINY,
    Pieces,
    S,
    at,
    digest,
    files,
    numbers,
    put,
    stream,
)
from tests.server.streams.stream_support import CLOSE, JSON, TEXT

# ---- PUT


async def test_204_and_it_is_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        done = await put(client, 3)
        assert done.status == 204
        assert done.headers["stream-snapshot-offset"] == "00000003"
        assert done.headers["stream-snapshot-digest"] == digest(b"folded")
        assert done.headers["stream-next-offset"] == "00000005"
        found = await client("GET", at(3))
        assert (found.status, found.body) == (200, b"folded")
        assert found.headers["content-type"] == "text/plain"
    async with serving(tmp_path) as client:
        assert (await client("GET", at(3))).body == b"folded"


async def test_its_content_type_is_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        assert (await client("PUT", at(1), b"{", JSON)).status == 204  # opaque: not parsed
        assert (await client("GET", at(1))).headers["content-type"] == "application/json"
        bare = Request("PUT", at(2), "", (), b"x")
        assert (await client.send(bare)).status == 204
        found = await client("GET", at(2))
        assert found.headers["content-type"] == "application/octet-stream"
        bad = await put(client, 3, headers={"content-type": "no type"})
        assert bad.status == 400 and "Content-Type" in bad.error[1]


async def test_204_again_for_the_same_and_409_for_another(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        first, again = await put(client, 3), await put(client, 3)
        assert (again.status, again.headers) == (204, first.headers)
        assert files(tmp_path) == 1
        for body, headers in ((b"other", {}), (b"folded", {"content-type": "a/b"})):
            refused = await put(client, 3, body, headers)
            assert refused.status == 409 and refused.error[0] == "snapshot_conflict"
            assert refused.headers["stream-snapshot-digest"] == digest(b"folded")
        assert (await client("GET", at(3))).body == b"folded"


async def test_409_beyond_the_tail(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        for offset in (6, "9999999999999999_9999999999999999"):
            refused = await put(client, offset)
            assert refused.status == 409 and refused.error[0] == "snapshot_beyond_tail"
            assert refused.headers["stream-next-offset"] == "00000005"
        assert (await put(client, 5)).status == 204


@pytest.mark.parametrize("offset", ["-1", "now", "1", "x", "%zz", "0000000%C3%A9", ""])
async def test_400_for_what_is_no_boundary(tmp_path: Path, offset: str) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        for method in ("PUT", "GET", "DELETE"):
            refused = await client(method, at(offset), b"x" if method == "PUT" else b"")
            assert refused.status == 400 and "offset" in refused.error[1]


async def test_410_before_the_retained_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        assert (await client("PUT", f"{S}/retention/00000003")).status == 204
        refused = await put(client, 2)
        assert refused.status == 410 and refused.error[0] == "trimmed"
        assert (await put(client, 3)).status == 204


async def test_409_older_than_the_visible(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        refused = await put(client, 2)
        assert refused.status == 409 and refused.error[0] == "snapshot_stale"
        assert refused.headers["stream-snapshot-offset"] == "00000003"


async def test_409_when_the_visible_is_not_the_one_to_replace(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        match = {"stream-snapshot-match": digest(b"one")}
        refused = await put(client, 1, b"one", match)
        assert refused.status == 409 and refused.error[0] == "snapshot_mismatch"
        await put(client, 1, b"one")
        assert (await put(client, 2, b"two", match)).status == 204
        assert (await put(client, 2, b"two", match)).status == 204  # a retry
        refused = await put(client, 3, b"three", match)
        assert refused.status == 409
        assert refused.headers["stream-snapshot-digest"] == digest(b"two")
        for bad in ("x", "sha256:", "sha256:" + "A" * 64, '"' + digest(b"") + '"', ""):
            refused = await put(client, 3, b"", {"stream-snapshot-match": bad})
            assert refused.status == 400 and "Stream-Snapshot-Match" in refused.error[1]


async def test_413_announced_or_not(tmp_path: Path) -> None:
    async with serving(tmp_path, config=TINY) as client:
        await numbers(client)
        assert (await put(client, 1, bytes(1000))).status == 204
        refused = await put(client, 2, bytes(1001))
        assert refused.status == 413 and "1000" in refused.error[1]
        body = Pieces([bytes(600)] * 5)
        assert (await stream(client, 2, body)).status == 413
        assert body.taken == 2
        body = Pieces([bytes(600)])
        announced = {"content-length": "1001"}
        assert (await stream(client, 2, body, announced)).status == 413
        assert body.taken == 0
        assert (await client("HEAD", S)).headers["stream-snapshot-offset"] == "00000001"
        assert files(tmp_path) == 1


async def test_what_is_certain_is_told_before_the_body_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        for offset, status in ((9, 409), (2, 409)):
            body = Pieces([b"x"])
            assert (await stream(client, offset, body)).status == status
            assert body.taken == 0
        body = Pieces([b"fol", b"ded"])
        assert (await stream(client, 3, body)).status == 204
        assert body.taken == 2


async def test_it_arrives_in_pieces(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        pieces = [LARGE[start : start + 60_000] for start in range(0, len(LARGE), 60_000)]
        done = got(await stream(client, 2, Pieces(pieces)))
        assert done.headers["stream-snapshot-digest"] == digest(LARGE)
        assert (await client("GET", at(2))).body == LARGE


async def test_a_body_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        assert (await stream(client, 2, Pieces([b"x"] * 3, aborted=True))).status == 400
        assert (await client("GET", f"{S}/snapshot")).status == 404
        assert files(tmp_path) == 0


async def test_a_cancelled_request_leaves_nothing(tmp_path: Path) -> None:
    class Endless(Pieces):
        async def receive(self) -> bytes:
            await trio.lowlevel.checkpoint()
            self.taken += 1
            if self.taken > 20:
                scope.cancel()
            return bytes(limits.MIB // 8)

    async with serving(tmp_path) as client:
        await numbers(client)
        with trio.CancelScope() as scope:
            await stream(client, 2, Endless([]))
        assert scope.cancelled_caught
        assert files(tmp_path) == 0


async def test_there_must_be_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        for stream_path in ("/ds/demo/none", "/ds/none/a"):
            for method in ("PUT", "GET", "DELETE"):
                assert (await client(method, at(0, stream_path))).status == 404
            assert (await client("GET", f"{stream_path}/snapshot")).status == 404
        await client("PUT", "/ds/demo/f", b"", JSON | {"stream-forked-from": S})
        await put(client, 1)
        await client("DELETE", S)
        assert (await put(client, 2)).status == 410
        assert (await client("GET", at(1))).status == 410
        await eventually(lambda: files(tmp_path) == 0)  # a thread of the store removes it


async def test_appends_go_on_meanwhile(tmp_path: Path) -> None:
    class Waiting(Pieces):
        async def receive(self) -> bytes:
            if self.taken:
                assert (await client("POST", S, b"5", JSON)).status == 204
                assert (await put(client, 4, b"newer")).status == 204
            return await super().receive()

    async with serving(tmp_path) as client:
        await numbers(client)
        late = await stream(client, 3, Waiting([b"x"]))
        assert late.status == 409  # decided again once it was there
        assert (await client("GET", at(4))).body == b"newer"


# ---- GET, HEAD


async def test_307_to_the_visible_one_and_404_when_there_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        none = await client("GET", f"{S}/snapshot")
        assert none.status == 404 and none.error[0] == "snapshot_not_found"
        await put(client, 3)
        for method in ("GET", "HEAD"):
            found = await client(method, f"{S}/snapshot")
            assert found.status == 307 and found.headers["location"] == at(3)
            assert found.headers["stream-snapshot-digest"] == digest(b"folded")
            assert found.headers["cache-control"] == "no-store"


async def test_reading_goes_on_right_behind_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        found = await client("GET", at(3))
        assert found.headers["stream-next-offset"] == "00000003"
        assert "stream-up-to-date" not in found.headers
        rest = await client("GET", f"{S}?offset={found.headers['stream-next-offset']}")
        assert rest.json == [3, 4]
        await client("POST", S, b"", CLOSE)
        await put(client, 5)
        found = await client("GET", at(5))
        assert found.headers["stream-up-to-date"] == "true"
        assert found.headers["stream-closed"] == "true"


async def test_404_when_superseded(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        await put(client, 4, b"newer")
        for offset in (0, 3, 5):
            assert (await client("GET", at(offset))).status == 404
        assert (await client("GET", at(4))).body == b"newer"


async def test_whoever_began_to_read_it_gets_all_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3, LARGE)
        answer = await client.service.handle(request("GET", at(3)))
        assert isinstance(answer, LiveResponse)
        body = bytearray()

        async def send(piece: bytes) -> None:
            if not body:
                assert (await put(client, 4, b"newer")).status == 204
                assert (await client("DELETE", S)).status == 204
            body.extend(piece)

        await answer.run(send)
        answer.close()
        assert body == LARGE and answer.length == len(LARGE)


async def test_head_tells_what_get_would(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        found, head = await client("GET", at(3)), await client("HEAD", at(3))
        assert (head.status, head.headers, head.body) == (200, found.headers, b"")
        answer = await client.service.handle(request("HEAD", at(3)))
        assert isinstance(answer, LiveResponse) and answer.length == 6
        stream_head = await client("HEAD", S)
        assert stream_head.headers["stream-snapshot-offset"] == "00000003"
        assert stream_head.headers["stream-snapshot-digest"] == digest(b"folded")


async def test_304_for_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        tag = (await client("GET", at(3))).headers["etag"]
        same = await client("GET", at(3), b"", {"if-none-match": tag})
        assert (same.status, same.headers["cache-control"]) == (304, "public, no-cache")
        assert (await client("POST", S, b"5", JSON | {"if-match": tag})).status == 412
        await client("DELETE", S)
        await client("PUT", S, b"[0,1,2,3]", JSON)
        await put(client, 3, b"another")
        other = await client("GET", at(3), b"", {"if-none-match": tag})
        assert (other.status, other.body) == (200, b"another")


async def test_a_damaged_one_is_never_given_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3, LARGE)
        (path,) = (tmp_path / "snapshots").iterdir()
        damaged = bytearray(LARGE)
        damaged[5] ^= 1
        path.write_bytes(damaged)
        answer = await client.service.handle(request("GET", at(3)))
        assert isinstance(answer, LiveResponse)
        sent = bytearray()

        async def send(piece: bytes) -> None:
            sent.extend(piece)

        with pytest.raises(CutOff):
            await answer.run(send)
        answer.close()
        assert len(sent) < len(LARGE)
        path.unlink()
        missing = await client("GET", at(3))
        assert missing.status == 500 and missing.error[0] == "data_corrupted"
        assert (await put(client, 3, LARGE)).status == 204
        assert (await client("GET", at(3))).body == LARGE


# ---- DELETE, retention


async def test_409_for_the_visible_and_404_for_any_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        assert (await client("DELETE", at(3))).status == 404
        await put(client, 3)
        refused = await client("DELETE", at(3))
        assert refused.status == 409 and refused.error[0] == "snapshot_visible"
        assert (await client("DELETE", at(2))).status == 404
        assert (await client("GET", at(3))).status == 200


async def test_retention_is_not_newer_than_the_visible_snapshot(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        refused = await client("PUT", f"{S}/retention/00000004")
        assert refused.status == 409 and refused.error[0] == "trim_beyond_snapshot"
        assert refused.headers["stream-snapshot-offset"] == "00000003"
        assert (await client("PUT", f"{S}/retention/00000003")).status == 204
        assert (await client("GET", at(3))).body == b"folded"


# ---- surfaces, keys, browsers


async def test_a_fork_has_none_until_it_gets_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        await client("PUT", "/ds/demo/f", b"", JSON | {"stream-forked-from": S})
        assert (await client("GET", "/ds/demo/f/snapshot")).status == 404
        assert (await client("PUT", at(2, "/ds/demo/f"), b"x", TEXT)).status == 204
        assert (await client("GET", at(3))).body == b"folded"


async def test_the_flat_surface_has_none(tmp_path: Path) -> None:
    """There the path is the stream's name, whatever it is."""
    async with serving(tmp_path) as client:
        assert (await client("PUT", "/v1/stream/a/snapshot/00000000", b"x", TEXT)).status == 201
        assert (await client("PUT", at(0, "/ds/flat/a"), b"x", TEXT)).status == 404


async def test_a_key_needs_the_right_to_it(tmp_path: Path) -> None:
    keys = [
        Key("all"),
        Key("reader", frozenset({Right.READ})),
        Key("writer", frozenset({Right.APPEND})),
        Key("some", sessions=("s*",)),
    ]
    async with serving(tmp_path, keys=keys) as client:

        def key(name: str) -> dict[str, str]:
            return {"x-api-key": name}

        await client("PUT", "/ds/demo", b"", key("all"))
        await client("PUT", S, b"[1]", JSON | key("all"))
        for name, method, status in (
            ("reader", "PUT", 404),
            ("some", "PUT", 404),
            ("writer", "PUT", 204),
            ("writer", "GET", 404),
            ("reader", "GET", 200),
            ("writer", "DELETE", 404),
            ("all", "DELETE", 409),
        ):
            body = b"x" if method == "PUT" else b""
            assert (await client(method, at(1), body, TEXT | key(name))).status == status, name
        assert (await client("GET", at(1))).status == 401
        found = await client("GET", at(1), b"", key("reader"))
        assert found.headers["cache-control"] == "private, no-cache"


async def test_a_session_has_them_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", "/v1/sessions/s%2F1/events", {"type": "user.message"})
        session = "/ds/sessions/s%2F1"
        assert (await client("PUT", at(1, session), b"folded", TEXT)).status == 204
        assert (await client("GET", f"{session}/snapshot")).headers["location"] == at(1, session)
        assert (await client("GET", at(1, session))).body == b"folded"


async def test_a_browser_may_send_and_read_its_headers(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        preflight = await client("OPTIONS", at(1))
        assert preflight.headers["access-control-allow-methods"] == (
            "DELETE, GET, HEAD, OPTIONS, PUT"
        )
        assert "Stream-Snapshot-Match" in preflight.headers["access-control-allow-headers"]
        done = await put(client, 1)
        exposed = done.headers["access-control-expose-headers"]
        assert "Stream-Snapshot-Offset" in exposed and "Stream-Snapshot-Digest" in exposed
