"""FileCheck: are the open files of a volume still there, and as long as what was written to them?

A file that somebody deleted goes on taking writes, and a file that somebody cut off fills the gap with zeros.
So a volume asks before it writes and before it promises (`storage/presence.py` tells more).
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from warehouse.errors import WriteFailed
from warehouse.storage.disk import OsFile
from warehouse.storage.files import data_path, index_path, manifest_path
from warehouse.storage.presence import displaced, file_id
from warehouse.storage.writing.state import VolumeState


class FileCheck:
    """Looks at the files of the generation that counts."""

    __slots__ = ("_state",)

    def __init__(self, state: VolumeState) -> None:
        self._state = state

    def require_uncut(self) -> None:
        """Refuse to write to a data file that was cut off.

        The write would fill the gap with zeros, and hide it from `harm`.

        Raises:
            WriteFailed: it was.  The volume is sealed.
        """
        state = self._state
        if state.generation.data.size() < state.durable and (problem := self.harm()) is not None:
            self._refuse(problem)

    def require_intact(self) -> None:
        """See `Volume.require_intact`."""
        problem = self.harm()
        if problem is not None:
            self._refuse(problem)

    def _refuse(self, problem: str) -> NoReturn:
        self._state.seal(problem)
        raise WriteFailed(f"volume {self._state.volume_id}: {problem}; it takes no writes")

    def harm(self) -> str | None:
        """See `Volume.harm`."""
        state = self._state
        generation, durable = state.generation, state.durable
        index = generation.entries.index
        for file, least, what in (
            (generation.data, durable, "data file"),
            (
                index.file if index is not None else None,
                index.written_to if index is not None else 0,
                "index",
            ),
        ):
            if isinstance(file, OsFile):
                try:
                    name_count, size = file.names_and_size()
                except OSError:  # a switch or `close` has closed it: others say what became of it
                    continue
                if generation is not state.generation:
                    return None
                if name_count == 0:
                    return f"its {what} was deleted while it was open"
                if size < least:
                    generation.is_suspect = True
                    return f"its {what} was cut off while it was open: {size} bytes, {least} were written"
        return None

    def displaced(self, root: Path) -> str | None:
        """See `Volume.displaced`."""
        if (problem := self.harm()) is not None:
            return problem
        state = self._state
        generation, directory = state.generation, state.directory
        paths = [
            (generation.data, data_path(directory, generation.number), "its data file"),
            (generation.entries.file, index_path(directory, generation.number), "its index"),
        ]
        for file, path, what in paths:
            if isinstance(file, OsFile):
                try:
                    known = file.file_id()
                except OSError:
                    continue
                problem = displaced(root / path, what, known)
                if problem is not None and generation is state.generation:
                    return problem
        manifest = root / manifest_path(directory)
        try:
            is_there = file_id(manifest) is not None
        except OSError:
            return None
        return None if is_there else f"its manifest {manifest} is gone"
