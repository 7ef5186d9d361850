"""How long caches may keep what is read (protocol sections 10.1 and 12.7)."""

from __future__ import annotations

from tailrace_server.protocol.stream_response import cache_control


def test_10_1_data_is_kept_a_minute() -> None:
    for scope, private in (("public", False), ("private", True)):
        expected = f"{scope}, max-age=60, stale-while-revalidate=300"
        assert cache_control(final=True, private=private, expires_in_ms=None) == expected


def test_10_1_the_open_tail_is_asked_about_again() -> None:
    assert cache_control(final=False, private=False, expires_in_ms=None) == "public, no-cache"


def test_10_1_no_answer_outlives_its_stream() -> None:
    def kept(expires_in_ms: int) -> str:
        return cache_control(final=True, private=False, expires_in_ms=expires_in_ms)

    assert kept(10_000_000) == "public, max-age=60, stale-while-revalidate=300"
    assert kept(100_000) == "public, max-age=60, stale-while-revalidate=40"
    assert kept(7_900) == "public, max-age=7, stale-while-revalidate=0"
    assert kept(999) == kept(-5) == "no-store"
