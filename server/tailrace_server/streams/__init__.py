"""The streams themselves: the Durable Streams Protocol, at ``/v1/stream/{path}`` and in buckets."""
