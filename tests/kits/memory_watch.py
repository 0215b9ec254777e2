"""The resident memory of a process while something happens to it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

LOOK_S = 0.02


def resident(pid: int) -> int:
    """Bytes.

    Raises:
        AssertionError: the process has ended.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("it has no memory")


class Watched:
    """Looks at a process again and again, from `with` on until its end.

    Attributes:
        rest: bytes, before.
        most: bytes, of all that was seen.
    """

    def __init__(self, pid: int) -> None:
        self.rest = self.most = resident(pid)
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def growth(self) -> int:
        return self.most - self.rest

    def __str__(self) -> str:
        return f"from {self.rest:,} to {self.most:,} bytes"

    def _watch(self) -> None:
        while not self._done.wait(LOOK_S):
            self.most = max(self.most, resident(self._pid))

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
