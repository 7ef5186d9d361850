"""What a front counts, and how /metrics shows it."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(slots=True)
class FrontCounters:
    """What a front has done; plain numbers that it counts itself.

    connections: open now.
    accepted: connections taken; refused: those beyond ``connections_max``.
    requests: handed to the service.
    refusals: by status, answers without that: by the front, or by the service to a head.
    body_bytes: request bodies, whole or streamed, that reached a handler.
    answers_kept: requests that got an answer made before, to an equal request.
    """

    connections: int = 0
    accepted: int = 0
    refused: int = 0
    requests: int = 0
    body_bytes: int = 0
    answers_kept: int = 0
    refusals: collections.Counter[int] = field(default_factory=collections.Counter)


class FrontSamples(Collector):
    """A front's counters as metrics, read when Prometheus asks."""

    def __init__(
        self, counters: Callable[[], FrontCounters], bodies_held: Callable[[], int]
    ) -> None:
        self._counters = counters
        self._bodies_held = bodies_held

    def collect(self) -> Iterator[Metric]:
        counters = self._counters()
        name = "tailrace_front_"
        yield GaugeMetricFamily(
            f"{name}connections", "Open connections", value=counters.connections
        )
        yield GaugeMetricFamily(
            f"{name}bodies_held_bytes",
            "Bodies of requests in progress",
            value=self._bodies_held(),
        )
        for what, meaning, value in (
            ("connections_accepted", "Connections accepted", counters.accepted),
            ("connections_refused", "Connections refused at capacity", counters.refused),
            ("requests", "Requests handed to the service", counters.requests),
            ("body_bytes", "Bytes of request bodies that reached a handler", counters.body_bytes),
            ("answers_kept", "Requests answered with what was kept", counters.answers_kept),
        ):
            yield CounterMetricFamily(name + what, meaning, value=value)
        refusals = CounterMetricFamily(
            f"{name}refusals", "Requests answered before they were handled", labels=["status"]
        )
        for status, count in sorted(counters.refusals.items()):
            refusals.add_metric([str(status)], count)
        yield refusals
