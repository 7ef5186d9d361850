"""The routes of the subscription API (protocol sections 6 and 7).

A key that reads every stream may look at subscriptions, one that appends may claim, one that
manages may make, change and delete them. Callbacks, acks and releases take the wake's own
token instead of a key; the JWK Set is public.
"""

from __future__ import annotations

from tailrace_server.context import Answer, Call, Context
from tailrace_server.keys import Right
from tailrace_server.protocol import headers, render, subscription_request, subscription_view
from tailrace_server.protocol.message import Request
from tailrace_server.protocol.subscription_error import not_found
from tailrace_server.protocol.subscription_token import bearer


async def put_subscription(context: Context, call: Call) -> Answer:
    name = _id(call, Right.MANAGE)
    config = subscription_request.config(call.request)
    live, created = await context.subscriptions.put(name, config, _base_url(context, call.request))
    return render.json_value(201 if created else 200, await context.subscriptions.view(live))


async def get_subscription(context: Context, call: Call) -> Answer:
    live = context.subscriptions.get(_id(call, Right.READ))
    return render.json_value(200, await context.subscriptions.view(live))


async def delete_subscription(context: Context, call: Call) -> Answer:
    await context.subscriptions.delete(_id(call, Right.MANAGE))
    return render.empty(204)


async def add_streams(context: Context, call: Call) -> Answer:
    name = _id(call, Right.MANAGE)
    await context.subscriptions.link(name, subscription_request.streams(call.request))
    return render.empty(204)


async def remove_stream(context: Context, call: Call) -> Answer:
    name = _id(call, Right.MANAGE)
    path = subscription_request.stream_path(call.params["linked_stream"], "stream path")
    await context.subscriptions.unlink(name, path)
    return render.empty(204)


async def claim(context: Context, call: Call) -> Answer:
    name = _id(call, Right.APPEND)
    worker = subscription_request.worker(call.request)
    return render.json_value(200, await context.subscriptions.claim(name, worker))


async def callback(context: Context, call: Call) -> Answer:
    return await _acknowledge(context, call, "webhook")


async def ack(context: Context, call: Call) -> Answer:
    return await _acknowledge(context, call, "pull-wake")


async def _acknowledge(context: Context, call: Call, type: str) -> Answer:
    token = bearer(call.request.header(headers.AUTHORIZATION))
    sent = subscription_request.settlement(call.request)
    name = subscription_request.subscription_id(call.params["subscription"])
    next_wake = await context.subscriptions.acknowledge(name, type, token, sent)
    return render.json_value(200, {"ok": True, "next_wake": next_wake})


async def release(context: Context, call: Call) -> Answer:
    token = bearer(call.request.header(headers.AUTHORIZATION))
    sent = subscription_request.settlement(call.request)
    name = subscription_request.subscription_id(call.params["subscription"])
    await context.subscriptions.release(name, token, sent)
    return render.empty(204)


async def get_jwks(context: Context, call: Call) -> Answer:
    return subscription_view.jwks(await context.subscriptions.jwks())


def _id(call: Call, right: Right) -> str:
    """The subscription's id, if the request's key has ``right`` to every stream."""
    name = subscription_request.subscription_id(call.params["subscription"])
    if not (call.grant.has(right) and call.grant.unlimited):
        raise not_found(name)
    return name


def _base_url(context: Context, request: Request) -> str:
    """This server as its client reaches it: callbacks come back the same way."""
    if context.config.base_url is not None:
        return context.config.base_url
    host = request.header(headers.HOST) or "localhost"
    forwarded = request.header(headers.X_FORWARDED_PROTO)
    scheme = forwarded if forwarded in ("http", "https") else request.scheme
    return f"{scheme}://{host}"
