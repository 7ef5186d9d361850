"""Structured logs: one event a line, to standard error, as JSON or for a console."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, Final, Literal, TextIO, cast

import structlog

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _StandardError:
    """Standard error that may go away: losing the log must not lose the server."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


class _EngineEvents(logging.Handler):
    """What the engine logs, as it cannot know of this: events like the server's own."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def set_up(log_format: LogFormat, level: LogLevel) -> None:
    """Send the events of this process to standard error. Call once, before the first event.

    Nothing here knows a key: callers log paths without queries, and never headers.
    """
    renderer: Any
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        processors.append(structlog.processors.dict_tracebacks)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
    engine = logging.getLogger("tailrace")
    engine.handlers = [_EngineEvents()]
    engine.setLevel(_LEVELS[level])
    engine.propagate = False
