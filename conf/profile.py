"""Profile: how a client reaches a cluster, and with which API key.

`warehouse up` writes a profile; the library and every command find it automatically.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warehouse.conf.secret_file import read_secret_file, secret_text, write_secret_file
from warehouse.conf.server_keys import are_server_keys
from warehouse.errors import BadSetting, SecretMissing

PROFILE_VARIABLE = "WAREHOUSE_PROFILE"
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


def check_master(endpoint: str, server_key: str, path: Path) -> None:
    if not _ENDPOINT.fullmatch(endpoint) or not 0 < int(endpoint.rpartition(":")[2]) < 65536:
        raise BadSetting(f"{path}: master is {endpoint!r}, not of the form tcp://host:port")
    if not are_server_keys(server_key):
        raise BadSetting(f"{path}: server_key is not a CURVE key of 40 characters")


def find_profile(
    explicit: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
    home: Path | None = None,
) -> Path:
    """The profile to use: the named one, that of WAREHOUSE_PROFILE, of ./warehouse-data, or of the user.

    Raises:
        SecretMissing: no profile was named, and none is in the usual places.
        BadSetting: the profile that was found belongs to another user.
    """
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return explicit
    if environ.get(PROFILE_VARIABLE):
        return Path(environ[PROFILE_VARIABLE]).expanduser()
    places = [
        (working_directory or Path.cwd()) / "warehouse-data" / "profile.toml",
        (home or Path.home()) / ".config" / "warehouse" / "profile.toml",
    ]
    for place in places:
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
    return Profile.load(find_profile(explicit))
