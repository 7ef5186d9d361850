"""Every front answers for snapshots alike, over real sockets and a real store."""

from __future__ import annotations

import re

import pytest
import trio

from tailrace_server.live import CutOff, LiveResponse
from tailrace_server.protocol.message import Request, Response
from tests.server.corpus import runner
from tests.server.corpus import snapshots_api as corpus
from tests.server.corpus.case import Case
from tests.server.corpus.runner import Comparable, error_type
from tests.server.front_support import (
    FRONTS,
    Answer,
    RawClient,
    Truncated,
    eventually,
    running,
)
from tests.server.snapshots.test_multipart import parts

both = pytest.mark.parametrize("kind", FRONTS)
Answers = dict[str, dict[str, Comparable]]
CASES = [*corpus.CASES, corpus.BOOTSTRAP]
BOUNDARY = re.compile(r"boundary=\w+")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return {
        kind: runner.run(kind, tmp_path_factory.mktemp(kind) / "data", CASES) for kind in FRONTS
    }


def plain(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    return [(name, BOUNDARY.sub("boundary=B", value)) for name, value in headers]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_front_answers_alike(case: Case, answers: Answers) -> None:
    fast, hypercorn = answers["fast"][case.name], answers["hypercorn"][case.name]
    assert fast.status == case.status, fast
    assert hypercorn.status == fast.status
    assert plain(hypercorn.headers) == plain(fast.headers)
    if case is not corpus.BOOTSTRAP:
        assert hypercorn.body == fast.body


@both
def test_every_refusal_is_json(kind: str, answers: Answers) -> None:
    for case in CASES:
        answer = answers[kind][case.name]
        if answer.status >= 400 and case.method != "HEAD":
            assert error_type(answer), (case.name, answer)


@both
def test_lengths_are_told_where_they_are_known(kind: str, answers: Answers) -> None:
    for name, length in (("snap: get", 6), ("snap: head", 6), ("snap: get by 1.0", 6)):
        fields = dict(answers[kind][name].headers)
        assert fields["content-length"] == str(length), name
        assert "transfer-encoding" not in fields
    assert answers[kind]["snap: get a large one"].body == corpus.LARGE
    bootstrap = answers[kind]["snap: bootstrap"]
    fields = dict(bootstrap.headers)
    assert parts(fields["content-type"], bootstrap.body) == [("text/plain", corpus.LARGE)]


# ---- answers that are made while they are sent, and end by themselves


# A path that the service double leaves to `handle`.
GET = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"


class Finite:
    """What a front is given: pieces to send, an end or none, and whether it was let go of."""

    def __init__(self, pieces: list[bytes], length: int | None, *, cut_off: bool = False) -> None:
        self.pieces = pieces
        self.cut_off = cut_off
        self.closed = 0
        self.runs = 0
        self.gate: trio.Event | None = None
        self.length = length

    def response(self) -> LiveResponse:
        return LiveResponse(200, (), self._run, self.length, ends=True, on_close=self._close)

    async def _run(self, send: object) -> None:
        self.runs += 1
        for piece in self.pieces:
            await send(piece)  # type: ignore[operator]
            if self.gate is not None:
                await self.gate.wait()
        if self.cut_off:
            raise CutOff

    def _close(self) -> None:
        self.closed += 1


async def ask(kind: str, finite: Finite, sent: bytes, method: str = "GET") -> Answer | None:
    """The answer, and then a second one; None if the connection ended before the first did."""
    answer = None
    async with running(kind) as front:

        async def handle(request: Request) -> Response | LiveResponse:
            return finite.response()

        front.service.handle = handle  # type: ignore[method-assign]
        async with await front.connect() as client:
            await client.send(sent)
            try:
                answer = await client.answer(method)
            except Truncated:
                pass
            await eventually(lambda: finite.closed == 1)
            if answer is not None:
                await client.send(GET)
                assert (await client.answer()).status == 200
                await eventually(lambda: finite.closed == 2)
    return answer


@both
@pytest.mark.parametrize("length", [7, None])
async def test_it_comes_whole_and_the_connection_goes_on(kind: str, length: int | None) -> None:
    finite = Finite([b"abc", b"", b"defg"], length)
    answer = await ask(kind, finite, GET)
    assert answer is not None
    assert answer.body == b"abcdefg"
    assert finite.runs == 2


@both
async def test_head_tells_the_length_and_runs_nothing(kind: str) -> None:
    finite = Finite([b"abcdefg"], 7)
    answer = await ask(kind, finite, GET.replace(b"GET", b"HEAD"), "HEAD")
    assert answer is not None
    assert answer.header("content-length") == "7"
    assert finite.runs == 1  # for the second request


@both
@pytest.mark.parametrize(("length", "cut_off"), [(7, True), (7, False), (None, True)])
async def test_what_is_not_whole_is_seen_not_to_be(
    kind: str, length: int | None, cut_off: bool
) -> None:
    finite = Finite([b"abc", b"def"], length, cut_off=cut_off)
    assert await ask(kind, finite, GET) is None
    assert finite.closed == 1


@both
async def test_a_client_that_sends_no_more_still_gets_all_of_it(kind: str) -> None:
    finite = Finite([b"abc", b"defg"], 7)
    finite.gate = trio.Event()
    async with running(kind) as front:

        async def handle(request: Request) -> Response | LiveResponse:
            return finite.response()

        front.service.handle = handle  # type: ignore[method-assign]
        stream = await trio.open_tcp_stream("127.0.0.1", front.port)
        async with RawClient(stream) as client:
            await client.send(GET)
            await stream.send_eof()
            answer = await client.head()
            assert answer.status == 200
            await trio.sleep(0.05)  # for the front to hear of it
            finite.gate.set()
            assert await client.exactly(7) == b"abcdefg"


@both
async def test_it_is_let_go_of_when_its_client_leaves(kind: str) -> None:
    finite = Finite([b"x" * 65536] * 400, None)
    async with running(kind, receive_buffer=4096) as front:

        async def handle(request: Request) -> Response | LiveResponse:
            return finite.response()

        front.service.handle = handle  # type: ignore[method-assign]
        async with await front.connect() as client:
            await client.send(GET)
            await client.head()
        await eventually(lambda: finite.closed == 1)


def test_the_corpus_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
