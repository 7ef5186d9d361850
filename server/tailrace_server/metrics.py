"""Prometheus metrics: requests by route and status, live readers, and the engine's counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Samples(Collector):
    """Values read when Prometheus asks, so that serving requests does not pay for them."""

    def __init__(self, read: Callable[[], Mapping[str, int | float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, value in self._read().items():
            yield GaugeMetricFamily(f"tailrace_{name}", f"tailrace {name}", value=value)


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
        self._children: dict[tuple[str, int], Counter] = {}
        self.registry.register(_Samples(lambda: {f"engine_{k}": v for k, v in engine().items()}))
        self.registry.register(_Samples(server))

    def answered(self, route: str, status: int) -> None:
        child = self._children.get((route, status))
        if child is None:
            child = self._requests.labels(route, str(status))
            self._children[(route, status)] = child
        child.inc()

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
