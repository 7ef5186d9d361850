"""All subscriptions of a server: what clients ask of them, and what wakes them.

Every subscription has one task. It sleeps until one of its streams has changed (told by the
engine's group callback), a lease ends or a retry is due; then it asks the machine what
follows, writes that down, and does what the new state wants. Commands of clients change the
same state under the same lock. What is done in the world comes after the record that wants
it, so a crash in between leaves it wanted.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from tailrace.core import wall_clock_ms
from tailrace.errors import LogPoisoned, Overloaded, Rejected, StoreClosed
from tailrace.operation import StreamKey
from tailrace_server.config import FLAT_BUCKET
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.metrics import WebhookMetrics
from tailrace_server.protocol import subscription_machine as machine
from tailrace_server.protocol.subscription_error import (
    SUBSCRIPTION_ALREADY_EXISTS,
    TOO_MANY_SUBSCRIPTIONS,
    SubscriptionError,
    fenced,
    invalid,
    not_found,
)
from tailrace_server.protocol.subscription_glob import glob_match, literal_prefix
from tailrace_server.protocol.subscription_machine import Moment, Tail, Wanted
from tailrace_server.protocol.subscription_request import Settlement
from tailrace_server.protocol.subscription_state import (
    Config,
    Event,
    Link,
    Rebased,
    State,
    Whole,
    apply,
    whole,
)
from tailrace_server.protocol.subscription_token import make_token, read_token
from tailrace_server.protocol.subscription_url import WebhookUrl, webhook_url
from tailrace_server.protocol.subscription_view import claimed, stream_infos, subscription
from tailrace_server.subscriptions.delivery import Deliveries
from tailrace_server.subscriptions.journal import Journal, Stored
from tailrace_server.subscriptions.live import LiveSubscription
from tailrace_server.subscriptions.watch import Watch

SUBSCRIPTIONS_MAX: Final = 10_000
LINKS_MAX: Final = 100_000
"""Streams that one pattern may match when a subscription is made."""
COMPACT_RECORDS: Final = 512
_PAUSE_S: Final = 1.0

_log = structlog.get_logger("tailrace.subscriptions")


class Subscriptions:
    """``local_allowed`` says whether webhooks may be on this machine (development).

    ``base_url``: this server as webhooks reach it; None: as a subscription's maker came.
    """

    def __init__(
        self,
        bridge: EngineBridge,
        metrics: WebhookMetrics,
        *,
        local_allowed: Callable[[], bool],
        webhook_timeout_s: float,
        base_url: str | None = None,
        clock: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._bridge = bridge
        self._local_allowed = local_allowed
        self._base_url = base_url
        self._clock = clock
        self._journal = Journal(bridge, clock)
        self._deliveries = Deliveries(self, bridge, metrics, webhook_timeout_s)
        self._watch = Watch(bridge)
        self._making = trio.Lock()
        self._nursery: trio.Nursery | None = None

    # ---- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up every subscription where it was left, and keep them going."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for stored in await self._journal.load():
                    self._adopt(stored)
                task_status.started()
                await self._watch.discover(list(self._watch.lives.values()))
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._watch.stop()

    def _adopt(self, stored: Stored) -> LiveSubscription:
        live = LiveSubscription(stored)
        self._watch.add(live)
        if self._nursery is None:
            raise StoreClosed("the server is stopping")
        self._nursery.start_soon(self._keep, live)
        return live

    async def _keep(self, live: LiveSubscription) -> None:
        """One subscription's task."""
        with live.scope:
            while not live.gone:
                live.news = trio.Event()
                try:
                    now_ms = await self._step(live)
                except (LogPoisoned, StoreClosed):
                    return  # no change can be written down any more; a restart takes it up
                except Overloaded as error:
                    await trio.sleep(error.retry_after_s)
                    continue
                except Exception as error:
                    _log.error("subscription failed", subscription=live.id, exc_info=error)
                    await trio.sleep(_PAUSE_S)
                    continue
                due_ms = machine.deadline(live.state, now_ms)
                wait_s = math.inf if due_ms is None else max(1, due_ms - self._clock()) / 1000
                with trio.move_on_after(wait_s):
                    await live.news.wait()

    async def _step(self, live: LiveSubscription) -> int:
        """Do all that is due; the time it was done for, in ms."""
        async with live.lock:
            await self._rebase(live, self._base_url)
            moment = self.moment()
            candidates = list(live.candidates)
            events = machine.tick(live.state, moment, candidates, self.tail)
            await self.commit(live, events)
            if not events and live.state.wake is None and live.state.retry_at_ms is None:
                # None of them had work; what came meanwhile would not be in the list.
                for path in candidates:
                    if not machine.is_pending(live.state, path, self.tail):
                        live.candidates.pop(path, None)
            wanted = machine.wanted(live.state, moment.now_ms)
            if wanted is Wanted.ANNOUNCE:
                await self._deliveries.announce(live)
        if wanted is Wanted.DELIVER and self._nursery is not None:
            self._deliveries.start(live, self._nursery)
        return moment.now_ms

    # ---- what others need

    def figures(self) -> dict[str, int]:
        """For monitoring; the backlog is of webhooks that have not taken their last wake."""
        lives = self._watch.lives
        backlog = sum(machine.is_undelivered(live.state) for live in lives.values())
        return {"subscriptions": len(lives), "webhook_backlog": backlog}

    def moment(self) -> Moment:
        return Moment(self._clock(), f"w_{secrets.token_hex(12)}", random.uniform(-1, 1))

    def tail(self, path: str) -> Tail | None:
        try:
            head = self._bridge.store.head(StreamKey(FLAT_BUCKET, path))
        except Rejected:
            return None
        return Tail(head.stream_id, head.tail)

    def webhook_of(self, state: State) -> WebhookUrl:
        """The URL, judged again: what is allowed may have changed since it was stored."""
        return webhook_url(state.config.webhook_url or "", local_allowed=self._local_allowed())

    async def token(self, live: LiveSubscription, generation: int) -> str:
        key = (await self._journal.keys()).token_key
        return make_token(key, live.id, live.state.nonce, generation, self._clock())

    async def signature(self, body: bytes) -> str:
        return (await self._journal.keys()).signature(body, self._clock() // 1000)

    async def jwks(self) -> object:
        return (await self._journal.keys()).jwks(self._clock() // 1000)

    async def commit(self, live: LiveSubscription, events: Sequence[Event]) -> None:
        """Make events durable, then the state what follows from them. Needs the lock."""
        if not events:
            return
        live.tail = await self._journal.append(live.id, live.tail, list(events))
        live.records += len(events)
        for event in events:
            live.state = apply(live.state, event)
        live.poke()
        if live.records > max(COMPACT_RECORDS, len(live.state.links) // 8):
            await self._compact(live)

    async def _compact(self, live: LiveSubscription) -> None:
        links = live.state.links
        for path, link in list(links.items()):
            if not link.explicit and self.tail(path) is None:
                links = links.delete(path)
                live.known.discard(path)
        state = whole(live.state, links)
        live.tail = await self._journal.compact(live.id, live.tail, state)
        live.state = apply(None, state)
        live.records = 1

    # ---- commands

    def get(self, id: str) -> LiveSubscription:
        found = self._watch.lives.get(id)
        if found is None or found.gone:
            raise not_found(id)
        return found

    async def put(self, id: str, config: Config, base_url: str) -> tuple[LiveSubscription, bool]:
        """Make a subscription, or confirm one with the same configuration (section 6.2).

        Configurations are compared whole, which is what comparing their hashes stands for.
        """
        async with self._making:
            live = self._watch.lives.get(id)
            if live is not None:
                return await self._confirm(live, config, base_url), False
            if config.webhook_url is not None:
                webhook_url(config.webhook_url, local_allowed=self._local_allowed())
            if len(self._watch.lives) >= SUBSCRIPTIONS_MAX:
                raise SubscriptionError(
                    TOO_MANY_SUBSCRIPTIONS, f"this server has {SUBSCRIPTIONS_MAX} already"
                )
            await self._journal.keys()
            links = await self._links(config)
            first = Whole(config, secrets.token_hex(8), base_url, self._clock(), links)
            tail = await self._journal.create(id, first)
            live = self._adopt(Stored(id, apply(None, first), tail, 1))
            # What was made since the streams were listed was not noticed yet.
            await self._watch.discover([live])
            return live, True

    async def _confirm(
        self, live: LiveSubscription, config: Config, base_url: str
    ) -> LiveSubscription:
        if live.state.config != config:
            raise SubscriptionError(
                SUBSCRIPTION_ALREADY_EXISTS,
                f"subscription {live.id!r} exists with another configuration",
            )
        async with live.lock:
            await self._rebase(live, base_url)
        return live

    async def _rebase(self, live: LiveSubscription, base_url: str | None) -> None:
        if base_url is not None and live.state.base_url != base_url:
            await self.commit(live, [Rebased(base_url)])

    async def _links(self, config: Config) -> dict[str, Link]:
        """What a new subscription is linked to: existing streams, at their tails."""
        links: dict[str, Link] = {}
        if config.pattern is not None:
            for page in self._watch.pages(literal_prefix(config.pattern)):
                for head in page:
                    name = head.key.stream
                    if name != config.wake_stream and glob_match(config.pattern, name):
                        links[name] = Link(False, head.stream_id, head.tail)
                if len(links) > LINKS_MAX:
                    raise invalid(f"pattern: matches more than {LINKS_MAX} streams; narrow it")
                await trio.lowlevel.checkpoint()
        for path in config.streams:
            links[path] = machine.link_at(self.tail(path))
        return links

    async def view(self, live: LiveSubscription) -> dict[str, object]:
        infos, _ = stream_infos(live.state, live.known, self.tail, count_max=len(live.known))
        infos.sort(key=lambda info: str(info["path"]))
        key = (await self._journal.keys()).active(self._clock() // 1000)
        return subscription(live.id, live.state, infos, key.kid)

    async def delete(self, id: str) -> None:
        """Delete a subscription; one that is not there stays so."""
        async with self._making:
            live = self._watch.lives.get(id)
            if live is None:
                return
            async with live.lock:
                await self._journal.delete(id)
                live.end()
                self._watch.remove(live)

    async def link(self, id: str, paths: Sequence[str]) -> None:
        live = self.get(id)
        async with live.lock:
            self._still_there(live)
            if len(live.state.links) + len(paths) > LINKS_MAX:
                raise invalid(f"streams: a subscription has at most {LINKS_MAX} links")
            await self.commit(live, machine.link(live.state, paths, self.tail))
            self._watch.links_changed()
            for path in paths:
                live.notice(path)

    async def unlink(self, id: str, path: str) -> None:
        live = self.get(id)
        async with live.lock:
            self._still_there(live)
            await self.commit(live, machine.unlink(live.state, path))
            self._watch.links_changed()
            if machine.link_of(live.state, path) is None:
                live.known.discard(path)
                live.candidates.pop(path, None)

    async def claim(self, id: str, worker: str) -> dict[str, object]:
        live = self.get(id)
        async with live.lock:
            self._still_there(live)
            events, refusal = machine.claim(
                live.state, worker, self.moment(), list(live.candidates), self.tail
            )
            await self.commit(live, events)
            if refusal is not None:
                raise refusal
            wake = live.state.wake
            assert wake is not None
            infos, _ = stream_infos(live.state, live.known, self.tail)
            token = await self.token(live, wake.generation)
            return claimed(wake, token, infos, live.state.config.lease_ttl_ms)

    async def acknowledge(self, id: str, type: str, token: str, sent: Settlement) -> bool:
        """A callback or an ack; whether it ended in a next wake."""
        live = self.get(id)
        async with live.lock:
            await self._check_token(live, type, token, sent)
            events = machine.acknowledge(
                live.state,
                sent.wake,
                sent.acks,
                self.moment(),
                list(live.candidates),
                self.tail,
                done=sent.done,
            )
            await self.commit(live, events)
            return sent.done and live.state.wake is not None

    async def release(self, id: str, token: str, sent: Settlement) -> None:
        live = self.get(id)
        async with live.lock:
            await self._check_token(live, "pull-wake", token, sent)
            events = machine.release(
                live.state, sent.wake, self.moment(), list(live.candidates), self.tail
            )
            await self.commit(live, events)

    def _still_there(self, live: LiveSubscription) -> None:
        if live.gone:
            raise not_found(live.id)

    async def _check_token(
        self, live: LiveSubscription, type: str, token: str, sent: Settlement
    ) -> None:
        self._still_there(live)
        key = (await self._journal.keys()).token_key
        generation = read_token(key, token, live.id, live.state.nonce, self._clock())
        if live.state.config.type != type:
            raise invalid(f"this is a {live.state.config.type} subscription")
        if generation != sent.wake[1]:
            raise fenced()
