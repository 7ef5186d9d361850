"""Sliding TTLs that reads renew, in the background and one renewal of a stream at a time."""

from __future__ import annotations

from tailrace.commit import Committer
from tailrace.errors import TailraceError
from tailrace.operation import Touch
from tailrace.stream import StreamState, needs_touch
from tailrace.ticket import Ticket


class Toucher:
    """Renews through ``committer``. Any thread may call."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._under_way: set[int] = set()

    def touch(self, state: StreamState, now_ms: int) -> None:
        """Have the stream's TTL renewed if it is time to (protocol section 5.1). Does not wait."""
        if not needs_touch(state, now_ms):
            return
        stream_id = state.config.stream_id
        if stream_id in self._under_way or self._committer.poison is not None:
            return
        self._under_way.add(stream_id)
        try:
            ticket = Ticket(self._done, stream_id, internal=True)
            self._committer.submit([Touch(state.config.key)], [ticket], [None])
        except TailraceError:
            # The read is still good; the next one tries again.
            self._under_way.discard(stream_id)

    def _done(self, ticket: Ticket) -> None:
        assert isinstance(ticket.context, int)
        self._under_way.discard(ticket.context)
