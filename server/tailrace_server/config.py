"""What the service may be told, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tailrace import limits

SESSIONS_BUCKET: Final = "sessions"
FLAT_BUCKET: Final = "flat"
SUBSCRIPTIONS_BUCKET: Final = "__ds"
"""Holds subscriptions and secret keys: no route reads or writes its streams."""
BUCKETS: Final = (SESSIONS_BUCKET, FLAT_BUCKET)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Bounds and times of the HTTP service.

    long_poll_timeout_s: how long a long-poll waits for data before its 204.
    sse_heartbeat_s: a comment is sent on a silent event stream this often.
    sse_lifetime_s: an event stream is ended after about this long (jittered by 10 %).
    body_bytes_max: larger request bodies are refused (413).
    snapshot_bytes_max: the same of snapshots, which are never held whole.
    events_per_request_max: more events in one request are refused (413).
    live_readers_max: event streams and long-polls at once; more are refused (503).
    read_bytes_max: about how much one page or one live batch carries.
    drain_timeout_s: how long a graceful stop waits for live readers to end.
    loopback_only_without_keys: while no key is configured, refuse what comes by another name
        than this machine's, or from a page that is not local (403).
    public_url: this server as webhooks reach it: what they are told to call back and where the
        keys are; None: as the maker of each subscription came.
    webhook_timeout_s: how long a webhook may take to answer.
    webhooks_to_localhost: webhooks may be plain HTTP to this machine though keys are
        configured; without keys, in development, they may anyway.
    """

    long_poll_timeout_s: float = 30.0
    sse_heartbeat_s: float = 15.0
    sse_lifetime_s: float = 60.0
    body_bytes_max: int = 16 * limits.MIB
    snapshot_bytes_max: int = limits.SNAPSHOT_BYTES_MAX_DEFAULT
    events_per_request_max: int = 10_000
    live_readers_max: int = 10_000
    read_bytes_max: int = limits.READ_BYTES_DEFAULT
    drain_timeout_s: float = 5.0
    loopback_only_without_keys: bool = False
    public_url: str | None = None
    webhook_timeout_s: float = 30.0
    webhooks_to_localhost: bool = False

    @property
    def base_url(self) -> str | None:
        """``public_url``, so that a path can be put behind it."""
        return None if self.public_url is None else self.public_url.rstrip("/")
