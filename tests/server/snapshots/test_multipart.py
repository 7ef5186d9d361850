"""``multipart/mixed`` as written (RFC 2046 section 5.1.1), read again by Python's email package."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol.multipart import ENTROPY_BYTES, Multipart

# What could be taken for a boundary, or for the end of a line.
HOSTILE = st.lists(
    st.sampled_from([b"--", b"\r\n", b"\n", b"\r", b"00" * ENTROPY_BYTES, b"", b"\0\xff"])
    | st.binary(max_size=20),
    max_size=6,
).map(b"".join)


def parts(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Each part's content type and bytes, as another's parser reads them."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = message_from_bytes(head + body)
    assert message.is_multipart()
    assert message.defects == []
    found = []
    for part in message.get_payload():
        assert isinstance(part, Message)
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        found.append((part["Content-Type"], payload))
    return found


@given(entropy=st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES), more=st.lists(HOSTILE))
def test_whatever_the_parts_are_they_come_back(entropy: bytes, more: list[bytes]) -> None:
    made = Multipart(entropy)
    more = [part for part in more if made.boundary.encode() not in part]
    body = made.head("application/octet-stream", first=True)
    for part in more:
        body += made.head("text/plain; charset=utf-8") + part
    body += made.end
    assert parts(made.content_type, body) == [
        ("application/octet-stream", b""),
        *(("text/plain; charset=utf-8", part) for part in more),
    ]


def test_the_boundary_is_one() -> None:
    """RFC 2046: at most 70 characters; of those that need no quotes."""
    made = Multipart(bytes(range(ENTROPY_BYTES)))
    assert len(made.boundary) <= 70
    assert made.boundary.isalnum()
    assert made.content_type == f"multipart/mixed; boundary={made.boundary}"
    assert Multipart(bytes(ENTROPY_BYTES)).boundary != made.boundary
