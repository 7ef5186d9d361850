"""Fan-out: what readers of a stream get through one call is what each would get alone."""

from __future__ import annotations

import os
import random
import socket
import threading
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from tailrace_server import broadcast, fanout
from tailrace_server.front import FrontLimits
from tests.server.audience_support import Follower, batches, live_server
from tests.server.front_support import eventually
from tests.server.service_support import Tail
from tests.server.streams.stream_support import CLOSE, TEXT, at, post, put

# ---- the call ------------------------------------------------------------------------------


def test_one_call_sends_to_all_and_tells_who_took_less() -> None:
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(4)]
        for sock in (sock for pair in pairs for sock in pair):
            stack.enter_context(sock)
        pairs[1][0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        pairs[2][1].close()
        data = os.urandom(50_000)
        shorts = fanout.send_to_all(array("i", [pair[0].fileno() for pair in pairs]), data)
        assert [short.place for short in shorts] == [1, 2]
        assert 0 <= shorts[0].sent < len(data) and shorts[1].sent == 0
        for place, length in ((0, len(data)), (1, shorts[0].sent), (3, len(data))):
            assert pairs[place][1].recv(2 * len(data), socket.MSG_DONTWAIT) == data[:length]
        full = fanout.send_to_all(array("i", [pairs[1][0].fileno()]), data)
        assert full[0].sent < len(data)
        assert fanout.send_to_all(array("i"), data) == []


# ---- sameness ------------------------------------------------------------------------------


@pytest.mark.usefixtures("fanout_calls")
async def test_members_get_what_a_lone_reader_gets(tmp_path: Path) -> None:
    """Byte for byte: groups of one append each, so that batches are the same too."""
    async with live_server(tmp_path) as server:
        followers = await server.audience("a", 40)
        # What is no socket goes alone.
        alone = await server.client.tail(at("a") + "?offset=now&live=sse")
        await alone.next()
        for number in range(20):
            await server.append(
                "a", *[{"n": number, "text": "é\u2028" * number}] * (number % 3 + 1)
            )
            for tail in (alone, *(follower.tail for follower in followers)):
                await batches(tail, number + 2)
        assert server.members == 40
        await server.append("a", "last", headers=CLOSE)
        for follower in followers:
            await follower.tail.end()
        await alone.end()
        for follower in followers:
            assert follower.whole
            assert without_cursor(follower.tail) == without_cursor(alone)
        assert server.readers == 0
        await server.together(0)
        await eventually(lambda: not server.client.service.context.bridge.subscribers)


def without_cursor(tail: Tail) -> list[str]:
    """The frames; the time at which a batch was sent may show in its cursor alone."""
    found = []
    for frame in tail.frames():
        before, mark, after = frame.partition('"streamCursor":"')
        found.append(before + mark + after.lstrip("0123456789"))
    return found


@pytest.mark.usefixtures("fanout_calls")
async def test_every_form_has_its_own_audience(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        events = "/v1/sessions/s/events"
        await server.client("POST", events, [{"type": "x", "n": 0}])
        targets = [
            (events, "offset=now"),
            (events, "offset=now&type=b"),
            (events + "/stream", "offset=now"),
            (events + "/stream", "type=a,b"),
            ("/ds/sessions/s", "offset=now"),
        ]
        followers = [[await server.follow(*target) for _ in range(5)] for target in targets]
        await server.together(25)
        assert server.client.service.context.hub.broadcast.audiences == 5
        for kind in "abc":
            await server.client("POST", events, [{"type": kind}, {"type": kind}])
        await server.client("POST", events, b"", CLOSE)
        for group in followers:
            for follower in group:
                await follower.tail.end()
        kinds = []
        for group in followers:
            found = {follower.tail.raw.decode().replace("streamCursor", "") for follower in group}
            texts = {"".join(c for c in text if c in "abc") for text in map(seen_types, group)}
            assert len(found) == 1 and len(texts) == 1
            kinds.append(texts.pop())
        assert kinds == ["aabbcc", "bb", "aabbcc", "aabb", "aabbcc"]


def seen_types(follower: Follower) -> str:
    found = []
    for event in follower.tail.events():
        if event.name == "control":
            continue
        records = event.json if isinstance(event.json, list) else [event.json]
        found += [record["type"] for record in records]
    return "".join(found)


# ---- who is slow, who leaves, who comes ----------------------------------------------------


@pytest.mark.usefixtures("fanout_calls")
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_or_repeated_whatever_readers_do(tmp_path: Path, seed: int) -> None:
    """Slow readers, tiny buffers, disconnects at any time, newcomers; then the stream closes."""
    chance = random.Random(seed)
    async with live_server(tmp_path, send_buffer=4096) as server:
        await server.make("a")
        followers: list[tuple[Follower, int]] = []
        appended = 0

        async def come() -> None:
            slow = chance.random() < 0.5
            start = chance.choice([appended, 0, max(0, appended - 3)])
            follower = await server.follow(
                "a",
                f"offset={start:08}",
                pauses=random.Random(chance.random()) if slow else None,
                # With less, a kernel may give no more than a segment at each of its 0.2 s probes.
                receive_buffer=16_384 if slow else None,
            )
            followers.append((follower, start))

        for _ in range(10):
            await come()
        for _ in range(150):
            records = []
            for _ in range(chance.choice([1, 1, 2, 30])):
                records.append({"n": appended, "pad": "x" * chance.choice([1, 50, 3000])})
                appended += 1
            await server.append("a", *records)
            if chance.random() < 0.2:
                await come()
            if chance.random() < 0.15:
                follower, _ = followers.pop(chance.randrange(len(followers)))
                await trio.aclose_forcefully(follower.raw.stream)
            if chance.random() < 0.3:
                await trio.sleep(chance.random() / 100)
        await server.append("a", {"n": appended}, headers=CLOSE)
        for follower, start in followers:
            await follower.tail.end(timeout_s=30)
            assert follower.whole
            assert [r["n"] for r in follower.records()] == list(range(start, appended + 1))
            assert follower.tail.events()[-1].json["streamClosed"]
        assert server.readers == 0


async def test_a_reader_that_takes_nothing_costs_only_itself(tmp_path: Path) -> None:
    """Cut off after the send timeout; it can go on from the last event it has whole."""
    limits = FrontLimits(send_timeout_s=0.5)
    async with live_server(tmp_path, send_buffer=4096, limits=limits) as server:
        await server.make("a")
        stuck = await server.follow("a", receive_buffer=2048, read=False)
        quick = [await server.follow("a") for _ in range(3)]
        await server.together(4)
        for number in range(40):
            await server.append("a", {"n": number, "pad": "x" * 2000})
        await eventually(lambda: all(len(f.records()) == 40 for f in quick))
        await eventually(lambda: server.readers == 3)
        await stuck.read()
        assert not stuck.whole
        last = [event for event in stuck.tail.events() if event.name == "control"][-1]
        seen = stuck.records()
        again = await server.follow("a", headers=f"Last-Event-ID: {last.id}\r\n")
        upto = int(last.json["streamNextOffset"])
        await eventually(lambda: upto + len(again.records()) == 40)
        assert [r["n"] for r in (seen[:upto] + again.records())] == list(range(40))


async def test_a_reused_descriptor_never_gets_what_was_for_another(tmp_path: Path) -> None:
    """Clients come and go all the time, so that numbers are reused; each sees its own stream."""
    chance = random.Random(7)
    async with live_server(tmp_path) as server:
        counts = {f"s{i}": 0 for i in range(4)}
        for path in counts:
            await server.make(path)
        open_now: list[tuple[str, int, Follower]] = []
        checked = 0

        def check(path: str, start: int, follower: Follower) -> None:
            records = follower.records()
            assert records == [[path, n] for n in range(start, start + len(records))]

        for _ in range(300):
            path = chance.choice(list(counts))
            await server.append(path, [path, counts[path]])
            counts[path] += 1
            for _ in range(2):
                path = chance.choice(list(counts))
                start = counts[path]
                open_now.append((path, start, await server.follow(path, f"offset={start:08}")))
            while len(open_now) > 12:
                path, start, follower = open_now.pop(chance.randrange(len(open_now)))
                await trio.aclose_forcefully(follower.raw.stream)
                check(path, start, follower)
                checked += 1
        for path, start, follower in open_now:
            last = f'data: ["{path}", {counts[path] - 1}]'.encode()
            if counts[path] > start:
                await follower.tail.until(partial(holds, last))
            check(path, start, follower)
        assert checked > 500


def holds(mark: bytes, tail: Tail) -> bool:
    return mark in tail.raw


class Held:
    """Holds every call back until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.descriptors: list[int] = []
        self._call: Callable[[array[int], bytes], list[fanout.Short]] = fanout.send_to_all
        monkeypatch.setattr(broadcast, "_CALL_MEMBERS_MAX", 0)
        monkeypatch.setattr(fanout, "send_to_all", self)

    def __call__(self, descriptors: array[int], data: bytes) -> list[fanout.Short]:
        self.descriptors = list(descriptors)
        self.entered.set()
        assert self.go_on.wait(20)
        return self._call(descriptors, data)


async def test_a_socket_is_not_closed_while_a_call_may_write_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: leave during a call, and let a newcomer get the number."""
    held = Held(monkeypatch)
    async with live_server(tmp_path) as server:
        await server.make("a")
        await server.make("b")
        followers = [await server.follow("a") for _ in range(5)]
        await server.together(5)
        await server.append("a", "secret")
        await eventually(held.entered.is_set)
        for follower in followers[:3]:
            await trio.aclose_forcefully(follower.raw.stream)
        newcomers = [await server.follow("b") for _ in range(5)]
        late = await server.follow("a", "offset=00000001")
        await trio.sleep(0.05)
        assert server.readers == 11  # those that left are still there, and keep their numbers
        assert all(os.fstat(descriptor) for descriptor in held.descriptors)
        held.go_on.set()
        await eventually(lambda: server.readers == 8)
        await server.append("a", "more")
        await server.append("b", "mine")
        await eventually(lambda: all(f.records() == ["secret", "more"] for f in followers[3:]))
        await eventually(lambda: late.records() == ["more"])
        await eventually(lambda: all(f.records() == ["mine"] for f in newcomers))
        assert not any(b"secret" in f.tail.raw for f in newcomers)


async def test_what_comes_during_a_call_goes_out_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with live_server(tmp_path) as server:
        followers = await server.audience("a", 3)
        for number in range(10):
            await server.append("a", number)  # the kernel's time is not the writer's
        held.go_on.set()
        await eventually(lambda: all(f.records() == list(range(10)) for f in followers))
        assert all(f.tail.raw.count(b"event: data") <= 3 for f in followers)


@pytest.mark.usefixtures("fanout_calls")
async def test_half_a_character_is_held_back_from_members(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        await put(server.client, "a")
        followers = [await server.follow("a") for _ in range(5)]
        await server.together(5)
        euro = "€".encode()
        await post(server.client, "a", b"one" + euro[:1])
        await trio.sleep(0.05)
        await post(server.client, "a", euro[1:], TEXT)
        for follower in followers:
            await follower.tail.until(lambda t: b"data:one\xe2\x82\xac\n" in t.raw)
        await server.together(5)


async def test_a_cursor_nobody_minted_is_not_spread(tmp_path: Path) -> None:
    """Members share the greatest cursor; a client may claim any (protocol section 10.1)."""
    async with live_server(tmp_path) as server:
        await server.make("a")
        ordinary = [await server.follow("a") for _ in range(3)]
        ahead = await server.follow("a", "offset=now&cursor=99999999999")
        await server.together(4)
        await server.append("a", 1)
        await eventually(lambda: all(f.records() == [1] for f in (*ordinary, ahead)))
        assert int(ahead.tail.events()[-1].json["streamCursor"]) > 99999999999
        for follower in ordinary:
            cursors = [
                int(e.json["streamCursor"]) for e in follower.tail.events() if e.name == "control"
            ]
            assert cursors == sorted(cursors) and cursors[-1] < 99999999999


async def test_http_1_0_has_no_chunks_and_goes_alone(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        await server.make("a")
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(f"GET {at('a')}?offset=now&live=sse HTTP/1.0\r\n\r\n".encode())
            await eventually(lambda: server.readers == 1)
            await server.append("a", 1)
            found = b""
            while b"data: 1\n" not in found:
                found += await stream.receive_some()
            assert server.members == 0
            assert found.partition(b"\r\n\r\n")[2].startswith(b"event: control")
