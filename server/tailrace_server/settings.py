"""What ``tailrace serve`` was told, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from tailrace.limits import RESERVE_BYTES_MAX_DEFAULT
from tailrace_server.config import ServiceConfig
from tailrace_server.front import FrontLimits
from tailrace_server.keys import Key, KeyFileError, KeyRing, load_keys
from tailrace_server.logs import LogFormat, LogLevel

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 4437
DEFAULT_DATA_DIR: Final = "./tailrace-data"
DEFAULT_GRACE_S: Final = 10.0
DEFAULT_LOG_RESERVE_BYTES: Final = RESERVE_BYTES_MAX_DEFAULT

FrontName = Literal["fast", "hypercorn"]
Address = tuple[socket.AddressFamily, str, int]


_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


class SettingsError(Exception):
    """Settings that cannot be served; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a server needs to know before it starts.

    grace_s: how long a stop waits for answers in progress.
    log_reserve_bytes: the engine's ``Options.reserve_bytes_max``.
    """

    data_dir: Path = Path(DEFAULT_DATA_DIR)
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    front: FrontName = "fast"
    api_keys: tuple[str, ...] = ()
    keys_file: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    log_format: LogFormat = "console"
    log_level: LogLevel = "info"
    access_log: bool = False
    grace_s: float = DEFAULT_GRACE_S
    log_reserve_bytes: int = DEFAULT_LOG_RESERVE_BYTES
    limits: FrontLimits = field(default_factory=FrontLimits)
    service: ServiceConfig = field(default_factory=ServiceConfig)

    def check(self) -> None:
        """Raise :class:`SettingsError` for settings that contradict each other."""
        if (self.certfile is None) != (self.keyfile is None):
            raise SettingsError("--certfile and --keyfile go together: give both, or neither")
        if self.certfile is not None and self.front != "hypercorn":
            raise SettingsError(
                "TLS is served by the hypercorn front only: add --front hypercorn, "
                "or drop --certfile and --keyfile"
            )
        if self.service.public_url is not None:
            _check_public_url(self.service.public_url)

    def keys(self) -> list[Key | str]:
        """The keys given and those of the file. :class:`SettingsError` if one is unusable."""
        keys: list[Key | str] = list(dict.fromkeys(self.api_keys))
        try:
            if self.keys_file is not None:
                from_file = load_keys(self.keys_file)
                if not from_file:
                    raise SettingsError(f"{self.keys_file} holds no key")
                keys += from_file
            KeyRing(keys)
        except KeyFileError as error:
            raise SettingsError(f"unusable API key: {error}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{self.keys_file} is not UTF-8 text") from None
        except OSError as error:
            raise SettingsError(f"cannot read {self.keys_file}: {error.strerror}") from None
        return keys

    def addresses(self) -> list[Address]:
        """The addresses that ``host`` means. :class:`SettingsError` if it means none."""
        try:
            found = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (socket.gaierror, UnicodeError) as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
            raise SettingsError(f"cannot resolve --host {self.host}: {reason}") from None
        return list(
            dict.fromkeys((family, str(place[0]), self.port) for family, *_, place in found)
        )

    def refuse_exposure(self, addresses: Sequence[Address], keys: Sequence[Key | str]) -> None:
        """Without a key nobody but this machine may connect."""
        if keys:
            return
        for _, host, _ in addresses:
            if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
                raise SettingsError(
                    f"refusing to listen on {host} without an API key: anyone who reaches it "
                    "could read, write and delete everything. Give --api-key KEY (or "
                    f"TAILRACE_API_KEY, or --keys-file), or listen on --host {DEFAULT_HOST}"
                )


def _check_public_url(text: str) -> None:
    """Scheme, host, perhaps a port and a path: what routes can be put behind."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _VISIBLE.fullmatch(text) or "@" in text or "?" in text or "#" in text:
        raise SettingsError(
            f"--public-url {text[:200]!r} is not the address of a server: give "
            "https://HOST, or http://HOST, with a port and a path if need be, without user "
            "name, query or fragment"
        )
