"""Write the golden files of the format this version writes: ``python -m tests.golden.make_golden``.

Run once for each format version, never again for one that was released: the files stand for
the directories that people have. ``tests/engine/test_golden.py`` opens all of them for ever.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import tailrace
from tailrace import (
    Append,
    Create,
    ForkPoint,
    Options,
    Producer,
    SetMetadata,
    Store,
    StreamKey,
    StreamOptions,
    Trim,
)
from tests.engine.workload import START_MS, Clock, observe

HERE = Path(__file__).parent
FORMAT = 3
NAMES = ("json", "text", "fork", "cut", "chain", "closed", "gone", "hidden", "ttl", "until", "ünï")
KEYS = [StreamKey(bucket, name) for bucket in ("alpha", "beta-1") for name in NAMES]
LOST = StreamKey("beta-1", "lost")
"""In the repaired directory, its second record of four is lost."""
OPTIONS = Options(segment_bytes=64 * 1024, checkpoint_every_bytes=60 * 1024, background=False)


def fill(store: Store, clock: Clock) -> None:
    """Something of everything the format can say."""

    def do(*operations: tailrace.Operation) -> None:
        for ticket in store.submit(operations):
            outcome = ticket.wait(60)
            assert not isinstance(outcome, tailrace.Rejection), outcome

    alpha = {name: StreamKey("alpha", name) for name in NAMES}
    json_type = StreamOptions("application/json; charset=utf-8", searchable=True, metadata=b"\0m")
    store.create_bucket("alpha")
    store.create_bucket("beta-1")
    do(Create(alpha["json"], json_type, [b'{"type":"note","text":"golden first"}']))
    do(Append(StreamKey("beta-1", "json"), [b"1", b'"two"'], create=json_type, stream_seq="a"))
    do(Create(alpha["text"], StreamOptions("text/plain"), [b"hello", b"", b"world"]))
    clock.now_ms += 5
    do(
        Append(alpha["json"], [b'{"type":"note","text":"golden second"}', b"[1,2]"],
               producer=Producer("p", 1, 0), stream_seq="m"),
        Append(alpha["json"], [b'{"type":"other","text":"third"}'], producer=Producer("p", 1, 1)),
        Append(alpha["text"], [b"\xff\0binary"], producer=Producer("ü", 0, 0)),
        Create(alpha["ttl"], StreamOptions(ttl_ms=60_000)),
        Create(alpha["until"], StreamOptions(expires_at_ms=START_MS + 10**9)),
        Create(alpha["ünï"], StreamOptions("application/octet-stream"), [b"name"]),
    )  # fmt: skip
    do(Create(alpha["fork"], fork=ForkPoint(alpha["json"], 2), records=[b'{"text":"own golden"}']))
    store.fork(alpha["cut"], alpha["text"], ordinal=0, sub_offset=3)
    do(Append(alpha["cut"], [b"after the cut"]))
    do(Create(alpha["hidden"], StreamOptions("text/plain"), [b"held by a fork", b"and this"]))
    store.fork(alpha["chain"], alpha["hidden"], ordinal=1)
    store.delete(alpha["hidden"])
    do(Create(alpha["gone"], records=[b"x"]))
    store.delete(alpha["gone"])
    do(Append(alpha["closed"], [b"last"], producer=Producer("closer", 3, 0), close=True,
              create=StreamOptions("text/plain")))  # fmt: skip
    for number in range(4):
        do(Append(LOST, [b"%d of what is lost" % number], create=StreamOptions("text/plain")))
    for number in range(60):
        do(Append(alpha["text"], [b"%d" % number * 400] * 3))
    do(Trim(alpha["text"], 2), SetMetadata(alpha["text"], b'{"set":"later"}'))
    put_snapshot(store, alpha["json"], 2, b'{"folded":2}', "application/json")
    put_snapshot(store, alpha["text"], 100, b"replaced", "text/plain")
    put_snapshot(store, alpha["text"], 150, bytes(range(256)) * 20, "application/x; v=1")
    put_snapshot(store, alpha["chain"], 1, b"", "application/octet-stream")
    do(Append(alpha["json"], [b'{"type":"note","text":"golden last"}']))


def put_snapshot(
    store: Store, key: StreamKey, ordinal: int, content: bytes, content_type: str
) -> None:
    with store.begin_snapshot(key, ordinal, content_type=content_type) as writer:
        writer.write(content)
        writer.commit()


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it; bytes one character each."""
    match value:
        case bytes():
            return value.decode("latin-1")
        case StreamKey():
            return str(value)
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


def damage_and_repair(directory: Path) -> None:
    """Damage a record of ``LOST`` in a directory that was not closed; give it up."""
    hurt = 0
    for segment in directory.glob("log/*.segment"):
        content = segment.read_bytes()
        hurt += content.count(b"1 of what is lost")
        segment.write_bytes(content.replace(b"1 of what is lost", b"1 of what is last"))
    assert hurt == 1
    assert len(tailrace.repair(directory).lost) == 1


def pack(directory: Path, name: str) -> None:
    with tarfile.open(HERE / f"{name}.tar.xz", "w:xz") as archive:
        for file in sorted(directory.rglob("*")):
            if file.is_file() and file.name != "LOCK":
                archive.add(file, str(file.relative_to(directory)))


def main() -> None:
    if list(HERE.glob(f"format-{FORMAT}-*")):
        sys.exit(f"there are golden files of format {FORMAT}; they are never written again")
    with tempfile.TemporaryDirectory() as scratch:
        live, crashed, repaired = (Path(scratch, name) for name in ("live", "crashed", "repaired"))
        clock = Clock()
        store = tailrace.open(live, options=OPTIONS, now_ms=clock)
        fill(store, clock)
        position = store.counters()["durable_position"]
        shutil.copytree(live, crashed)
        shutil.copytree(live, repaired)
        damage_and_repair(repaired)
        segment = crashed / "log" / f"{position // OPTIONS.segment_bytes:016x}.segment"
        with segment.open("r+b") as file:
            file.seek(position % OPTIONS.segment_bytes)
            file.write(b"a write that the crash tore" * 5)
        seen = observe(store, KEYS)
        store.close()
        pack(live, f"format-{FORMAT}-closed")
        pack(crashed, f"format-{FORMAT}-crashed")
        pack(repaired, f"format-{FORMAT}-repaired")
        expected = {"now_ms": clock.now_ms, **plain(seen)}
        text = json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True)
        (HERE / f"format-{FORMAT}-expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
