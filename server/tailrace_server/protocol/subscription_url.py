"""Which webhook URLs are called, and at which addresses (protocol sections 6.2 and 12.8).

A URL is checked twice: its text when the subscription is made, and every address its host
resolves to when a connection is made. Only the second holds against a name that points
elsewhere later (DNS rebinding), so the connection goes to the very address that was checked.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from tailrace_server.protocol.subscription_error import WEBHOOK_URL_REJECTED, SubscriptionError

URL_CHARS_MAX: Final = 2048
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\.?$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?"
)
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_DEVELOPMENT_HOST: Final = re.compile(r"localhost|127\.0\.0\.[0-9]{1,3}")
_PORTS: Final = {"http": 80, "https": 443}
_PORT_MAX: Final = 65535

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class WebhookUrl(NamedTuple):
    """A checked URL, taken apart. ``target`` is path and query as they are sent.

    ``local`` is the exception for development: ``http`` to this machine.
    """

    scheme: str
    host: str
    port: int
    authority: str
    target: str
    local: bool


def webhook_url(text: str, *, local_allowed: bool) -> WebhookUrl:
    """``text`` if its words allow it to be called; WEBHOOK_URL_REJECTED otherwise.

    ``https`` to a public host; with ``local_allowed`` also ``http`` to ``localhost`` and
    127.0.0.x.
    """
    if len(text) > URL_CHARS_MAX or not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise _rejected(f"must be a URL of at most {URL_CHARS_MAX} visible ASCII characters")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _rejected("is not a URL") from None
    if parts.scheme not in _PORTS:
        raise _rejected("must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise _rejected("must not hold a user name or a password")
    if "#" in text:
        raise _rejected("must not hold a fragment")
    if port == 0 or (port is not None and port > _PORT_MAX):
        raise _rejected("has a port that cannot be")
    local = parts.scheme == "http"
    if local:
        _check_local(host, local_allowed=local_allowed)
    else:
        _check_public(host)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, _PORTS[parts.scheme]) else f"{shown}:{port}"
    return WebhookUrl(parts.scheme, host, port or _PORTS[parts.scheme], authority, target, local)


def _check_local(host: str, *, local_allowed: bool) -> None:
    if not _DEVELOPMENT_HOST.fullmatch(host):
        raise _rejected("must begin with https://; http is for localhost and 127.0.0.x only")
    if not local_allowed:
        raise _rejected("must begin with https://; this server calls no local webhooks")
    if host != "localhost":
        _address(host)


def _check_public(host: str) -> None:
    address = _address(host)
    if address is not None:
        if not is_public(address):
            raise _rejected("must not name a private, local or reserved address")
    elif not _HOST_NAME.fullmatch(host):
        raise _rejected("does not name a host")
    elif host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        raise _rejected("must not name this machine; for development use http://localhost")


def _address(host: str) -> Address | None:
    """The address that ``host`` is, None for a name.

    Forms that only some programs read as an address (``0x7f.1``, ``2130706433``) are refused.
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if ":" in host or _ENDS_IN_NUMBER.fullmatch(host):
            raise _rejected("has a host that is neither a name nor a plain address") from None
        return None


def is_public(address: Address) -> bool:
    """Whether ``address`` is a host of the public internet, also behind its IPv6 disguises."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address in _SITE_LOCAL or address in _NAT64_LOCAL:
            return False
        if address in _NAT64 or address in _IPV4_COMPATIBLE:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def may_connect(url: WebhookUrl, address: Address) -> bool:
    """Whether a connection for ``url`` may go to ``address``, one that its host resolved to."""
    return address.is_loopback if url.local else is_public(address)


def _rejected(why: str) -> SubscriptionError:
    return SubscriptionError(WEBHOOK_URL_REJECTED, f"webhook.url {why}")
