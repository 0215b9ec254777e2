"""Feeds: who watches which topic, and the task that finds its news.

There is one task for each key and topic while somebody watches, whatever the number of pages.  A page that is
slow gets the newest message of each topic, not all of them, so nothing piles up here.

A key has a bounded number of topics.  Pages that come when there is no room for theirs are told so every few
seconds, and look at the store then.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from warehouse.errors import (
    LinkDown,
    Overloaded,
    StoreError,
    Unavailable,
)
from warehouse.webui.stores import KEY_FAILURES, OpenStore

log = logging.getLogger(__name__)

EVENTS_MAX = 100  # that wait for one page
TOPICS_OF_KEY_MAX = 56  # most have a question waiting at the master, which lets 64 of a key wait
AGAIN_S = 1.0  # after the store could not be reached
REFUSED_AGAIN_S = 5.0  # what was refused may be allowed now: the key was changed, or other pages have closed

Publish = Callable[[Mapping[str, Any]], None]
Provider = Callable[[OpenStore, str, Publish], Awaitable[None]]
_providers: dict[str, Provider] = {}


def provider(kind: str) -> Callable[[Provider], Provider]:
    """Register the function that finds news for topics `kind` or `kind:…`.

    It runs until it is cancelled, and calls `publish` with the fields of each message.  A message with the
    field "event" is one of a list and is kept; any other replaces the one before.
    """

    def register(function: Provider) -> Provider:
        assert kind not in _providers, f"two pages provide {kind}"
        _providers[kind] = function
        return function

    return register


def is_topic(name: str) -> bool:
    """Is there a provider for this topic?"""
    return name.partition(":")[0] in _providers


@dataclass(eq=False)
class Watcher:
    """One page; what waits for it."""

    newest: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    wake: trio.Event = field(default_factory=trio.Event)

    def put(self, topic: str, message: Mapping[str, Any]) -> None:
        if "event" in message:
            self.events = [*self.events, {"topic": topic, **message}][-EVENTS_MAX:]
        else:
            self.newest[topic] = {"topic": topic, **message}
        self.wake.set()

    def take(self) -> list[Mapping[str, Any]]:
        taken = [*self.events, *self.newest.values()]
        self.events, self.newest, self.wake = [], {}, trio.Event()
        return taken


@dataclass(eq=False)
class _Topic:
    """One topic of one key: its task, and the pages that watch it.

    Attributes:
        is_over: the store refused it, or there is no such bucket: a page that comes has it asked for again.
    """

    watchers: set[Watcher] = field(default_factory=set)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    latest: Mapping[str, Any] | None = None
    is_over: bool = False

    def publish(self, name: str, message: Mapping[str, Any]) -> None:
        if "event" not in message:
            self.latest = message
        for watcher in self.watchers:
            watcher.put(name, message)


class Feeds:
    """All topics that somebody watches, by key."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._topics: dict[tuple[int, str], _Topic] = {}
        self._count: Counter[int] = Counter()  # of topics, by key
        self.watcher_count = 0

    @property
    def topic_count(self) -> int:
        return len(self._topics)

    def watch(self, opened: OpenStore, watcher: Watcher, topics: set[str], before: set[str]) -> set[str]:
        """Have a page watch these topics instead of those before.

        Returns:
            Those that it watches now: for the others the key has too many already.
        """
        watched = topics & before
        for name in before - topics:
            self._leave(opened, watcher, name)
        for name in sorted(topics - before):
            topic = self._topics.get((id(opened), name))
            if topic is None and self._count[id(opened)] >= TOPICS_OF_KEY_MAX:
                watcher.put(name, {"refused": Overloaded.code})
                continue
            if topic is None or topic.is_over:
                topic = self._begin(opened, name, topic)
            topic.watchers.add(watcher)
            watched.add(name)
            if topic.latest is not None:
                watcher.put(name, topic.latest)
        return watched

    def _begin(self, opened: OpenStore, name: str, before: _Topic | None) -> _Topic:
        """Start the task of a topic; one before, which waits or has ended, leaves it its pages."""
        topic = self._topics[id(opened), name] = _Topic()
        if before is None:
            self._count[id(opened)] += 1
        else:
            topic.watchers = before.watchers
            before.scope.cancel()
        self._nursery.start_soon(self._run, opened, name, topic)
        return topic

    def _leave(self, opened: OpenStore, watcher: Watcher, name: str) -> None:
        topic = self._topics.get((id(opened), name))
        if topic is None:
            return
        topic.watchers.discard(watcher)
        if not topic.watchers:
            topic.scope.cancel()
            del self._topics[id(opened), name]
            self._count[id(opened)] -= 1
            if not self._count[id(opened)]:
                del self._count[id(opened)]

    async def _run(self, opened: OpenStore, name: str, topic: _Topic) -> None:
        try:
            with topic.scope:
                await self._provide(opened, name, topic)
        finally:
            topic.is_over = True

    async def _provide(self, opened: OpenStore, name: str, topic: _Topic) -> None:
        kind, _, rest = name.partition(":")
        publish: Publish = partial(topic.publish, name)
        while not opened.ended.is_set():
            try:
                await _providers[kind](opened, rest, publish)
                return
            except (LinkDown, Unavailable):
                publish({"unreachable": True})
                await trio.sleep(AGAIN_S)
            except KEY_FAILURES:
                opened.ended.set()
            except StoreError as error:
                refusal = {"refused": error.code}
                if (
                    refusal != topic.latest
                ):  # told once: a page that hears it looks again, and is refused, too
                    publish(refusal)
                topic.is_over = True
                await trio.sleep(REFUSED_AGAIN_S)
                topic.is_over = False
            except Exception:
                log.exception("a topic broke", extra={"topic": kind})
                await trio.sleep(AGAIN_S)
