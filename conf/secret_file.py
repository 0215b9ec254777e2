"""Secret files: small TOML files that only their owner may read, and that are not read otherwise.

Profiles and join files hold credentials, so they are created with mode 0600 (never widened for a moment
and narrowed later), appear whole or not at all, and are on disk when `write` returns.
"""

from __future__ import annotations

import os
import shlex
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from warehouse.conf.files import read_small, write_if_changed
from warehouse.conf.setting_types import toml_string
from warehouse.errors import BadSetting, SetupError

FILE_SIZE_MAX = 64 * 1024


def write_secret_file(path: Path, values: Mapping[str, str], *, comment: str) -> None:
    """Make a file hold these values; one that does already is not touched.

    Raises:
        SetupError: it cannot be written; what was there is still there.
    """
    lines = [f"# {comment}"] + [f"{name} = {toml_string(value)}" for name, value in values.items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_if_changed(path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}") from error


def read_secret_file(path: Path, names: Sequence[str], *, what: str) -> dict[str, str]:
    """Read exactly the values `names`.

    Raises:
        BadSetting: the file cannot be read, others may use it, it is no TOML, or it lacks a value; no message
            quotes a value.
    """
    try:
        content, found = read_small(path, FILE_SIZE_MAX)
        document = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise BadSetting(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError):  # also numbers and nesting that Python's parser gives up on
        # Not `from error`: its text may quote the line that holds the secret.
        raise BadSetting(f"the {what} {path} is not a TOML file") from None
    for name in names:
        value = document.get(name)
        if not isinstance(value, str) or not value:
            raise BadSetting(f"the {what} {path} lacks the text {name!r}")
    if stat.S_ISREG(found.st_mode) and found.st_mode & _foreign_bits(found.st_uid):
        raise BadSetting(
            f"others may use the secret in the {what} {path} (mode {stat.S_IMODE(found.st_mode):o}); "
            f"run: chmod 600 {shlex.quote(str(path))}"
        )
    return {name: document[name] for name in names}


def _foreign_bits(owner: int) -> int:
    """The permissions that a secret must not have.

    What root has put there for the group of our user, who could not read it otherwise (a mounted secret of
    Kubernetes, /etc), is meant to be read by that group.
    """
    return 0o037 if owner == 0 and os.geteuid() != 0 else 0o077
