"""HTTP without IO: request values to operations, outcomes to response values.

Nothing here is ``async``, opens a socket or touches the store, so all of it can be
tested byte by byte. The fronts make :class:`~tailrace_server.protocol.message.Request`
values and send :class:`~tailrace_server.protocol.message.Response` values.
"""
