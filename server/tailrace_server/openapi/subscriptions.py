"""Subscriptions, described (protocol sections 6 and 7)."""

from __future__ import annotations

from typing import Final

from tailrace_server.openapi import common
from tailrace_server.openapi.shape import WAKE, Answer, Body, Described, Descriptions, json, named
from tailrace_server.subscriptions import handlers

_TAG: Final = "subscriptions"


def _refused(description: str) -> Answer:
    return Answer(description, json(named("SubscriptionError")))


_BAD: Final = _refused("The id or the body is not as it should be.")
_MISSING: Final = _refused("There is none, or not for this key: the same answer.")
_FAILURES: Final = {400: _BAD, 404: _MISSING}
_SETTLING: Final = _FAILURES | {
    401: _refused("The token is missing, not this wake's, or too old."),
    409: _refused("The wake is over, or the offset is none of the stream's."),
}
_SETTLEMENT: Final = Body("What was done.", json(named("Settlement")))
_VIEW: Final = json(named("Subscription"))
_SETTLED: Final = {200: Answer("Taken down.", json(named("Settled"))), **_SETTLING}

DESCRIBED: Final[Descriptions] = {
    handlers.get_jwks: Described(
        _TAG,
        "The public keys that webhooks are signed with",
        {
            200: Answer(
                "A JSON Web Key Set.",
                {"application/jwk-set+json": named("KeySet")},
                (common.CACHING,),
            )
        },
    ),
    handlers.put_subscription: Described(
        _TAG,
        "Make a subscription, or confirm one with the same configuration",
        {
            200: Answer("It was there, made so.", _VIEW),
            201: Answer("Made.", _VIEW),
            409: _refused("It is there with another configuration, or there are too many."),
            **_FAILURES,
        },
        body=Body("Its configuration.", json(named("NewSubscription"))),
    ),
    handlers.get_subscription: Described(
        _TAG,
        "Look at a subscription and its cursors",
        {200: Answer("The subscription.", _VIEW), **_FAILURES},
    ),
    handlers.delete_subscription: Described(
        _TAG,
        "Delete a subscription; one that is not there stays so",
        {204: Answer("It is not there."), **_FAILURES},
    ),
    handlers.add_streams: Described(
        _TAG,
        "Add streams to a subscription",
        {204: Answer("Added."), **_FAILURES},
        body=Body("Which.", json(named("Links"))),
    ),
    handlers.remove_stream: Described(
        _TAG,
        "Remove a stream from a subscription",
        {204: Answer("Removed."), **_FAILURES},
    ),
    handlers.claim: Described(
        _TAG,
        "Claim the work that is pending",
        {
            200: Answer("The lease.", json(named("Claimed"))),
            409: _refused("Somebody else has it, or there is none."),
            **_FAILURES,
        },
        body=Body("Who claims.", json(named("Claim"))),
    ),
    handlers.callback: Described(
        _TAG,
        "Acknowledge, as the worker that a webhook woke",
        _SETTLED,
        body=_SETTLEMENT,
        scheme=WAKE,
    ),
    handlers.ack: Described(
        _TAG,
        "Acknowledge, as the worker that claimed",
        _SETTLED,
        body=_SETTLEMENT,
        scheme=WAKE,
    ),
    handlers.release: Described(
        _TAG,
        "Give back what was claimed",
        {204: Answer("Given back."), **_SETTLING},
        body=_SETTLEMENT,
        scheme=WAKE,
    ),
}
