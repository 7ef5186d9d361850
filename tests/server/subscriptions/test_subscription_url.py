"""Which webhooks may be called (protocol sections 6.2 and 12.8)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol.subscription_error import SubscriptionError
from tailrace_server.protocol.subscription_url import is_public, may_connect, webhook_url
from tailrace_server.subscriptions.webhook import DeliveryFailed, post
from tests.server.subscriptions.receiver import Receiver


@pytest.mark.parametrize(
    "url",
    [
        "https://worker.example/hooks?a=b",
        "https://worker.example:8443",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]/hook",
        "http://localhost:3000/hook",
        "http://127.0.0.1/hook",
        "http://127.0.0.9:1/",
    ],
)
def test_12_8_urls_that_may_be_called(url: str) -> None:
    found = webhook_url(url, local_allowed=True)
    assert found.local is url.startswith("http:")
    assert found.target.startswith("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://worker.example/hook",
        "http://10.0.0.1/hook",
        "http://127.1.2.3/hook",
        "http://127.0.0.999/hook",
        "http://localhost.evil.example/",
        "http://[::1]/hook",
        "https://localhost/hook",
        "https://x.localhost/hook",
        "https://127.0.0.1/hook",
        "https://10.1.2.3/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://user:secret@worker.example/",
        "https://worker.example/#part",
        "https://worker.example:0/",
        "https://worker.example:99999/",
        "https://worker example/",
        "https://worker.example\\@10.0.0.1/",
        "https:///hook",
        "https://",
        "ftp://worker.example/",
        "file:///etc/passwd",
        "worker.example",
        "",
        "https://worker.example/\r\nx: y",
        "https://" + "a" * 3000,
    ],
)
def test_12_8_urls_that_must_not_be_called(url: str) -> None:
    with pytest.raises(SubscriptionError) as refused:
        webhook_url(url, local_allowed=True)
    assert refused.value.type == "WEBHOOK_URL_REJECTED"


def test_6_2_localhost_is_for_development_alone() -> None:
    with pytest.raises(SubscriptionError):
        webhook_url("http://localhost/hook", local_allowed=False)


@given(st.text(max_size=60))
def test_12_8_no_text_is_an_error_of_another_kind(text: str) -> None:
    for url in (text, f"https://{text}", f"http://localhost{text}"):
        try:
            webhook_url(url, local_allowed=True)
        except SubscriptionError:
            continue


@given(st.ip_addresses(v=4))
def test_12_8_an_address_is_judged_alike_in_its_ipv6_disguises(
    address: ipaddress.IPv4Address,
) -> None:
    raw = int(address)
    for disguise in (0xFFFF << 32 | raw, 0x64FF9B << 96 | raw, 0x2002 << 112 | raw << 80):
        assert is_public(ipaddress.IPv6Address(disguise)) is is_public(address)


class NameServer(trio.abc.HostnameResolver):
    """Answers with one list of addresses after the other, the last again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 0)))
            for address in found
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for names")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of this machine that must not be reached."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def untouched(sock: socket.socket) -> bool:
    try:
        sock.accept()
    except BlockingIOError:
        return True
    return False


async def test_12_8_a_name_that_points_inside_is_refused_when_connecting(
    listener: socket.socket,
) -> None:
    url = webhook_url(f"https://rebind.example:{listener.getsockname()[1]}/", local_allowed=True)
    for answer in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"]):
        trio.socket.set_custom_hostname_resolver(NameServer(answer))
        with pytest.raises(DeliveryFailed, match="not allowed"):
            await post(url, b"{}", "signature", timeout_s=5)
    assert untouched(listener)


async def test_12_8_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name server that answers differently the second time is not asked a second time."""
    with Receiver((200, b'{"done":true}')) as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        names = NameServer(["127.0.0.1"], ["10.0.0.1"])
        trio.socket.set_custom_hostname_resolver(names)
        url = webhook_url(f"http://localhost:{port}/hook", local_allowed=True)
        assert await post(url, b"{}", "signature", timeout_s=5) == b'{"done":true}'
        assert names.asked == 1
        assert receiver.next().headers["host"] == f"localhost:{port}"


async def test_12_8_localhost_means_this_machine_alone(listener: socket.socket) -> None:
    trio.socket.set_custom_hostname_resolver(NameServer(["10.0.0.1"]))
    url = webhook_url("http://localhost:1/", local_allowed=True)
    assert not may_connect(url, ipaddress.ip_address("10.0.0.1"))
    with pytest.raises(DeliveryFailed, match="not allowed"):
        await post(url, b"{}", "signature", timeout_s=5)


async def test_12_8_redirects_are_not_followed() -> None:
    with Receiver((307, b"")) as receiver:
        url = webhook_url(receiver.url, local_allowed=True)
        with pytest.raises(DeliveryFailed, match="307"):
            await post(url, b"{}", "signature", timeout_s=5)
        assert receiver.next().path == "/hook"
        assert receiver.deliveries.empty()


async def test_7_1_a_webhook_that_says_nothing_fails_in_time(listener: socket.socket) -> None:
    url = webhook_url(f"http://127.0.0.1:{listener.getsockname()[1]}/", local_allowed=True)
    with trio.fail_after(10):
        with pytest.raises(DeliveryFailed, match="no answer"):
            await post(url, b"{}", "signature", timeout_s=0.1)
