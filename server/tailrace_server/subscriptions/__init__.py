"""Subscriptions of the Durable Streams Protocol, at ``/v1/stream/__ds`` (sections 6 and 7).

The rules are in :mod:`tailrace_server.protocol.subscription_machine`, without I/O. Here are
their journal in the store, the calls they make to webhooks, and the tasks that keep them
going.
"""
