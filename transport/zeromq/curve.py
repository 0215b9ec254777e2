"""CURVE keys: who an actor is on the control plane.

A key pair is 2 x 32 bytes, written in Z85 (40 printable characters, no quotes, no spaces) everywhere outside
libsodium.  Its file is TOML, readable by its owner alone:

    public = "..."
    secret = "..."

Source: RFC 32/Z85 and RFC 26/CurveZMQ, rfc.zeromq.org.
"""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from warehouse.errors import BadSetting, SecretMissing

KEY_SIZE = 40  # characters of Z85


@dataclass(frozen=True)
class CurveKeys:
    """One key pair, both halves in Z85; the secret half shows in no log and no traceback."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> CurveKeys:
        return cls(*zmq.curve_keypair())

    @classmethod
    def load(cls, path: Path | str) -> CurveKeys:
        """Read a key file.

        Raises:
            SecretMissing: there is no such file.
            BadSetting: it is another user's, others may read it, or it is not a key pair.
        """
        path = Path(path)
        try:
            # Without O_NONBLOCK, opening a pipe that somebody has put here waits forever.
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                found = os.fstat(file.fileno())
                text = file.read(4096) if stat.S_ISREG(found.st_mode) else b""
        except FileNotFoundError as error:
            raise SecretMissing(f"{path}: there is no key file") from error
        except OSError as error:
            raise BadSetting(f"{path}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise BadSetting(f"{path}: this is no plain file")
        _require_private(found, path)
        try:
            fields = tomllib.loads(text.decode())
            keys = cls(public=fields["public"].encode(), secret=fields["secret"].encode())
            is_pair = zmq.curve_public(keys.secret) == keys.public
        # The cause is left out on purpose: it may quote the secret.
        except (ValueError, KeyError, AttributeError, zmq.ZMQError):
            raise BadSetting(f"{path}: not a key file (public and secret, 40 characters each)") from None
        if not is_pair:
            raise BadSetting(f"{path}: the two keys are not a pair")
        return keys

    @classmethod
    def load_or_make(cls, path: Path | str) -> CurveKeys:
        """Read a key file; make a new key pair where there is none.

        Raises:
            BadSetting: as `load`.
            OSError: the file cannot be made.
        """
        try:
            return cls.load(path)
        except SecretMissing:
            keys = cls.generate()
            keys.save(path)
            return keys

    def save(self, path: Path | str) -> None:
        """Write the key file whole or not at all, readable by its owner alone, durable on return."""
        path = Path(path)
        text = f'public = "{self.public.decode()}"\nsecret = "{self.secret.decode()}"\n'
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _require_private(found: os.stat_result, path: Path) -> None:
    mode, user, name = stat.S_IMODE(found.st_mode), os.geteuid(), shlex.quote(str(path))
    if mode & 0o077:
        raise BadSetting(f"{path}: others may use this secret (mode {mode:o}); run: chmod 600 {name}")
    if user != 0 and found.st_uid not in (user, 0):
        raise BadSetting(
            f"{path}: this secret belongs to another user (number {found.st_uid}); "
            f"run as root: chown {user} {name}"
        )
