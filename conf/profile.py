"""Profile: how a client reaches a cluster, and with which API key.

`warehouse up` writes a profile; the library and every command find it automatically.  Where no file may
lie, as in a container, variables say the same:

    WAREHOUSE_ENDPOINT     tcp://host:port of the master
    WAREHOUSE_SERVER_KEY   its public key
    WAREHOUSE_KEY_ID, WAREHOUSE_SECRET
    WAREHOUSE_AUTHORITY    certificates that signed those of the servers, or a file with them; may be absent
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warehouse.conf.files import read_small
from warehouse.conf.named_profiles import current_name, named_or_path, profile_path, user_folder
from warehouse.conf.secret_file import read_secret_file, secret_text, write_secret_file
from warehouse.conf.server_keys import are_server_keys
from warehouse.errors import BadSetting, SecretMissing

PROFILE_VARIABLE = "WAREHOUSE_PROFILE"
ENDPOINT_VARIABLE = "WAREHOUSE_ENDPOINT"
AUTHORITY_VARIABLE = "WAREHOUSE_AUTHORITY"
_VARIABLES = {
    "master": ENDPOINT_VARIABLE,
    "server_key": "WAREHOUSE_SERVER_KEY",
    "key_id": "WAREHOUSE_KEY_ID",
    "secret": "WAREHOUSE_SECRET",
}
_AUTHORITY_SIZE_MAX = 64 * 1024
_COMMENT = "How to reach a Warehouse cluster.  Holds a secret: keep it to yourself."
_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True)
class Profile:
    """The address of a cluster, and one API key for it."""

    master: str  # "tcp://host:port" of the control socket
    server_key: str  # CURVE public key of the master, Z85; see `conf/server_keys.py`
    key_id: str
    secret: str = field(repr=False)
    authority: str = field(default="", repr=False)  # certificates that signed those of the servers, PEM
    path: Path | None = field(default=None, repr=False, compare=False)  # None: a pipe, which is read once

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Raises BadSetting: see `read_secret_file`, or an endpoint or key of a wrong form."""
        values = read_secret_file(
            path,
            ("master", "server_key", "key_id", "secret"),
            what="profile",
            optional=("authority",),
        )
        check_master(values["master"], values["server_key"], path)
        return cls(**values, path=path if path.is_file() else None)

    def save(self, path: Path) -> None:
        write_secret_file(path, self._values(), comment=_COMMENT)

    def text(self) -> str:
        """The content of its file."""
        return secret_text(self._values(), comment=_COMMENT)

    def _values(self) -> dict[str, str]:
        values = {
            "master": self.master,
            "server_key": self.server_key,
            "key_id": self.key_id,
            "secret": self.secret,
        }
        return values | ({"authority": self.authority} if self.authority else {})


def check_master(endpoint: str, server_key: str, source: Path | str) -> None:
    if not _ENDPOINT.fullmatch(endpoint) or not 0 < int(endpoint.rpartition(":")[2]) < 65536:
        raise BadSetting(f"{source}: master is {endpoint!r}, not of the form tcp://host:port")
    if not are_server_keys(server_key):
        raise BadSetting(f"{source}: server_key is not a CURVE key of 40 characters")


def profile_of_environment(environ: Mapping[str, str] | None = None) -> Profile | None:
    """The profile that variables describe; None: WAREHOUSE_ENDPOINT is not set.

    Raises:
        SecretMissing: another variable is missing.
        BadSetting: a variable is wrong, or WAREHOUSE_PROFILE names another profile.
    """
    environ = os.environ if environ is None else environ
    if not environ.get(ENDPOINT_VARIABLE):
        return None
    if environ.get(PROFILE_VARIABLE):
        raise BadSetting(
            f"{ENDPOINT_VARIABLE} and {PROFILE_VARIABLE} both say which store: unset one of them"
        )
    values = {name: environ.get(variable, "") for name, variable in _VARIABLES.items()}
    missing = [_VARIABLES[name] for name, value in values.items() if not value]
    if missing:
        raise SecretMissing(f"{ENDPOINT_VARIABLE} is set, but not {', '.join(missing)}")
    check_master(values["master"], values["server_key"], ENDPOINT_VARIABLE)
    authority = _authority_of(environ.get(AUTHORITY_VARIABLE, ""))
    return Profile(values["master"], values["server_key"], values["key_id"], values["secret"], authority)


def _authority_of(text: str) -> str:
    if not text or "-----BEGIN" in text:
        return text
    try:
        content, _ = read_small(Path(text), _AUTHORITY_SIZE_MAX)
        return content.decode("ascii")
    except OSError as error:
        raise BadSetting(f"cannot read {AUTHORITY_VARIABLE} {text}: {error.strerror}") from error
    except ValueError:
        raise BadSetting(f"{AUTHORITY_VARIABLE} {text} holds no certificates") from None


def find_profile(
    explicit: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
    home: Path | None = None,
) -> Path:
    """The profile to use: the named one, that of WAREHOUSE_PROFILE, of ./warehouse-data, or of the user.

    Args:
        explicit: a path, or the name of a profile of the user; WAREHOUSE_PROFILE may be either, too.
    Raises:
        SecretMissing: no profile was named, and none is in the usual places.
        BadSetting: the profile that was found belongs to another user, or variables stand for a profile.
    """
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return named_or_path(explicit, home)
    if environ.get(ENDPOINT_VARIABLE):  # whoever needs a file would else reach another store
        raise BadSetting(
            f"this needs a profile in a file: name one with --profile, or unset {ENDPOINT_VARIABLE}"
        )
    if environ.get(PROFILE_VARIABLE):
        return named_or_path(Path(environ[PROFILE_VARIABLE]).expanduser(), home)
    places = [
        (working_directory or Path.cwd()) / "warehouse-data" / "profile.toml",
        user_folder(home) / "profile.toml",
    ]
    for place in places:
        if place is places[-1] and (name := current_name(home)) is not None:
            return profile_path(name, home)
        if place.is_file():
            _require_ours(place)
            return place
    looked_at = " or ".join(str(place) for place in places)
    raise SecretMissing(
        f"no profile says which cluster to use: name one with --profile or {PROFILE_VARIABLE},"
        f" or start a cluster with `warehouse up`; no profile is at {looked_at}"
    )


def _require_ours(path: Path) -> None:
    """Refuse a profile that another user put here: it would send our objects to that user's cluster.

    Root, too: it may name such a profile, but does not take one that happens to be where it stands.
    """
    owner = path.stat().st_uid
    if owner not in (os.geteuid(), 0):
        raise BadSetting(
            f"the profile {path} belongs to another user (number {owner}); if you trust it, "
            f"run as root: chown {os.geteuid()} {shlex.quote(str(path))}"
        )


def load_profile(explicit: Path | None = None) -> Profile:
    """The profile to use: as `find_profile`, or what variables say.  Raises as those two."""
    if explicit is None and (profile := profile_of_environment()) is not None:
        return profile
    return Profile.load(find_profile(explicit))
