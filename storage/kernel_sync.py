"""Kernel sync: `fdatasync` without a thread that waits for it.

Linux takes `fdatasync` as an asynchronous request (`io_submit` with IOCB_CMD_FDSYNC, since 4.18).  One of its
own workers does what the system call does, errors included, and an eventfd becomes readable when it is done.
A thread costs more than it seems to: it has to be woken, takes the interpreter's lock twice, and wakes the
event loop again, each of which takes longer than a good disk takes to sync.

    actors/data/fsync.py     uses this, and falls back to a thread
    storage/volume.py        `begin_sync` and `end_sync`: what has to hold before and after
    docs/decisions/0002-kernel-sync.md     what it saves, and what would make us delete it

`KernelSync()` raises OSError where the kernel does not do this: another system, an old kernel, a sandbox that
forbids it, or no requests left in /proc/sys/fs/aio-max-nr.

Source: io_submit(2), io_getevents(2), eventfd(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from typing import Final

IN_FLIGHT_MAX: Final = 64  # the kernel takes at least this many at once

_FDSYNC: Final = 3  # IOCB_CMD_FDSYNC
_SIGNAL_EVENTFD: Final = 1  # IOCB_FLAG_RESFD
_NUMBERS: Final = {  # of io_setup, io_destroy, io_submit, io_getevents
    "x86_64": (206, 207, 209, 208),
    "aarch64": (0, 1, 2, 4),
}


class _Iocb(ctypes.Structure):
    """`struct iocb` of linux/aio_abi.h, little-endian."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("reqprio", ctypes.c_int16),
        ("fildes", ctypes.c_uint32),
        ("buf", ctypes.c_uint64),
        ("nbytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved2", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("resfd", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """`struct io_event`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("obj", ctypes.c_uint64),
        ("res", ctypes.c_int64),
        ("res2", ctypes.c_int64),
    )


class KernelSync:
    """The syncs that the kernel is running.  For one thread."""

    def __init__(self) -> None:
        """
        Raises:
            OSError: the kernel does not do this, or takes no more requests.
        """
        numbers = _NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
        if numbers is None or sys.byteorder != "little" or sys.maxsize < 1 << 32:
            raise OSError(errno.ENOSYS, "no asynchronous fdatasync on this system")
        setup, self._destroy, self._submit, self._get_events = numbers
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._check(self._call(setup, IN_FLIGHT_MAX, ctypes.byref(self._context)))
        except OSError:
            os.close(self._eventfd)
            raise
        self._request = _Iocb(opcode=_FDSYNC, flags=_SIGNAL_EVENTFD, resfd=self._eventfd)
        self._requests = (ctypes.c_void_p * 1)(ctypes.addressof(self._request))
        self._events = (_Event * IN_FLIGHT_MAX)()
        self._no_time = (ctypes.c_int64 * 2)(0, 0)
        self._is_closed = False

    def fileno(self) -> int:
        """A descriptor that is readable when `take_results` has something."""
        return self._eventfd

    def submit(self, fd: int, tag: int) -> None:
        """Start to sync a file: what has been written to it before this call will be durable.

        Args:
            tag: returned with the result.
        Raises:
            OSError: nothing was started.  EAGAIN: too many are running; EINVAL: not for files of this kind.
        """
        self._request.data = tag
        self._request.fildes = fd
        self._check(self._call(self._submit, self._context, ctypes.c_long(1), self._requests))

    def take_results(self) -> list[tuple[int, int]]:
        """Tag and error number (0: success) of each finished sync; does not wait."""
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return []
        results: list[tuple[int, int]] = []
        while True:
            count = self._check(
                self._call(
                    self._get_events,
                    self._context,
                    ctypes.c_long(0),
                    ctypes.c_long(IN_FLIGHT_MAX),
                    self._events,
                    self._no_time,
                )
            )
            results += [(event.data, max(0, -event.res)) for event in self._events[:count]]
            if count < IN_FLIGHT_MAX:  # the kernel may run more at once than it was asked for
                return results

    def close(self) -> None:
        """Wait for the running syncs, and drop their results."""
        if not self._is_closed:
            self._is_closed = True
            self._call(self._destroy, self._context)
            os.close(self._eventfd)

    def _check(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
