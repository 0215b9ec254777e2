"""Secret files: files that only their owner may read; others are refused, with the command that mends it.

Profiles and join files contain credentials.  They are created with mode 0600 (never wider, not even for a
moment), appear whole or not at all, and are on disk when `write_secret_file` returns.

A secret file belongs to our user or to root: another owner could read the secret, and could change where it
leads us.  Root itself also uses the files of others that it names, such as those of a service's user.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from warehouse.conf.files import read_small, write_if_changed
from warehouse.conf.setting_types import toml_string
from warehouse.errors import BadSetting, SetupError

FILE_SIZE_MAX = 64 * 1024
_LINES = re.compile(r"[ -&(-~\n]*", re.ASCII)  # what a literal string of TOML may hold, without quotes


def write_secret_file(path: Path, values: Mapping[str, str], *, comment: str) -> None:
    """Make a file contain these values; a file that contains them already is not touched.

    Raises:
        SetupError: the file cannot be written; the previous file is unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_if_changed(path, secret_text(values, comment=comment).encode())
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}") from error


def secret_text(values: Mapping[str, str], *, comment: str) -> str:
    """What `write_secret_file` writes."""
    lines = [f"# {comment}"] + [f"{name} = {_in_toml(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _in_toml(value: str) -> str:
    """Certificates stand there line by line, so that people can copy them out."""
    if "\n" in value and _LINES.fullmatch(value):
        return f"'''\n{value}'''"
    return toml_string(value)


def read_secret_file(
    path: Path, names: Sequence[str], *, what: str, optional: Sequence[str] = ()
) -> dict[str, str]:
    """Read the values of these names.

    Args:
        optional: names that files of earlier releases lack; their values are "" then.
    Raises:
        BadSetting: the file cannot be read, others may use it, it is not TOML, or it lacks a value.  No
            message quotes a value.
    """
    try:
        content, found = read_small(path, FILE_SIZE_MAX)
        require_owner(found, path, what=what)
        document = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise BadSetting(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError):  # also numbers and nesting that the parser refuses
        # Not `from error`: its text may quote the line with the secret.
        raise BadSetting(f"the {what} {path} is not a TOML file") from None
    for name in names:
        value = document.get(name)
        if not isinstance(value, str) or not value:
            raise BadSetting(f"the {what} {path} lacks the text {name!r}")
    for name in optional:
        if not isinstance(document.get(name, ""), str):
            raise BadSetting(f"{name!r} in the {what} {path} is no text")
    require_mode(found, path, what=what)
    return {**{name: document[name] for name in names}, **{name: document.get(name, "") for name in optional}}


def require_owner(found: os.stat_result, path: Path, *, what: str) -> None:
    """Raise BadSetting unless the file is ours, or root's, or we are root."""
    user = os.geteuid()
    if stat.S_ISREG(found.st_mode) and user != 0 and found.st_uid not in (user, 0):
        raise BadSetting(
            f"the {what} {path} belongs to another user (number {found.st_uid}); if you trust what it says, "
            f"run as root: chown {user} {shlex.quote(str(path))}"
        )


def require_mode(found: os.stat_result, path: Path, *, what: str) -> None:
    """Raise BadSetting if others may read or write the file."""
    if stat.S_ISREG(found.st_mode) and found.st_mode & _foreign_bits(found.st_uid):
        secret = what if what == "secret" else f"secret in the {what}"
        raise BadSetting(
            f"others may use the {secret} {path} (mode {stat.S_IMODE(found.st_mode):o}); "
            f"run: chmod 600 {shlex.quote(str(path))}"
        )


def _foreign_bits(owner: int) -> int:
    """The permissions that a secret must not have.

    A file of root may be readable by its group, because our user could not read it otherwise (a mounted
    secret of Kubernetes, /etc).
    """
    return 0o037 if owner == 0 and os.geteuid() != 0 else 0o077
