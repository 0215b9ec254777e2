"""What the programs here share: each runs in the environment of one library, and does commands that a test asks for.

A test writes a line of JSON for a command and reads one back.  Nothing of Warehouse can be imported there.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Command = Callable[["World"], None]


@dataclass
class World:
    """What a command works with.

    Attributes:
        url: of the gateway, or of a proxy before it.
        virtual_url: of the gateway, where each bucket has a host of its own below it.
        bucket: made for this command, empty.
        folder: for files; empty.
    """

    url: str
    virtual_url: str
    key_id: str
    secret: str
    region: str
    bucket: str
    folder: Path

    def file(self, name: str, size: int) -> tuple[Path, bytes]:
        """A new file of random bytes, and these."""
        data = os.urandom(size)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path, data


def command(words: str) -> Callable[[Command], Command]:
    """This function does what `words` say: they stand in the table of docs/s3.md."""
    return lambda function: function


def run(functions: Mapping[str, Any]) -> None:
    """Do commands until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("command")
        asked["folder"] = Path(asked["folder"])
        try:
            functions[name](World(**asked))
            error = None
        except BaseException:
            error = traceback.format_exc()
        answers.write(json.dumps({"error": error}) + "\n")
        answers.flush()


def refused(ask: Callable[[], object], code: str) -> None:
    """Require that an answer names this code of S3."""
    said = "nothing"
    try:
        ask()
    except Exception as error:
        said = f"{error!r} {error}"
    assert code in said, f"expected {code}, got {said}"
