"""Key files: the folder `<data>/keys/` of a master, where its secrets are; made at its first start.

    curve.key      the CURVE key pair of the control socket; its public half is in every profile
    access.pem     Ed25519, signs access tokens
    data.json      secrets, from which the disks' keys for data tokens are derived; the last one signs
    join.secret    in stores of 0.1.0: what a volume actor shows to register, until a node joins with a token
    seal.json      AES-256 keys, under which the secrets of API keys are sealed; the last one seals
    authority.key  the authority for TLS certificates: its private key, its certificate, and those of earlier
                   authorities that are still trusted (PEM; one file, so that it changes in one step)
    rotation.json  what a rotation has begun and not finished (`keyring.py`); absent while there is none
    keyring.json   the names of the files that this folder has, written last

All are of mode 0600, so no secret is ever part of a command line.  Each is written whole or not at all.

A file that `keyring.json` names and that is missing is never made again: a new one would silently void what
the missing one signed or sealed, so a person has to decide.  A folder of release 0.1.0 has no `keyring.json`
and only the first four files; the next start adds the others without touching these.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warehouse.auth.authority import Authority
from warehouse.auth.sealing import KEY_SIZE, generate_seal_key
from warehouse.conf.files import read_small, sync_folder, write_whole
from warehouse.conf.secret_file import require_mode, require_owner
from warehouse.errors import SecretMissing, SetupError
from warehouse.transport.zeromq.curve import CurveKeys

FILE_SIZE_MAX = 64 * 1024
DATA_SECRET_SIZE_MIN = 16
CONTENTS_NAME = "keyring.json"
FIRST_NAMES = ("curve.key", "access.pem", "data.json")  # of release 0.1.0, like the next one
JOIN_FILE_NAME = "join.secret"  # no release after it makes one, and no start demands it
LATER_NAMES = ("seal.json", "authority.key")  # a start adds them to an older folder
ROTATION_NAME = "rotation.json"


@dataclass(frozen=True, repr=False)
class DataSecret:
    """
    Attributes:
        until_ms: when tokens signed with it become void, since 1970; None: no rotation has replaced it.
    """

    id: str
    secret: bytes
    until_ms: int | None = None


class EarlierAccessKey(msgspec.Struct, frozen=True):
    """A key that no longer signs access tokens; those that it has signed stay valid for a while."""

    public: bytes  # 32 bytes, Ed25519; the private half is gone
    until_ms: int


class EarlierAuthority(msgspec.Struct, frozen=True):
    """An authority that no longer signs; what it has signed stays trusted for a while."""

    certificate: str  # PEM
    until_ms: int


class NextCurve(msgspec.Struct, frozen=True):
    """The key pair that the control socket will have, which clients and nodes are told of meanwhile."""

    public: str  # Z85
    secret: str
    at_ms: int  # when it takes the place of the present one


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """What a rotation has begun and not finished."""

    curve: NextCurve | None = None

    access: tuple[EarlierAccessKey, ...] = ()
    authority: tuple[EarlierAuthority, ...] = ()


@dataclass(frozen=True, repr=False)
class Secrets:
    """What the files hold."""

    curve: CurveKeys
    access_pem: bytes
    data: tuple[DataSecret, ...]  # oldest first, at least one
    join_secret: str | None
    seal: dict[str, bytes]  # seal key id -> key, oldest first, at least one
    authority: Authority
    rotation: Rotation


def load_or_create(directory: Path) -> Secrets:
    """Read the keys of `directory`, or make all of them when the directory has none.

    Raises:
        SecretMissing: some keys are missing or damaged.
        SetupError: a file cannot be read; that does not say what it holds.
        BadSetting: a file is another user's, or others may use it.
    """
    present = [name for name in (*FIRST_NAMES, *LATER_NAMES) if (directory / name).exists()]
    if not present and not (directory / CONTENTS_NAME).exists():
        _create(directory)
    else:
        _require_all(directory)
        _add_later_files(directory)
    return _load(directory)


def _require_all(directory: Path) -> None:
    contents = directory / CONTENTS_NAME
    names = _read(contents, _names_in) if contents.exists() else FIRST_NAMES
    missing = [name for name in names if not (directory / name).exists()]
    if missing:
        raise SecretMissing(
            f"{directory} lacks {', '.join(missing)}: restore it from a backup, or remove the whole folder"
        )


def _add_later_files(directory: Path) -> None:
    """Complete the folder of an earlier release; a start that is cut off here is completed by the next."""
    wanted = contents_of(FIRST_NAMES + LATER_NAMES)
    contents = directory / CONTENTS_NAME
    if contents.exists() and set(_read(contents, _names_in)) >= set(FIRST_NAMES + LATER_NAMES):
        return
    for name, content in _new_later_files():
        if not (directory / name).exists():
            write_whole(directory / name, content)
    write_whole(contents, wanted)


def _load(directory: Path) -> Secrets:
    rotation_path, join_secret = directory / ROTATION_NAME, directory / JOIN_FILE_NAME
    rotation = _read(rotation_path, _rotation) if rotation_path.exists() else Rotation()
    authority = _read(directory / "authority.key", _authority)
    return Secrets(
        curve=CurveKeys.load(directory / "curve.key"),
        access_pem=_read(directory / "access.pem", _check_pem),
        data=_read(directory / "data.json", _data_secrets),
        join_secret=_read(join_secret, _join_secret) if join_secret.exists() else None,
        seal=_read(directory / "seal.json", _seal_keys),
        authority=authority,
        rotation=_without_ended(rotation, authority),
    )


def _without_ended(rotation: Rotation, authority: Authority) -> Rotation:
    """Forget the authorities that a rotation at once has ended, if a crash kept it from forgetting them."""
    trusted = tuple(entry for entry in rotation.authority if entry.certificate in authority.bundle)
    return msgspec.structs.replace(rotation, authority=trusted)


def _create(directory: Path) -> None:
    """Make all keys in a new folder next to `directory`, then rename it: a crash leaves all keys or none."""
    target, directory = directory, directory.with_name(directory.name + ".new")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    CurveKeys.generate().save(directory / "curve.key")
    write_whole(directory / "access.pem", generate_access_pem())
    write_whole(directory / "data.json", data_file((generate_data_secret(),)))
    for name, content in _new_later_files():
        write_whole(directory / name, content)
    write_whole(directory / CONTENTS_NAME, contents_of(FIRST_NAMES + LATER_NAMES))
    if target.exists():  # empty, or we would not be here
        target.rmdir()
    directory.rename(target)
    sync_folder(target.parent)


def _new_later_files() -> Iterator[tuple[str, bytes]]:
    yield "seal.json", seal_file(dict([generate_seal_key()]))
    yield "authority.key", authority_file(Authority.generate(now=datetime.now(UTC)))


# --- new secrets ----------------------------------------------------------------------------------


def generate_access_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def generate_data_secret() -> DataSecret:
    return DataSecret(secrets.token_hex(4), secrets.token_bytes(32))


# --- formats --------------------------------------------------------------------------------------


def contents_of(names: Sequence[str]) -> bytes:
    return json.dumps({"files": list(names)}).encode()


def data_file(data: Sequence[DataSecret]) -> bytes:
    entries = [
        {"id": entry.id, "secret": base64.b64encode(entry.secret).decode()}
        | ({} if entry.until_ms is None else {"until_ms": entry.until_ms})
        for entry in data
    ]
    return json.dumps({"secrets": entries}).encode()


def seal_file(keys: dict[str, bytes]) -> bytes:
    entries = [{"id": key_id, "key": base64.b64encode(key).decode()} for key_id, key in keys.items()]
    return json.dumps({"keys": entries}).encode()


def authority_file(authority: Authority) -> bytes:
    return authority.key_pem + authority.bundle.encode()


def rotation_file(rotation: Rotation) -> bytes:
    return msgspec.json.encode(rotation)


T = TypeVar("T")
_DAMAGES = (
    *(ValueError, KeyError, TypeError, IndexError, RecursionError),
    *(UnsupportedAlgorithm, msgspec.MsgspecError),
)


def _read(path: Path, decode: Callable[[bytes], T]) -> T:
    """
    Raises:
        SecretMissing: the file is empty, cut off or damaged.
        SetupError: the file cannot be read; that does not say what it holds.
        BadSetting: it is another user's, or others may use it.
    """
    try:
        content, found = read_small(path, FILE_SIZE_MAX)
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    require_owner(found, path, what="secret")
    require_mode(found, path, what="secret")
    try:
        return decode(content)
    except _DAMAGES:
        problem = "is damaged" if content else "is empty"
        # Not `from error`: its text may quote the secret.
        raise SecretMissing(
            f"{path} {problem}: restore it from a backup; removing the whole folder {path.parent} makes new"
            " keys, which voids every profile, token and presigned URL"
        ) from None


def _names_in(content: bytes) -> list[str]:
    names = json.loads(content)["files"]
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ValueError("no names of files")
    return list(names)


def _check_pem(content: bytes) -> bytes:
    if not isinstance(serialization.load_pem_private_key(content, None), Ed25519PrivateKey):
        raise TypeError("another kind of key")
    return content


def _data_secrets(content: bytes) -> tuple[DataSecret, ...]:
    found = tuple(
        DataSecret(entry["id"], base64.b64decode(entry["secret"], validate=True), entry.get("until_ms"))
        for entry in json.loads(content)["secrets"]
    )
    for entry in found:
        is_whole = isinstance(entry.id, str) and len(entry.secret) >= DATA_SECRET_SIZE_MIN
        if not is_whole or not isinstance(entry.until_ms, int | None):
            raise ValueError("no secret")
    if not found or len({entry.id for entry in found}) < len(found):
        raise ValueError("no secrets, or two of one id")
    return found


def _join_secret(content: bytes) -> str:
    secret = content.decode("ascii").strip()
    if len(secret) < 16:
        raise ValueError("too short to be a secret")
    return secret


def _seal_keys(content: bytes) -> dict[str, bytes]:
    entries = json.loads(content)["keys"]
    found = {entry["id"]: base64.b64decode(entry["key"], validate=True) for entry in entries}
    if not found or len(found) < len(entries):
        raise ValueError("no keys, or two of one id")
    if not all(len(bytes.fromhex(key_id)) == 8 and len(key) == KEY_SIZE for key_id, key in found.items()):
        raise ValueError("no key")
    return found


def _authority(content: bytes) -> Authority:
    key, begin, certificates = content.partition(b"-----BEGIN CERTIFICATE-----")
    try:
        return Authority.load(key, begin + certificates)
    except SecretMissing:
        raise ValueError("no authority") from None  # the caller names the file


def _rotation(content: bytes) -> Rotation:
    return msgspec.json.decode(content, type=Rotation)
