"""Console codes: links that sign the machine's own operator in, once.

`warehouse console --open` writes a file into the console's folder and prints a link with a code.  The file is
named after the digest of the code, and says which profile to sign in with: whoever can write into the folder
can read the profile, too.  The console deletes the file when the code is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from warehouse.conf.files import read_small, write_whole
from warehouse.conf.profile import Profile
from warehouse.conf.secret_file import require_mode, require_owner
from warehouse.errors import BadCredentials, SecretMissing, StoreError

FOLDER_NAME = "console"  # next to the profile
PLACE_NAME = "console.json"
LIFE_S = 300.0
_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
_SIZE_MAX = 16 * 1024


def console_folder(profile: Path) -> Path:
    """The folder of the console that belongs to a profile."""
    return profile.resolve().parent / FOLDER_NAME


def note_place(folder: Path, url: str) -> None:
    """Say where the console of this folder listens, for `warehouse console --open`."""
    write_whole(folder / PLACE_NAME, json.dumps({"url": url}).encode())


def find_place(folder: Path) -> str:
    """Where the console of this folder listens.

    Raises:
        SecretMissing: no console was started with it.
    """
    try:
        content, _ = read_small(folder / PLACE_NAME, _SIZE_MAX)
        return str(json.loads(content)["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SecretMissing(
            "no console belongs to this profile: start one with `warehouse up` or `warehouse console`"
        ) from None


@dataclass(frozen=True)
class Codes:
    """The codes of one console.

    Attributes:
        folder: for its owner alone.
    """

    folder: Path

    def make(self, profile: Path) -> str:
        """A code that signs in with the key of this profile, for five minutes."""
        code = secrets.token_urlsafe(32)
        content = {"profile": str(profile.resolve()), "expires_s": time.time() + LIFE_S}
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.forget_old()
        write_whole(self._path(code), json.dumps(content).encode())
        return code

    def look(self, code: str) -> Profile:
        """The profile that a code signs in with; the code stays good.

        Raises:
            BadCredentials: the code is unknown, was used, or has expired.
        """
        try:
            if not _CODE.fullmatch(code):
                raise ValueError
            path = self._path(code)
            content, found = read_small(path, _SIZE_MAX)
            require_owner(found, path, what="code")
            require_mode(found, path, what="code")
            said = json.loads(content)
            if time.time() > said["expires_s"]:
                path.unlink(missing_ok=True)
                raise ValueError
            return Profile.load(Path(said["profile"]))
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            raise BadCredentials(
                "this link was used already, or has expired: `warehouse console --open` prints another"
            ) from None

    def take(self, code: str) -> Profile:
        """As `look`, and the code is used up.

        Raises:
            BadCredentials: as `look`.
        """
        profile = self.look(code)
        try:
            self._path(code).unlink()
        except OSError:  # another request was faster, or nothing can be deleted
            raise BadCredentials(
                "this link was used already: `warehouse console --open` prints another"
            ) from None
        return profile

    def forget_old(self) -> None:
        for path in self.folder.glob("code-*"):
            try:
                if time.time() - path.stat().st_mtime > LIFE_S:
                    path.unlink()
            except OSError:
                continue

    def _path(self, code: str) -> Path:
        return self.folder / f"code-{hashlib.sha256(code.encode()).hexdigest()}"
