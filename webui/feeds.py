"""Feeds: who watches which topic, and the task that finds its news.

There is one task for each key and topic while somebody watches, whatever the number of pages.  A page that is
slow gets the newest message of each topic, not all of them, so nothing piles up here.
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
TOPICS_OF_KEY_MAX = 200  # each has a task, and may have a question waiting at the master
AGAIN_S = 1.0  # after the store could not be reached

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
        is_over: its task has ended: the store refused it, or there is no such bucket.
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

    def watch(self, opened: OpenStore, watcher: Watcher, topics: set[str], before: set[str]) -> None:
        """Have a page watch these topics instead of those before."""
        for name in before - topics:
            self._leave(opened, watcher, name)
        for name in sorted(topics - before):
            topic = self._topics.get((id(opened), name))
            if topic is None and self._count[id(opened)] >= TOPICS_OF_KEY_MAX:
                watcher.put(name, {"refused": Overloaded.code})
                continue
            if topic is None or topic.is_over:  # refused before: the key may do more now
                self._count[id(opened)] += topic is None
                watchers = set[Watcher]() if topic is None else topic.watchers
                topic = self._topics[id(opened), name] = _Topic(watchers)
                self._nursery.start_soon(self._run, opened, name, topic)
            topic.watchers.add(watcher)
            if topic.latest is not None:
                watcher.put(name, topic.latest)

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
                await self._provide(opened, name, partial(topic.publish, name))
        finally:
            topic.is_over = True

    async def _provide(self, opened: OpenStore, name: str, publish: Publish) -> None:
        kind, _, rest = name.partition(":")
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
                publish({"refused": error.code})
                return
            except Exception:
                log.exception("a topic broke", extra={"topic": kind})
                await trio.sleep(AGAIN_S)
