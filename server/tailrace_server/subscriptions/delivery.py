"""What wakes do in the world: webhook requests and wake events.

Either may be done twice after a crash, never not at all: a webhook is called again until it
took the wake or the lease is over; a wake event carries the wake's generation as its
producer epoch, so the wake stream holds it once however often it is written.
"""

from __future__ import annotations

from typing import Final, Protocol

import structlog
import trio

from tailrace.errors import LogPoisoned, StoreClosed, TailraceError
from tailrace.operation import Append, Producer, StreamKey
from tailrace.outcome import Rejection
from tailrace_server.config import FLAT_BUCKET
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.metrics import WebhookFailure, WebhookMetrics
from tailrace_server.protocol import subscription_machine as machine
from tailrace_server.protocol.subscription_error import SubscriptionError
from tailrace_server.protocol.subscription_machine import Moment, Tail
from tailrace_server.protocol.subscription_state import Event, State, Wake
from tailrace_server.protocol.subscription_url import WebhookUrl
from tailrace_server.protocol.subscription_view import (
    notification,
    says_done,
    stream_infos,
    wake_event,
)
from tailrace_server.subscriptions.live import LiveSubscription
from tailrace_server.subscriptions.webhook import DeliveryFailed, post

DELIVERIES_MAX: Final = 256
_PAUSE_S: Final = 1.0

_log = structlog.get_logger("tailrace.subscriptions")


class Owner(Protocol):
    """What a delivery needs of those who keep the subscriptions."""

    def moment(self) -> Moment: ...

    def tail(self, path: str) -> Tail | None: ...

    def webhook_of(self, state: State) -> WebhookUrl: ...

    async def token(self, live: LiveSubscription, generation: int) -> str: ...

    async def signature(self, body: bytes) -> str: ...

    async def commit(self, live: LiveSubscription, events: list[Event]) -> None: ...


class Deliveries:
    """``timeout_s``: how long one webhook request may take, its answer included."""

    def __init__(
        self, owner: Owner, bridge: EngineBridge, metrics: WebhookMetrics, timeout_s: float
    ) -> None:
        self._owner = owner
        self._bridge = bridge
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._slots = trio.CapacityLimiter(DELIVERIES_MAX)

    async def announce(self, live: LiveSubscription) -> None:
        """Write the event of the wake in flight, unless that was done. Needs the lock."""
        wake, wake_stream = live.state.wake, live.state.config.wake_stream
        assert wake is not None
        assert wake_stream is not None
        if live.announced == wake.id:
            return
        live.announced = wake.id
        producer = Producer(f"__ds:{live.state.nonce}", wake.generation, 0)
        event = wake_event(live.id, wake)
        append = Append(StreamKey(FLAT_BUCKET, wake_stream), [event], producer=producer)
        try:
            with trio.CancelScope(shield=True):
                outcome = await self._bridge.perform(append)
        except TailraceError:
            live.announced = None
            raise
        if isinstance(outcome, Rejection):
            # The wake stays in flight, and can be claimed; made anew, the stream gets the event.
            _log.warning(
                "wake not written", subscription=live.id, stream=wake_stream, why=outcome.message
            )

    def start(self, live: LiveSubscription, nursery: trio.Nursery) -> None:
        """Call the webhook for the wake in flight, unless that is being done."""
        wake = live.state.wake
        if wake is None or live.gone or live.delivering == wake.id:
            return
        live.delivery.cancel()  # one of an earlier wake, whose lease is over
        live.delivery = trio.CancelScope()
        live.delivering = wake.id
        nursery.start_soon(self._run, live, wake, live.delivery)

    async def _run(self, live: LiveSubscription, wake: Wake, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._deliver(live, wake)
            except (LogPoisoned, StoreClosed):
                return  # it stays wanted, after a restart
            except Exception as error:
                # Not written down, so it will be called again.
                _log.error("delivery failed", subscription=live.id, exc_info=error)
                await trio.sleep(_PAUSE_S)
        if live.delivering == wake.id:
            live.delivering = None
            live.poke()

    async def _deliver(self, live: LiveSubscription, wake: Wake) -> None:
        owner = self._owner
        done: dict[str, Tail] | None = None
        failure: str | None = None
        kind: WebhookFailure | None = None
        async with self._slots:
            state = live.state
            if state.wake is None or state.wake.id != wake.id:
                return
            began_s = trio.current_time()
            try:
                url = owner.webhook_of(state)
                infos, told = stream_infos(state, live.known, owner.tail)
                token = await owner.token(live, wake.generation)
                body = notification(live.id, state, wake, infos, token)
                signature = await owner.signature(body)
                answer = await post(url, body, signature, timeout_s=self._timeout_s)
                if says_done(answer):
                    done = told
            except DeliveryFailed as error:
                failure, kind = str(error), error.kind
            except SubscriptionError as error:
                failure, kind = str(error), WebhookFailure.REFUSED
            except trio.Cancelled:
                if live.delivering not in (None, wake.id):
                    self._count(state, began_s, WebhookFailure.SUPERSEDED)
                raise
            self._count(state, began_s, kind)
        async with live.lock:
            if live.gone:
                return
            moment, candidates = owner.moment(), list(live.candidates)
            if failure is None:
                events = machine.delivered(
                    live.state, wake.id, done, moment, candidates, owner.tail
                )
            else:
                events = machine.failed(live.state, wake.id, moment)
                _log.info(
                    "webhook failed", subscription=live.id, generation=wake.generation, why=failure
                )
            await owner.commit(live, events)

    def _count(self, state: State, began_s: float, kind: WebhookFailure | None) -> None:
        """A call has ended, that began in ``state``."""
        self._metrics.called(trio.current_time() - began_s, kind, again=state.retries > 0)
