"""In memory: folders for models that make hundreds of catalogs, where no disk has to sync anything."""

from __future__ import annotations

import tempfile
from pathlib import Path


def make_folder(prefix: str) -> Path:
    """Like `tempfile.mkdtemp`, in memory where the system has such a file system."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix=prefix, dir=memory if memory.is_dir() else None))
