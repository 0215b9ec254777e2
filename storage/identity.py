"""Identity and lock of a disk directory: whose it is, and that one actor alone writes there.

`lock` is held with flock(2) by the volume actor from start to stop, and `compactor.lock` by the compactor,
so that a second one on the same directory is refused and a killed one leaves nothing to clean up.

`disk.json` names the disk.  It also records its own inode number: a file copied with its directory gets
another one, so that a copied or restored directory is noticed before two actors claim to be the same
disk.  (The number of the device would notice more, but it changes with the order in which a machine finds
its disks; and every file system has the same inode at its root, so the directory's own would notice less.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import uuid
from pathlib import Path
from typing import Annotated

import msgspec

from warehouse.errors import DiskInUse, DiskMismatch, FormatUnsupported, SetupError
from warehouse.storage.beneath import Folder, NotPlain, read_plain
from warehouse.storage.disk import FILE_MODE
from warehouse.storage.epoch import NEVER, Epoch, next_offer

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
SIZE_MAX = 64 * 1024  # of disk.json
IDENTITY_NAME = "disk.json"
LOCK_NAME = "lock"
COMPACTOR_LOCK_NAME = "compactor.lock"


Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]  # to the year 10889
DiskId = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]  # what a message can carry


class DiskIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What `disk.json` says.  From `epoch` on: see `storage/epoch.py`; older releases wrote none of that."""

    format: int
    disk_id: DiskId
    created_ms: TimeMs
    inode: int  # of the file that says so
    epoch: Number = 0
    mark: Number = 0
    offered_epoch: Number = 0
    offered_mark: Number = 0
    catalog_id: Number = 0
    heard_stamp: Number = 0

    @property
    def current(self) -> Epoch:
        return Epoch(self.epoch, self.mark)

    @property
    def offer(self) -> Epoch:
        return Epoch(self.offered_epoch, self.offered_mark)


class DiskLock:
    """The right to be the one actor of its kind in a directory, until released or until the process ends."""

    def __init__(self, root: Path, name: str = LOCK_NAME, *, is_read_only_ok: bool = False) -> None:
        """Take the lock.

        Args:
            name: of the file that is locked; each kind of actor has its own.
            is_read_only_ok: whoever asks only reads, so a file system where nobody can write will do.
        Raises:
            DiskInUse: another process has it.
        """
        self._fd, is_writable = _open_lock(root, name, is_read_only_ok=is_read_only_ok)
        if self._fd < 0:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise DiskInUse(
                f"{root} is in use by process {holder}: one actor of a kind per disk directory"
            ) from error
        if is_writable:
            # For people; the lock itself is the kernel's, and a full disk is no reason to go without.
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
                os.ftruncate(self._fd, len(b"%d\n" % os.getpid()))

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> DiskLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _open_lock(root: Path, name: str, *, is_read_only_ok: bool) -> tuple[int, bool]:
    """A descriptor of the lock file, -1 for none, and whether it can be written."""
    with Folder(root) as folder:
        try:
            return folder.open_or_make(name, FILE_MODE), True
        except NotPlain as error:
            if not is_read_only_ok:
                raise
            # No actor of this release can hold it, and whoever only reads writes nothing to it.
            log.warning("the lock of a disk is no plain file", extra={"disk": str(root), "cause": str(error)})
        except OSError as error:
            if not is_read_only_ok or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
        try:
            return folder.open(name), False
        except (FileNotFoundError, NotPlain):
            return -1, False


def load_identity(root: Path, *, created_ms: int, adopt: bool = False) -> DiskIdentity:
    """Read the identity of a disk directory, or make one where there is none.  Hold the lock.

    Args:
        created_ms: milliseconds since 1970, for a new identity.
        adopt: the operator says that this copy is now the disk: bind the identity to it.
    Raises:
        DiskMismatch: the directory is a copy, or its identity is unreadable.
        FormatUnsupported: a later release made it.
    """
    path = root / IDENTITY_NAME
    with Folder(root) as folder:
        try:
            identity, inode = _read(folder, path)
        except FileNotFoundError:
            return _write_identity(folder, _new_identity(created_ms))
        except DiskMismatch:
            if not adopt:
                raise
            return _write_identity(folder, _new_identity(created_ms))
        if not adopt:
            return _checked(path, identity, inode)
        if identity.inode == inode:
            return identity
        return _write_identity(folder, identity)


def read_identity(root: Path, *, is_copy_ok: bool = False) -> DiskIdentity | None:
    """Read the identity of a disk directory that another actor owns; None: it has not made one yet.

    Args:
        is_copy_ok: the directory may be a copy of the disk: nothing is going to be written there.
    Raises:
        DiskMismatch, FormatUnsupported: as `load_identity`.
    """
    path = root / IDENTITY_NAME
    try:
        with Folder(root) as folder:
            identity, inode = _read(folder, path)
    except FileNotFoundError:
        return None
    return identity if is_copy_ok else _checked(path, identity, inode)


def _read(folder: Folder, path: Path) -> tuple[DiskIdentity, int]:
    """The identity, and the inode of its file."""
    try:
        content, found = read_plain(folder, IDENTITY_NAME, SIZE_MAX + 1)
    except FileNotFoundError:
        raise
    except NotPlain as error:
        raise _unreadable(path, str(error.strerror)) from error
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > SIZE_MAX:
        raise _unreadable(path, f"it has more than {SIZE_MAX} bytes")
    return _decode(path, content), found.st_ino


def _decode(path: Path, content: bytes) -> DiskIdentity:
    try:
        identity = msgspec.json.decode(content, type=DiskIdentity)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    if identity.format != FORMAT_VERSION:
        raise FormatUnsupported(f"{path} has format {identity.format}; this release knows {FORMAT_VERSION}")
    return identity


def _unreadable(path: Path, cause: str) -> DiskMismatch:
    return DiskMismatch(f"{path} is unreadable ({cause}); restore it before this disk is used")


def _checked(path: Path, identity: DiskIdentity, inode: int) -> DiskIdentity:
    if identity.inode != inode:
        raise DiskMismatch(
            f"{path.parent} is a copy of disk {identity.disk_id}: never run both; adopt it if the original is"
            " gone"
        )
    return identity


class IdentityKeeper:
    """Owns the identity of a disk while its actor holds the lock.  Calls block, and come one at a time."""

    def __init__(self, root: Path, identity: DiskIdentity, *, is_read_only: bool = False) -> None:
        self._root = root
        self._is_read_only = is_read_only
        self._lock = threading.Lock()  # while it is being replaced, nobody looks at its inode
        self.identity = identity

    def problem(self) -> str | None:
        """Say that the file is not the one that was read or written last; None: it is."""
        path = self._root / IDENTITY_NAME
        with self._lock:
            try:
                is_there = path.stat().st_ino == self.identity.inode
            except (FileNotFoundError, NotADirectoryError):
                is_there = False
            except OSError:
                return None
        return None if is_there else f"the disk's identity {path} is gone, or another was put in its place"

    def offer(self) -> Epoch:
        """Write down what to offer at the next registration; NEVER where nothing can be written."""
        offer = next_offer(self.identity.current, self.identity.offer)
        if offer != self.identity.offer:
            self._save(offered_epoch=offer.number, offered_mark=offer.mark)
        return offer if offer == self.identity.offer else NEVER

    def confirm(self, epoch: Epoch, catalog_id: int) -> None:
        """A catalog has taken this epoch; should that not be written down now, the offer says as much."""
        is_new = catalog_id != self.identity.catalog_id
        self._save(
            epoch=epoch.number,
            mark=epoch.mark,
            offered_epoch=0,
            offered_mark=0,
            catalog_id=catalog_id,
            heard_stamp=0 if is_new else self.identity.heard_stamp,
        )

    def heard(self, catalog_id: int, stamp: int) -> None:
        """Write down up to which stamp the catalog is durable: an older one will be told by it."""
        if catalog_id == self.identity.catalog_id and self.identity.heard_stamp < stamp < 1 << 63:
            self._save(heard_stamp=stamp)

    def _save(self, **changes: int) -> None:
        """Keep some numbers durably; where that cannot be, they are as before."""
        if self._is_read_only:
            return
        try:
            with self._lock, Folder(self._root) as folder:
                if (self._root / IDENTITY_NAME).stat().st_ino != self.identity.inode:
                    return  # another was put in its place: nothing is to be written over it
                placed = _put_identity(folder, msgspec.structs.replace(self.identity, **changes))
                # It is the file that is there now; what it says counts once that lasts.
                self.identity = msgspec.structs.replace(self.identity, inode=placed.inode)
                _sync(folder)
                self.identity = placed
        except OSError as error:
            log.warning("the disk's identity was not written", extra={"cause": str(error)})


def _new_identity(created_ms: int) -> DiskIdentity:
    return DiskIdentity(format=FORMAT_VERSION, disk_id=str(uuid.uuid4()), created_ms=created_ms, inode=0)


def _write_identity(folder: Folder, identity: DiskIdentity) -> DiskIdentity:
    try:
        identity = _put_identity(folder, identity)
        _sync(folder)
    except OSError as error:
        raise SetupError(f"cannot write {IDENTITY_NAME} of a disk: {error.strerror}") from error
    return identity


def _put_identity(folder: Folder, identity: DiskIdentity) -> DiskIdentity:
    """Put another file in the place of the one that is there; it lasts from `_sync` on."""
    temporary = f"{IDENTITY_NAME.rpartition('.')[0]}.new"
    file = folder.make(temporary, FILE_MODE)
    try:
        inode = os.fstat(file).st_ino  # a rename keeps it
        identity = msgspec.structs.replace(identity, inode=inode)
        content = msgspec.json.format(msgspec.json.encode(identity)) + b"\n"
        while content:
            content = content[os.write(file, content) :]
        os.fsync(file)
    finally:
        os.close(file)
    os.replace(temporary, IDENTITY_NAME, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    return identity


def _sync(folder: Folder) -> None:
    with folder.listed("") as listed:
        os.fsync(listed)
