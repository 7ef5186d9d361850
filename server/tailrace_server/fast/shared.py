"""What the connections of one front have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from tailrace_server.body import BodyBudget
from tailrace_server.front import FrontLimits, Handler, Refusal
from tailrace_server.front_counters import FrontCounters
from tailrace_server.peer_watch import PeerWatch
from tailrace_server.protocol.message import Request

_access = structlog.get_logger("tailrace.access")


@dataclass(slots=True)
class Shared:
    """``give_back`` hands an idle connection (descriptor, tag) to the reactor, if it can."""

    service: Handler
    limits: FrontLimits
    access_log: bool
    bodies: BodyBudget
    counters: FrontCounters
    give_back: Callable[[int, int], bool]
    watch: PeerWatch = field(default_factory=PeerWatch)
    draining: bool = False

    def log_request(
        self, request: Request, status: int, sent: int, started: float, peer: str
    ) -> None:
        """One line; without the query and the headers, where keys travel."""
        _access.info(
            "request",
            method=request.method,
            path=request.path,
            status=status,
            bytes=sent,
            ms=round((time.perf_counter() - started) * 1000, 2),
            client=peer,
        )

    def log_refusal(self, refusal: Refusal, peer: str) -> None:
        """One line for what never became a request."""
        _access.info("refused", status=refusal.status, reason=refusal.message, client=peer)
