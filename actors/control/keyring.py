"""Keyring: the secrets of a master, made at its first start, kept in `<data>/keys/`, never built in.

    curve.key      the CURVE key pair of the control socket; its public half is in every profile
    access.pem     Ed25519, signs access tokens
    data.json      secrets, from which the disks' keys for data tokens are derived; the last one signs
    join.secret    what a volume actor shows to register

All are files of mode 0600, so no secret is ever part of a command line.  They survive restarts, so a restart
voids no token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.conf.files import sync_folder, write_whole
from warehouse.errors import SecretMissing, SetupError
from warehouse.transport.zeromq.curve import CurveKeys

MASTER_AUDIENCE = "master"  # of tokens for nobody but this master; disks are named by UUIDs


@dataclass(frozen=True, repr=False)
class Keyring:
    curve: CurveKeys
    access_pem: bytes
    data_secrets: dict[str, bytes]  # key id -> secret, oldest first
    join_secret: str

    @classmethod
    def load_or_create(cls, directory: Path) -> Keyring:
        """Read the keys of `directory`, or make all of them when the directory has none.

        Raises:
            SecretMissing: some keys are missing.  New ones would silently void what the missing ones signed,
                so a person has to decide.
        """
        names = ("curve.key", "access.pem", "data.json", "join.secret")
        present = [name for name in names if (directory / name).exists()]
        if not present:
            _create(directory)
        elif len(present) < len(names):
            missing = ", ".join(name for name in names if name not in present)
            raise SecretMissing(
                f"{directory} lacks {missing}: restore it from a backup, or remove the whole folder"
            )
        return cls(
            curve=CurveKeys.load(directory / "curve.key"),
            access_pem=_read(directory / "access.pem", _check_pem),
            data_secrets=_read(directory / "data.json", _data_secrets),
            join_secret=_read(directory / "join.secret", _join_secret),
        )

    def token_keys_of(self, disk_id: str) -> dict[str, bytes]:
        """HS256 keys for the tokens of one disk: no disk's key opens another disk."""
        return {
            key_id: hmac.digest(secret, b"warehouse data token\0" + disk_id.encode(), hashlib.sha256)
            for key_id, secret in self.data_secrets.items()
        }

    def sign(self, claims: DataClaims, token_keys: Mapping[str, bytes]) -> str:
        """A data token for whoever has these keys (see `token_keys_of`), signed with the latest secret."""
        key_id = self.signing_key_id
        return sign_data_token(claims, key_id=key_id, key=token_keys[key_id])

    @property
    def signing_key_id(self) -> str:
        return next(reversed(self.data_secrets))


T = TypeVar("T")


def _read(path: Path, decode: Callable[[bytes], T]) -> T:
    """
    Raises:
        SecretMissing: the file is empty, cut off or damaged.
        SetupError: the file cannot be read; that does not say what it holds.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    try:
        return decode(content)
    except (ValueError, KeyError, TypeError, IndexError, UnsupportedAlgorithm):
        problem = "is damaged" if content else "is empty"
        # Not `from error`: its text may quote the secret.
        raise SecretMissing(
            f"{path} {problem}: restore it from a backup; removing the whole folder {path.parent} makes new"
            " keys, which voids every profile, token and presigned URL"
        ) from None


def _check_pem(content: bytes) -> bytes:
    if not isinstance(serialization.load_pem_private_key(content, None), Ed25519PrivateKey):
        raise TypeError("another kind of key")
    return content


def _data_secrets(content: bytes) -> dict[str, bytes]:
    entries = json.loads(content)["secrets"]
    found = {entry["id"]: base64.b64decode(entry["secret"], validate=True) for entry in entries}
    if not found or not all(isinstance(key_id, str) and len(key) >= 16 for key_id, key in found.items()):
        raise ValueError("no secrets")
    return found


def _join_secret(content: bytes) -> str:
    secret = content.decode("ascii").strip()
    if len(secret) < 16:
        raise ValueError("too short to be a secret")
    return secret


def _create(directory: Path) -> None:
    """Make all keys in a new folder next to `directory`, then rename it: a crash leaves all keys or none."""
    target, directory = directory, directory.with_name(directory.name + ".new")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    CurveKeys.generate().save(directory / "curve.key")
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret = {"id": secrets.token_hex(4), "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
    write_secret(directory / "access.pem", pem)
    write_secret(directory / "data.json", json.dumps({"secrets": [secret]}).encode())
    write_secret(directory / "join.secret", secrets.token_urlsafe(32).encode())
    if target.exists():  # empty, or we would not be here
        target.rmdir()
    directory.rename(target)
    sync_folder(target.parent)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, durably, and whole or not at all."""
    write_whole(path, content)
