"""DamageRegistry: the damage that is known in the volumes, and not mended yet.

Volume actors find damage when they read and recover, compactors when they copy and verify, the cross-check
when a volume lacks a needle that the catalog names.  The registry writes a damage record into the catalog and
tells operators once (event, log).  It drops the record when a look at the whole volume does not find the
damage again, or when no object names the needle any more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

import msgspec
import trio

from warehouse.actors.control.context import MasterContext, now_ms
from warehouse.actors.control.events import Field
from warehouse.actors.control.sight import bucket_named
from warehouse.errors import StoreError
from warehouse.transport.messages import DAMAGES_MAX, NeedleDamage

log = logging.getLogger(__name__)

NOT_THERE = -1  # the offset of a needle that its volume does not have
KNOWN_MAX = 100_000  # damage records that the registry reads from the catalog
NOTED_MAX = 10 * DAMAGES_MAX  # damage that waits for the catalog; reports repeat what was dropped

Key = tuple[int, int, int]  # volume id, needle id or 0, offset


def _key(damage: NeedleDamage) -> Key:
    return (damage.volume_id, damage.needle_id or 0, damage.offset)


class DamageRegistry:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._known: set[Key] = set()
        # The reports of an actor repeat all damage since its start.  Each record counts once: damage that was
        # mended meanwhile must not come back.
        self._reported: set[Key] = set()
        self._noted: list[NeedleDamage] = []
        self._wanted = trio.Event()

    def load(self) -> None:
        self._known = {_key(damage) for damage in self._context.catalog.damage_records(KNOWN_MAX)}

    def note(self, records: Iterable[NeedleDamage]) -> None:
        """Take what a volume actor reports; `run` writes it into the catalog soon."""
        for damage in records:
            if _key(damage) not in self._reported and len(self._noted) < NOTED_MAX:
                self._reported.add(_key(damage))
                self._noted.append(damage)
        if self._noted:
            self._wanted.set()

    async def run(self) -> None:
        while True:
            with trio.move_on_after(self._context.intervals.forget):
                await self._wanted.wait()
            self._wanted = trio.Event()
            noted, self._noted = self._noted, []
            try:
                for volume_id in {damage.volume_id for damage in noted}:
                    await self.add(volume_id, [one for one in noted if one.volume_id == volume_id])
                for volume_id in {volume_id for volume_id, _, _ in self._known}:
                    await self._forget_dead(volume_id)
            except StoreError as error:
                log.error("damage not written down", extra={"cause": error.message})
                self._noted = [*noted, *self._noted][:NOTED_MAX]
                await trio.sleep(1.0)

    async def add(self, volume_id: int, records: Sequence[NeedleDamage]) -> None:
        """Write those damage records of a volume into the catalog that it does not have yet.

        Raises:
            StoreError: the catalog could not be written.
        """
        found_ms = now_ms()
        news = [
            msgspec.structs.replace(damage, volume_id=volume_id, found_ms=damage.found_ms or found_ms)
            for damage in records
            if (volume_id, damage.needle_id or 0, damage.offset) not in self._known
        ]
        if not news:
            return
        added = await self._context.writer.write(lambda t: t.add_damage_records(volume_id, news))
        needles = {(volume_id, needle_id) for volume_id, needle_id, _ in self._known if needle_id}
        self._known.update(_key(damage) for damage in news)
        for damage in added:
            # A compaction moves a damaged needle to another offset, which is no second loss.
            if (volume_id, damage.needle_id or 0) not in needles:
                self._tell(damage)

    def _tell(self, damage: NeedleDamage) -> None:
        fields: dict[str, Field] = {
            "volume_id": damage.volume_id,
            "offset": damage.offset,
            "problem": damage.problem,
            "needle_id": damage.needle_id,
            "bucket": damage.bucket,
            "key": damage.key,
        }
        of_bucket = None if damage.bucket is None else bucket_named(self._context.catalog, damage.bucket)
        self._context.events.record("damage_found", of_bucket, **fields)
        log.error("damage found", extra=fields)

    async def replace(
        self, volume_id: int, found: Collection[NeedleDamage], *, keep_missing: bool = False
    ) -> None:
        """Somebody has read the whole volume and found only this: drop its other damage records.

        Args:
            keep_missing: keep the records of missing needles, which nobody looked for.
        """
        await self.add(volume_id, list(found))
        keep = {(damage.needle_id or 0, damage.offset) for damage in found}
        if keep_missing:
            keep |= {
                (needle_id, offset)
                for of_volume, needle_id, offset in self._known
                if of_volume == volume_id and offset == NOT_THERE
            }
        if all((needle_id, offset) in keep for of, needle_id, offset in self._known if of == volume_id):
            return
        await self._context.writer.write(lambda t: t.clear_damage_records(volume_id, keep))
        self.load()

    async def _forget_dead(self, volume_id: int) -> None:
        """Drop the records of needles that no object names: a delete or an overwrite mends damage."""
        await self._context.writer.write(lambda t: t.forget_dead_damage_records(volume_id))
        self.load()
