"""``multipart/mixed`` bodies (RFC 2046 section 5.1.1), made piece by piece.

Parts are told apart by a boundary that stands in none of them. Bodies too large to be looked
through before they are sent need one that nobody could have put there: it is made of
randomness drawn after the bytes to be sent were stored, so whoever wrote them could not know
it, and for 192 bits to stand in them by chance would take some 10^57 bytes.
"""

from __future__ import annotations

from typing import Final

from tailrace_server.protocol import headers

ENTROPY_BYTES: Final = 24
CONTENT_TYPE: Final = "multipart/mixed; boundary="


class Multipart:
    """One body: each part's :meth:`head`, then its bytes; at last the :attr:`end`.

    ``entropy``: :data:`ENTROPY_BYTES` random bytes, drawn when all that is sent was fixed.
    """

    def __init__(self, entropy: bytes) -> None:
        assert len(entropy) >= ENTROPY_BYTES
        self.boundary: Final = entropy.hex()
        self.content_type: Final = CONTENT_TYPE + self.boundary
        self._delimiter = b"\r\n--" + self.boundary.encode("ascii")
        self.end: Final = self._delimiter + b"--\r\n"

    def head(self, content_type: str, *, first: bool = False) -> bytes:
        """What goes before the bytes of a part: the first one's delimiter begins the body."""
        delimiter = self._delimiter[2:] if first else self._delimiter
        fields = f"\r\n{headers.CONTENT_TYPE}: {content_type}\r\n\r\n"
        return delimiter + fields.encode("latin-1")
