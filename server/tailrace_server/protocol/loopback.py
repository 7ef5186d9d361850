"""What a server without keys refuses, so that a web page cannot use it through a browser.

Listening on loopback alone does not keep pages out: any page may send requests to
127.0.0.1, and by DNS rebinding may even do so under its own name and read the answers. A
browser says in ``Origin`` which page asks, and in ``Host`` by which name it came.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from tailrace_server.protocol import headers
from tailrace_server.protocol.errors import PERMISSION, RequestError
from tailrace_server.protocol.message import Request

_LOCALHOST: Final = "localhost"
_KNOWN_MAX: Final = 256


def check_loopback(request: Request) -> None:
    """403 unless the request comes by a loopback name, and from no page but a local one."""
    host = request.header(headers.HOST)
    if host is not None and not is_loopback(f"//{host}"):
        raise _refusal(f"Host: {host[:100]!r} is not this machine")
    origin = request.header(headers.ORIGIN)
    if origin is not None and not is_loopback(origin):
        raise _refusal(f"Origin: {origin[:100]!r} is not a page of this machine")


@lru_cache(_KNOWN_MAX)
def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` (a scheme may be missing) is this machine, by its name."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if name == _LOCALHOST or name.endswith(f".{_LOCALHOST}"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refusal(why: str) -> RequestError:
    return RequestError(
        403,
        PERMISSION,
        f"{why}, and a server without an API key answers this machine only; configure a key",
    )
