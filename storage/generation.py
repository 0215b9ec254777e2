"""Generation: the open files of one generation of a volume, and all that reads them.

A compaction replaces the files of a volume as a whole.  A reader takes one `Generation` and stays with it: so
data and index always belong together, and a file that was replaced stays open for as long as somebody reads
from it.  Everything here may be called in any thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from warehouse.errors import NeedleCorrupt, NoSuchNeedle, ReadFailed, StoreError
from warehouse.storage.disk import ClosedFile, File
from warehouse.storage.entries import EntryTable
from warehouse.storage.format.needle import (
    FOOTER_SIZE,
    HEADER_SIZE,
    KIND_DATA,
    KIND_TOMBSTONE,
    Header,
    NeedleRead,
    decode_needle,
    place_seed,
    stored_size,
    table_size,
)
from warehouse.storage.index import IndexEntry, IndexFile, decode_entry
from warehouse.storage.reader import NeedleReader, read_exactly, read_header
from warehouse.storage.scan import Record, scan

READ_AT_ONCE_MAX = 1024 * 1024  # needles up to here are read with one call, larger ones with two

# Told of damage as it is found: the generation, needle id, offset, what is wrong.
DamageSink = Callable[["Generation", int, int, str], None]


class Generation:
    """One pair of data file and index, open."""

    __slots__ = ("_on_damage", "data", "entries", "is_suspect", "number", "seed", "volume_id")

    def __init__(
        self,
        *,
        volume_id: int,
        number: int,
        seed: int,
        data: File,
        entries: EntryTable,
        on_damage: DamageSink,
    ) -> None:
        self.volume_id = volume_id
        self.number = number
        self.seed = seed
        self.data = data
        self.entries = entries
        self.is_suspect = False  # the index may lack entries: a needle that it does not know may exist
        self._on_damage = on_damage

    def closed(self) -> Generation:
        """Make a generation that refuses everything, to take the place of this one.

        The descriptors close when the last reader in another thread lets go.  A closed generation finds no
        damage, so it does not refer to the one who was told: volume and generation would otherwise keep each
        other in memory until the collector of cycles runs.
        """
        self.retire()
        file = ClosedFile()
        index = IndexFile(file, volume_id=self.volume_id, generation=self.number, seed=self.seed)
        return Generation(
            volume_id=self.volume_id,
            number=self.number,
            seed=self.seed,
            data=file,
            entries=EntryTable(index),
            on_damage=_tell_nobody,
        )

    def retire(self) -> None:
        """Note that another generation is looked up from now on.  A reader of this one goes on."""
        if self.entries.index is not None:
            self.entries.index.forget_pages()

    def report_to(self, on_damage: DamageSink) -> None:
        """Tell somebody else of damage from now on."""
        self._on_damage = on_damage

    # --- looking up -------------------------------------------------------------------------------

    def find(self, needle_id: int, *, nowait: bool = False) -> IndexEntry | None:
        """See `Volume.find`."""
        try:
            entry = self.entries.get(needle_id, nowait=nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(f"volume {self.volume_id}: index entry of {needle_id}: {error}") from error
        return None if entry is None else decode_entry(entry)

    def find_checked(self, needle_id: int) -> IndexEntry | None:
        """`find`, but only a tombstone makes a needle deleted: one flipped bit must not delete it."""
        found = self.find(needle_id)
        if found is None or not found.is_deleted:
            return found
        with contextlib.suppress(NoSuchNeedle):
            offset, header, _ = self.locate(needle_id, nowait=False)
            return IndexEntry(offset, header.metadata_size, header.data_size, found.crc, is_deleted=False)
        return found

    def locate(self, needle_id: int, *, nowait: bool) -> tuple[int, Header, bytes]:
        """Offset, header and metadata of a live needle: what the file says, with the index as a hint.

        Raises:
            NoSuchNeedle, NeedleCorrupt, ReadFailed, BlockingIOError: see `Volume.read`.
        """
        hint = self.find(needle_id, nowait=nowait)
        if hint is None:
            raise self.absent(needle_id)
        metadata_size = 0 if hint.is_deleted else hint.metadata_size
        try:
            found = read_header(self.data, self.seed, hint.offset, metadata_size=metadata_size, nowait=nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(
                f"volume {self.volume_id}, needle {needle_id} at {hint.offset}: {error}"
            ) from error
        is_its_own = found is not None and found[0].needle_id == needle_id
        if found is not None and is_its_own and found[0].kind == KIND_DATA:
            if found[0].is_damaged:
                raise self.damaged(needle_id, hint.offset, "it was damaged when its volume was compacted")
            return hint.offset, *found
        if hint.is_deleted or (found is not None and is_its_own and found[0].kind == KIND_TOMBSTONE):
            raise self.absent(needle_id)
        problem = "header does not match its CRC" if found is None else "another record is in its place"
        raise self.damaged(needle_id, hint.offset, problem)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, needle_id: int, *, nowait: bool = False, found: IndexEntry | None = None) -> NeedleRead:
        """See `Volume.read`."""
        if found is None:
            found = self.find(needle_id, nowait=nowait)
            if found is None:
                raise self.absent(needle_id)
        data_size, offset = found.data_size, found.offset
        if not found.is_deleted and data_size <= READ_AT_ONCE_MAX:
            size = HEADER_SIZE + found.metadata_size + data_size + table_size(data_size) + FOOTER_SIZE
            buffer = self._fetch(needle_id, size, offset, nowait=nowait)
            try:
                return decode_needle(buffer, needle_id, place_seed(self.seed, offset))
            except NeedleCorrupt:
                pass  # (`suppress` takes as long as half a CRC of 4 KiB)
        # The needle is large, or something disagrees.  The header of the needle knows better than its entry:
        # one flipped bit in the entry must not make us fetch gigabytes.
        offset, header, _ = self.locate(needle_id, nowait=nowait)
        size = header.table_offset + table_size(header.data_size) + FOOTER_SIZE
        buffer = self._fetch(needle_id, size, offset, nowait=nowait)
        try:
            return decode_needle(buffer, needle_id, place_seed(self.seed, offset))
        except NeedleCorrupt as error:
            raise self.damaged(needle_id, offset, error.message) from error

    def start_reading(self, needle_ids: Iterable[int]) -> None:
        """See `Volume.start_reading`."""
        unknown: list[int] = []
        for needle_id in needle_ids:
            try:
                found = self.find(needle_id, nowait=True)
            except BlockingIOError:
                unknown.append(needle_id)
                continue
            except ReadFailed:
                continue  # a read will tell why
            if found is not None and not found.is_deleted and found.data_size <= READ_AT_ONCE_MAX:
                self.data.start_reading(found.offset, stored_size(found.metadata_size, found.data_size))
        self.entries.start_reading(unknown)

    def open_needle(self, needle_id: int, *, nowait: bool = False) -> NeedleReader:
        """See `Volume.open_needle`."""
        offset, header, metadata = self.locate(needle_id, nowait=nowait)
        return NeedleReader(
            self.data,
            volume_id=self.volume_id,
            offset=offset,
            header=header,
            metadata_bytes=metadata,
            on_damage=self.damaged,
            nowait=nowait,
        )

    def records(self, start: int, end: int) -> Iterator[Record]:
        """The records from `start`, where one starts, to `end`; reads and checks every byte."""
        return scan(self.data, self.seed, start, end)

    def _fetch(self, needle_id: int, size: int, offset: int, *, nowait: bool) -> bytearray:
        try:
            return read_exactly(self.data, size, offset, nowait=nowait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ReadFailed(f"volume {self.volume_id}, needle {needle_id} at {offset}: {error}") from error

    def absent(self, needle_id: int) -> StoreError:
        if self.is_suspect:
            return ReadFailed(f"volume {self.volume_id}: its index is not to be trusted until it is reopened")
        return NoSuchNeedle(f"volume {self.volume_id} has no needle {needle_id}")

    def damaged(self, needle_id: int, offset: int, problem: str) -> NeedleCorrupt:
        """Report damage; returns the error to raise."""
        self._on_damage(self, needle_id, offset, problem)
        return NeedleCorrupt(f"volume {self.volume_id}, needle {needle_id} at {offset}: {problem}")


def _tell_nobody(generation: Generation, needle_id: int, offset: int, problem: str) -> None:
    """Take damage that a closed generation cannot find."""
