"""Session events: three body shapes, what the server adds, what it leaves alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from tailrace_server.protocol import events, views
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.timestamps import format_ms

AT_MS = 1_776_263_539_421
EVENT = b'{"type":"user.message","n":1}'


def stored(body: bytes, base: int = 0) -> list[bytes]:
    drafts = events.parse_events(body, events_max=100)
    return events.EventStamp(drafts)(base, AT_MS)


@pytest.mark.parametrize(
    "body",
    [
        EVENT,
        b"[" + EVENT + b"]",
        b'{"events":[' + EVENT + b"]}",
        b' \n{ "events" : [ ' + EVENT + b" ] } \n",
        b'{"other":1,"events":[' + EVENT + b"]}",
        b'{"\\u0065vents":[' + EVENT + b"]}",
    ],
)
def test_all_three_shapes_are_equal(body: bytes) -> None:
    (record,) = stored(body)
    found = json.loads(record)
    ulid = ULID.from_str(found["id"].removeprefix("evt_"))
    assert record == (
        b'{"id":"' + found["id"].encode() + b'","offset":"00000000",'
        b'"created_at":"2026-04-15T14:32:19.421Z","type":"user.message","n":1}'
    )
    assert ulid.milliseconds == AT_MS


def test_an_object_with_type_and_events_is_one_event() -> None:
    (record,) = stored(b'{"type":"x","events":[1,2]}')
    assert json.loads(record)["events"] == [1, 2]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
        (b"[]", "events"),
        (b'{"events":[]}', "events"),
        (b'{"events":5}', "events"),
        (b'{"events":null}', "events"),
        (b'{"events":{"type":"a"}}', "events"),
        (b"{}", "events[0].type"),
        (b"5", "events[0]"),
        (b"null", "events[0]"),
        (b'"x"', "events[0]"),
        (b"[[]]", "events[0]"),
        (b"[" + EVENT + b",7]", "events[1]"),
        (b"[" + EVENT + b',{"type":""}]', "events[1].type"),
        (b"[" + EVENT + b',{"type":5}]', "events[1].type"),
        (b"[" + EVENT + b',{"type":null}]', "events[1].type"),
        (b'{"events":[' + EVENT + b',{"typ":"x"}]}', "events[1].type"),
        (b'{"events":[{"events":[' + EVENT + b"]}]}", "events[0].type"),
    ],
)
def test_a_bad_event_is_named_by_its_index(body: bytes, field: str) -> None:
    with pytest.raises(RequestError) as refused:
        events.parse_events(body, events_max=100)
    assert refused.value.status == 400
    assert refused.value.message.startswith(f"{field}: ")


def test_a_missing_type_is_told_from_a_wrong_one() -> None:
    for body, word in ((b'{"event":[]}', "missing"), (b'{"type":5}', "string")):
        with pytest.raises(RequestError) as refused:
            events.parse_events(body, events_max=100)
        assert word in refused.value.message


def test_a_clients_fields_stay_as_they_were_sent() -> None:
    sent = (
        b'{"type":"x", "big":123456789012345678901234567890 ,"e":1e999,"f":1.10,'
        b'"dup":1,"dup":2,"s":"\\u00e9\\/","o":{ "k" : [ 1 , 2 ] } }'
    )
    (record,) = stored(sent)
    assert record.endswith(b'Z",' + sent[1:])


def test_line_breaks_between_tokens_become_spaces() -> None:
    (record,) = stored(b'{\r\n  "type": "x",\n  "text": "a\\nb"\n}')
    assert b"\n" not in record and b"\r" not in record
    assert record.endswith(b'"type": "x",   "text": "a\\nb" }')


def test_server_fields_are_overwritten_and_an_own_id_is_kept() -> None:
    first, second, third, fourth = map(
        json.loads,
        stored(
            b'[{"id":"mine","type":"a","offset":"zzz","created_at":3},'
            b'{"id":"","type":"b"},{"id":7,"type":"c"},'
            b'{"\\u0069d":"esc","type":"d","k":{"id":"inner","offset":1}}]',
            base=41,
        ),
    )
    assert first == {
        "id": "mine",
        "offset": "00000041",
        "created_at": format_ms(AT_MS),
        "type": "a",
    }
    assert second["id"].startswith("evt_") and third["id"].startswith("evt_")
    assert fourth["id"] == "esc" and fourth["k"] == {"id": "inner", "offset": 1}
    assert [e["offset"] for e in (second, third, fourth)] == [
        "00000042",
        "00000043",
        "00000044",
    ]


def test_server_fields_are_there_once_even_if_repeated() -> None:
    (record,) = stored(b'{"id":"a","id":"b","type":"x","offset":1,"offset":2}')
    pairs = json.loads(record, object_pairs_hook=list)
    assert [key for key, _ in pairs] == ["id", "offset", "created_at", "type"]
    assert dict(pairs)["id"] == "b"


def test_ids_increase_and_are_unique() -> None:
    drafts = events.parse_events(b"[" + b",".join([EVENT] * 50) + b"]", events_max=100)
    records = [
        *events.EventStamp(drafts)(0, AT_MS),
        *events.EventStamp(drafts)(50, AT_MS),
        *events.EventStamp(drafts)(100, AT_MS + 1),
        *events.EventStamp(drafts)(10**9, AT_MS + 1),
    ]
    ids = [json.loads(record)["id"] for record in records]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    value = int(ULID.from_str(ids[-1].removeprefix("evt_")))
    assert value >> 40 & (2**40 - 1) == 10**9 + 49


def test_too_many_events_is_413() -> None:
    with pytest.raises(RequestError) as refused:
        events.parse_events(b"[" + b",".join([EVENT] * 3) + b"]", events_max=2)
    assert refused.value.status == 413


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=8)
        | st.sampled_from(["id", "offset", "created_at", "type", "events"]),
        st.integers() | st.text(st.characters(codec="utf-8")) | st.none(),
    )
)
def test_every_field_but_the_servers_survives(event: dict[str, object]) -> None:
    event["type"] = "t"
    (record,) = stored(json.dumps(event).encode())
    found = json.loads(record)
    for key in events.SERVER_KEYS:
        event.pop(key, None)
        assert found.pop(key)
    assert found == event


def test_processed_at_is_added_for_a_view_only() -> None:
    plain, own = stored(b'[{"type":"x"},{"type":"y","processed_at":"then"}]')
    assert json.loads(views.processed(plain))["processed_at"] == format_ms(AT_MS)
    assert views.processed(own) == own
    assert views.processed(b"17") == b"17"
    assert views.processed(b'{"created_at":"no event"}') != b""


def test_an_id_cannot_pose_as_created_at() -> None:
    (record,) = stored(b'{"type":"x","id":"\\",\\"created_at\\":\\"2000"}')
    found = json.loads(views.processed(record))
    assert found["processed_at"] == found["created_at"] == format_ms(AT_MS)


@pytest.mark.parametrize(
    ("record", "event"),
    [
        (b'{"a":1}', {"a": 1, "score": 1.5}),
        (b'{"a":1 }', {"a": 1, "score": 1.5}),
        (b"{}", {"score": 1.5}),
        (b'{"score":9}', {"score": 1.5}),
        (b'{"score":9,"a":2}', {"a": 2, "score": 1.5}),
        (b"[1]", {"value": [1], "score": 1.5}),
    ],
)
def test_added_members_win(record: bytes, event: dict[str, object]) -> None:
    assert json.loads(views.with_members(record, {"score": 1.5})) == event
