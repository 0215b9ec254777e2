"""Join file: what a volume actor needs to join a cluster.  The master writes it; copy it to each machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from warehouse.conf.profile import check_master
from warehouse.conf.secret_file import read_secret_file, write_secret_file


@dataclass(frozen=True)
class Join:
    master: str  # "tcp://host:port" of the control socket
    server_key: str  # CURVE public key of the master, Z85
    secret: str = field(repr=False)
    authority: str = field(default="", repr=False)  # certificates that signed those of the servers, PEM

    @classmethod
    def load(cls, path: Path) -> Join:
        """Raises BadSetting: see `read_secret_file`, or an endpoint or key of a wrong form."""
        values = read_secret_file(
            path, ("master", "server_key", "secret"), what="join file", optional=("authority",)
        )
        check_master(values["master"], values["server_key"], path)
        return cls(**values)

    def save(self, path: Path) -> None:
        values = {"master": self.master, "server_key": self.server_key, "secret": self.secret}
        if self.authority:
            values["authority"] = self.authority
        write_secret_file(
            path, values, comment="Lets a volume actor join a Warehouse cluster.  Holds a secret."
        )
