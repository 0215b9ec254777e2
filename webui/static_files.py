"""Static files: our scripts and styles, and those that the build took from npm.

They are read once, at start.  Their URLs contain a digest of all of them, so browsers keep them for good and
a new release has new ones.  They are compressed once.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from quart import Blueprint, Response, current_app, request

from warehouse.errors import NoSuchObject

FOLDER = Path(__file__).parent / "static"
COMPRESSED_MIN = 512
KEPT = "public, max-age=31536000, immutable"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

bp = Blueprint("static_files", __name__)


@dataclass(frozen=True)
class StaticFile:
    content: bytes
    compressed: bytes | None
    content_type: str


class StaticFiles:
    """All files below a folder, in memory.

    Attributes:
        version: changes when any of them does.
        missing: what the build was to fetch and has not, by file name.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, StaticFile] = {}
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                name, content = path.relative_to(folder).as_posix(), path.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
                self._files[name] = _loaded(path, content)
        self.version = digest.hexdigest()[:12]
        self.missing = [name for name in REQUIRED if name not in self._files]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def get(self, name: str) -> StaticFile | None:
        return self._files.get(name)


REQUIRED = ("vendor/htmx.min.js", "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css")


def _loaded(path: Path, content: bytes) -> StaticFile:
    guessed = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_text = guessed.startswith("text/") or path.suffix in (".svg", ".json", ".map")
    compressed = gzip.compress(content, 9, mtime=0) if is_text and len(content) >= COMPRESSED_MIN else None
    return StaticFile(content, compressed, f"{guessed}; charset=utf-8" if is_text else guessed)


@bp.get("/static/<version>/<path:name>")
async def serve(version: str, name: str) -> Response:
    files: StaticFiles = current_app.config["STATIC_FILES"]
    found = files.get(name)
    if found is None:
        raise NoSuchObject("there is no such file")
    content, headers = found.content, {"Content-Type": found.content_type, "Vary": "Accept-Encoding"}
    if found.compressed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        content, headers["Content-Encoding"] = found.compressed, "gzip"
    headers["Cache-Control"] = KEPT if version == files.version else "no-cache"
    return Response(content, headers=headers)
