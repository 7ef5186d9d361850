"""What the programs that measure over HTTP have in common: a plan's numbers as a measurement."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from bench.http_systems import Running
from bench.loadgen.plan import Group, GroupResult, Plan, Result
from bench.measure import Budget
from bench.servers import Server
from bench.shapes import LostData

MEMORY: Final = "server_mib"
LOAD_CPU: Final = "load_us"
LOAD_CORES: Final = "load_cores"
P50: Final = "p50_ms"
P99: Final = "p99_ms"
P999: Final = "p999_ms"

COLUMNS: Final = {
    P50: "p50 ms",
    P99: "p99 ms",
    LOAD_CPU: "load's CPU µs",
    LOAD_CORES: "cores",
    MEMORY: "server MiB",
}
"""The columns that every table has. The load's CPU is per unit, then in cores."""

_SAMPLE_S: Final = 0.005


def carry_out(
    environment: Running, server: Server, groups: list[Group], budget: Budget, warm_up_s: float
) -> Result:
    """The groups at once, timed; LoadError if anything was not answered as it should be."""
    return environment.load.run(
        Plan(
            host=server.base.host,
            port=server.base.port,
            groups=groups,
            warm_up_s=0.0 if budget.steps is not None else warm_up_s,
            window_s=budget.seconds,
            server_pid=server.pid,
        )
    )


def latencies(group: GroupResult, prefix: str = "") -> dict[str, float]:
    """The percentiles of a group, as details."""
    quantiles = ((P50, 0.5), (P99, 0.99), (P999, 0.999))
    return {
        f"{prefix}{name}": group.latency.percentile_ms(fraction) for name, fraction in quantiles
    }


def costs(result: Result, server: Server, units: int) -> dict[str, float]:
    """What the load generator took of the machine, and how large the server is now.

    Raises LostData if nothing was done at all: then there is no rate either.
    """
    if units == 0:
        raise LostData("nothing was answered in the time that is measured")
    details = {
        LOAD_CPU: result.cpu_s / units * 1e6,
        LOAD_CORES: result.cpu_s / result.measured_s,
    }
    if server.pid is not None:
        details[MEMORY] = server.memory_mib("VmRSS")
    return details


class Growth:
    """How far a server's own memory grew since this was made, at its highest in the blocks.

    Own (``mib``) is anonymous and shared memory. Pages of mapped files, which are the kernel's
    page cache and not more memory, are counted in ``resident_mib`` only.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._own_before = self._own()
        self._resident_before = server.memory_mib("VmRSS")
        self.mib = self.resident_mib = 0.0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _own(self) -> float:
        return self._server.memory_mib("RssAnon", "RssShmem")

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.mib = max(self.mib, self._own() - self._own_before)
            resident = self._server.memory_mib("VmRSS") - self._resident_before
            self.resident_mib = max(self.resident_mib, resident)
