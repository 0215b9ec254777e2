"""Disk: the one door to the file system, small enough that tests can stand in for it.

Volumes reach their files through `Disk` and `File` and nothing else.  `OsDisk` is the real thing.  The
simulated disk of the tests keeps the same contract and may forget, at any moment, whatever was not synced:

- Bytes written are readable at once.  They survive a power cut only from the return of `fdatasync` on.
- A name made, replaced or removed survives a power cut only from the return of `sync_directory` on its
  directory.  `replace` is atomic: afterwards the name is the old file or the new one, never a mixture.
- After a failed `fdatasync` nothing is known about the bytes it should have covered, and a second call
  that succeeds proves nothing (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).

All calls block, and raise `OSError` as the system gave it, or `NotPlain` where a link, a pipe or the like
stands in the place of a file; the caller knows what it was doing and names the failure.  Paths are relative
to the disk's root, with "/" between their parts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from warehouse.storage.beneath import Folder

if sys.platform == "darwin":
    import fcntl

Buffer = bytes | bytearray | memoryview

FILE_MODE = 0o600  # of what is made here

_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # Linux alone has it; elsewhere reads just read

# sync_file_range(2), which Python does not offer.  Of its flags only this one is right here: it neither waits
# nor looks at errors of earlier writes, so none is lost to the fdatasync that has to hear of it.
_SYNC_FILE_RANGE_WRITE = 2


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _find_sync_file_range()

# fallocate(2) with a mode, which Python does not offer either.
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return call


_fallocate = _find_fallocate()


class File(Protocol):
    """An open file.  Closed by `close`, or when the last reference to it goes."""

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int, *, nowait: bool = False) -> int:
        """Fill the buffers from `offset` on; returns bytes read, short at the end of the file.

        With `nowait` it raises BlockingIOError, or returns short, when the bytes are not in memory.
        """

    def start_reading(self, offset: int, length: int) -> None:
        """Let the disk begin to bring what is there into memory, and do not wait for it.

        A hint: what comes of it, errors too, a read will tell.  May take as long as a disk takes to take a
        request, so it is for threads.
        """

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        """Write the buffers one after the other at `offset`; returns bytes written, maybe short."""

    def fdatasync(self) -> None:
        """Return when all that was written before the call survives a power cut."""

    def kernel_handle(self) -> int | None:
        """A descriptor that `KernelSync` can sync; None: the kernel cannot sync this file.

        The file is open a second time for it.  The kernel reports a failed write once for each time that a
        file is open, so both `fdatasync` and the kernel's own sync hear of it, in whatever order they run.
        """

    def start_writeback(self, offset: int, length: int) -> None:
        """Let the disk begin with what was written there, and do not wait for it.

        Promises nothing, it only leaves less to a later `fdatasync`, which reports errors all the same.
        """

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that writing there later cannot fail for want of space; grows the file.

        Does nothing where the file system has no such call.
        """

    def punch(self, offset: int, length: int) -> None:
        """Give back the room of whole pages there; they read as zeros from then on.  The size stays.

        Does nothing where the file system has no such call.  Like a write, it survives a power cut only
        from a later `fdatasync` on: until then each page may come back.
        """

    def truncate(self, size: int) -> None: ...

    def free_bytes(self) -> int:
        """Bytes that can still be written to its disk by us."""

    def size(self) -> int: ...

    def next_data(self, offset: int) -> int:
        """Where the next bytes stand, from `offset` on, that are not a hole: `offset` where nobody can tell.

        Between the two a read finds zeros.  The size of the file, or more, where no bytes follow.
        """

    def drop_cache(self, offset: int, length: int | None = None) -> None:
        """Forget cached clean pages, so that reads show what the disk really holds.

        Args:
            length: how many bytes from `offset` on; None: to the end of the file.  Pages that lie only
                partly within are forgotten too.
        """

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory tree of files."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        """Open a file; `create` makes it, or empties the one that is there."""

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents; no error when it is there already."""

    def replace(self, source: str, target: str) -> None: ...

    def sync_directory(self, path: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def free_bytes(self) -> int:
        """Bytes that can still be written by us."""

    def capacity(self) -> int:
        """Bytes that the file system has in all."""


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "_kernel_fd", "_path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._kernel_fd = -1
        self._path = path

    def __repr__(self) -> str:
        return f"OsFile({self._path!r})"

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int, *, nowait: bool = False) -> int:
        if not nowait:
            return os.preadv(self._fd, buffers, offset)
        try:
            return os.preadv(self._fd, buffers, offset, _NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                # A file system that cannot tell (tmpfs, NFS, FUSE).  A thread is always right.
                raise BlockingIOError(errno.EAGAIN, "reads that do not wait: not supported") from error
            raise

    def start_reading(self, offset: int, length: int) -> None:
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        return os.pwritev(self._fd, buffers, offset)

    def fdatasync(self) -> None:
        if sys.platform == "darwin":
            # fsync there stops at the drive's own cache (fcntl(2), F_FULLFSYNC).
            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._fd)

    def kernel_handle(self) -> int | None:
        if self._kernel_fd < 0:
            try:
                self._kernel_fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR)
            except OSError:
                return None
        return self._kernel_fd

    def start_writeback(self, offset: int, length: int) -> None:
        if _sync_file_range is None:
            return
        # Whole pages only: the next write would have to bring a page at the end to the disk once more.
        start = offset - offset % mmap.PAGESIZE
        end = offset + length - (offset + length) % mmap.PAGESIZE
        if start < end and _sync_file_range(self._fd, start, end - start, _SYNC_FILE_RANGE_WRITE) != 0:
            error = ctypes.get_errno()
            if error not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise OSError(error, os.strerror(error))

    def allocate(self, offset: int, length: int) -> None:
        if sys.platform == "darwin":
            return
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise

    def punch(self, offset: int, length: int) -> None:
        start = offset + -offset % mmap.PAGESIZE
        end = offset + length - (offset + length) % mmap.PAGESIZE
        if _fallocate is None or start >= end:
            return
        if _fallocate(self._fd, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, start, end - start) != 0:
            error = ctypes.get_errno()
            if error not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise OSError(error, os.strerror(error))

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def free_bytes(self) -> int:
        room = os.fstatvfs(self._fd)
        return room.f_bavail * room.f_frsize

    def size(self) -> int:
        # A quarter of what `fstat` costs, and asked before every write; nobody reads or writes by position.
        return os.lseek(self._fd, 0, os.SEEK_END)

    def next_data(self, offset: int) -> int:
        if not hasattr(os, "SEEK_DATA"):
            return offset
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return max(offset, self.size())
            return offset  # a file system that cannot tell; what is wrong, a read will say

    def names_and_size(self) -> tuple[int, int]:
        """How many names the file has (0: what is written there goes with the process), and its bytes."""
        found = os.fstat(self._fd)
        return found.st_nlink, found.st_size

    def file_id(self) -> tuple[int, int]:
        """Device and inode."""
        found = os.fstat(self._fd)
        return (found.st_dev, found.st_ino)

    def drop_cache(self, offset: int, length: int | None = None) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        # The kernel keeps the pages at both ends of a range that does not cover them.
        start = offset - offset % mmap.PAGESIZE
        size = 0 if length is None else offset + length - start  # 0: to the end
        if length is not None:
            size = max(mmap.PAGESIZE, size + -size % mmap.PAGESIZE)
        os.posix_fadvise(self._fd, start, size, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        fds = self._fd, self._kernel_fd
        self._fd = self._kernel_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class OsDisk:
    """The files under one directory of the operating system, opened as `storage/beneath.py` says."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"OsDisk({str(self.root)!r})"

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> OsFile:
        with Folder(self.root) as root:
            if create:
                return OsFile(root.make(path, FILE_MODE), path)
            return OsFile(root.open(path, is_written=not read_only), path)

    def exists(self, path: str) -> bool:
        try:
            with Folder(self.root) as root:
                return root.stat(path) is not None
        except (FileNotFoundError, NotADirectoryError):  # there is no disk
            return False

    def list(self, path: str) -> list[str]:
        with Folder(self.root) as root, root.listed(path) as folder:
            return sorted(os.listdir(folder))

    def make_directory(self, path: str) -> None:
        with Folder(self.root) as root:
            root.make_folder(path)

    def replace(self, source: str, target: str) -> None:
        with (
            Folder(self.root) as root,
            root.parent(source) as (source_folder, source_name),
            root.parent(target) as (target_folder, target_name),
        ):
            os.replace(source_name, target_name, src_dir_fd=source_folder, dst_dir_fd=target_folder)

    def sync_directory(self, path: str) -> None:
        with Folder(self.root) as root, root.listed(path) as folder:
            os.fsync(folder)

    def remove(self, path: str) -> None:
        with Folder(self.root) as root, root.parent(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def free_bytes(self) -> int:
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize

    def capacity(self) -> int:
        room = os.statvfs(self.root)
        return room.f_blocks * room.f_frsize


def write_all(file: File, buffers: Sequence[Buffer], offset: int) -> None:
    """Write all of the buffers, going on after a short write: its rest tells what is wrong.

    Raises:
        OSError: as the system gave it; some of the bytes may have been written.
    """
    write_rest(file, buffers, offset, file.pwritev(buffers, offset))


def write_rest(file: File, buffers: Sequence[Buffer], offset: int, written: int) -> None:
    """Go on with a write of which `written` bytes are done.

    Raises:
        OSError: see `write_all`.
    """
    wanted = sum(map(len, buffers))
    while written < wanted:
        rest = _after(buffers, written)
        count = file.pwritev(rest, offset + written)
        if not count:
            raise OSError(errno.EIO, "a write of more than 0 bytes wrote none")
        written += count


def _after(buffers: Sequence[Buffer], skip: int) -> list[Buffer]:
    """The buffers without their first `skip` bytes."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if skip < len(buffer):
            rest.append(memoryview(buffer)[skip:])
        skip = max(0, skip - len(buffer))
    return rest


def read_fully(file: File, buffer: bytearray | memoryview, offset: int) -> int:
    """Fill `buffer`, going on after short reads; returns less than its size only at the end of the file."""
    count = file.preadv([buffer], offset)
    if count == len(buffer):
        return count
    view = memoryview(buffer)
    while count and count < len(buffer):
        more = file.preadv([view[count:]], offset + count)
        if not more:
            break
        count += more
    return count


def write_file(disk: Disk, path: str, content: bytes) -> None:
    """Replace a small file as one step that survives a power cut: the old content or all of the new."""
    disk.replace(stage_file(disk, path, content), path)
    disk.sync_directory(path.rpartition("/")[0])


def stage_file(disk: Disk, path: str, content: bytes) -> str:
    """Write the replacement of a small file next to it, durably; returns the path of the replacement."""
    temporary = path + ".new"
    file = disk.open(temporary, create=True)
    try:
        write_all(file, [content], 0)
        file.fdatasync()
    finally:
        file.close()
    return temporary


def read_file(disk: Disk, path: str, size_max: int) -> bytes:
    """The content of a small file, at most `size_max` bytes of it."""
    file = disk.open(path, read_only=True)
    try:
        buffer = bytearray(min(file.size(), size_max))
        return bytes(buffer[: read_fully(file, buffer, 0)])
    finally:
        file.close()


class ClosedFile:
    """Stands in for a file that was given back: whatever is asked of it fails, and touches nothing.

    (Closing the descriptor under a reader in another thread would be worse: its number may by then be
    that of another file.)
    """

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int, *, nowait: bool = False) -> int:
        raise OSError(errno.EBADF, "the volume is closed")

    def start_reading(self, offset: int, length: int) -> None:
        pass

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        raise OSError(errno.EBADF, "the volume is closed")

    def fdatasync(self) -> None:
        raise OSError(errno.EBADF, "the volume is closed")

    def kernel_handle(self) -> int | None:
        return None

    def start_writeback(self, offset: int, length: int) -> None:
        raise OSError(errno.EBADF, "the volume is closed")

    def allocate(self, offset: int, length: int) -> None:
        raise OSError(errno.EBADF, "the volume is closed")

    def punch(self, offset: int, length: int) -> None:
        raise OSError(errno.EBADF, "the volume is closed")

    def truncate(self, size: int) -> None:
        raise OSError(errno.EBADF, "the volume is closed")

    def free_bytes(self) -> int:
        raise OSError(errno.EBADF, "the volume is closed")

    def size(self) -> int:
        raise OSError(errno.EBADF, "the volume is closed")

    def next_data(self, offset: int) -> int:
        raise OSError(errno.EBADF, "the volume is closed")

    def drop_cache(self, offset: int, length: int | None = None) -> None:
        raise OSError(errno.EBADF, "the volume is closed")

    def close(self) -> None:
        pass
