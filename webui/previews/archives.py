"""Archives: what is in a zip or tar, without unpacking it.

A zip has its list at its end; a tar has a header before each file, which is skipped to where the tar is not
compressed.  What is read, unpacked and listed is bounded: a bomb costs no more than any other archive.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import trio

from warehouse.webui.names import visible

ENTRIES_MAX = 500  # that are listed
DIRECTORY_MAX = 4 * 1024 * 1024  # bytes of a zip's list that are read
PIECE = 64 * 1024  # bytes of a tar that are read at once
PIECES_MAX = 128
UNPACKED_MAX = 64 * 1024 * 1024  # bytes of a compressed tar
TIME_S = 8.0
NAME_MAX = 1024  # characters
EXTRA_MAX = 64 * 1024  # bytes of a name or attributes that a tar's entry has of its own
XZ_MEMORY_MAX = 64 * 1024 * 1024

ReadAt = Callable[[int, int], Awaitable[bytes]]  # offset, length


@dataclass(frozen=True)
class Entry:
    """A file, folder or link in an archive.

    Attributes:
        size: of its bytes, unpacked.
        packed: what it takes in the archive; None: as `size`.
        note: what people have to know: "encrypted", "link to …".
    """

    name: str
    size: int
    packed: int | None = None
    modified_ms: int | None = None
    is_folder: bool = False
    note: str = ""


@dataclass
class Listing:
    """What is in an archive.

    Attributes:
        count: of entries; None: nobody has counted those that are not listed.
        cause: why the list ends before the archive does; "": it is whole.
    """

    form: str
    entries: list[Entry] = field(default_factory=list)
    count: int | None = None
    cause: str = ""


async def list_archive(read_at: ReadAt, size: int, head: bytes) -> Listing:
    """
    Args:
        size: of the object, bytes.
        head: its first bytes, 512 at least if it has them.
    Raises:
        ValueError: this is no zip or tar; the message says what is wrong.
    """
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return await list_zip(read_at, size)
    for magic, (form, make) in COMPRESSIONS.items():
        if head.startswith(magic):
            return await _list_compressed_tar(read_at, size, form, make())
    if _is_tar_header(head[:512]):
        return await _list_tar(read_at, size)
    raise ValueError("it is no zip or tar archive")


# --- zip --------------------------------------------------------------------------------------------

_END = struct.Struct("<4s4H2IH")
_END_64_PLACE = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_UTF_8, _ENCRYPTED = 0x800, 0x1


async def list_zip(read_at: ReadAt, size: int) -> Listing:
    """
    Raises:
        ValueError: it has no list at its end, or a broken one.
    """
    tail_at = max(0, size - 0xFFFF - _END.size - _END_64_PLACE.size)
    tail = await read_at(tail_at, size - tail_at)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) < found + _END.size:
        raise ValueError("its list of files, at the end of a zip, is missing: it may have been cut off")
    _, _, _, _, count, length, offset, _ = _END.unpack_from(tail, found)
    if count == 0xFFFF or 0xFFFFFFFF in (length, offset):
        count, length, offset = await _end_64(read_at, tail, found, (count, length, offset))
    if offset + length > size:
        raise ValueError("its list of files lies outside of it")
    directory = await read_at(offset, min(length, DIRECTORY_MAX)) if length else b""
    listing = Listing("zip", count=count)
    at = 0
    while len(listing.entries) < ENTRIES_MAX and at + _ENTRY.size <= len(directory):
        entry, at = _zip_entry(directory, at)
        if entry is not None:
            listing.entries.append(entry)
    if len(listing.entries) < min(count, ENTRIES_MAX) and length <= DIRECTORY_MAX:
        raise ValueError("its list of files is broken")
    return listing


async def _end_64(
    read_at: ReadAt, tail: bytes, found: int, before: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Count, length and offset of a zip's list, where they need more than 32 bits."""
    place = found - _END_64_PLACE.size
    if place < 0 or tail[place : place + 4] != b"PK\x06\x07":
        return before
    _, _, offset, _ = _END_64_PLACE.unpack_from(tail, place)
    data = await read_at(offset, _END_64.size)
    if len(data) < _END_64.size or not data.startswith(b"PK\x06\x06"):
        raise ValueError("its list of files is broken")
    fields = _END_64.unpack(data)
    return fields[7], fields[8], fields[9]


def _zip_entry(directory: bytes, at: int) -> tuple[Entry | None, int]:
    """The entry that begins here, None for one that is cut off; and where the next one begins."""
    fields = _ENTRY.unpack_from(directory, at)
    if fields[0] != b"PK\x01\x02":
        raise ValueError("its list of files is broken")
    flags, day_time, day = fields[3], fields[5], fields[6]
    packed, size, name_size, extra_size, comment_size = fields[8:13]
    start = at + _ENTRY.size
    end = start + name_size + extra_size
    if end > len(directory):
        return None, len(directory)
    raw = directory[start : start + name_size]
    name = raw.decode("utf-8", "replace") if flags & _UTF_8 else _old_name(raw)
    size, packed = _sizes_64(directory[start + name_size : end], size, packed)
    entry = Entry(
        name=_shown_name(name),
        size=size,
        packed=packed,
        modified_ms=_dos_ms(day, day_time),
        is_folder=name.endswith("/"),
        note="encrypted" if flags & _ENCRYPTED else "",
    )
    return entry, end + comment_size


def _old_name(raw: bytes) -> str:
    """A name that says nothing of its letters: many programs write UTF-8 all the same."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _sizes_64(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        values = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == 1:
            found = iter(number for (number,) in struct.iter_unpack("<Q", values[: len(values) // 8 * 8]))
            size = next(found, size) if size == 0xFFFFFFFF else size
            packed = next(found, packed) if packed == 0xFFFFFFFF else packed
    return size, packed


def _dos_ms(day: int, day_time: int) -> int | None:
    """A time as zips have it, which knows no zone: taken for UTC."""
    try:
        moment = datetime(
            1980 + (day >> 9),
            day >> 5 & 15,
            day & 31,
            day_time >> 11,
            day_time >> 5 & 63,
            min(59, (day_time & 31) * 2),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp() * 1000)


# --- tar --------------------------------------------------------------------------------------------


class _Unpacker(Protocol):
    """What zlib, bz2 and lzma have in common, as `_Zlib`, `_Bz2` and `_Xz` offer it."""

    def unpack(self, data: bytes, most: int) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...


class _Zlib:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    def unpack(self, data: bytes, most: int) -> bytes:
        found = self._inner.decompress(self._inner.unconsumed_tail + data, most)
        if self._inner.eof and self._inner.unused_data:  # another part follows: bgzip and others
            rest, self._inner = self._inner.unused_data, zlib.decompressobj(31)
            found += self._inner.decompress(rest, most)
        return found

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail


class _Incremental:
    """Of bz2 and lzma."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner

    def unpack(self, data: bytes, most: int) -> bytes:
        return b"" if self._inner.eof else self._inner.decompress(data, most)

    @property
    def needs_input(self) -> bool:
        return self._inner.eof or self._inner.needs_input


COMPRESSIONS: Final[dict[bytes, tuple[str, Callable[[], _Unpacker]]]] = {
    b"\x1f\x8b": ("tar.gz", _Zlib),
    b"BZh": ("tar.bz2", lambda: _Incremental(bz2.BZ2Decompressor())),
    b"\xfd7zXZ\x00": ("tar.xz", lambda: _Incremental(lzma.LZMADecompressor(memlimit=XZ_MEMORY_MAX))),
}


class TarReader:
    """Takes the bytes of a tar as they come, and lists its entries.

    Attributes:
        skip: so many of the next bytes do not matter.
        is_over: the end of the archive was reached.
    """

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.skip = 0
        self.is_over = False
        self._rest = b""
        self._own: dict[str, str] = {}  # what the header before said of the next entry
        self._wanted: tuple[str, int, int] | None = (
            None  # kind, size, padding of what belongs to the next entry
        )

    @property
    def is_full(self) -> bool:
        return len(self.listing.entries) >= ENTRIES_MAX

    def feed(self, data: bytes) -> None:
        """
        Raises:
            ValueError: this is no tar.
        """
        if self.skip >= len(data):
            self.skip -= len(data)
            return
        data = self._rest + data[self.skip :]
        self.skip, at = 0, 0
        while not self.is_over and not self.is_full:
            if self._wanted is not None:
                kind, size, whole = self._wanted
                if at + whole > len(data):
                    break
                self._learn(kind, data[at : at + size])
                self._wanted, at = None, at + whole
            if at + 512 > len(data):
                break
            whole = self._header(data[at : at + 512])
            at += 512
            if whole > len(data) - at:
                self.skip = whole - (len(data) - at)
                at = len(data)
            else:
                at += whole
        self._rest = data[at:]

    def _header(self, header: bytes) -> int:
        """Take a header in; return how many bytes after it do not matter."""
        if not header.strip(b"\0"):
            self.is_over = True
            return 0
        if not _is_tar_header(header):
            raise ValueError(
                "it is no tar archive" if not self.listing.entries else "it is broken after this"
            )
        size = _tar_number(header[124:136])
        whole = (size + 511) // 512 * 512
        kind = header[156:157].decode("latin-1")
        if kind in "xL":
            if size > EXTRA_MAX:
                raise ValueError("an entry's name is too long")
            self._wanted = (kind, size, whole)
            return 0
        if kind not in "gK":
            self.listing.entries.append(self._entry(header, kind, size))
            self._own = {}
        return 0 if kind in "12345" else whole

    def _learn(self, kind: str, data: bytes) -> None:
        if kind == "L":
            self._own["path"] = data.rstrip(b"\0").decode("utf-8", "replace")
            return
        while data:
            length, _, _ = data.partition(b" ")
            if not length.isdigit() or not 0 < int(length) <= len(data):
                return
            name, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
            self._own[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
            data = data[int(length) :]

    def _entry(self, header: bytes, kind: str, size: int) -> Entry:
        name = _tar_text(header[:100])
        prefix = _tar_text(header[345:500]) if header[257:263] == b"ustar\0" else ""
        name = self._own.get("path") or (f"{prefix}/{name}" if prefix else name)
        links = {"1": "link to ", "2": "link to ", "3": "device", "4": "device", "6": "pipe"}
        note = links.get(kind, "")
        if kind in "12":
            note += _shown_name(self._own.get("linkpath") or _tar_text(header[157:257]))
        return Entry(
            name=_shown_name(name),
            size=0 if note else size,
            modified_ms=_tar_number(header[136:148]) * 1000 or None,
            is_folder=kind == "5" or name.endswith("/"),
            note=note,
        )


async def _list_tar(read_at: ReadAt, size: int) -> Listing:
    listing = Listing("tar")
    reader, at = TarReader(listing), 0
    with trio.move_on_after(TIME_S):
        for _ in range(PIECES_MAX):
            if reader.is_over or reader.is_full or at >= size:
                break
            if reader.skip > PIECE:
                at, reader.skip = at + reader.skip, 0
                continue
            data = await read_at(at, min(PIECE, size - at))
            at += len(data)
            reader.feed(data)
    return _ended(listing, reader, is_read=at >= size)


async def _list_compressed_tar(read_at: ReadAt, size: int, form: str, unpacker: _Unpacker) -> Listing:
    listing = Listing(form)
    reader, at, unpacked = TarReader(listing), 0, 0
    with trio.move_on_after(TIME_S):
        while not (reader.is_over or reader.is_full) and unpacked < UNPACKED_MAX and at < PIECES_MAX * PIECE:
            data = b""
            if unpacker.needs_input:
                if at >= size:
                    break
                data = await read_at(at, min(PIECE, size - at))
                at += len(data)
            found = await trio.to_thread.run_sync(_unpacked, unpacker, data, reader)
            unpacked += found
    return _ended(listing, reader, is_read=at >= size and unpacked < UNPACKED_MAX)


def _unpacked(unpacker: _Unpacker, data: bytes, reader: TarReader) -> int:
    try:
        found = unpacker.unpack(data, 1 << 20)
    except (zlib.error, OSError, EOFError, lzma.LZMAError):
        raise ValueError("its compressed bytes are broken") from None
    reader.feed(found)
    return len(found)


def _ended(listing: Listing, reader: TarReader, *, is_read: bool) -> Listing:
    if reader.is_over:
        listing.count = len(listing.entries)
    elif reader.is_full:
        listing.cause = f"the first {ENTRIES_MAX} entries are listed"
    elif is_read and listing.entries:
        listing.cause = "the archive ends in the middle: it may have been cut off"
    elif not listing.entries:
        raise ValueError("it is no tar archive")
    else:
        listing.cause = "only its beginning was looked at, because it is large"
    return listing


def _is_tar_header(header: bytes) -> bool:
    """Does its sum hold?"""
    if len(header) < 512:
        return False
    try:
        said = _tar_number(header[148:156])
    except ValueError:
        return False
    return sum(header[:148]) + 8 * 32 + sum(header[156:512]) == said


def _tar_number(data: bytes) -> int:
    """
    Raises:
        ValueError: it is none.
    """
    if data[:1] == b"\x80":
        return int.from_bytes(data[1:], "big")
    digits = data.strip(b" \0")
    if not all(48 <= byte < 56 for byte in digits):
        raise ValueError("it is broken: a header has a number that is none")
    return int(digits or b"0", 8)


def _tar_text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _shown_name(name: str) -> str:
    name = visible(name.replace("\n", "␊"))
    return name if len(name) <= NAME_MAX else name[:NAME_MAX] + "…"
