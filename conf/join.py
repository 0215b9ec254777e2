"""Join file: where a cluster is, and what lets a machine join it.  Copy it to each machine.

master, server_key    the control socket, and its key
token                 a join token; a machine that has joined needs none any more
secret                in files of 0.1.0, in place of the token: the join secret, which all machines share
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from warehouse.conf.profile import check_master
from warehouse.conf.secret_file import read_secret_file, secret_text, write_secret_file

_COMMENT = "Where a Warehouse cluster is, and what lets a machine join it."


@dataclass(frozen=True)
class Join:
    master: str  # "tcp://host:port" of the control socket
    server_key: str  # CURVE public key of the master, Z85; see `conf/server_keys.py`
    token: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    authority: str = field(default="", repr=False)  # certificates that signed those of the servers, PEM
    path: Path | None = field(default=None, repr=False, compare=False)  # None: a pipe, which is read once

    @classmethod
    def load(cls, path: Path) -> Join:
        """Raises BadSetting: see `read_secret_file`, or an endpoint or key of a wrong form."""
        values = read_secret_file(
            path, ("master", "server_key"), optional=("token", "secret", "authority"), what="join file"
        )
        check_master(values["master"], values["server_key"], path)
        return cls(**values, path=path if path.is_file() else None)

    def save(self, path: Path) -> None:
        write_secret_file(path, self._values(), comment=_COMMENT)

    def text(self) -> str:
        """The content of its file."""
        return secret_text(self._values(), comment=_COMMENT)

    def _values(self) -> dict[str, str]:
        values = {"master": self.master, "server_key": self.server_key}
        more = {"token": self.token, "secret": self.secret, "authority": self.authority}
        return values | {name: value for name, value in more.items() if value}
