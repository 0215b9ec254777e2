"""Secret files: small TOML files that only their owner may read.

Profiles and join files hold credentials, so they are created with mode 0600 (never widened for a moment
and narrowed later), appear whole or not at all, and are on disk when `write` returns.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from conf.kinds import toml_string
from errors import BadSetting

FILE_SIZE_MAX = 64 * 1024


def write_secret_file(path: Path, values: Mapping[str, str], *, comment: str) -> None:
    lines = [f"# {comment}"] + [f"{name} = {toml_string(value)}" for name, value in values.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp creates with mode 0600, under a name that nobody can have prepared.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_secret_file(path: Path, names: Sequence[str], *, what: str) -> dict[str, str]:
    """Read exactly the values `names`.

    Raises:
        BadSetting: the file cannot be read, is no TOML, or lacks a value; no message quotes a value.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_SIZE_MAX)
        document = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise BadSetting(f"cannot read the {what} {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Not `from error`: its text may quote the line that holds the secret.
        raise BadSetting(f"the {what} {path} is not a TOML file") from None
    for name in names:
        value = document.get(name)
        if not isinstance(value, str) or not value:
            raise BadSetting(f"the {what} {path} lacks the text {name!r}")
    return {name: document[name] for name in names}
