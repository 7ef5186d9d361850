"""Helpers of csrc/ in C programs, under the sanitizers for memory and for threads.

TAILRACE_STRESS_S makes the stress last longer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from fuzz import fuzz_json_value, http_requests
from tests.csrc import programs
from tests.effort import lengthened

pytestmark = pytest.mark.long

CLIENTS: Final = 80
DURATION: Final = str(lengthened(programs.SECONDS, threads=2))
RUNS_MAX: Final = 8
BUILDS: Final = 20_000
DRAWN: Final = int(1000 * programs.SECONDS)
DRAWN_FOR_THREADS: Final = DRAWN // 8
THREADS: Final = 3
REACTOR: Final = (
    "tests/csrc/reactor_stress.c",
    "tests/csrc/reactor_answers.c",
    "tests/csrc/reactor_by_hand.c",
    "tests/csrc/stress_clients.c",
    "tests/csrc/stress_messages.c",
    "tests/csrc/dice.c",
    "csrc/front/reactor.c",
    "csrc/front/http_request.c",
    "csrc/front/answer_form.c",
    "csrc/front/collect.c",
    "csrc/front/heads.c",
    "csrc/front/json_value.c",
)
BUILDER: Final = (
    "tests/csrc/batch_build_stress.c",
    "csrc/batch_build.c",
    "csrc/batch_scan.c",
    "csrc/checksum.c",
)
FANOUT: Final = (
    "tests/csrc/fanout_stress.c",
    "tests/csrc/fanout_clients.c",
    "tests/csrc/dice.c",
    "csrc/front/fanout.c",
)
PARSER: Final = ("fuzz/fuzz_http_request.c", "fuzz/standalone.c", "csrc/front/http_request.c")
LOG: Final = (
    "fuzz/fuzz_log.c",
    "fuzz/made_log.c",
    "fuzz/standalone.c",
    "csrc/gather.c",
    "csrc/gather_small.c",
    "csrc/batch_scan.c",
    "csrc/checksum.c",
    "csrc/map.c",
)
RECOGNISER: Final = ("fuzz/fuzz_json_value.c", "fuzz/standalone.c", "csrc/front/json_value.c")

RACE: Final = """
#include <pthread.h>
static int count;
static void *work(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100000; i++)
        count++;
    return 0;
}
int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, work, 0);
    work(0);
    pthread_join(thread, 0);
    return 0;
}
"""
OVERREAD: Final = """
#include <stdlib.h>
int main(int count, char **arguments)
{
    (void)arguments;
    char *bytes = calloc(8, 1);
    int found = bytes[7 + count];
    free(bytes);
    return found;
}
"""


@pytest.mark.parametrize(
    ("sanitizer", "source"), [(programs.THREADS, RACE), (programs.MEMORY, OVERREAD)]
)
def test_a_sanitizer_objects(sanitizer: tuple[str, ...], source: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text(source, encoding="ascii")
    program = programs.build(tmp_path / "bad", [str(bad)], sanitizer)
    with pytest.raises(AssertionError, match=r"Sanitizer|runtime error"):
        programs.run(program)


def counts_of(said: str) -> dict[str, int]:
    """What a stress program says it did: a name and a number on each line."""
    print(said)
    return {name: int(number) for name, number in (line.split() for line in said.splitlines())}


def stressed(program: Path, least: Mapping[str, int]) -> Counter[str]:
    """What runs of a program did together: more than ``least``, so it did what it is for.

    One is enough, unless the machine is slow. What goes wrong in any of them is the test's.
    """
    done: Counter[str] = Counter()
    for _ in range(RUNS_MAX):
        done.update(counts_of(programs.run(program, DURATION, str(CLIENTS), str(new_seed()))))
        missing = [what for what, count in least.items() if done[what] <= count]
        if not missing:
            return done
    raise AssertionError(f"never enough of {missing}: {done}")


def new_seed() -> int:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return seed


def framed(inputs: Sequence[bytes]) -> bytes:
    """As standalone.c reads them."""
    return b"".join(len(data).to_bytes(4, "little") + data for data in inputs)


BOTH: Final = pytest.mark.parametrize(
    "sanitizer", [programs.THREADS, programs.MEMORY], ids=["tsan", "asan"]
)


@BOTH
def test_no_answer_reaches_another_client(sanitizer: tuple[str, ...], tmp_path: Path) -> None:
    """Issue 4: random disconnects, partial sends, reuse, stale handles, hand-overs, crowds."""
    program = programs.build(tmp_path / "stress", REACTOR, sanitizer)
    least = {"connections": CLIENTS, "answers": CLIENTS}
    least |= dict.fromkeys(
        ("left", "handed", "adopted", "stale", "unsent", "offered", "rows", "departed", "kept"), 0
    )
    counts = stressed(program, least)
    assert counts["records"] > counts["rows"]


@BOTH
def test_fan_out_gives_every_socket_its_own_bytes_in_order(
    sanitizer: tuple[str, ...], tmp_path: Path
) -> None:
    """Issue 4: subscribers that stall, take a part, leave, are cut off and replaced."""
    program = programs.build(tmp_path / "fanout", FANOUT, sanitizer)
    least = dict.fromkeys(("messages", "shorts", "left", "replaced", "caught_up", "ended"), 0)
    stressed(program, {"received": 1_000_000, **least})


@pytest.mark.parametrize(
    ("sources", "make", "bytes_max"),
    [(PARSER, http_requests.make, 3000), (RECOGNISER, fuzz_json_value.make, 1000)],
    ids=["requests", "records"],
)
def test_a_parser_stays_within_its_input(
    sources: tuple[str, ...],
    make: Callable[[random.Random], bytes],
    bytes_max: int,
    tmp_path: Path,
) -> None:
    """Each part of each input in memory of its own, so that reading one byte on is seen."""
    program = programs.build(tmp_path / "parser", sources, programs.MEMORY)
    dice = random.Random(4)
    inputs = [make(dice)[:bytes_max] for _ in range(DRAWN)]
    assert programs.run(program, given=framed(inputs)) == f"{DRAWN} inputs\n"


def test_batches_are_made_of_columns_that_fit_together_and_of_no_others(tmp_path: Path) -> None:
    program = programs.build(tmp_path / "builder", BUILDER, programs.MEMORY)
    counts = counts_of(programs.run(program, given=b"%d %d" % (BUILDS, new_seed())))
    assert sum(counts.values()) == BUILDS
    for what in ("built", "counts", "lengths", "comma", "room"):
        assert counts[what] > BUILDS // 200, what


def log_inputs(count: int) -> list[bytes]:
    """As fuzz_log.c has them: a log's seed, a byte of choices, edits of five bytes each."""
    dice = random.Random(new_seed())
    return [dice.randbytes(9 + 5 * dice.choice((0, 0, 1, 2, 5))) for _ in range(count)]


def test_what_reads_the_log_stays_within_it(tmp_path: Path) -> None:
    """Issue 4: valid logs come back as they were written; damaged ones are not read beyond."""
    program = programs.build(tmp_path / "log", LOG, programs.MEMORY)
    assert programs.run(program, given=framed(log_inputs(DRAWN))) == f"{DRAWN} inputs\n"


def test_threads_read_logs_at_the_same_time(tmp_path: Path) -> None:
    program = programs.build(tmp_path / "log", LOG, programs.THREADS)
    given = framed(log_inputs(DRAWN_FOR_THREADS))
    assert programs.run(program, str(THREADS), given=given) == f"{DRAWN_FOR_THREADS} inputs\n"
