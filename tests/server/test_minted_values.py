"""What the server mints and has to know again: cursors, entity tags, page tokens."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol import (
    caching,
    cursor,
    page_token,
)
from tailrace_server.protocol.errors import RequestError

TEXT = st.text(st.characters(codec="utf-8"))


# --- cursors (protocol section 10.1)


@given(st.floats(1.8e9, 4e9), st.integers(0, 10**15 - 1), st.integers(1, 3600))
def test_10_1_a_cursor_is_beyond_the_clients(now_s: float, client: int, jitter_s: int) -> None:
    found = cursor.next_cursor(now_s, client, jitter_s)
    assert found > client
    assert found >= cursor.next_cursor(now_s, None, jitter_s)
    assert found <= max(client + 180, cursor.next_cursor(now_s, None, 1))


@given(
    st.floats(1.8e9, 4e9),
    st.lists(st.integers(0, 10**15 - 1) | st.integers(4_000_000, 4_010_000), min_size=1),
    st.integers(1, 3600),
)
def test_10_1_one_cursor_does_for_all_of_a_company(
    now_s: float, clients: list[int], jitter_s: int
) -> None:
    present = cursor.next_cursor(now_s, None, jitter_s)
    companies: dict[int | None, list[int]] = {cursor.company(None, present): []}
    for client in clients:
        companies.setdefault(cursor.company(client, present), []).append(client)
    for company, members in companies.items():
        foremost = max(members, default=None)
        found = cursor.next_cursor(now_s, foremost, jitter_s)
        assert all(client < found for client in members)
        if company is None:
            assert found == present
        else:  # nobody is carried further than this
            assert found <= min(members) + 1023 + 180


def test_10_1_a_cursor_is_the_number_of_its_interval() -> None:
    assert cursor.next_cursor(cursor.EPOCH_S, None, 1) == 0
    assert cursor.next_cursor(cursor.EPOCH_S + 20 * 1000 + 19.9, 7, 1) == 1000
    assert cursor.next_cursor(cursor.EPOCH_S + 20 * 1000, 1000, 1) == 1001


@pytest.mark.parametrize("text", [None, "", "x", "-1", "1.5", "9" * 16, "١"])
def test_10_1_a_cursor_never_minted_is_ignored(text: str | None) -> None:
    assert cursor.parse_cursor(text) is None


# --- entity tags


def test_10_1_tags_tell_ranges_closure_and_incarnations_apart() -> None:
    tags = {
        caching.etag(1, 0, 5, closed=False),
        caching.etag(1, 0, 5, closed=True),
        caching.etag(1, 0, 6, closed=False),
        caching.etag(1, 1, 5, closed=False),
        caching.etag(2, 0, 5, closed=False),
        caching.etag(1, 0, 5, closed=False, variant=caching.variant("a")),
    }
    assert len(tags) == 6


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (None, False),
        ("", False),
        ("*", True),
        (" * ", True),
        ('"t"', True),
        ('W/"t"', True),
        ('"x", "t"', True),
        ('"x",W/"t"', True),
        ('"x"', False),
        ("t", False),
        ('"T"', False),
    ],
)
def test_if_none_match(header: str | None, matches: bool) -> None:
    assert caching.none_match(header, '"t"') is matches


# --- page tokens

ORDINALS = st.integers(0, 2**63 - 1)


@given(ORDINALS, st.booleans(), ORDINALS, ORDINALS)
def test_event_page_tokens_round_trip(stream: int, down: bool, at: int, end: int) -> None:
    page = page_token.EventsPage(stream, down, at, end)
    assert page_token.decode_events_page(page_token.encode_events_page(page)) == page


@given(st.integers(0, 3), ORDINALS, TEXT)
def test_session_page_tokens_round_trip(order: int, at: int, name: str) -> None:
    page = page_token.StreamsPage(order, at, name)
    assert page_token.decode_streams_page(page_token.encode_streams_page(page)) == page


@given(st.data())
def test_a_changed_page_token_is_400(data: st.DataObject) -> None:
    token = page_token.encode_events_page(page_token.EventsPage(7, False, 5, 0))
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda c: c != token[at]))
    with pytest.raises(RequestError, match="page"):
        page_token.decode_events_page(token[:at] + other + token[at + 1 :])


@given(st.text(max_size=80) | st.text(string.ascii_letters + string.digits + "-_=", max_size=80))
def test_no_page_token_crashes(token: str) -> None:
    for decode in (page_token.decode_events_page, page_token.decode_streams_page):
        with pytest.raises(RequestError, match="page"):
            decode(token)


def test_one_kind_of_page_token_is_not_the_other() -> None:
    events = page_token.encode_events_page(page_token.EventsPage(7, False, 5, 0))
    streams = page_token.encode_streams_page(page_token.StreamsPage(0, 5, "name"))
    with pytest.raises(RequestError):
        page_token.decode_streams_page(events)
    with pytest.raises(RequestError):
        page_token.decode_events_page(streams)
