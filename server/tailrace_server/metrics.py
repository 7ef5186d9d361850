"""Prometheus metrics: requests by route and status, live readers, webhook calls, and the
engine's counters.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tailrace_server.front_counters import FrontCounters, FrontSamples

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WEBHOOK_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class _Samples(Collector):
    """Values read when Prometheus asks, so that serving requests does not pay for them."""

    def __init__(self, read: Callable[[], Mapping[str, int | float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, value in self._read().items():
            yield GaugeMetricFamily(f"tailrace_{name}", f"tailrace {name}", value=value)


class WebhookFailure(enum.StrEnum):
    """Why a call of a webhook counts as failed."""

    REFUSED = "refused"  # its URL, or an address of its host, is not allowed
    DNS = "dns"  # its host has no address
    CONNECTION = "connection"  # no connection, or one that broke
    TLS = "tls"  # its certificate does not hold, or TLS failed otherwise
    TIMEOUT = "timeout"  # no answer in time
    STATUS = "status"  # an answer that is no 2xx
    PROTOCOL = "protocol"  # no HTTP, or the end before an answer
    SUPERSEDED = "superseded"  # not answered when the lease was over and the next wake began


class WebhookMetrics:
    """How calling webhooks goes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delivered = Counter(
            "tailrace_webhook_deliveries", "Webhook calls that were taken", registry=registry
        )
        failed = Counter(
            "tailrace_webhook_failures", "Webhook calls that failed", ("kind",), registry=registry
        )
        self._failed = {kind: failed.labels(kind.value) for kind in WebhookFailure}
        self._retries = Counter(
            "tailrace_webhook_retries",
            "Webhook calls made again after one that failed",
            registry=registry,
        )
        self._seconds = Histogram(
            "tailrace_webhook_seconds",
            "How long webhook calls took, failed ones included",
            buckets=_WEBHOOK_BUCKETS_S,
            registry=registry,
        )

    def called(self, seconds: float, failure: WebhookFailure | None, *, again: bool) -> None:
        """A call has ended; ``again`` if the one before it failed."""
        self._seconds.observe(seconds)
        if again:
            self._retries.inc()
        if failure is None:
            self._delivered.inc()
        else:
            self._failed[failure].inc()


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(
        self,
        engine: Callable[[], Mapping[str, int | float]],
        server: Callable[[], Mapping[str, int | float]],
    ) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tailrace_http_requests",
            "Requests answered",
            ("route", "status"),
            registry=self.registry,
        )
        self.webhooks = WebhookMetrics(self.registry)
        self._children: dict[tuple[str, int], Counter] = {}
        self.registry.register(_Samples(lambda: {f"engine_{k}": v for k, v in engine().items()}))
        self.registry.register(_Samples(server))

    def add_front(
        self, counters: Callable[[], FrontCounters], bodies_held: Callable[[], int]
    ) -> None:
        """Show a front's counters too. One front a service."""
        self.registry.register(FrontSamples(counters, bodies_held))

    def answered(self, route: str, status: int, count: int = 1) -> None:
        """Count requests answered; from any thread."""
        child = self._children.get((route, status))
        if child is None:
            child = self._requests.labels(route, str(status))
            self._children[(route, status)] = child
        child.inc(count)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
