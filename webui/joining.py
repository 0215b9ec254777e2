"""Joining: what somebody pastes on a machine so that it brings a disk into the store.  Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from warehouse.conf.join import Join
from warehouse.conf.profile import Profile

FILE = "join.toml"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  clients are to reach the disk


@dataclass(frozen=True)
class Command:
    """One step: what it is for, and what to paste."""

    title: str
    text: str


@dataclass(frozen=True)
class Joining:
    """A join token that is shown once."""

    token: str
    expires_ms: int | None
    commands: tuple[Command, ...]


def join_of(profile: Profile, token: str, *, host: str) -> Join:
    """A join file with a token.

    Args:
        host: where other machines reach the master.
    """
    port = urlsplit(profile.master).port or 7400
    shown = f"[{host}]" if ":" in host else host
    return Join(f"tcp://{shown}:{port}", profile.server_key, token=token, authority=profile.authority)


def commands(join: Join, *, role: str, folder: str, host: str, port: int, scheme: str) -> tuple[Command, ...]:
    """
    Args:
        role: what the machine joins as: "both", "volume" or "compactor".
        folder: of the disk.
        host: where clients reach the machine; "": the store and the disk are on one machine.
        port: of its data.
        scheme: "http" or "https", as clients reach it.
    """
    file = f"(umask 077; cat > {FILE} <<'JOIN'\n{join.text()}JOIN\n)"
    steps = [Command("Write the join file, which holds the token", file)]
    at = ["--disk", folder, "--join", FILE]
    if role != "compactor":
        words = ["warehouse", "volume", *at, "--port", str(port)]
        if host:
            shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
            words += ["--host", EVERY_ADDRESS, "--advertise", f"{scheme}://{shown}:{port}"]
        steps.append(Command("Start the disk's volume actor, and keep it running", shlex.join(words)))
    if role != "volume":
        words = ["warehouse", "compactor", *at]
        steps.append(Command("Start its compactor beside it", shlex.join(words)))
    return tuple(steps)
