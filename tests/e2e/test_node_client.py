"""``@durable-streams/client`` (npm), unchanged, against the real server on each front."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.node_driver import NodeClient, NodeError, pack, packed_json, unpack
from tests.e2e.server_process import FRONTS, PATIENCE_S, ServerProcess, serving, wait_until
from tests.e2e.wire import Client

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
EVERY_BYTE: Final = bytes(range(256)) * 3
TEXT: Final = "line\nfeed \r\n\r \u2028 — 日本語 🎈\x00\ndata: no field\n\n"
ROOTS: Final = {"flat": "/v1/stream/", "bucket": "/ds/node/"}


@pytest.fixture(scope="module")
def client() -> Iterator[NodeClient]:
    with NodeClient() as made:
        yield made


@pytest.fixture(params=FRONTS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("node") / "data"
    with serving(data_dir, "--long-poll-timeout", "0.5", front=request.param) as running:
        with Client(running) as plain:
            assert plain.request("PUT", "/ds/node").status == 201
        yield running


@pytest.fixture(params=ROOTS)
def url(request: pytest.FixtureRequest, server: ServerProcess) -> str:
    """The URL of a stream of this test's own, on one of the surfaces."""
    name = re.sub(r"\W+", "-", request.node.name)
    return f"{server.base_url}{ROOTS[request.param]}{name}"


# ---- sections 5.1 to 5.6: create, append, close, read, head, delete


def test_json_goes_in_and_comes_out(client: NodeClient, url: str) -> None:
    first: list[object] = [{"a": 1}, "two", 3.5, None, [4, [5]], {"ü": "日本語", "n": 2**53 - 1}]
    second = [{"number": number} for number in range(50)]
    assert client.call("create", handle="s", url=url, contentType=JSON) == JSON
    # Sent without waiting for one another, so the client makes batches of them.
    client.call("append", handle="s", bodies=packed_json(first))
    saved = client.call("read", url=url, form="json")
    assert saved["data"] == first
    assert (saved["upToDate"], saved["streamClosed"]) == (True, False)
    client.call("append", handle="s", bodies=packed_json(second))
    resumed = client.call("read", url=url, form="json", offset=saved["offset"])
    assert resumed["data"] == second
    assert client.call("read", url=url, form="json")["data"] == first + second
    head = client.call("head", url=url)
    assert head["contentType"] == JSON
    assert head["offset"] == resumed["offset"]
    assert head["streamClosed"] is False
    at_the_tail = client.call("read", url=url, form="json", offset="now")
    assert (at_the_tail["data"], at_the_tail["offset"]) == ([], resumed["offset"])


def test_bytes_go_in_and_come_out(client: NodeClient, url: str) -> None:
    client.call("create", handle="s", url=url, contentType=BYTES, body=pack(b"first "))
    client.call("append", handle="s", bodies=[pack(EVERY_BYTE)])
    saved = client.call("read", url=url, form="bytes")
    assert unpack(saved["data"]) == b"first " + EVERY_BYTE
    # One request whose body is a stream: chunked.
    client.call("append_stream", handle="s", bodies=[pack(b"a" * 70_000), pack(b"b" * 70_000)])
    resumed = client.call("read", url=url, form="bytes", offset=saved["offset"])
    assert unpack(resumed["data"]) == b"a" * 70_000 + b"b" * 70_000


def test_closing_is_for_ever(client: NodeClient, url: str) -> None:
    client.call("create", handle="s", url=url, contentType=JSON)
    closed = client.call("close", handle="s", body=pack(b'{"last":true}'))
    read = client.call("read", url=url, form="json")
    assert read["data"] == [{"last": True}]
    assert read["streamClosed"] is True
    assert read["offset"] == closed["finalOffset"]
    assert client.call("close", handle="s") == closed
    for late in (
        {"op": "close", "body": pack(b"1")},
        {"op": "append", "bodies": [pack(b"1")]},
    ):
        with pytest.raises(NodeError) as refused:
            client.call(**late, handle="s")
        assert refused.value.status == 409
        assert refused.value.headers["stream-closed"] == "true"
        assert refused.value.headers["stream-next-offset"] == closed["finalOffset"]
    assert client.call("head", url=url)["streamClosed"] is True


def test_errors_are_the_ones_that_the_client_knows(client: NodeClient, url: str) -> None:
    assert client.call("head", url=url) == {"exists": False}
    with pytest.raises(NodeError) as missing:
        client.call("read", url=url, form="json")
    assert missing.value.status == 404
    assert client.call("create", handle="s", url=url, contentType=JSON, ttlSeconds=3600) == JSON
    # The same again confirms it, another configuration conflicts.
    assert client.call("create", handle="s", url=url, contentType=JSON, ttlSeconds=3600) == JSON
    with pytest.raises(NodeError) as other:
        client.call("create", handle="t", url=url, contentType="text/plain")
    assert other.value.status == 409
    client.call("append", handle="s", bodies=[pack(b"1")], seq="b")
    with pytest.raises(NodeError) as behind:
        client.call("append", handle="s", bodies=[pack(b"2")], seq="a")
    assert behind.value.status == 409
    with pytest.raises(NodeError) as bad:
        client.call("read", url=url, form="json", offset="made up")
    assert bad.value.status == 400
    client.call("delete", url=url)
    with pytest.raises(NodeError) as gone:
        client.call("read", url=url, form="json")
    assert gone.value.status == 404


# ---- section 4.2: forks


def test_a_fork_goes_its_own_way(client: NodeClient, url: str, server: ServerProcess) -> None:
    client.call("create", handle="s", url=url, contentType=JSON)
    client.call("append", handle="s", bodies=packed_json(["a", "b"]))
    half = client.call("read", url=url, form="json")["offset"]
    client.call("append", handle="s", bodies=packed_json(["c"]))
    fork = {
        "Stream-Forked-From": url.removeprefix(server.base_url),
        "Stream-Fork-Offset": half,
    }
    made = client.call("create", handle="f", url=f"{url}-fork", contentType=JSON, headers=fork)
    assert made == JSON
    client.call("append", handle="f", bodies=packed_json(["d"]))
    assert client.call("read", url=f"{url}-fork", form="json")["data"] == ["a", "b", "d"]
    assert client.call("read", url=url, form="json")["data"] == ["a", "b", "c"]
    client.call("delete", url=url)
    assert client.call("read", url=f"{url}-fork", form="json")["data"] == ["a", "b", "d"]


# ---- sections 5.7 and 5.8: live


@pytest.mark.parametrize("live", ["sse", "long-poll", True])
@pytest.mark.parametrize("form", ["json", "text", "bytes"])
def test_a_tail_sees_all_that_follows(
    client: NodeClient, url: str, form: str, live: str | bool
) -> None:
    kind = {"json": JSON, "text": "text/plain", "bytes": BYTES}[form]
    said = [{"text": TEXT}, TEXT * 2, [1, 2]] if form == "json" else [TEXT, TEXT * 20, "last"]
    bodies = packed_json(said) if form == "json" else [pack(str(text).encode()) for text in said]
    if form == "bytes":
        bodies = [pack(EVERY_BYTE), pack(EVERY_BYTE[::-1]), pack(b"last")]
    client.call("create", handle="s", url=url, contentType=kind)
    client.call("append", handle="s", bodies=bodies[:1])
    client.call("tail", handle="t", url=url, form=form, live=live, offset="-1")
    client.call("tailed", handle="t", count=1)
    for body in bodies[1:]:
        client.call("append", handle="s", bodies=[body])
    final = client.call("close", handle="s")["finalOffset"]
    seen = client.call("tail_closed", handle="t")
    assert seen["offset"] == final
    if form == "json":
        assert seen["items"] == said
    elif form == "text":
        caught_up, followed = said[0], "".join(map(str, said[1:]))
        if live == "sse":  # where a line has one kind of end
            followed = re.sub("\r\n|\r", "\n", followed)
        assert "".join(seen["items"]) == f"{caught_up}{followed}"
    else:
        assert b"".join(map(unpack, seen["items"])) == b"".join(map(unpack, bodies))


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_tail_resumes_from_a_saved_offset(client: NodeClient, url: str, live: str) -> None:
    client.call("create", handle="s", url=url, contentType=JSON)
    client.call("append", handle="s", bodies=packed_json(["old"]))
    client.call("tail", handle="t", url=url, form="json", live=live, offset="now")
    client.call("append", handle="s", bodies=packed_json(["new"]))
    seen = client.call("tailed", handle="t", count=1)
    client.call("tail_stop", handle="t")
    assert seen["items"] == ["new"]
    client.call("append", handle="s", bodies=packed_json(["newer", "newest"]))
    client.call("tail", handle="u", url=url, form="json", live=live, offset=seen["offset"])
    assert client.call("tailed", handle="u", count=2)["items"] == ["newer", "newest"]
    client.call("tail_stop", handle="u")


# ---- section 5.2.1: the idempotent producer


def test_a_producer_that_sends_everything_twice(client: NodeClient, url: str) -> None:
    numbers = [{"number": number} for number in range(60)]
    client.call("create", handle="s", url=url, contentType=JSON)
    client.call("producer", handle="p", target="s", producerId="p", lingerMs=1, sender="twice")
    client.call("produce", handle="p", bodies=packed_json(numbers), every=10, pauseMs=5)
    after = client.call("produced", handle="p")
    assert client.call("read", url=url, form="json")["data"] == numbers
    # What a second request carried was known: 204, and no new data.
    assert after["statuses"].count(200) == after["statuses"].count(204) == after["nextSeq"] > 1
    closed = client.call("producer_close", handle="p", body=pack(b'"end"'))
    read = client.call("read", url=url, form="json")
    assert read["data"] == [*numbers, "end"]
    assert (read["streamClosed"], read["offset"]) == (True, closed["finalOffset"])


def test_a_newer_epoch_fences_an_older_one(client: NodeClient, url: str) -> None:
    client.call("create", handle="s", url=url, contentType=JSON)
    client.call("producer", handle="old", target="s", producerId="p")
    client.call("produce", handle="old", bodies=packed_json([1]))
    client.call("producer", handle="new", target="s", producerId="p", epoch=1)
    client.call("produce", handle="new", bodies=packed_json([2]))
    with pytest.raises(NodeError) as fenced:
        client.call("producer_close", handle="old")
    assert (fenced.value.name, fenced.value.told["currentEpoch"]) == ("StaleEpochError", 1)
    # One that may claim takes the next epoch, and says what it had to say in it.
    client.call("producer", handle="claim", target="s", producerId="p", autoClaim=True)
    client.call("produce", handle="claim", bodies=packed_json([3]))
    assert client.call("produced", handle="claim")["epoch"] == 2
    client.call("restart", handle="claim")
    client.call("produce", handle="claim", bodies=packed_json([4]))
    assert client.call("produced", handle="claim")["epoch"] == 3
    assert client.call("read", url=url, form="json")["data"] == [1, 2, 3, 4]


def test_a_writable_stream_ends_with_the_stream_closed(client: NodeClient, url: str) -> None:
    client.call("create", handle="s", url=url, contentType=BYTES)
    client.call("writable", handle="s", bodies=[pack(EVERY_BYTE), pack(b"end")])
    read = client.call("read", url=url, form="bytes")
    assert unpack(read["data"]) == EVERY_BYTE + b"end"
    assert read["streamClosed"] is True


# ---- kills


@pytest.mark.parametrize("front", FRONTS)
def test_exactly_once_across_kills_of_the_server(
    client: NodeClient, tmp_path: Path, front: str
) -> None:
    """The server is killed under a pipelining producer; its client repeats what went unanswered.

    A live reader that only ever reconnects sees the same records, once each and in order.
    """
    numbers = [{"number": number} for number in range(400)]
    with serving(tmp_path / "data", "--long-poll-timeout", "0.5", front=front) as server:
        url = f"{server.base_url}/v1/stream/kills"
        client.call("create", handle="s", url=url, contentType=JSON)
        client.call("tail", handle="t", url=url, form="json", live="long-poll")
        client.call(
            "producer", handle="p", target="s", producerId="p", lingerMs=0, sender="persistent"
        )
        sending = client.start(
            "produce", handle="p", bodies=packed_json(numbers), every=2, pauseMs=4
        )
        for seen in (40, 140, 240):
            client.call("tailed", handle="t", count=seen)
            server.kill()
            server.start_in_place()
        sending.result(PATIENCE_S)

        # However those kills fell, this one is met by a request.
        def lost() -> int:
            statuses: list[int | str] = client.call("produced", handle="p")["statuses"]
            return statuses.count("lost")

        before = lost()
        server.kill()
        numbers.append({"number": len(numbers)})
        sending = client.start("produce", handle="p", bodies=packed_json(numbers[-1:]))
        wait_until(lambda: lost() > before, "a request to be lost")
        server.start_in_place()
        sending.result(PATIENCE_S)
        assert client.call("read", url=url, form="json")["data"] == numbers
        assert client.call("tailed", handle="t", count=len(numbers))["items"] == numbers
        client.call("tail_stop", handle="t")

        # The whole process is lost next: another one, with the next epoch, goes on.
        server.kill()
        server.start_in_place()
        with NodeClient() as other:
            assert other.call("connect", handle="s", url=url) == JSON
            other.call("producer", handle="p", target="s", producerId="p", epoch=1, sender="twice")
            other.call("produce", handle="p", bodies=packed_json(["after"]))
            assert other.call("produced", handle="p")["statuses"] == [200, 204]
        with pytest.raises(NodeError) as fenced:
            client.call("producer_close", handle="p", body=pack(b'"stale"'))
        assert fenced.value.name == "StaleEpochError"
        assert client.call("read", url=url, form="json")["data"] == [*numbers, "after"]
