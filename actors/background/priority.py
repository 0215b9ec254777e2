"""Priority: has the system run this process only when other processes leave time for it."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys

log = logging.getLogger(__name__)

NICE = 10
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}  # system call numbers of Linux
_WHO_PROCESS = 1
_CLASS_IDLE = 3 << 13


def yield_to_others() -> None:
    """Take processor and disk time only when no other process wants it, where the system can do that.

    Call this before any thread starts: a thread inherits its priority from the thread that starts it.
    """
    try:
        os.nice(NICE)
        if sys.platform == "linux" and platform.machine() in _IOPRIO_SET:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syscall(_IOPRIO_SET[platform.machine()], _WHO_PROCESS, 0, _CLASS_IDLE) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        log.info("priority not lowered", extra={"cause": str(error)})
