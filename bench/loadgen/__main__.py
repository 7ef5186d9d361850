"""``python -m bench.loadgen``: put load on a server of the Durable Streams Protocol by hand."""

from __future__ import annotations

import argparse
import pickle
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.events import EVENT_BYTES, small_event
from bench.loadgen import http, native
from bench.loadgen.plan import Group, GroupResult, LoadError, Plan, Result
from bench.loadgen.process import WORKER

_BODIES: Final = 4096
_EVENT_MARKER: Final = b"user.message"


def worker() -> None:
    """Plans from standard input, results to standard output, until the input ends."""
    while True:
        try:
            plan = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Result | LoadError = native.run(plan)
        except LoadError as error:
            answer = error
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _show(group: GroupResult, result: Result, units: str, per_unit: int = 1) -> None:
    count = group.units * per_unit
    latency = group.latency
    quantiles = ", ".join(
        f"{name} {latency.percentile_ms(fraction):.3f}"
        for name, fraction in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
    )
    megabytes = group.body_bytes / result.measured_s / 1e6
    print(
        f"{group.name}: {count / result.measured_s:,.0f} {units}/s, latency ms {quantiles}, "
        f"max {latency.percentile_ms(1):.3f}; {megabytes:,.1f} MB/s of bodies; "
        f"{group.reconnects} reconnects"
    )
    for what, number in group.errors.items():
        print(f"{group.name}: ERROR {number} x {what}: {group.error_text}")


def _show_all(result: Result, units: str, per_unit: int = 1) -> int:
    for group in result.groups:
        _show(group, result, units, per_unit)
    load, server = result.cpu_s / result.measured_s, result.server_cpu_s / result.measured_s
    print(f"CPU: load generator {load:.0%}, server {server:.0%} of one core")
    return 1 if any(group.errors for group in result.groups) else 0


def _bodies(events: int) -> list[bytes]:
    if events == 1:
        return [small_event(number) for number in range(_BODIES)]
    count = max(1, _BODIES // events)
    return [
        b"[" + b",".join(small_event(first * events + i) for i in range(events)) + b"]"
        for first in range(count)
    ]


def _paths(base: http.Base, what: str, streams: int) -> list[str]:
    return [f"{base.prefix}/loadgen/{what}-{number:05d}" for number in range(streams)]


def _run(arguments: argparse.Namespace, base: http.Base, groups: Sequence[Group]) -> Result:
    return native.run(
        Plan(
            host=base.host,
            port=base.port,
            groups=groups,
            warm_up_s=arguments.warm_up,
            window_s=arguments.seconds,
            server_pid=arguments.pid,
        )
    )


def _append(arguments: argparse.Namespace) -> int:
    base = http.base(arguments.url)
    paths = _paths(base, arguments.command, arguments.streams)
    native.run(http.plan(base, http.create(base, paths))).check()
    group = http.append(
        base,
        paths,
        _bodies(arguments.events),
        connections=arguments.connections,
        rate=arguments.rate,
        producer_epoch=arguments.producer_epoch,
    )
    result = _run(arguments, base, [group])
    status = _show_all(result, "events", arguments.events)
    if arguments.check:
        found = native.run(http.plan(base, http.catch_up(base, paths, _EVENT_MARKER)))
        found.check()
        stored = sum(found.groups[0].found)
        answered = sum(result.groups[0].acknowledged) * arguments.events
        print(f"{answered:,} events were answered, {stored:,} are in the streams")
    return status


def _read(arguments: argparse.Namespace) -> int:
    base = http.base(arguments.url)
    paths = _paths(base, arguments.command, arguments.streams)
    native.run(http.plan(base, http.create(base, paths))).check()
    native.run(http.plan(base, http.fill(base, paths, _bodies(arguments.events)))).check()
    group = http.read(base, paths, connections=arguments.connections, rate=arguments.rate)
    return _show_all(_run(arguments, base, [group]), "reads")


def _fanout(arguments: argparse.Namespace) -> int:
    base = http.base(arguments.url)
    paths = _paths(base, arguments.command, 1)
    native.run(http.plan(base, http.create(base, paths))).check()
    (end,) = native.run(http.plan(base, http.catch_up(base, paths, b""))).groups[0].ends
    groups = http.fan_out(
        base,
        paths[0],
        end.encode("ascii"),
        subscribers=arguments.connections,
        rate=arguments.rate or 50.0,
        live="long-poll" if arguments.long_poll else "sse",
        size=EVENT_BYTES,
    )
    result = _run(arguments, base, groups)
    status = _show_all(result, "events")
    sent = sum(result.groups[0].acknowledged)
    lost = sum(sent - received for received in result.groups[1].received)
    print(f"{sent:,} events to {arguments.connections:,} subscribers, {lost:,} deliveries lost")
    return status or int(lost != 0)


def _serve(arguments: argparse.Namespace) -> int:
    listener = socket.create_server((arguments.host, arguments.port), backlog=4096)
    listener.setblocking(False)
    host, port = listener.getsockname()[:2]
    file = arguments.sendfile
    body = b"" if arguments.body is None else arguments.body.read_bytes()
    get = http.fixed_answer(len(body) if file is None else file.stat().st_size) + body
    print(f"listening on http://{host}:{port}", flush=True)
    native.serve(listener, get, http.EMPTY_ANSWER, file)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.loadgen", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(WORKER, help="what the benchmarks talk to: pickled plans and results")
    serve = commands.add_parser("serve", help="a server that does nothing, to find the ceiling")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=0)
    serve.add_argument("--body", type=Path, help="answer a GET with the bytes of this file")
    serve.add_argument("--sendfile", type=Path, help="the same with sendfile(2), for large ones")
    for name, text, connections in (
        ("append", "POST JSON events", 64),
        ("read", "GET small streams from the start", 64),
        ("fanout", "one writer, many subscribers", 1000),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--url", required=True, help="base, e.g. http://127.0.0.1:4437/v1/stream")
        one.add_argument("--connections", type=int, default=connections)
        one.add_argument("--seconds", type=float, default=3.0)
        one.add_argument("--warm-up", type=float, default=0.3)
        one.add_argument("--pid", type=int, help="the server's process, for its CPU time")
        one.add_argument(
            "--rate", type=float, help="requests a second, whatever the answers do (default: none)"
        )
        if name != "fanout":
            one.add_argument("--streams", type=int, default=64)
            one.add_argument("--events", type=int, default=1 if name == "append" else 10)
        if name == "append":
            one.add_argument("--check", action="store_true", help="count what is there afterwards")
            one.add_argument(
                "--producer-epoch",
                type=int,
                metavar="N",
                help="be idempotent producers, in this epoch; a higher one in each run",
            )
        if name == "fanout":
            one.add_argument("--long-poll", action="store_true")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.command == WORKER:
        worker()
        return 0
    run = {"append": _append, "read": _read, "fanout": _fanout, "serve": _serve}
    try:
        return run[arguments.command](arguments)
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
