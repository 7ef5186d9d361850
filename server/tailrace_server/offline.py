"""What ``tailrace`` does to a store that no server has open: check, repair, rotate-webhook-key."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

import tailrace
from tailrace.core import wall_clock_ms
from tailrace.offset import encode_offset
from tailrace_server.protocol.timestamps import format_ms
from tailrace_server.run import explain
from tailrace_server.settings import DEFAULT_DATA_DIR
from tailrace_server.subscriptions.journal import rotate

data_dir_option = click.option(
    "--data-dir",
    # Click's own test for what can be read would end a check with the status that means damage.
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_DATA_DIR,
    envvar="TAILRACE_DATA_DIR",
    show_default=True,
    show_envvar=True,
    help="Directory of the store.",
)


def fail(message: str) -> NoReturn:
    """Say why on standard error and exit with status 1."""
    click.echo(f"tailrace: {message}", err=True)
    sys.exit(1)


@click.command("check")
@data_dir_option
def check_command(data_dir: Path) -> None:
    """Verify every checksum of a store that no server has open; change nothing.

    Exit status: 0 if nothing acknowledged is damaged, 2 if something is, 1 if it cannot be said.
    """
    with _explained(data_dir):
        report = tailrace.check(data_dir)
    for damage in (*report.damages, *report.snapshot_damages):
        kind = "DAMAGED" if damage.acknowledged else "torn (never acknowledged)"
        stream = f", stream {damage.stream}" if damage.stream else ""
        click.echo(
            f"{kind}: {damage.file} at position {damage.position}, "
            f"{damage.length} bytes{stream}: {damage.message}"
        )
    for message in report.derived_damages:
        click.echo(f"will be made again: {message}")
    click.echo(
        f"{report.segments} segments, {report.batches} batches, {report.records} records, "
        f"{report.bytes} bytes, {report.snapshots} snapshots: "
        f"{'ok' if report.ok else 'damaged'}"
    )
    if not report.log_ok:
        click.echo(f"Keep what can be kept:  tailrace repair --data-dir {data_dir}", err=True)
    elif not report.ok:
        click.echo("Have damaged snapshots published again: they keep nothing else from being read")
    if not report.ok:
        sys.exit(2)


@click.command("repair")
@data_dir_option
def repair_command(data_dir: Path) -> None:
    """Give up damaged records so that the store opens again; keep a copy of their bytes.

    Reads the whole log. Later records of the same streams are kept, at their offsets.
    """
    with _explained(data_dir):
        report = tailrace.repair(data_dir)
    for damage in report.lost:
        stream = f" of stream {damage.stream}" if damage.stream else ""
        click.echo(
            f"given up: {damage.length} bytes{stream}, "
            f"{damage.file} at position {damage.position}: {damage.message}"
        )
    for stream, first, stop in report.records:
        click.echo(
            f"lost: stream {stream}, what was from offset {encode_offset(first)} on; "
            f"it goes on at {encode_offset(stop)}"
        )
    for message in report.remade:
        click.echo(f"made again, as far as the rest tells what stood there: {message}")
    for name in report.saved:
        click.echo(f"a copy of those bytes is in {data_dir / name}")
    if not report.lost and not report.remade:
        click.echo("nothing to repair")


@click.command("rotate-webhook-key")
@data_dir_option
def rotate_command(data_dir: Path) -> None:
    """Give webhooks a new signing key, in a store that no server has open.

    Receivers find it in the JWK Set at once. It signs once their cached copies have it; the old
    one stays in the set for another hour.
    """
    with _explained(data_dir), tailrace.open(data_dir, must_exist=True) as store:
        now_s = wall_clock_ms() // 1000
        keys = rotate(store, now_s)
    if keys is None:
        fail(f"{data_dir} has no webhook key yet: the first subscription makes one")
    click.echo(f"signing now: {keys.active(now_s).kid}")
    click.echo(f"signing from {format_ms(keys.newest.begins_s * 1000)} on: {keys.newest.kid}")


@contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    """What can go wrong on opening a data directory, as a message and exit status 1."""
    try:
        if not data_dir.is_dir():
            fail(f"{data_dir} is not a directory")
        yield
    except (tailrace.TailraceError, OSError) as error:
        fail(explain(data_dir, error, checked=True))
