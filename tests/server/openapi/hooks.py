"""What a document cannot say, so that good requests of Schemathesis get beyond a 400 or a 401.

Bad requests are left as they are.
"""

from __future__ import annotations

from typing import Any, Final

import schemathesis
from schemathesis.openapi.checks import UseAfterFree

from tailrace_server.openapi.document import openapi_path
from tailrace_server.protocol import headers
from tests.server.openapi.deletions import DELETING, Deletions

SOURCES: Final = ("/v1/stream/orders", "/ds/demo/orders", "/ds/sessions/s", "/v1/stream/none")
PRODUCER: Final = (headers.PRODUCER_ID, headers.PRODUCER_EPOCH, headers.PRODUCER_SEQ)
EXCLUSIVE: Final = (
    (headers.STREAM_TTL, headers.STREAM_EXPIRES_AT),
    (headers.STREAM_EXPECTED_OFFSET, headers.IF_MATCH),
)
NEEDS_A_SOURCE: Final = (headers.STREAM_FORK_OFFSET, headers.STREAM_FORK_SUB_OFFSET)
SETTLING: Final = ("ack", "callback", "release")

DELETES: Final = {f"{method} {openapi_path(path)}" for method, path in DELETING}

_deletions: Final = Deletions()
_stale: Final[dict[str, str]] = {}
"""What was answered though it is deleted, by the case's id."""

_claimed: dict[str, Any] = {}
"""The last claim that was granted."""


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive:
        return
    found = case.headers
    for one, other in EXCLUSIVE:
        if one in found and other in found:
            # Which of them stays is as random as their values.
            del found[one if len(str(found[other])) % 2 else other]
    source = found.get(headers.STREAM_FORKED_FROM)
    if source is not None:
        found[headers.STREAM_FORKED_FROM] = SOURCES[len(source) % len(SOURCES)]
    else:
        for name in NEEDS_A_SOURCE:
            found.pop(name, None)
    if not all(name in found for name in PRODUCER):
        for name in PRODUCER:
            found.pop(name, None)
    if _claimed and case.operation.path.endswith(SETTLING) and isinstance(case.body, dict):
        case.path_parameters["subscription"] = "w"
        found[headers.AUTHORIZATION] = f"Bearer {_claimed['token']}"
        case.body |= {name: _claimed[name] for name in ("wake_id", "generation")}


@schemathesis.hook
def after_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response
) -> None:
    sent = response.request
    wrong = _deletions.answered(
        sent.method or "", sent.url or "", response.status_code, response.content
    )
    if wrong is not None:
        _stale[case.id] = wrong
    if case.operation.path.endswith("/claim") and response.status_code == 200:
        _claimed.update(response.json())


@schemathesis.check
def deleted_is_gone(
    context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case[Any],
) -> None:
    """As ``use_after_free``, but over the whole run, and for writes too."""
    assert case.id not in _stale, _stale[case.id]


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: object,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """``deleted_is_gone`` knows better what becomes of streams and sessions."""
    return not isinstance(failure, UseAfterFree) or failure.operation not in DELETES
