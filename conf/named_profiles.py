"""Named profiles: the profiles of one user, each under a name, and which of them is in use.

~/.config/warehouse/profiles/NAME.toml   one profile each
~/.config/warehouse/current.toml         the name of the one in use
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from warehouse.conf.secret_file import read_secret_file, write_secret_file
from warehouse.errors import BadSetting, SecretMissing, SetupError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ENDING = ".toml"


def user_folder(home: Path | None = None) -> Path:
    return (home or Path.home()) / ".config" / "warehouse"


def check_name(name: str) -> str:
    """Raises BadSetting: no profile can have this name, because it would be taken for a path."""
    if not _NAME.fullmatch(name) or name.endswith(_ENDING):
        raise BadSetting(
            f"a profile's name has 1 to 64 of A-Z, a-z, 0-9, '.', '-', '_' and does not end with .toml,"
            f" not {name[:80]!r}"
        )
    return name


def profile_path(name: str, home: Path | None = None) -> Path:
    """Where the profile of this name lies, whether it is there or not."""
    return user_folder(home) / "profiles" / (check_name(name) + _ENDING)


def profile_names(home: Path | None = None) -> list[str]:
    folder = user_folder(home) / "profiles"
    names = (path.name.removesuffix(_ENDING) for path in folder.glob(f"*{_ENDING}") if path.is_file())
    return sorted(name for name in names if _NAME.fullmatch(name) and not name.endswith(_ENDING))


def named_or_path(word: Path, home: Path | None = None) -> Path:
    """The file that `--profile WORD` means: the profile of this name, else what is there under this name.

    A name comes first: a file that somebody has left where we are must not take its place.

    Raises:
        SecretMissing: the word can only be a name, and no profile has it.
    """
    text = str(word)
    if not _NAME.fullmatch(text) or text.endswith(_ENDING):
        return word
    path = profile_path(text, home)
    if path.is_file():
        return path
    if word.exists():
        return word
    names = ", ".join(profile_names(home)) or "none so far"
    raise SecretMissing(f"there is neither a profile {text!r} (profiles: {names}) nor a file of that name")


def current_name(home: Path | None = None) -> str | None:
    """The name of the profile in use; None: none was chosen.

    Raises:
        BadSetting: the file that says so cannot be read.
    """
    path = user_folder(home) / "current.toml"
    if not path.is_file():
        return None
    return check_name(read_secret_file(path, ("profile",), what="choice of a profile")["profile"])


def use_profile(name: str, home: Path | None = None) -> None:
    """Choose the profile that is used where none is named.

    Raises:
        SecretMissing: there is no profile of this name.
    """
    if not profile_path(name, home).is_file():
        names = ", ".join(profile_names(home)) or "none so far"
        raise SecretMissing(f"there is no profile {name!r} (profiles: {names})")
    write_secret_file(
        user_folder(home) / "current.toml",
        {"profile": name},
        comment="Which profile is used where none is named: `warehouse profile use NAME` writes this.",
    )


def remove_profile(name: str, home: Path | None = None) -> None:
    """Delete the profile of this name; if it was in use, none is from now on.

    Raises:
        SecretMissing: there is no profile of this name.
        SetupError: its file cannot be deleted.
    """
    path = profile_path(name, home)
    if not path.is_file():
        raise SecretMissing(f"there is no profile {name!r}")
    try:
        if current_name(home) == name:
            os.unlink(user_folder(home) / "current.toml")
        os.unlink(path)
    except OSError as error:
        raise SetupError(f"cannot delete {path}: {error.strerror}") from error
