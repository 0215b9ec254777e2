"""Server keys: the CURVE keys of the master in a profile or join file.

    server_key = "KEY"          the public key of the master
    server_key = "KEY NEXT"     and the one that it will have after a rotation that it has announced

Who connects learns of a rotation from the master and writes it down here.  So the file is right before and
after the switch, and needs no copying around.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from warehouse.conf.files import read_small
from warehouse.conf.secret_file import FILE_SIZE_MAX, read_secret_file, write_secret_file
from warehouse.errors import BadSetting

_KEY = r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}"  # Z85, ZeroMQ RFC 32
_KEYS = re.compile(rf"{_KEY}( {_KEY})?", re.ASCII)


def are_server_keys(text: str) -> bool:
    return _KEYS.fullmatch(text) is not None


def join_server_keys(present: str, following: str) -> str:
    """The text of a file.

    Args:
        following: the next key; "": the master has announced none.
    """
    return f"{present} {following}" if following not in ("", present) else present


def read_server_keys(path: Path) -> str:
    """Raises BadSetting: see `read_secret_file`."""
    text = read_secret_file(path, ("server_key",), what="file")["server_key"]
    if not are_server_keys(text):
        raise BadSetting(f"{path}: server_key is not a CURVE key of 40 characters")
    return text


def write_server_keys(path: Path, text: str) -> bool:
    """Replace the keys in a profile or join file, and nothing else; return whether the file was written.

    Raises:
        BadSetting: see `read_secret_file`.
        SetupError: it cannot be written.
    """
    if read_server_keys(path) == text:
        return False
    try:
        content = read_small(path, FILE_SIZE_MAX)[0].decode()
        values = tomllib.loads(content)
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path} cannot be read: {error}") from None
    if not all(isinstance(value, str) for value in values.values()):
        raise BadSetting(f"{path} has values that this release does not know: change server_key by hand")
    first = content.partition("\n")[0]
    comment = first.removeprefix("#").strip() if first.startswith("#") else "Holds a secret."
    # A link stays a link: whoever made it keeps the file elsewhere.
    write_secret_file(path.resolve(), {**values, "server_key": text}, comment=comment)
    return True


class ServerKeys:
    """What a process knows of the keys, and the file that it keeps right.

    Args:
        text: what the file said when it was read.
        path: of that file; None: there is none to keep right.
    """

    def __init__(self, text: str, path: Path | None) -> None:
        self._path = path
        self._text = text

    @property
    def reader(self) -> Callable[[], bytes] | None:
        """Reads the file again, as `read_server_keys` does, and blocks.  None: there is no file."""
        path = self._path
        return None if path is None else lambda: read_server_keys(path).encode()

    def take(self, used: str, following: str) -> bool:
        """Take over what the master says, at the key in use.

        Args:
            following: "": it announces none; what it has announced may still come, until it is in use.
        Returns:
            whether that is news.
        Raises:
            BadSetting: what it announces is no key.
        """
        if not following and used == self._text.partition(" ")[0]:
            return False
        text = join_server_keys(used, following)
        if text == self._text:
            return False
        if not are_server_keys(text):
            raise BadSetting("the next server key that the master announces is none")
        self._text = text
        return True

    def write(self) -> bool:
        """Write into the file what is known.  Blocks; returns and raises what `write_server_keys` does."""
        return self._path is not None and write_server_keys(self._path, self._text)
