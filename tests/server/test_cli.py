"""The real command: what it says, how it fails, how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

import tailrace
from tests.server import cli_support
from tests.server.cli_support import append, events, fails, serving, wait_until
from tests.server.front_support import FRONTS

pytestmark = pytest.mark.long

both = pytest.mark.parametrize("front", FRONTS)


# -- help and version


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["check", "-h"]])
def test_help(arguments: list[str]) -> None:
    done = cli_support.run(*arguments)
    assert done.returncode == 0
    assert "--help" in done.stdout


def test_version() -> None:
    assert cli_support.run("version").stdout == f"tailrace {tailrace.__version__}\n"


# -- serving


@both
def test_it_serves_and_keeps_what_it_acknowledged(tmp_path: Path, front: str) -> None:
    data = tmp_path / "data"
    for count in (1, 2):
        with serving(data, "--front", front) as server:
            assert str(data) in server.announced[0]
            assert append(server.url, "s").status_code == 204
            assert len(events(server.url, "s")) == count
            assert server.stop() == 0
    with serving(data, "--front", front) as server:
        assert append(server.url, "s").status_code == 204
        server.process.kill()
        server.process.wait()
    with serving(data, "--front", front) as server:
        assert len(events(server.url, "s")) == 3


@pytest.mark.parametrize("front", ["fast", "hypercorn"])
def test_metrics_show_the_front(front: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--front", front, "--max-bodies-bytes", "1000000") as server:
        assert append(server.url, "s").status_code == 204
        # The request for the metrics counts too, but not before its connection does.
        assert server.metric("front_connections_accepted_total") >= 2
        assert server.metric("front_connections") >= 1
        assert server.metric("front_body_bytes_total") > 0
        wait_until(lambda: server.metric("front_bodies_held_bytes") == 0)


def test_the_default_directory_is_beside_the_caller(tmp_path: Path) -> None:
    process = subprocess.Popen(
        cli_support.command("serve", "--port", "0"),
        cwd=tmp_path,
        env=cli_support.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert "listening on http://127.0.0.1:" in process.stdout.readline()
        assert "no API key" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(cli_support.PATIENCE_S) == 0
    assert (tmp_path / "tailrace-data").is_dir()


def test_keys_come_from_options_environment_and_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[[keys]]\nkey = "from-file"\n')
    arguments = ["--api-key", "first", "--api-key", "second", "--keys-file", str(keys)]
    variables = {"TAILRACE_API_KEY": "third, fourth"}
    with serving(tmp_path / "data", *arguments, variables=variables) as server:
        url = f"{server.url}/v1/sessions"

        def status(key: str) -> int:
            return httpx.get(url, headers={"x-api-key": key}).status_code

        for key in ("first", "second", "third", "fourth", "from-file"):
            assert status(key) == 200
        assert status("fifth") == 401
        assert httpx.get(url).status_code == 401
        # The file is read again on SIGHUP; a broken one changes nothing.
        keys.write_text('[[keys]]\nkey = "fresh"\n')
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status("fresh") == 200)
        assert status("from-file") == 401
        keys.write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "keys not reloaded" in server.log.read_text())
        assert status("fresh") == 200
        assert server.stop() == 0


def test_logs_are_json_lines_without_keys(tmp_path: Path) -> None:
    arguments = ["--log-format", "json", "--log-level", "debug", "--api-key", "secret-key"]
    with serving(tmp_path / "data", *arguments) as server:
        key = {"Authorization": "Bearer secret-key", "x-api-key": "other-secret"}
        httpx.get(f"{server.url}/v1/sessions?api_key=secret-key", headers=key)
        assert server.stop() == 0
        text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"started", "request", "stopping", "stopped"} <= {line["event"] for line in lines}
    request = next(line for line in lines if line["event"] == "request")
    assert request["path"] == "/v1/sessions"
    assert request["status"] == 200
    assert "secret" not in text


def test_nobody_need_read_its_output(tmp_path: Path) -> None:
    process = subprocess.Popen(
        cli_support.command(
            "serve", "--access-log", "--data-dir", str(tmp_path / "data"), "--port", "0"
        ),
        env=cli_support.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[3]
        process.stdout.close()
        process.stderr.close()
        with httpx.Client() as client:
            for _ in range(10):
                assert append(url, "s", client).status_code == 204
        process.send_signal(signal.SIGTERM)
        assert process.wait(cli_support.PATIENCE_S) == 0


# -- what goes wrong on starting


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fails("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert str(port) in said
    assert "--port" in said
    assert not (tmp_path / "data").exists()


def test_a_locked_directory(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        holder = f"in use by process {server.process.pid}"
        assert holder in fails("--data-dir", str(tmp_path / "data"))
        checked = cli_support.run("check", "--data-dir", str(tmp_path / "data"))
        assert holder in checked.stderr
        assert append(server.url, "s").status_code == 204


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_server_stays_on_this_machine(tmp_path: Path, host: str) -> None:
    said = fails("--host", host, "--data-dir", str(tmp_path / "data"))
    assert "without an API key" in said
    assert "--api-key" in said


def test_with_a_key_it_may_listen_everywhere(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--host", "0.0.0.0", "--api-key", "k") as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--api-key", ""], {}),
        (["--api-key", " a"], {}),
        (["--api-key", "a\nb"], {}),
        ([], {"TAILRACE_API_KEY": ""}),
        ([], {"TAILRACE_API_KEY": "a,,b"}),
    ],
)
def test_an_unusable_key(tmp_path: Path, arguments: list[str], variables: dict[str, str]) -> None:
    said = fails("--data-dir", str(tmp_path / "data"), *arguments, variables=variables)
    assert "key" in said


@pytest.mark.parametrize("text", [None, "nonsense", "", '[[keys]]\nkey = ""\n', "\xff"])
def test_an_unusable_keys_file(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "keys.toml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    said = fails("--data-dir", str(tmp_path / "data"), "--keys-file", str(file))
    assert str(file) in said or "key" in said


def test_a_host_that_is_none(tmp_path: Path) -> None:
    for host in ("no.such.host.invalid", "a b"):
        assert "--host" in fails("--host", host, "--data-dir", str(tmp_path / "data"))


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in fails("--data-dir", str(tmp_path / "data"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_directory_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "Permission denied" in fails("--data-dir", str(tmp_path / "data"))
    finally:
        tmp_path.chmod(0o700)


def test_tls_options(tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path / "data")]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert "hypercorn" in fails(*data, "--certfile", str(cert), "--keyfile", str(key))
    assert "--keyfile" in fails(*data, "--front", "hypercorn", "--certfile", str(cert))
    both_given = ["--front", "hypercorn", "--certfile", str(cert), "--keyfile", str(key)]
    assert str(cert) in fails(*data, *both_given)
    cert.write_text("nonsense")
    key.write_text("nonsense")
    assert str(cert) in fails(*data, *both_given)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--long-poll-timeout", "0"],
        ["--long-poll-timeout", "soon"],
        ["--port", "70000"],
        ["--front", "other"],
        ["--max-body-bytes", "0"],
        ["--webhook-timeout", "0"],
        ["--webhook-timeout", "inf"],
        ["--webhook-timeout", "nan"],
        ["--grace-period", "nan"],
        ["--webhooks-to-localhost=yes"],
        ["--public-url", ""],
        ["--public-url", "events.example"],
        ["--public-url", "ftp://events.example"],
        ["--public-url", "https://"],
        ["--public-url", "https://events.example:99999"],
        ["--public-url", "https://user@events.example"],
        ["--public-url", "https://events.example/?a=b"],
        ["--public-url", "https://events.example/#a"],
        ["--public-url", "https://events.example/a b"],
        ["--log-reserve-bytes", "-1"],
        ["--log-reserve-bytes", "64M"],
        ["--nonsense"],
    ],
)
def test_options_out_of_bounds(tmp_path: Path, arguments: list[str]) -> None:
    said = fails("--data-dir", str(tmp_path / "data"), *arguments)
    assert arguments[0].partition("=")[0] in said


# -- stopping


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_live_readers_cleanly(
    tmp_path: Path, front: str, number: signal.Signals
) -> None:
    with serving(tmp_path / "data", "--front", front, "--grace-period", "20") as server:
        append(server.url, "s")
        live = f"{server.url}/v1/sessions/s/events?offset=-1&live=sse"
        poll = f"{server.url}/v1/sessions/s/events?offset=now&live=long-poll"
        polled: list[int] = []
        waiter = threading.Thread(
            target=lambda: polled.append(httpx.get(poll, timeout=30).status_code)
        )
        waiter.start()
        with httpx.stream("GET", live, timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: data"
            wait_until(lambda: server.metric("live_readers") == 2)
            server.process.send_signal(number)
            rest = list(lines)  # raises if the last chunk is missing
        assert any(line.startswith("retry:") for line in rest)
        assert server.process.wait(cli_support.PATIENCE_S) == 0
        waiter.join()
        assert polled == [204]


@both
def test_a_stop_finishes_appends_in_flight(tmp_path: Path, front: str) -> None:
    """Every append that was answered 204 is there after the restart, and no other half."""
    acknowledged = [0] * 8
    with serving(tmp_path / "data", "--front", front) as server:
        started = threading.Barrier(9)

        def write(worker: int) -> None:
            with httpx.Client() as client:
                started.wait()
                try:
                    while append(server.url, f"w{worker}", client).status_code == 204:
                        acknowledged[worker] += 1
                except httpx.TransportError:
                    pass  # the connection ended between two requests, or was refused

        workers = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for worker in workers:
            worker.start()
        started.wait()
        wait_until(lambda: sum(acknowledged) > 100)
        assert server.stop() == 0
        for worker in workers:
            worker.join()
        assert "Traceback" not in server.log.read_text()
    with serving(tmp_path / "data") as server:
        for number, count in enumerate(acknowledged):
            head = httpx.head(f"{server.url}/v1/sessions/w{number}/events")
            # One more at most: durable, and its answer lost with the connection.
            assert count <= int(head.headers["stream-next-offset"]) <= count + 1


@both
def test_the_grace_period_is_bounded(tmp_path: Path, front: str) -> None:
    """A client that takes nothing does not keep the server up."""
    with serving(tmp_path / "data", "--front", front, "--grace-period", "0.5") as server:
        big = json.dumps({"type": "a", "text": "x" * 4_000_000}).encode()
        headers = {"content-type": "application/json"}
        for _ in range(3):
            url = f"{server.url}/v1/sessions/s/events"
            assert httpx.post(url, content=big, headers=headers).status_code == 204
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", server.port))
            stalled.sendall(
                b"GET /v1/sessions/s/events?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            wait_until(lambda: server.metric("live_readers") == 1)
            assert server.stop() == 0
    assert cli_support.run("check", "--data-dir", str(tmp_path / "data")).returncode == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--grace-period", "600") as server:
        append(server.url, "s")
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"POST /v1/sessions/s/events HTTP/1.1\r\nHost: localhost\r\n")
            wait_until(lambda: append(server.url, "s").status_code == 204)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in server.log.read_text())
            assert server.process.poll() is None
            assert server.stop() == 128 + signal.SIGTERM
    with serving(tmp_path / "data") as server:
        assert len(events(server.url, "s")) == 2
