"""A webhook receiver on this machine, as a thread: what it was sent, and what it answers."""

from __future__ import annotations

import base64
import json
import queue
import re
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PATIENCE_S: Final = 20.0
"""Far longer than anything here takes; reaching it is a failure."""
_SIGNATURE: Final = re.compile(r"t=([0-9]+),kid=(ds_[A-Za-z0-9_-]+),ed25519=([A-Za-z0-9_-]+)")


@dataclass(frozen=True)
class Delivery:
    """One request to the webhook."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def stream(self, path: str) -> dict[str, Any]:
        (found,) = [info for info in self.json["streams"] if info["path"] == path]
        assert isinstance(found, dict)
        return found


class Receiver:
    """``answers`` are (status, body) in order; the last one again and again.

    No answer is given before ``gate`` is set, if there is one. With ``tls`` it speaks HTTPS.
    """

    def __init__(self, *answers: tuple[int, bytes], tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers or [(200, b"{}")])
        self.deliveries: queue.Queue[Delivery] = queue.Queue()
        self.gate: threading.Event | None = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                found = {name.lower(): value for name, value in self.headers.items()}
                answers = receiver.answers
                status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
                receiver.deliveries.put(Delivery(self.path, found, body))
                if receiver.gate is not None:
                    receiver.gate.wait(PATIENCE_S)
                self.send_response(status)
                if status in (301, 302, 307, 308):
                    self.send_header("location", receiver.url + "/elsewhere")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next(self, timeout_s: float = PATIENCE_S) -> Delivery:
        try:
            return self.deliveries.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError("the webhook was not called") from None


def verify(delivery: Delivery, jwks: Any) -> bool:
    """Whether the delivery is signed by a key of ``jwks``, as a receiver checks it."""
    found = _SIGNATURE.fullmatch(delivery.headers["webhook-signature"])
    assert found is not None
    (key,) = [key for key in jwks["keys"] if key["kid"] == found[2]]
    public = Ed25519PublicKey.from_public_bytes(decode(key["x"]))
    try:
        public.verify(decode(found[3]), found[1].encode() + b"." + delivery.body)
    except InvalidSignature:
        return False
    return True


def decode(text: str) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
