"""The servers that take part in a run, each started once and used in every round."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from bench import servers
from bench.conditions import conditions, warnings
from bench.loadgen.plan import LoadError
from bench.loadgen.process import LoadProcess
from bench.measure import Case, Series
from bench.optional import Missing
from bench.peers import electric_server, node_server, redis_server
from bench.run import Options, run_forgiving
from bench.servers import NotStarted, Server, Starter
from bench.shapes import LostData
from bench.systems import CEILING, HYPERCORN, TAILRACE

_PEERS: Sequence[ModuleType] = (node_server, electric_server, redis_server)


def _named_url(word: str) -> tuple[str, str]:
    name, _, url = word.partition("=")
    if not name or not url.startswith("http://"):
        raise argparse.ArgumentTypeError(f"'{word}' is not NAME=http://...")
    return name, url


def add_url_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        type=_named_url,
        metavar="NAME=URL",
        help="measure this server of the protocol too; its streams will be below URL/bench "
        "(may be repeated)",
    )


@dataclass(frozen=True, slots=True)
class Systems:
    """What can be started, by the system's name, and a line for each peer that cannot."""

    starters: dict[str, Starter]
    given: list[str]
    missing: list[str]
    versions: dict[str, str] = field(default_factory=dict)

    def among(self, *names: str) -> list[str]:
        """Those of ``names`` that can be started, and all that were given by URL."""
        return [name for name in names if name in self.starters] + self.given


def find_systems(arguments: argparse.Namespace, answer: Path | None = None) -> Systems:
    """Everything that can be measured here; the server that does nothing answers a GET with
    the bytes of ``answer``, or with none.
    """
    starters: dict[str, Starter] = {
        TAILRACE: servers.tailrace,
        HYPERCORN: partial(servers.tailrace, front="hypercorn"),
        CEILING: partial(servers.nothing, body=answer),
    }
    missing: list[str] = []
    versions: dict[str, str] = {}
    for peer in _PEERS:
        found: dict[str, Starter] | Missing = peer.find()
        if isinstance(found, Missing):
            missing.append(str(found))
        else:
            starters.update(found)
            if hasattr(peer, "versions"):
                versions |= peer.versions()
    given: list[str] = []
    for name, url in arguments.url:
        starters[name] = partial(servers.given, url=url)
        given.append(name)
    return Systems(starters, given, missing, versions)


def forgives(case: Case, error: Exception) -> bool:
    """Whether the run goes on without this case: a peer that fails does not spoil it."""
    return not case.system.startswith(TAILRACE) and isinstance(
        error, LoadError | LostData | NotStarted | OSError
    )


class Running:
    """Servers, started when they are first asked for, and the load generator."""

    def __init__(self, systems: Systems, place: Path, stack: ExitStack) -> None:
        self.load = stack.enter_context(LoadProcess())
        self._systems = systems
        self._place = place
        self._stack = stack
        self._servers: dict[str, Server] = {}

    def server(self, name: str) -> Server:
        if name not in self._servers:
            directory = self._place / f"server-{len(self._servers)}"
            directory.mkdir()
            starter = self._systems.starters[name]
            self._servers[name] = self._stack.enter_context(starter(directory))
        return self._servers[name]


@contextmanager
def running(systems: Systems, place: Path) -> Iterator[Running]:
    """Servers below ``place``; all of them end with the block."""
    with ExitStack() as stack:
        yield Running(systems, place, stack)


class Measured(NamedTuple):
    """What a run gave, as a report has it."""

    conditions: dict[str, object]
    warnings: list[str]
    series: list[Series]


def measure_all(
    systems: Systems,
    options: Options,
    place: Path,
    cases: Callable[[Systems, Running], Iterable[Case]],
) -> Measured:
    """Start what is to be measured, run all ``cases``, and go on without a peer that fails."""
    found = conditions(place, systems.versions)
    with running(systems, place) as environment:
        series, failures = run_forgiving(
            options, list(cases(systems, environment)), place, forgives
        )
    return Measured(found, warnings(found) + systems.missing + failures, series)
