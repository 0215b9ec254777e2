"""Secret search: is a secret of a store anywhere but in the files that are there to keep it?

`secrets_of` reads the secrets from the files that keep them.  `places_of` looks through all other files of a
store, its log, and the command lines and environments of its processes, for every form in which a secret is
written: as it is, in base64 of both alphabets, and in hexadecimal.
"""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

READ_MAX = 2 * 1024 * 1024  # bytes of one file: what the volume files of large tests hold further on is alike
SHORT = 16  # a shorter text may stand anywhere by chance
KEPT_IN = ("profile.toml", "join.toml", "node.key", "curve.key", "root.toml", "first-key.toml")
SECRET_FIELDS = ("secret", "token", "key")


def keeps_secrets(path: Path) -> bool:
    """Is this one of the files that are there to keep a secret?"""
    is_keyring = path.parent.name == "keys" or path.parent.name.startswith("keys.before-")
    return is_keyring or path.name in KEPT_IN or path.suffix in (".key", ".pem")


def secrets_of(data: Path) -> dict[str, bytes]:
    """The secrets in the folder of a store, by where they are kept."""
    found: dict[str, bytes] = {}
    for path in sorted(data.rglob("*")):
        if not path.is_file() or not keeps_secrets(path):
            continue
        for name, secret in secrets_in(path):
            if len(secret) >= SHORT:
                found[f"{path.relative_to(data)}: {name}"] = secret
    return found


def secrets_in(path: Path) -> Iterator[tuple[str, bytes]]:
    text = path.read_text(errors="replace")
    if path.suffix == ".json":
        yield from _fields(json.loads(text))
    elif "PRIVATE KEY" in text:
        body = "".join(line for line in text.splitlines() if line and not line.startswith("-"))
        yield "private key", base64.b64decode(body)
    elif path.suffix in (".toml", ".key"):
        yield from _fields(tomllib.loads(text))
    elif path.suffix == ".secret":
        yield "secret", text.strip().encode()


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, bytes]]:
    if isinstance(value, dict):
        for inner_name, inner in value.items():
            yield from _fields(inner, inner_name)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner, name)
    elif isinstance(value, str) and name in SECRET_FIELDS:
        yield name, value.encode()


def forms_of(secret: bytes) -> set[bytes]:
    """All the ways in which somebody may have written it."""
    forms = {secret, secret.hex().encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(secret).rstrip(b"="))
    try:
        raw = base64.urlsafe_b64decode(secret + b"=" * (-len(secret) % 4))
    except ValueError:
        raw = b""
    if len(raw) >= SHORT:  # it is written in base64 itself
        forms |= {raw, raw.hex().encode()}
    return {form for form in forms if len(form) >= SHORT}


def places_of(
    secrets: dict[str, bytes], data: Path, logs: Iterable[Path] = (), pids: Iterable[int] = ()
) -> list[str]:
    """Where secrets stand that they should not, as sentences."""
    wanted = {name: forms_of(secret) for name, secret in secrets.items()}
    problems = []
    for place, content in _contents(data, logs, pids):
        problems += [
            f"{name} stands in {place}"
            for name, forms in wanted.items()
            if any(form in content for form in forms)
        ]
    return problems


def _contents(data: Path, logs: Iterable[Path], pids: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    for path in [*logs, *sorted(data.rglob("*"))]:
        if keeps_secrets(path) or path.parent.name == "ballast":
            continue
        try:
            with path.open("rb") as file:
                yield str(path), file.read(READ_MAX)
        except (IsADirectoryError, FileNotFoundError):  # a file that the store has removed meanwhile
            continue
    for pid in pids:
        for name in ("cmdline", "environ"):
            try:
                yield f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:  # it has ended
                continue
