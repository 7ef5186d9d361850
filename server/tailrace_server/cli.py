"""The command ``tailrace``: serve, version, and those of a store that no server has open."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import click
import structlog

import tailrace
from tailrace_server import logs
from tailrace_server.config import ServiceConfig
from tailrace_server.front import FrontLimits
from tailrace_server.offline import (
    check_command,
    data_dir_option,
    fail,
    repair_command,
    rotate_command,
)
from tailrace_server.run import StartError, serve
from tailrace_server.settings import (
    DEFAULT_GRACE_S,
    DEFAULT_HOST,
    DEFAULT_LOG_RESERVE_BYTES,
    DEFAULT_PORT,
    FrontName,
    Settings,
)

API_KEY_VARIABLE: Final = "TAILRACE_API_KEY"

_LIMITS: Final = FrontLimits()
_SERVICE: Final = ServiceConfig()


class _FiniteRange(click.FloatRange):
    """A range that NaN, which no comparison finds outside, is not in."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


_SECONDS: Final = _FiniteRange(min=0, min_open=True, max=86_400)
_COUNT: Final = click.IntRange(min=1)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody need be reading
        click.echo(line)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(tailrace.__version__, message="tailrace %(version)s")
def main() -> None:
    """Durable, replayable, searchable event streams over HTTP."""


@main.command("serve")
@data_dir_option
@click.option(
    "--host",
    default=DEFAULT_HOST,
    envvar="TAILRACE_HOST",
    show_default=True,
    show_envvar=True,
    help="Address to listen on. Beyond loopback an API key is required.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    envvar="TAILRACE_PORT",
    show_default=True,
    show_envvar=True,
    help="Port to listen on; 0 takes a free one and prints it.",
)
@click.option(
    "--front",
    type=click.Choice(["fast", "hypercorn"]),
    default="fast",
    show_default=True,
    help="fast: plain HTTP/1.1. hypercorn: HTTP/1.1, HTTP/2 and TLS.",
)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    metavar="KEY",
    help=f"A key that clients must show; repeat for more. Or ${API_KEY_VARIABLE}, separated by "
    "commas, which does not show in the list of processes.",
)
@click.option(
    "--keys-file",
    type=click.Path(path_type=Path),
    help="TOML or JSON file of keys with their rights and sessions; SIGHUP reads it again.",
)
@click.option(
    "--certfile",
    type=click.Path(path_type=Path),
    help="TLS certificate chain, PEM (hypercorn front).",
)
@click.option(
    "--keyfile",
    type=click.Path(path_type=Path),
    help="TLS private key, PEM (hypercorn front).",
)
@click.option(
    "--long-poll-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=_SERVICE.long_poll_timeout_s,
    show_default=True,
    help="How long a long-poll waits for data.",
)
@click.option(
    "--sse-heartbeat",
    type=_SECONDS,
    metavar="SECONDS",
    default=_SERVICE.sse_heartbeat_s,
    show_default=True,
    help="A silent event stream gets a comment this often.",
)
@click.option(
    "--sse-lifetime",
    type=_SECONDS,
    metavar="SECONDS",
    default=_SERVICE.sse_lifetime_s,
    show_default=True,
    help="An event stream is ended after about this long; clients resume.",
)
@click.option(
    "--public-url",
    metavar="URL",
    envvar="TAILRACE_PUBLIC_URL",
    show_envvar=True,
    help="This server as webhooks reach it, if a proxy stands before it: what they are told to "
    "call back. Default: the address at which each subscription was made.",
)
@click.option(
    "--webhook-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=_SERVICE.webhook_timeout_s,
    show_default=True,
    help="How long a webhook may take to answer; then it is called again.",
)
@click.option(
    "--webhooks-to-localhost",
    is_flag=True,
    help="Let webhooks be plain HTTP to this machine although API keys are configured. Whoever "
    "has such a key can then make the server call any port here.",
)
@click.option(
    "--max-live-readers",
    type=_COUNT,
    default=_SERVICE.live_readers_max,
    show_default=True,
    help="Event streams and long-polls at once; more get 503.",
)
@click.option(
    "--max-connections",
    type=_COUNT,
    default=_LIMITS.connections_max,
    show_default=True,
    help="Open connections; more get 503.",
)
@click.option(
    "--max-body-bytes",
    type=_COUNT,
    default=_SERVICE.body_bytes_max,
    show_default=True,
    help="Largest request body; larger ones get 413.",
)
@click.option(
    "--max-bodies-bytes",
    type=_COUNT,
    default=_LIMITS.bodies_bytes_max,
    show_default=True,
    help="Bodies of all requests in progress, together; more get 503. Answering them takes up "
    "to five times as much memory.",
)
@click.option(
    "--max-snapshot-bytes",
    type=_COUNT,
    default=_SERVICE.snapshot_bytes_max,
    show_default=True,
    help="Largest snapshot of a stream; larger ones get 413. They go to disk as they come.",
)
@click.option(
    "--log-reserve-bytes",
    type=click.IntRange(min=0),
    default=DEFAULT_LOG_RESERVE_BYTES,
    envvar="TAILRACE_LOG_RESERVE_BYTES",
    show_default=True,
    show_envvar=True,
    help="Disk space that may be zeroed ahead of the log for bursts of writes, in whole segments "
    "of 64 MiB, beside the next one: as much as past bursts used. 0: none.",
)
@click.option(
    "--max-header-bytes",
    type=click.IntRange(min=256),
    default=_LIMITS.head_bytes_max,
    show_default=True,
    help="Largest request head; larger ones get 431.",
)
@click.option(
    "--idle-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=_LIMITS.idle_timeout_s,
    show_default=True,
    help="A connection without a request is closed after this long.",
)
@click.option(
    "--header-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=_LIMITS.head_timeout_s,
    show_default=True,
    help="Time for a request head to arrive.",
)
@click.option(
    "--body-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=_LIMITS.body_timeout_s,
    show_default=True,
    help="Time for a request body to arrive, plus one second for every 16 KiB.",
)
@click.option(
    "--send-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=_LIMITS.send_timeout_s,
    show_default=True,
    help="A client that takes nothing of its answer for so long is cut off.",
)
@click.option(
    "--grace-period",
    type=_FiniteRange(min=0, max=86_400),
    metavar="SECONDS",
    default=DEFAULT_GRACE_S,
    show_default=True,
    help="How long a stop waits for answers in progress.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "console"]),
    default="console",
    show_default=True,
    help="Form of the log on standard error.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Lowest level that is logged.",
)
@click.option(
    "--access-log/--no-access-log",
    default=False,
    help="Log every request (always at --log-level debug). Never logs keys or queries.",
)
def serve_command(**given: Any) -> None:
    """Run the server until SIGTERM or SIGINT."""
    limits = dataclasses.replace(
        _LIMITS,
        head_bytes_max=given["max_header_bytes"],
        target_bytes_max=min(_LIMITS.target_bytes_max, given["max_header_bytes"]),
        body_bytes_max=given["max_body_bytes"],
        bodies_bytes_max=given["max_bodies_bytes"],
        connections_max=given["max_connections"],
        head_timeout_s=given["header_timeout"],
        body_timeout_s=given["body_timeout"],
        idle_timeout_s=given["idle_timeout"],
        send_timeout_s=given["send_timeout"],
    )
    service = dataclasses.replace(
        _SERVICE,
        long_poll_timeout_s=given["long_poll_timeout"],
        sse_heartbeat_s=given["sse_heartbeat"],
        sse_lifetime_s=given["sse_lifetime"],
        body_bytes_max=given["max_body_bytes"],
        snapshot_bytes_max=given["max_snapshot_bytes"],
        live_readers_max=given["max_live_readers"],
        drain_timeout_s=given["grace_period"],
        public_url=given["public_url"],
        webhook_timeout_s=given["webhook_timeout"],
        webhooks_to_localhost=given["webhooks_to_localhost"],
        loopback_only_without_keys=True,
    )
    settings = Settings(
        data_dir=given["data_dir"].absolute(),
        host=given["host"],
        port=given["port"],
        front=cast(FrontName, given["front"]),
        api_keys=(*given["api_keys"], *_keys_of_environment()),
        keys_file=given["keys_file"],
        certfile=given["certfile"],
        keyfile=given["keyfile"],
        log_format=given["log_format"],
        log_level=given["log_level"],
        access_log=given["access_log"] or given["log_level"] == "debug",
        grace_s=given["grace_period"],
        log_reserve_bytes=given["log_reserve_bytes"],
        limits=limits,
        service=service,
    )
    logs.set_up(settings.log_format, settings.log_level)
    try:
        serve(settings, _say)
    except StartError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        structlog.get_logger("tailrace.server").exception("server failed")
        sys.exit(1)


def _keys_of_environment() -> tuple[str, ...]:
    value = os.environ.get(API_KEY_VARIABLE)
    if value is None:
        return ()
    keys = tuple(part.strip() for part in value.split(","))
    if not all(keys):
        # A secret that did not reach the environment must not open the server to everyone.
        fail(f"{API_KEY_VARIABLE} holds an empty key; unset it, or give it its value")
    return keys


@main.command("version")
def version_command() -> None:
    """Print the version."""
    click.echo(f"tailrace {tailrace.__version__}")


for _command in (check_command, repair_command, rotate_command):
    main.add_command(_command)
