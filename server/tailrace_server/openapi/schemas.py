"""The schemas that the document names: bodies of requests and answers."""

from __future__ import annotations

from typing import Final

from tailrace import limits
from tailrace.offset import TOKEN_PATTERN
from tailrace_server.openapi.shape import (
    ANYTHING,
    STRING,
    Json,
    array,
    integer,
    named,
    nullable,
    record,
)
from tailrace_server.protocol import parse, session_query, subscription_error
from tailrace_server.protocol import subscription_request as asked

_EVENT: Final = named("Event")
_OFFSET: Final = named("Offset")
_TIME: Final = named("Time")
_COUNT: Final = integer(0)
_BOOLEAN: Final[Json] = {"type": "boolean"}


def _event(description: str, **more: Json) -> Json:
    """A stored event with what is added to it; its other members are the client's."""
    properties = {
        "id": STRING,
        "offset": _OFFSET,
        "created_at": _TIME,
        "type": {"type": "string", "minLength": 1},
        **more,
    }
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties,
        "additionalProperties": True,
    }


_BASICS: Final[dict[str, Json]] = {
    "Offset": {
        "type": "string",
        "description": "Opaque, but sortable: later offsets are greater as strings.",
        "pattern": TOKEN_PATTERN,
    },
    "Position": {"anyOf": [_OFFSET, {"enum": [parse.START, parse.NOW]}]},
    "Time": {"type": "string", "format": "date-time"},
    "ServerSentEvent": {
        "type": "object",
        "description": "One event of an event stream: its fields.",
        "properties": {"event": STRING, "data": STRING, "id": STRING},
    },
    "Error": record({"error": record({"type": STRING, "message": STRING})}),
}

_DAMAGED: Final[Json] = array(
    record({"session_id": STRING, "offset": _OFFSET, "next_offset": _OFFSET}),
    minItems=1,
    description="Only if damage keeps events of the scope from being searched: they are in these "
    "ranges, `next_offset` excluded. Without it the answer is complete.",
)

_DESCRIPTION: Final[Json] = {
    "title": nullable({"type": "string", "maxLength": session_query.TITLE_CHARS_MAX}),
    "metadata": nullable({"type": "object", "additionalProperties": ANYTHING}),
}

_SESSIONS: Final[dict[str, Json]] = {
    "Event": _event("A stored event: what the server adds, then the client's members as sent."),
    "NewEvent": {
        "type": "object",
        "description": "`offset` and `created_at` are replaced; a string `id` is kept.",
        "required": ["type"],
        "properties": {"type": {"type": "string", "minLength": 1}},
        "additionalProperties": True,
    },
    "NewEvents": {
        "anyOf": [
            {
                "type": "object",
                "required": ["events"],
                "properties": {"events": array(named("NewEvent"), minItems=1)},
            },
            array(named("NewEvent"), minItems=1),
            named("NewEvent"),
        ]
    },
    "StoredEvents": record({"data": array(_EVENT)}),
    "EventPage": record({"data": array(_EVENT), "next_page": nullable(STRING)}),
    "SessionHits": record(
        {
            "data": array(_event("An event with its score.", score={"type": "number"})),
            "next_page": {"type": "null"},
            "total": _COUNT,
        },
        {"damaged": _DAMAGED},
    ),
    "Hits": record(
        {
            "data": array(
                _event(
                    "An event, its session, its score, and where it matches (HTML).",
                    session_id=STRING,
                    score={"type": "number"},
                    snippet=STRING,
                )
            ),
            "sessions": array(record({"session_id": STRING, "hits": _COUNT})),
            "total": _COUNT,
        },
        {"damaged": _DAMAGED},
    ),
    "Session": record(
        {
            "id": STRING,
            "type": {"const": "session"},
            "created_at": _TIME,
            "last_event_at": nullable(_TIME),
            "event_count": _COUNT,
            "next_offset": _OFFSET,
            "closed": _BOOLEAN,
            "title": nullable(STRING),
            "metadata": {"type": "object", "additionalProperties": ANYTHING},
            "forked_from": nullable(record({"id": STRING, "offset": _OFFSET})),
        }
    ),
    "SessionPage": record({"data": array(named("Session")), "next_page": nullable(STRING)}),
    "SessionUpdate": {
        "type": "object",
        "minProperties": 1,
        "properties": _DESCRIPTION,
    },
    "SessionFork": {
        "type": "object",
        "properties": {
            "id": nullable(
                {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": session_query.SESSION_ID_BYTES_MAX,
                }
            ),
            "offset": nullable(named("Position")),
            **_DESCRIPTION,
        },
        "additionalProperties": False,
    },
    "SessionDeleted": record({"id": STRING, "type": {"const": "session_deleted"}}),
}

_BUCKETS: Final[dict[str, Json]] = {
    "Bucket": record({"bucket_id": STRING, "streams": _COUNT, "created_at_ms": _COUNT}),
    "StreamList": record(
        {
            "bucket_id": STRING,
            "prefix": STRING,
            "stream_count": integer(0, limits.LIST_LIMIT_MAX),
            "streams": array(
                record(
                    {
                        "stream_id": STRING,
                        "status": {"enum": ["Open", "Closed"]},
                        "content_type": STRING,
                        "tail_offset": _OFFSET,
                        "created_at_ms": _COUNT,
                        "last_write_at_ms": _COUNT,
                    }
                )
            ),
            "next_cursor": nullable(STRING),
            "has_more": _BOOLEAN,
        }
    ),
}

_PATH: Final[Json] = {
    "type": "string",
    "minLength": 1,
    "maxLength": limits.STREAM_NAME_BYTES_MAX,
}
_PATHS: Final = array(_PATH, maxItems=asked.PATHS_MAX)
_LINK: Final = {
    "path": STRING,
    "link_type": {"enum": ["explicit", "glob"]},
    "acked_offset": _OFFSET,
}
_LEASE_MS: Final = integer(asked.LEASE_MS_MIN, asked.LEASE_MS_MAX)

_SUBSCRIPTIONS: Final[dict[str, Json]] = {
    "SubscriptionError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"enum": list(subscription_error.STATUS)},
                    "message": STRING,
                },
            }
        },
    },
    "NewSubscription": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"enum": ["webhook", "pull-wake"]},
            "pattern": nullable({"type": "string", "maxLength": limits.STREAM_NAME_BYTES_MAX}),
            "streams": nullable(_PATHS),
            "webhook": nullable(
                {"type": "object", "required": ["url"], "properties": {"url": STRING}}
            ),
            "wake_stream": nullable(STRING),
            "lease_ttl_ms": _LEASE_MS | {"default": asked.LEASE_MS_DEFAULT},
            "description": nullable({"type": "string", "maxLength": asked.DESCRIPTION_CHARS_MAX}),
        },
    },
    "Subscription": record(
        {
            "id": STRING,
            "subscription_id": STRING,
            "type": {"enum": ["webhook", "pull-wake"]},
            "pattern": nullable(STRING),
            "streams": array(record(_LINK)),
            "webhook": nullable(
                record(
                    {
                        "url": STRING,
                        "signing": record({"alg": STRING, "kid": STRING, "jwks_url": STRING}),
                    }
                )
            ),
            "wake_stream": nullable(STRING),
            "lease_ttl_ms": _LEASE_MS,
            "created_at": _TIME,
            "status": {"enum": ["active", "failed"]},
            "description": nullable(STRING),
        }
    ),
    "Links": {
        "type": "object",
        "required": ["streams"],
        "properties": {"streams": _PATHS | {"minItems": 1}},
    },
    "Claim": {
        "type": "object",
        "required": ["worker"],
        "properties": {
            "worker": {"type": "string", "minLength": 1, "maxLength": asked.WORKER_CHARS_MAX}
        },
    },
    "Claimed": record(
        {
            "wake_id": STRING,
            "generation": _COUNT,
            "token": STRING,
            "streams": array(record(_LINK | {"tail_offset": _OFFSET, "has_pending": _BOOLEAN})),
            "lease_ttl_ms": _LEASE_MS,
        }
    ),
    "Settlement": {
        "type": "object",
        "description": "Which wake, how far its streams were worked through, and whether it ends.",
        "properties": {
            "wake_id": nullable(STRING),
            "generation": nullable(_COUNT),
            "acks": nullable(
                array(
                    {
                        "type": "object",
                        "required": ["offset"],
                        "anyOf": [{"required": ["stream"]}, {"required": ["path"]}],
                        "properties": {"stream": _PATH, "path": _PATH, "offset": _OFFSET},
                    },
                    maxItems=asked.PATHS_MAX,
                )
            ),
            "done": nullable(_BOOLEAN),
        },
    },
    "Settled": record({"ok": {"const": True}, "next_wake": _BOOLEAN}),
    "KeySet": record(
        {
            "keys": array(
                record(
                    {
                        "kty": {"const": "OKP"},
                        "crv": {"const": "Ed25519"},
                        "x": STRING,
                        "kid": STRING,
                        "use": {"const": "sig"},
                        "alg": {"const": "EdDSA"},
                    }
                )
            )
        }
    ),
}

_OPERATION: Final[dict[str, Json]] = {
    "Health": record({"status": {"const": "ok"}}),
    "Readiness": record({"status": {"const": "ready"}}),
}

SCHEMAS: Final = _BASICS | _SESSIONS | _BUCKETS | _SUBSCRIPTIONS | _OPERATION
