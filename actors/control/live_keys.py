"""Live keys: the API keys of open sessions, as the catalog has them at this moment.

A session does not keep the rights that its key had when it was opened.  It keeps the key, which changes here
as soon as the change is durable.  So an edit counts for the next request of every open connection.

Those who must act when a key changes (connections to end, volume actors to tell) are called in `on_change`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from warehouse.actors.control.context import now_ms
from warehouse.actors.control.key_throttle import KeyThrottle
from warehouse.auth.limits import NO_LIMITS
from warehouse.auth.rights import Rights
from warehouse.catalog.identities import ApiKeyRow
from warehouse.catalog.interface import Catalog, Transaction
from warehouse.catalog.writer import CatalogWriter
from warehouse.errors import StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

NOTE_USED_S = 20.0  # how old the time of the last use may get in the catalog


class LiveKey:
    """One API key; `row` is None when it is gone."""

    __slots__ = ("key_id", "rights", "row", "s3_rights", "throttle", "used_ms")

    def __init__(self, key_id: str, row: ApiKeyRow | None) -> None:
        self.key_id = key_id
        self.used_ms = 0  # since it was last noted in the catalog; 0: not
        self.throttle: KeyThrottle | None = None  # None: no limit
        self.changed(row)

    def is_good(self, epoch: int, at_ms: int) -> bool:
        """Does what the key signed at this epoch still count?"""
        row = self.row
        return row is not None and row.epoch == epoch and row.is_usable(at_ms)

    def changed(self, row: ApiKeyRow | None) -> None:
        self.row: ApiKeyRow | None = row
        self.rights = _NOTHING if row is None else row.rights
        self.s3_rights = self.rights.of_account("" if row is None else row.account_id)
        limits = NO_LIMITS if row is None else row.limits
        if limits == NO_LIMITS:
            self.throttle = None
        elif self.throttle is None:
            self.throttle = KeyThrottle(limits)
        else:
            self.throttle.limits = limits  # what is under way still counts


_NOTHING = Rights.nothing()


class LiveKeys:
    """
    Attributes:
        on_change: called with a key right after its change is durable, and before the change is answered.
    """

    def __init__(self, catalog: Catalog, writer: CatalogWriter) -> None:
        self._catalog = catalog
        self._writer = writer
        self._keys: dict[str, LiveKey] = {}
        self.on_change: list[Callable[[LiveKey], None]] = []

    def get(self, key_id: str) -> LiveKey | None:
        """The key; None: there is none of that id."""
        known = self._keys.get(key_id)
        if known is not None:
            return known
        row = self._catalog.api_key(key_id)
        if row is None:
            return None
        self._keys[key_id] = live = LiveKey(key_id, row)
        return live

    async def write(self, key_id: str, work: Callable[[Transaction], T], *, is_growth: bool = False) -> T:
        """Do `work`, which makes, changes or deletes this key, in a transaction; return its result.

        Raises:
            StoreError: as `CatalogWriter.write`, or what `work` raised.
        """
        try:
            return await self._writer.write(work, is_growth=is_growth)
        finally:
            self._refresh(key_id)

    async def add(self, row: ApiKeyRow) -> ApiKeyRow:
        """Raises as `Transaction.add_api_key`."""
        return await self.write(row.id, lambda t: t.add_api_key(row), is_growth=True)

    async def change(self, key_id: str, change: Callable[[ApiKeyRow], ApiKeyRow]) -> ApiKeyRow:
        """Raises as `Transaction.change_api_key`."""
        at_ms = now_ms()
        return await self.write(key_id, lambda t: t.change_api_key(key_id, change, now_ms=at_ms))

    async def delete(self, key_id: str) -> None:
        """Raises as `Transaction.delete_api_key`."""
        at_ms = now_ms()
        await self.write(key_id, lambda t: t.delete_api_key(key_id, now_ms=at_ms))

    async def reseal(
        self, key_ids: Sequence[str], again: Callable[[ApiKeyRow], tuple[bytes | None, bytes | None]]
    ) -> int:
        """As `Transaction.reseal_api_keys`; no session notices."""
        count = await self._writer.write(lambda t: t.reseal_api_keys(key_ids, again))
        for key_id in key_ids:
            live = self._keys.get(key_id)
            if live is not None:
                live.changed(self._catalog.api_key(key_id))
        return count

    def _refresh(self, key_id: str) -> None:
        """Take over what the catalog has now, and tell who wants to know."""
        row = self._catalog.api_key(key_id)
        live = self._keys.pop(key_id, None) or LiveKey(key_id, row)
        live.changed(row)
        if row is not None:  # sessions that have a key see that it is gone
            self._keys[key_id] = live
        for tell in self.on_change:
            tell(live)

    # --- when they were used ----------------------------------------------------------------------

    def last_used_ms(self, row: ApiKeyRow) -> int | None:
        """When the key was last used, as far as anybody knows; None: never."""
        known = self._keys.get(row.id)
        used_ms = 0 if known is None else known.used_ms
        return max(used_ms, row.last_used_ms or 0) or None

    async def run(self) -> None:
        """Note in the catalog when keys were used, until cancelled."""
        while True:
            await trio.sleep(NOTE_USED_S)
            await self.note_used()

    async def note_used(self) -> None:
        used = {key.key_id: key.used_ms for key in self._keys.values() if key.used_ms}
        if not used:
            return
        for key_id in used:
            self._keys[key_id].used_ms = 0
        try:
            await self._writer.write(lambda t: t.note_keys_used(used))
        except StoreError as error:  # the next use is noted again
            log.warning("use of keys not noted", extra={"cause": error.message})
