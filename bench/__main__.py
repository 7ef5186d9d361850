"""``python -m bench COMMAND``."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from bench import (
    append,
    fanout,
    http_append,
    http_catch_up,
    http_read,
    mixed,
    read,
    replay,
    search,
)
from bench.optional import Missing, load
from bench.report import as_text, write_json
from bench.run import options_of, workspace

_COMMANDS: Final = {
    "append": append,
    "read": read,
    "search": search,
    "http-append": http_append,
    "http-read": http_read,
    "http-catch-up": http_catch_up,
    "fanout": fanout,
    "replay": replay,
    "mixed": mixed,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        module.add_arguments(
            commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        )
    arguments = parser.parse_args(argv)
    plot = None if arguments.plot is None else load("plot")
    if isinstance(plot, Missing):
        parser.error(f"--plot needs matplotlib (pip install matplotlib): {plot.why}")
    options = options_of(arguments)
    with workspace(options) as place:
        report = _COMMANDS[arguments.command].run(arguments, options, place)
    print(as_text(report))
    if arguments.json is not None:
        write_json(report, arguments.json)
    if plot is not None:
        plot.draw(report, arguments.plot)
    failed = any(verdict.bar.required and not verdict.passed for verdict in report.verdicts)
    return 1 if arguments.strict and failed else 0


if __name__ == "__main__":
    sys.exit(main())
