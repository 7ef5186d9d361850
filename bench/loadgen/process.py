"""Plans carried out in a process of their own, so that only C runs beside the server."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.loadgen.plan import LoadError, Plan, Result

ROOT: Final = Path(__file__).resolve().parents[2]
WORKER: Final = "worker"


class LoadProcess:
    """``python -m bench.loadgen worker``: takes pickled plans, gives pickled results."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.loadgen", WORKER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def run(self, plan: Plan) -> Result:
        """As :func:`bench.loadgen.native.run`, and LoadError for every connection given up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(plan, self._process.stdin)
            self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (BrokenPipeError, EOFError):
            raise LoadError("the load generator ended; see what it said above") from None
        if isinstance(answer, LoadError):
            raise answer
        assert isinstance(answer, Result)
        answer.check()
        return answer
