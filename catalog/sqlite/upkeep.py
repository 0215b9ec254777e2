"""Upkeep: the part of a transaction that keeps volumes in good order.

Jobs, the progress of verifications and sweeps, damage, needles that no row names, and the master's switches.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from warehouse.catalog.sqlite.bookkeeping import Bookkeeping
from warehouse.catalog.sqlite.columns import DAMAGE_COLUMNS, damage_columns, insert
from warehouse.catalog.sqlite.cross_check import names_on
from warehouse.transport.messages import NeedleDamage

DAMAGE_RECORDS_MAX = 10_000  # of one volume: a ruined disk is one problem, not millions of them
STAMP_MAX_META = "stamp_max"
_ADD_DAMAGE = insert("damages", DAMAGE_COLUMNS)


class Upkeep(Bookkeeping):
    """Mixed into `Transaction`."""

    # --- jobs -------------------------------------------------------------------------------------

    def add_job(self, work: str, volume_id: int, origin: str, created_ms: int) -> int:
        found = self._one("SELECT id FROM jobs WHERE work = ? AND volume_id = ?", (work, volume_id))
        if found is not None:
            return int(found[0])
        added = self._execute(
            "INSERT INTO jobs (work, volume_id, origin, created_ms) VALUES (?, ?, ?, ?)",
            (work, volume_id, origin, created_ms),
        )
        assert added.lastrowid is not None
        return added.lastrowid

    def remove_job(self, job_id: int) -> None:
        self._execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    # --- verification and sweeps ------------------------------------------------------------------

    def set_verify_progress(self, volume_id: int, *, started_ms: int, generation: int, offset: int) -> None:
        self._change_volume(
            "UPDATE volumes SET verify_started_ms = ?, verify_generation = ?, verify_offset = ? WHERE id = ?",
            started_ms,
            generation,
            offset,
            volume_id,
        )

    def set_verified(self, volume_id: int, started_ms: int) -> None:
        self._change_volume(
            "UPDATE volumes SET verified_ms = ?, verify_started_ms = 0, verify_generation = 0,"
            " verify_offset = 0 WHERE id = ?",
            started_ms,
            volume_id,
        )

    def set_swept(self, volume_id: int, stamp: int) -> None:
        self._change_volume(
            "UPDATE volumes SET swept_stamp = max(swept_stamp, ?) WHERE id = ?", stamp, volume_id
        )
        self._see_stamp(stamp)

    def void_orphans(self, volume_id: int, needle_ids: Sequence[int], stamp: int) -> list[int]:
        orphans = [
            needle_id
            for needle_id in needle_ids
            if self._reason(volume_id, needle_id) is None and not self._has_owner(volume_id, needle_id)
        ]
        self._discard([(volume_id, needle_id) for needle_id in orphans], stamp, "void")
        return orphans

    # --- damage records -----------------------------------------------------------------------------

    def add_damage_records(self, volume_id: int, damages: Sequence[NeedleDamage]) -> list[NeedleDamage]:
        needle_ids = {damage.needle_id for damage in damages if damage.needle_id}
        names = names_on(self._execute, volume_id, needle_ids)
        (kept_count,) = self._one("SELECT count(*) FROM damages WHERE volume_id = ?", (volume_id,))
        added = []
        for damage in damages:
            needle_id = damage.needle_id or 0
            bucket, key = names.get(needle_id, (damage.bucket, damage.key))
            is_known = self._execute(
                "UPDATE damages SET problem = ?, bucket = coalesce(?, bucket), key = coalesce(?, key)"
                " WHERE volume_id = ? AND needle_id = ? AND offset = ?",
                (damage.problem, bucket, key, volume_id, needle_id, damage.offset),
            ).rowcount
            if is_known or kept_count >= DAMAGE_RECORDS_MAX:
                continue
            named = msgspec.structs.replace(damage, volume_id=volume_id, bucket=bucket, key=key)
            self._execute(_ADD_DAMAGE, damage_columns(named))
            kept_count += 1
            added.append(named)
        return added

    def clear_damage_records(self, volume_id: int, keep: Collection[tuple[int, int]]) -> None:
        kept = set(keep)
        known = self._execute("SELECT needle_id, offset FROM damages WHERE volume_id = ?", (volume_id,))
        for needle_id, offset in known.fetchall():
            if (needle_id, offset) not in kept:
                self._forget_damage(volume_id, needle_id, offset)

    def forget_dead_damage_records(self, volume_id: int) -> None:
        known = self._execute(
            "SELECT needle_id, offset FROM damages WHERE volume_id = ? AND needle_id != 0", (volume_id,)
        )
        for needle_id, offset in known.fetchall():
            if not self._has_owner(volume_id, needle_id):
                self._forget_damage(volume_id, needle_id, offset)

    def _forget_damage(self, volume_id: int, needle_id: int, offset: int) -> None:
        self._execute(
            "DELETE FROM damages WHERE volume_id = ? AND needle_id = ? AND offset = ?",
            (volume_id, needle_id, offset),
        )

    # --- meta -------------------------------------------------------------------------------------

    def set_meta(self, name: str, value: int) -> None:
        assert name != STAMP_MAX_META, "the transaction itself keeps the greatest stamp"
        self._execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))
