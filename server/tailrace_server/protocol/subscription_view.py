"""Subscriptions, wakes and claims as their clients see them (protocol sections 6.3 and 7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import msgspec

from tailrace.offset import encode_offset
from tailrace_server.protocol import headers
from tailrace_server.protocol.message import Response
from tailrace_server.protocol.stream_name import RESERVED
from tailrace_server.protocol.subscription_keys import JWKS_FRESH_S
from tailrace_server.protocol.subscription_machine import Tail, Tails, acked, link_of
from tailrace_server.protocol.subscription_state import State, Wake
from tailrace_server.protocol.timestamps import format_ms

CONTROL_ROOT: Final = f"/v1/stream/{RESERVED}"
WAKE_STREAMS_MAX: Final = 1000
"""Streams listed in one wake: those with pending work come first, the rest next time."""


def stream_infos(
    state: State, paths: Iterable[str], tails: Tails, *, count_max: int = WAKE_STREAMS_MAX
) -> tuple[list[dict[str, object]], dict[str, Tail]]:
    """The streams of a wake, and the tails it tells of."""
    found: list[tuple[bool, str, dict[str, object], Tail | None]] = []
    for path in paths:
        link, tail = link_of(state, path), tails(path)
        if link is None or (tail is None and not link.explicit):
            continue
        done = acked(link, tail)
        ordinal = done if tail is None else tail.ordinal
        pending = ordinal > done
        info: dict[str, object] = {
            "path": path,
            "link_type": "explicit" if link.explicit else "glob",
            "acked_offset": encode_offset(done),
            "tail_offset": encode_offset(ordinal),
            "has_pending": pending,
        }
        found.append((not pending, path, info, tail))
    found.sort(key=lambda entry: entry[:2])
    listed = found[:count_max]
    told = {path: tail for _, path, _, tail in listed if tail is not None}
    return [info for _, _, info, _ in listed], told


def subscription(
    id: str, state: State, infos: Iterable[dict[str, object]], kid: str
) -> dict[str, object]:
    """The answer to GET and PUT. It holds no secret (section 6.2)."""
    config = state.config
    webhook = None
    if config.webhook_url is not None:
        signing = {
            "alg": "ed25519",
            "kid": kid,
            "jwks_url": f"{state.base_url}{CONTROL_ROOT}/jwks.json",
        }
        webhook = {"url": config.webhook_url, "signing": signing}
    return {
        "id": id,
        "subscription_id": id,
        "type": config.type,
        "pattern": config.pattern,
        "streams": [
            {name: info[name] for name in ("path", "link_type", "acked_offset")} for info in infos
        ],
        "webhook": webhook,
        "wake_stream": config.wake_stream,
        "lease_ttl_ms": config.lease_ttl_ms,
        "created_at": format_ms(state.created_at_ms),
        "status": "active" if state.retry_at_ms is None else "failed",
        "description": config.description,
    }


def notification(
    id: str, state: State, wake: Wake, infos: list[dict[str, object]], token: str
) -> bytes:
    """The body of a webhook request."""
    callback = f"{state.base_url}{CONTROL_ROOT}/subscriptions/{quote(id, safe='')}/callback"
    return msgspec.json.encode(
        {
            "subscription_id": id,
            "wake_id": wake.id,
            "generation": wake.generation,
            "streams": infos,
            "callback_url": callback,
            "callback_token": token,
        }
    )


def wake_event(id: str, wake: Wake) -> bytes:
    """The record of a wake stream."""
    return msgspec.json.encode(
        {
            "type": "wake",
            "subscription_id": id,
            "stream": wake.stream,
            "generation": wake.generation,
            "ts": wake.at_ms,
        }
    )


def claimed(
    wake: Wake, token: str, infos: list[dict[str, object]], lease_ttl_ms: int
) -> dict[str, object]:
    return {
        "wake_id": wake.id,
        "generation": wake.generation,
        "token": token,
        "streams": infos,
        "lease_ttl_ms": lease_ttl_ms,
    }


def says_done(body: bytes) -> bool:
    """Whether a webhook's answer is ``{"done": true}``; anything else is not, and no error."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("done") is True


def jwks(keys: object) -> Response:
    return Response(
        200,
        (
            (headers.CONTENT_TYPE, "application/jwk-set+json"),
            (headers.CACHE_CONTROL, f"public, max-age={JWKS_FRESH_S}"),
            *headers.BASE,
        ),
        (msgspec.json.encode(keys),),
    )
