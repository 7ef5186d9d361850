"""The data that is measured with: made from a seed, the same on every machine."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Final

EVENT_BYTES: Final = 113
STREAMS: Final = 64

_POOL_EVENTS: Final = 8192
_SYLLABLES: Final = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]


def small_event(number: int) -> bytes:
    """One JSON event of exactly :data:`EVENT_BYTES` bytes, different for every number."""
    text = f"event {number:08d} of a run "
    head = f'{{"type":"user.message","content":[{{"type":"text","text":"{text}'
    return head.encode("ascii").ljust(EVENT_BYTES - 4, b".") + b'"}]}'


def small_batches(size: int) -> list[list[bytes]]:
    """Some batches of ``size`` different events, to be used in turn."""
    numbers = itertools.count()
    count = max(1, _POOL_EVENTS // size)
    return [[small_event(next(numbers)) for _ in range(size)] for _ in range(count)]


def stream_name(number: int) -> str:
    return f"session-{number:04d}"


class Vocabulary:
    """Made-up words whose frequencies follow Zipf's law: word of rank r has weight 1 / r."""

    def __init__(self, words: int, seed: int) -> None:
        self.words = [self._spell(rank) for rank in range(words)]
        self._cumulative = list(itertools.accumulate(1 / (rank + 1) for rank in range(words)))
        self._random = random.Random(seed)

    @staticmethod
    def _spell(rank: int) -> str:
        """A pronounceable word of at least two syllables, different for every rank."""
        base = len(_SYLLABLES)
        syllables = [_SYLLABLES[rank % base]]
        rank //= base
        while rank or len(syllables) < 2:
            syllables.append(_SYLLABLES[rank % base])
            rank //= base
        return "".join(syllables)

    def draw(self, count: int) -> list[str]:
        return self._random.choices(self.words, cum_weights=self._cumulative, k=count)

    def choose(self, words: Sequence[str], count: int) -> list[str]:
        """``count`` different words of ``words`` (all of them, if there are fewer)."""
        distinct = list(dict.fromkeys(words))
        return self._random.sample(distinct, min(count, len(distinct)))

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


def session_events(count: int, seed: int = 1) -> list[bytes]:
    """A session as an agent leaves it, in the form it is stored and served.

    Short questions, long answers, tool calls with arguments, tool results of all sizes:
    about half a kilobyte on average, from 0.2 to 3 KiB.
    """
    vocabulary = Vocabulary(5000, seed)
    text = " ".join(vocabulary.draw(200_000))
    lengths = random.Random(seed)
    kinds = (
        ("user.message", 20, 300),
        ("agent.message", 100, 1200),
        ("agent.tool_use", 40, 400),
        ("agent.tool_result", 20, 2400),
        ("agent.thinking", 50, 500),
        ("session.status_idle", 0, 0),
    )
    events: list[bytes] = []
    for number in range(count):
        kind, low, high = kinds[number % len(kinds)]
        length = int(lengths.triangular(low, high, low)) if high else 0
        start = lengths.randrange(len(text) - length)
        event: dict[str, object] = {
            "id": f"evt_01J{number:023d}",
            "offset": f"{number:08d}",
            "created_at": f"2026-04-15T14:{number // 60 % 60:02d}:{number % 60:02d}.421Z",
            "type": kind,
        }
        if kind == "agent.tool_use":
            event["name"] = "write_file"
            event["input"] = {"path": "fib.txt", "content": text[start : start + length]}
        elif length:
            event["content"] = [{"type": "text", "text": text[start : start + length]}]
        events.append(json.dumps(event, separators=(",", ":")).encode("ascii"))
    return events
