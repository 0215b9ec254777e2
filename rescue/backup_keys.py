"""Backup keys: where the passphrase or the key of a backup comes from.  Never from the command line.

    --passphrase-file FILE    the passphrase is the one line of this file
    --key-file FILE           the whole file is the key, at least 32 bytes
    neither, on a terminal    it asks for a passphrase

A named pipe works for both (`--passphrase-file <(pass show backup)`).
"""

from __future__ import annotations

import argparse
import getpass
import os
import shlex
import stat
import sys
import unicodedata
from pathlib import Path
from typing import Final

from warehouse.conf.files import read_small
from warehouse.errors import BackupCorrupt, BadRequest, ReadFailed
from warehouse.rescue.console import reading
from warehouse.rescue.encryption import KEY_FILE_SIZE_MIN, BackupKey, Kind, kind_of

PASSPHRASE_LENGTH_MIN: Final = 8
FILE_SIZE_MAX: Final = 4096


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="the backup's passphrase is in this file; without it, a terminal is asked",
    )
    keys.add_argument("--key-file", type=Path, metavar="FILE", help="this file is the backup's key")


def key_for_writing(arguments: argparse.Namespace) -> BackupKey | None:
    """What to encrypt a new backup with; None: the operator wants it unencrypted.

    Raises:
        BadRequest: nothing says how to encrypt it, or the passphrase is too short.
        ReadFailed: the file cannot be read.
    """
    if arguments.unencrypted:
        if arguments.passphrase_file is not None or arguments.key_file is not None:
            raise BadRequest("--unencrypted contradicts a passphrase or key: leave one of them out")
        return None
    key = _named(arguments)
    if key is None:
        if not sys.stdin.isatty():
            raise BadRequest(
                "a backup holds the store's secrets, so it is encrypted: name a file with the passphrase"
                " (--passphrase-file) or the key (--key-file), or say --unencrypted"
            )
        key = BackupKey("passphrase", _as_bytes(getpass.getpass("Passphrase of the new backup: ")))
        if _as_bytes(getpass.getpass("Once more: ")) != key.secret:
            raise BadRequest("these were two different passphrases: nothing was written")
    if key.kind == "passphrase" and len(key.secret.decode()) < PASSPHRASE_LENGTH_MIN:
        raise BadRequest(f"a passphrase has at least {PASSPHRASE_LENGTH_MIN} characters")
    return key


def key_for_reading(arguments: argparse.Namespace, backup: Path) -> BackupKey | None:
    """What opens this backup; None: it is not encrypted.

    Raises:
        BadRequest: nothing says what opens it; or a key was given and the backup is not encrypted.
        BackupCorrupt: its header is damaged.
        ReadFailed: a file cannot be read.
    """
    kind = _kind_of(backup)
    key = _named(arguments)
    if kind is None:
        if key is not None:
            raise BadRequest(
                f"{backup} is not encrypted, so anybody may have made it: if you trust it nevertheless, leave"
                f" the {key.kind} out"
            )
        return None
    if key is None:
        option = "--passphrase-file" if kind == "passphrase" else "--key-file"
        if kind != "passphrase" or not sys.stdin.isatty():
            raise BadRequest(f"{backup} is encrypted with a {kind}: name its file with {option}")
        key = BackupKey("passphrase", _as_bytes(getpass.getpass(f"Passphrase of {backup}: ")))
    return key


def require_no_key(arguments: argparse.Namespace) -> None:
    """
    Raises:
        BadRequest: there is no backup, so there is nothing that a key could open.
    """
    if arguments.passphrase_file is not None or arguments.key_file is not None:
        raise BadRequest("a passphrase or key opens a backup: name one with --backup")


def _kind_of(backup: Path) -> Kind | None:
    if not backup.is_file():
        raise ReadFailed(f"there is no backup {backup}")
    with reading(f"cannot read the backup {backup}"), backup.open("rb") as file:
        try:
            return kind_of(file.fileno())
        except BackupCorrupt as error:
            raise BackupCorrupt(f"{backup} is not a valid backup: {error.message}") from error


def _named(arguments: argparse.Namespace) -> BackupKey | None:
    if arguments.passphrase_file is not None:
        path = arguments.passphrase_file
        lines = _content(path).decode("utf-8", "surrogateescape").splitlines()
        if len(lines) != 1 or not lines[0]:
            raise BadRequest(f"{path} must have one line, the passphrase; it has {len(lines)}")
        return BackupKey("passphrase", _as_bytes(lines[0]))
    if arguments.key_file is not None:
        content = _content(arguments.key_file)
        if len(content) < KEY_FILE_SIZE_MIN:
            raise BadRequest(
                f"{arguments.key_file} has {len(content)} bytes; a key has at least {KEY_FILE_SIZE_MIN}, such"
                " as `head -c 32 /dev/urandom` makes"
            )
        return BackupKey("key file", content)
    return None


def _as_bytes(passphrase: str) -> bytes:
    """The same letters are the same passphrase, whichever system composed them."""
    if not passphrase:
        raise BadRequest("the passphrase is empty")
    try:
        return unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise BadRequest("the passphrase is not UTF-8") from None


def _content(path: Path) -> bytes:
    with reading(f"cannot read {path}"):
        content, found = read_small(path, FILE_SIZE_MAX)
    if stat.S_ISREG(found.st_mode) and found.st_mode & (0o077 if found.st_uid == os.geteuid() else 0o007):
        raise BadRequest(
            f"others may read the secret in {path} (mode {stat.S_IMODE(found.st_mode):o}); run: chmod 600"
            f" {shlex.quote(str(path))}"
        )
    return content
