"""A small internet: names, public addresses that lead to ports of this machine, an authority.

Only what the operating system would do is doubled: asking a name server, and routing a packet.
The code under test resolves, judges, connects and speaks TLS as it does outside.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HTTPS: Final = 443
_DAY: Final = datetime.timedelta(days=1)


class Internet(trio.abc.HostnameResolver, trio.abc.SocketFactory):
    """``routes``: public address → port of this machine.

    ``answers`` are what the name server says, one list of addresses after the other, the last
    again and again. ``connected`` are the places that somebody wanted to reach.
    """

    def __init__(self, routes: Mapping[str, int], *answers: list[str]) -> None:
        self.routes = dict(routes)
        self.answers = list(answers)
        self.connected: list[tuple[str, int]] = []

    def install(self) -> None:
        """For as long as this run of Trio lasts."""
        trio.socket.set_custom_hostname_resolver(self)
        trio.socket.set_custom_socket_factory(self)

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        await trio.lowlevel.checkpoint()
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 0)))
            for address in found
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for names")

    def socket(self, *kind: Any) -> trio.socket.SocketType:
        return _Routed(self, trio.socket.from_stdlib_socket(socket.socket(*kind)))


class _Routed(trio.socket.SocketType):
    """A socket whose connection goes where the internet leads it."""

    def __init__(self, internet: Internet, real: trio.socket.SocketType) -> None:
        self._internet = internet
        self._real = real

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if name in ("__class__", "_internet", "_real", "connect"):
            return own(self, name)
        return getattr(own(self, "_real"), name)

    async def connect(self, address: Any) -> None:
        self._internet.connected.append(address[:2])
        await self._real.connect(("127.0.0.1", self._internet.routes[address[0]]))


class Authority:
    """A certificate authority of its own; ``file`` is what makes it known (``SSL_CERT_FILE``)."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (
            self._certificate(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(made.public_bytes(Encoding.PEM))

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, age_days: int = 1
    ) -> x509.CertificateBuilder:
        begins = datetime.datetime.now(datetime.UTC) - age_days * _DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + 10 * _DAY)
        )

    def serve(self, host: str, *, age_days: int = 1) -> ssl.SSLContext:
        """What a server of that name shows: valid for ten days, ``age_days`` old."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host.replace(".", "").isdigit():
            names = [x509.IPAddress(ipaddress.ip_address(host))]
        made = (
            self._certificate(subject, key.public_key(), age_days=age_days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain = self._directory / f"{host}-{age_days}.pem"
        chain.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + made.public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context
