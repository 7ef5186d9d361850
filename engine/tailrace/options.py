"""What a caller may set when a store is opened, with the bounds of each value."""

from __future__ import annotations

from dataclasses import dataclass

from tailrace import limits
from tailrace.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an open store.

    segment_bytes: size of a log segment file; fixed when the store is created, ignored after.
    staged_bytes_max: bytes accepted but not yet durable before :class:`Overloaded`.
    checkpoint_every_bytes: log bytes between two checkpoints (bounds recovery time).
    mark_idle_s: after this long without writes, a small batch records how much is durable,
        so that damage to the very last group is told from a torn write; None turns it off.
    expiry_sweep_s: how often expired streams are deleted; they are invisible at once anyway.
    index_lag_bytes_max: log bytes that search may lag behind before writers wait for it.
    reserve_bytes_max: zeroed room kept ahead of the log for bursts, beside the next segment: as
        much as the last bursts would have used (none before the first), in whole segments, and
        given back when the disk runs short or it was not used for hours. 0: none.
    background: run the committer, upkeep and indexer as threads. Without it the caller's own
        thread does that work inside its calls: slower, deterministic, for tests and tools.
    """

    segment_bytes: int = limits.SEGMENT_BYTES_DEFAULT
    staged_bytes_max: int = limits.STAGED_BYTES_MAX_DEFAULT
    checkpoint_every_bytes: int = limits.CHECKPOINT_EVERY_BYTES_DEFAULT
    mark_idle_s: float | None = limits.MARK_IDLE_S_DEFAULT
    expiry_sweep_s: float = limits.EXPIRY_SWEEP_S_DEFAULT
    index_lag_bytes_max: int = limits.INDEX_LAG_BYTES_MAX_DEFAULT
    reserve_bytes_max: int = limits.RESERVE_BYTES_MAX_DEFAULT
    background: bool = True

    def __post_init__(self) -> None:
        low, high = limits.SEGMENT_BYTES_MIN, limits.SEGMENT_BYTES_MAX
        for field in (
            "segment_bytes",
            "staged_bytes_max",
            "checkpoint_every_bytes",
            "index_lag_bytes_max",
            "reserve_bytes_max",
        ):
            if not isinstance(getattr(self, field), int):
                raise InvalidArgument(field, "must be an integer")
        if not low <= self.segment_bytes <= high or self.segment_bytes % limits.PAGE_BYTES:
            raise InvalidArgument(
                "segment_bytes", f"must be a multiple of {limits.PAGE_BYTES} from {low} to {high}"
            )
        for field in ("staged_bytes_max", "checkpoint_every_bytes", "index_lag_bytes_max"):
            if getattr(self, field) <= 0:
                raise InvalidArgument(field, "must be more than 0")
        if self.reserve_bytes_max < 0:
            raise InvalidArgument("reserve_bytes_max", "must not be negative")
        if self.mark_idle_s is not None:
            _seconds("mark_idle_s", self.mark_idle_s)
        _seconds("expiry_sweep_s", self.expiry_sweep_s)


def _seconds(field: str, value: float) -> None:
    """A thread waits so long: what cannot be waited for would end it."""
    if not isinstance(value, int | float) or not 0 < value <= limits.SECONDS_MAX:
        raise InvalidArgument(field, f"must be more than 0, and at most {limits.SECONDS_MAX:.0f}")
