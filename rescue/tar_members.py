"""Tar members: the plain files of a tar archive, and nothing else that a tar archive can hold.

A backup is read on a bad day, and who made it is not known for sure.  The format can do a lot that a backup
never needs: links, devices, sparse files that grow a million times, names and sizes said twice in extended
headers.  So this reads the headers one by one and refuses whatever it does not expect; no file is written and
no more than a header is in memory.

    header   512 bytes (POSIX.1-1988, "ustar"), of type "0" or NUL: a plain file
             of type "x": an extended header for the next member; of its records only times and the size count
    content  as many bytes as the header says, padded to 512
    end      512 zeros, and nothing but zeros behind
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from warehouse.errors import BackupCorrupt

BLOCK: Final = 512
EXTENDED_SIZE_MAX: Final = 4096
END_SIZE_MAX: Final = 1024 * 1024  # of zeros: writers pad to a record, usually of 10 KiB
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_IGNORED: Final = frozenset(("mtime", "atime", "ctime"))


class Member(NamedTuple):
    name: str
    size: int
    offset: int  # of its content


def plain_members(descriptor: int) -> Iterator[Member]:
    """The members of an archive, in order; each lies within the file.

    Raises:
        BackupCorrupt: it holds something else, is cut off, or goes on behind its end.
        OSError: as the system gave it.
    """
    file_size = os.fstat(descriptor).st_size
    offset = 0
    known_size: int | None = None  # from an extended header
    while True:
        block = os.pread(descriptor, BLOCK, offset)
        if len(block) < BLOCK:
            raise BackupCorrupt(f"it was cut off: there is no end behind {offset} bytes")
        if not any(block):
            _check_end(descriptor, offset, file_size)
            return
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise BackupCorrupt(f"there is no header of a member at {offset}: {error}") from error
        size = entry.size if known_size is None else known_size
        end = offset + BLOCK + size + -size % BLOCK
        if size < 0 or end > file_size:
            raise BackupCorrupt(f"{entry.name!r} was cut off: {size} bytes are announced")
        if entry.type == tarfile.XHDTYPE:
            if size > EXTENDED_SIZE_MAX:
                raise BackupCorrupt(f"an extended header of {size} bytes at {offset}")
            known_size = _size_in(os.pread(descriptor, size, offset + BLOCK))
        elif entry.type in _PLAIN:
            yield Member(entry.name, size, offset + BLOCK)
            known_size = None
        else:
            raise BackupCorrupt(f"{entry.name!r} is no plain file (type {entry.type!r})")
        offset = end


def _check_end(descriptor: int, offset: int, file_size: int) -> None:
    rest = file_size - offset
    if rest > END_SIZE_MAX or any(os.pread(descriptor, rest, offset)):
        raise BackupCorrupt(f"it goes on behind its end at {offset}: two archives in one file?")


def _size_in(records: bytes) -> int | None:
    """The size that an extended header gives, if any: "<length> <name>=<value>\\n" again and again."""
    size = None
    while records:
        try:
            length, _, rest = records.partition(b" ")
            record, records = records[: int(length)], records[int(length) :]
            name, _, value = rest[: len(record) - len(length) - 1].decode().partition("=")
            if not record.endswith(b"\n") or len(record) != int(length) or len(length) > 5:
                raise ValueError("it does not end where it says")
            if name == "size":
                size = int(value)
            elif name not in _IGNORED:
                raise BackupCorrupt(f"an extended header says {name!r}, which no backup needs")
        except ValueError as error:
            raise BackupCorrupt(f"an extended header cannot be read: {error}") from error
    return size
