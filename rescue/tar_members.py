"""Tar members: the plain files of a tar archive, and nothing else that a tar archive can hold.

A backup is read on a bad day, and nobody knows for sure who made it.  The tar format can do much that a
backup never needs: links, devices, sparse files that grow a million times, names and sizes repeated in
extended headers.  So this reads the headers one by one and refuses whatever it does not expect.  It writes no
file, and keeps no more than a header in memory.

    header   512 bytes (POSIX.1-1988, "ustar"), of type "0" or NUL: a plain file
             of type "x": an extended header for the next member; of its records only times and the size count
    content  as many bytes as the header says, padded to 512
    end      512 zeros, and only zeros after them
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from warehouse.errors import BackupCorrupt
from warehouse.rescue.encryption import Source

BLOCK: Final = 512
EXTENDED_SIZE_MAX: Final = 4096
END_SIZE_MAX: Final = 1024 * 1024  # of zeros: tar writers pad to a record, usually of 10 KiB
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_IGNORED: Final = frozenset(("mtime", "atime", "ctime"))


class Member(NamedTuple):
    name: str
    size: int
    offset: int  # of its content


def plain_members(archive: Source) -> Iterator[Member]:
    """The members of an archive, in order; each lies within the file.

    Raises:
        BackupCorrupt: it holds something else, is cut off, or continues after its end.
        OSError: as the system gave it.
    """
    file_size = archive.size
    offset = 0
    known_size: int | None = None  # from an extended header
    while True:
        block = archive.read_at(BLOCK, offset)
        if len(block) < BLOCK:
            raise BackupCorrupt(f"it was cut off after {offset} bytes, without an end mark")
        if not any(block):
            _check_end(archive, offset)
            return
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise BackupCorrupt(f"the header of a member at {offset} is invalid: {error}") from error
        size = entry.size if known_size is None else known_size
        end = offset + BLOCK + size + -size % BLOCK
        if size < 0 or end > file_size:
            raise BackupCorrupt(f"{entry.name!r} was cut off: its header announces {size} bytes")
        if entry.type == tarfile.XHDTYPE:
            if size > EXTENDED_SIZE_MAX:
                raise BackupCorrupt(f"the extended header at {offset} has {size} bytes, which is too many")
            known_size = _size_in(archive.read_at(size, offset + BLOCK))
        elif entry.type in _PLAIN:
            yield Member(entry.name, size, offset + BLOCK)
            known_size = None
        else:
            raise BackupCorrupt(f"{entry.name!r} is not a plain file (type {entry.type!r})")
        offset = end


def _check_end(archive: Source, offset: int) -> None:
    rest = archive.size - offset
    if rest > END_SIZE_MAX or any(archive.read_at(rest, offset)):
        raise BackupCorrupt(f"it continues after its end at {offset}: are these two archives in one file?")


def _size_in(records: bytes) -> int | None:
    """The size that an extended header gives, if any; its records are "<length> <name>=<value>\\n"."""
    size = None
    while records:
        try:
            length, _, rest = records.partition(b" ")
            record, records = records[: int(length)], records[int(length) :]
            name, _, value = rest[: len(record) - len(length) - 1].decode().partition("=")
            if not record.endswith(b"\n") or len(record) != int(length) or len(length) > 5:
                raise ValueError("a record does not end where it says")
            if name == "size":
                size = int(value)
            elif name not in _IGNORED:
                raise BackupCorrupt(f"an extended header has {name!r}, which no backup needs")
        except ValueError as error:
            raise BackupCorrupt(f"an extended header cannot be read: {error}") from error
    return size
