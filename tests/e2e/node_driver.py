"""The public npm client of the protocol in a Node.js process, told what to do line by line."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests import node_project
from tests.e2e.server_process import PATIENCE_S

FOLDER: Final = Path(__file__).resolve().parent / "node_client"


def pack(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unpack(text: str) -> bytes:
    return base64.b64decode(text)


def packed_json(values: Iterable[object]) -> list[str]:
    """Values as the client takes them for a JSON stream: serialized, one by one."""
    return [pack(json.dumps(value).encode("utf-8")) for value in values]


class NodeError(Exception):
    """What the client threw: its ``name``, and ``code``, ``status`` and ``headers`` if it has any.

    The client has an error for a closed stream and one for each conflict, but puts a fetch
    beneath itself that throws a FetchError for every status of 400 and above first.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.name: str = told["name"]
        self.code: str | None = told.get("code")
        self.status: int | None = told.get("status")
        self.headers: dict[str, str] = told["headers"]
        self.told = told


class NodeClient:
    """``driver.mjs`` says which operations there are."""

    def __init__(self) -> None:
        node_project.install(FOLDER)
        self._process = subprocess.Popen(
            [node_project.node(), str(FOLDER / "driver.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it as a crash would, with whatever it has not sent yet."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def start(self, op: str, **options: object) -> Future[Any]:
        """Begin an operation; the future is its value, or :class:`NodeError`."""
        assert self._process.stdin is not None
        answer: Future[Any] = Future()
        with self._lock:
            number = next(self._ids)
            self._waiting[number] = answer
            self._process.stdin.write(json.dumps({"id": number, "op": op, **options}) + "\n")
            self._process.stdin.flush()
        return answer

    def call(self, op: str, **options: Any) -> Any:
        return self.start(op, **options).result(PATIENCE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = json.loads(line)
            with self._lock:
                answer = self._waiting.pop(found["id"])
            if "error" in found:
                answer.set_exception(NodeError(found["error"]))
            else:
                answer.set_result(found["value"])
        with self._lock:
            left, self._waiting = self._waiting, {}
        for answer in left.values():
            answer.set_exception(AssertionError("the Node.js process ended"))
