"""Refusals of the subscription API, in the form it gives them (protocol section 7)."""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace_server.protocol import caching, headers
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import Response

INVALID_REQUEST: Final = "INVALID_REQUEST"
SUBSCRIPTION_NOT_FOUND: Final = "SUBSCRIPTION_NOT_FOUND"
SUBSCRIPTION_ALREADY_EXISTS: Final = "SUBSCRIPTION_ALREADY_EXISTS"
TOO_MANY_SUBSCRIPTIONS: Final = "TOO_MANY_SUBSCRIPTIONS"
WEBHOOK_URL_REJECTED: Final = "WEBHOOK_URL_REJECTED"
TOKEN_INVALID: Final = "TOKEN_INVALID"
TOKEN_EXPIRED: Final = "TOKEN_EXPIRED"
FENCED: Final = "FENCED"
ALREADY_CLAIMED: Final = "ALREADY_CLAIMED"
NO_PENDING_WORK: Final = "NO_PENDING_WORK"
INVALID_OFFSET: Final = "INVALID_OFFSET"

STATUS: Final = {
    INVALID_REQUEST: 400,
    SUBSCRIPTION_NOT_FOUND: 404,
    SUBSCRIPTION_ALREADY_EXISTS: 409,
    TOO_MANY_SUBSCRIPTIONS: 409,
    WEBHOOK_URL_REJECTED: 400,
    TOKEN_INVALID: 401,
    TOKEN_EXPIRED: 401,
    FENCED: 409,
    ALREADY_CLAIMED: 409,
    NO_PENDING_WORK: 409,
    INVALID_OFFSET: 409,
}


class SubscriptionError(RequestError):
    """A refusal with a ``code``; ``details`` are further members of its ``error`` object."""

    def __init__(self, code: str, message: str, **details: str | int) -> None:
        super().__init__(STATUS[code], code, message)
        self.details = details

    def response(self) -> Response:
        error = {"code": self.type, "message": self.message, **self.details}
        return Response(
            self.status,
            (
                (headers.CONTENT_TYPE, "application/json"),
                (headers.CACHE_CONTROL, caching.NO_STORE),
                *headers.BASE,
            ),
            (msgspec.json.encode({"error": error}),),
        )


def invalid(message: str) -> SubscriptionError:
    return SubscriptionError(INVALID_REQUEST, message)


def not_found(subscription: str) -> SubscriptionError:
    """The one 404 for a subscription that is not there and for one that is not the caller's."""
    return SubscriptionError(
        SUBSCRIPTION_NOT_FOUND, f"there is no subscription {subscription!r} for this key"
    )


def fenced() -> SubscriptionError:
    return SubscriptionError(
        FENCED, "this wake is over: another one has its own wake_id, generation and token"
    )
