"""The quickstart, step by step, with the real server and the real curl.

Commands and answers are those of the document, host and key aside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.curl import Answer, Background, curl, run
from tests.e2e.server_process import FRONTS, ServerProcess, serving, wait_until

KEY: Final = "a key of the quickstart"
SESSION: Final = "my-first-session"

FIRST_EVENT: Final = """curl $BASE/v1/sessions/my-first-session/events \\
  -H "Authorization: Bearer $API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "events": [
      {
        "type": "user.message",
        "content": [
          {"type": "text", "text": "Generate 20 fibonacci numbers and save to fib.txt"}
        ]
      }
    ]
  }'"""

READ_BACK: Final = """curl $BASE/v1/sessions/my-first-session/events \\
  -H "Authorization: Bearer $API_KEY\""""

CATCH_UP: Final = """curl "$BASE/v1/sessions/my-first-session/events?offset=00000001" \\
  -H "Authorization: Bearer $API_KEY\""""

TAIL: Final = """curl -N "$BASE/v1/sessions/my-first-session/events?offset=now&live=sse" \\
  -H "Authorization: Bearer $API_KEY\""""

SECOND_EVENT: Final = """curl $BASE/v1/sessions/my-first-session/events \\
  -H "Authorization: Bearer $API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '[
    {
      "type": "agent.tool_use",
      "name": "write_file",
      "input": {"path": "fib.txt", "content": "0,1,1,2,3,5,8,13,21,34"}
    }
  ]'"""

SEARCH: Final = """curl "$BASE/v1/sessions/my-first-session/events?q=fibonacci" \\
  -H "Authorization: Bearer $API_KEY\""""

SEARCH_TYPE: Final = """curl \\
  "$BASE/v1/sessions/my-first-session/events?q=fibonacci&type=agent.tool_use" \\
  -H "Authorization: Bearer $API_KEY\""""

REPLAY: Final = """curl "$BASE/v1/sessions/my-first-session/events?offset=00000000" \\
  -H "Authorization: Bearer $API_KEY\""""

FIRST: Final = {
    "type": "user.message",
    "content": [
        {"type": "text", "text": "Generate 20 fibonacci numbers and save to fib.txt"},
    ],
}
SECOND: Final = {
    "type": "agent.tool_use",
    "name": "write_file",
    "input": {"path": "fib.txt", "content": "0,1,1,2,3,5,8,13,21,34"},
}

EVENT_ID: Final = re.compile(r"evt_[0-9A-HJKMNP-TV-Z]{26}")
CREATED_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(params=FRONTS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    options = ("--api-key", KEY)
    with serving(tmp_path / "data", *options, front=request.param) as running:
        yield running


def check_stored(event: dict[str, Any], offset: str, sent: dict[str, Any]) -> None:
    """A stored event is the sent one behind its id, offset and time."""
    assert list(event) == ["id", "offset", "created_at", *sent]
    assert EVENT_ID.fullmatch(event["id"])
    assert event["offset"] == offset
    assert CREATED_AT.fullmatch(event["created_at"])
    assert {name: event[name] for name in sent} == sent


def check_empty_204(answer: Answer, next_offset: str) -> None:
    # The phrase is the document's on the fast front; RFC 9112 section 4 lets others leave it out.
    assert answer.status_line.rstrip() in ("HTTP/1.1 204 No Content", "HTTP/1.1 204")
    assert answer.headers["stream-next-offset"] == next_offset
    assert answer.body == ""


def hits(answer: Answer) -> list[dict[str, Any]]:
    """The events found, without their scores, which must fall."""
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.json()["data"]
    scores = [event.pop("score") for event in found]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)
    return found


def test_every_step(server: ServerProcess, tmp_path: Path) -> None:
    check_empty_204(curl(FIRST_EVENT, server, KEY), "00000001")

    read = curl(READ_BACK, server, KEY)
    assert read.status == 200
    assert read.headers["content-type"] == "application/json"
    assert read.headers["stream-next-offset"] == "00000001"
    assert read.headers["stream-up-to-date"] == "true"
    (first,) = read.json()["data"]
    check_stored(first, "00000000", FIRST)

    caught_up = curl(CATCH_UP, server, KEY)
    assert caught_up.status == 200
    assert caught_up.json()["data"] == []
    assert caught_up.headers["stream-next-offset"] == "00000001"
    assert caught_up.headers["stream-up-to-date"] == "true"

    tail = Background(TAIL, server, tmp_path / "tail", KEY)
    try:
        before = tail.until("\n\n")
        check_control(before, "00000001")
        check_empty_204(curl(SECOND_EVENT, server, KEY), "00000002")
        tail.until('"streamNextOffset":"00000002"')
        wait_until(lambda: tail.text().endswith("\n\n"), "the end of the message")
    finally:
        tail.end()
    second = check_tailed(tail.text().removeprefix(before))

    (found,) = hits(curl(SEARCH, server, KEY))
    assert found == first
    # The second event holds the numbers, but not the word.
    assert hits(curl(SEARCH_TYPE, server, KEY)) == []
    by_type = SEARCH_TYPE.replace("q=fibonacci", "q=fib.txt")
    assert hits(curl(by_type, server, KEY)) == [second]
    both = SEARCH.replace("q=fibonacci", "q=fib.txt")
    assert sorted(event["offset"] for event in hits(curl(both, server, KEY))) == [
        "00000000",
        "00000001",
    ]

    assert curl(REPLAY, server, KEY).json()["data"] == [first, second]


def check_control(frame: str, next_offset: str) -> None:
    lines = frame.removesuffix("\n\n").split("\n")
    assert lines[0] == "event: control"
    assert lines[1].startswith("data: ")
    fields = json.loads(lines[1].removeprefix("data: "))
    assert fields["streamNextOffset"] == next_offset
    assert fields["upToDate"] is True
    assert all(line.startswith("id: ") for line in lines[2:])


def check_tailed(text: str) -> dict[str, Any]:
    """What the first terminal received of the second event; returns the event."""
    assert text.endswith("\n\n")
    data, control = text.removesuffix("\n\n").split("\n\n")
    lines = data.split("\n")
    assert [lines[0], lines[1], lines[3:]] == ["event: data", "data: [", ["data: ]"]]
    assert lines[2].startswith("data: {")
    event: dict[str, Any] = json.loads(lines[2].removeprefix("data: "))
    check_stored(event, "00000001", SECOND)
    check_control(control, "00000002")
    return event


SHAPES: Final = {
    "wrapper": '{"events": [{"type": "a", "n": 1}, {"type": "b", "n": 2}]}',
    "array": '[{"type": "a", "n": 1}, {"type": "b", "n": 2}]',
    "single": '{"type": "a", "n": 1}',
}


def test_all_three_shapes_of_a_body(server: ServerProcess) -> None:
    sent = [{"type": "a", "n": 1}, {"type": "b", "n": 2}]
    for shape, body in SHAPES.items():
        count = 1 if shape == "single" else 2
        post = FIRST_EVENT.partition("  -d ")[0] + f"  -d '{body}'"
        check_empty_204(curl(post.replace(SESSION, shape), server, KEY), f"{count:08d}")
        events = curl(READ_BACK.replace(SESSION, shape), server, KEY).json()["data"]
        for index, (event, one) in enumerate(zip(events, sent[:count], strict=True)):
            check_stored(event, f"{index:08d}", one)


WRONG_KEYS: Final = {
    "another key": READ_BACK.replace("$API_KEY", "another key"),
    "another scheme": READ_BACK.replace("Bearer $API_KEY", "Basic $API_KEY"),
    "none": READ_BACK.replace('-H "Authorization: Bearer $API_KEY"', ""),
    "an empty one": SEARCH.replace("$API_KEY", ""),
    "another, appending": FIRST_EVENT.replace("$API_KEY", "another key"),
    "another, tailing": TAIL.replace("$API_KEY", "another key"),
}


def test_a_wrong_key_is_refused(server: ServerProcess) -> None:
    for what, command in WRONG_KEYS.items():
        assert command not in (READ_BACK, SEARCH, FIRST_EVENT, TAIL), what
        answer = curl(command, server, KEY)
        assert answer.status == 401, what
        assert answer.headers["content-type"] == "application/json"
        assert "www-authenticate" in answer.headers
        error = answer.json()["error"]
        assert error["type"] == "authentication_error"
        assert "Authorization: Bearer" in error["message"]
    # Nothing was stored: to the right key the session is not there.
    assert curl(READ_BACK, server, KEY).status == 404
    # And the right key is as good in the other header.
    bearer = '-H "Authorization: Bearer $API_KEY"'
    in_x_api_key = FIRST_EVENT.replace(bearer, '-H "x-api-key: $API_KEY"')
    check_empty_204(curl(in_x_api_key, server, KEY), "00000001")


def restart_gracefully(server: ServerProcess) -> None:
    assert server.terminate() == 0
    assert "stopped" in server.logs()
    server.start()


def restart_after_a_kill(server: ServerProcess) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("restart", [restart_gracefully, restart_after_a_kill])
def test_all_of_it_is_there_after_a_restart(
    server: ServerProcess, restart: Callable[[ServerProcess], None]
) -> None:
    commands = (
        READ_BACK,
        CATCH_UP,
        SEARCH,
        SEARCH.replace("q=fibonacci", "q=fib.txt"),
        SEARCH_TYPE.replace("q=fibonacci", "q=fib.txt"),
        SEARCH_TYPE,
        'curl $BASE/v1/sessions/my-first-session -H "Authorization: Bearer $API_KEY"',
        'curl $BASE/v1/sessions -H "Authorization: Bearer $API_KEY"',
        'curl "$BASE/v1/search?q=fib.txt" -H "Authorization: Bearer $API_KEY"',
    )
    curl(FIRST_EVENT, server, KEY)
    curl(SECOND_EVENT, server, KEY)
    before = [curl(command, server, KEY) for command in commands]
    restart(server)
    after = [curl(command, server, KEY) for command in commands]
    for command, old, new in zip(commands, before, after, strict=True):
        assert (new.status, new.body) == (old.status, old.body), command
        for name in ("stream-next-offset", "stream-up-to-date", "etag"):
            assert new.headers.get(name) == old.headers.get(name), command
    # It goes on where it was, and what is new is found beside what is old.
    check_empty_204(curl(FIRST_EVENT, server, KEY), "00000003")
    assert len(hits(curl(SEARCH, server, KEY))) == 2


def test_without_a_key_none_is_needed(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert "no API key" in server.logs()
        plain = '-H "Authorization: Bearer $API_KEY"'
        check_empty_204(curl(FIRST_EVENT.replace(plain, "-H 'X-A: b'"), server), "00000001")
        assert run("curl -sS $BASE/healthz", server) == '{"status":"ok"}'
