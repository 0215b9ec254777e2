"""Kinds: as what an object is shown.  Pure.

The content type decides, where it says something; then the ending of the key; then the first bytes.  People
may choose another kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# What people may choose, in the order of the menu.
KINDS: Final = {
    "text": "Text",
    "code": "Code",
    "json": "JSON",
    "table": "Table (CSV)",
    "markdown": "Markdown",
    "parquet": "Parquet",
    "image": "Image",
    "audio": "Audio",
    "video": "Video",
    "pdf": "PDF",
    "archive": "Archive",
    "hex": "Bytes",
}
TEXTUAL: Final = frozenset({"text", "code", "json", "table", "markdown"})
IN_BROWSER: Final = frozenset({"image", "audio", "video", "parquet", "pdf"})  # loads the bytes itself

_SAYS_NOTHING = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/unknown"})
_TYPES = {
    "application/json": "json",
    "application/geo+json": "json",
    "application/ld+json": "json",
    "application/x-ndjson": "json",
    "application/jsonl": "json",
    "text/csv": "table",
    "text/tab-separated-values": "table",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/parquet": "parquet",
    "application/pdf": "pdf",
    "application/zip": "archive",
    "application/x-zip-compressed": "archive",
    "application/java-archive": "archive",
    "application/x-tar": "archive",
    "application/x-gtar": "archive",
    "application/x-gzip": "archive",
    "application/gzip": "archive",
    "application/x-bzip2": "archive",
    "application/x-xz": "archive",
    "application/xml": "code",
    "application/xhtml+xml": "code",
    "application/javascript": "code",
    "application/x-javascript": "code",
    "application/ecmascript": "code",
    "application/toml": "code",
    "application/yaml": "code",
    "application/x-yaml": "code",
    "application/sql": "code",
    "application/x-sh": "code",
    "application/x-httpd-php": "code",
    "application/x-python-code": "hex",
}


def _endings(kind: str, words: str) -> Iterable[tuple[str, str]]:
    return ((word, kind) for word in words.split())


_ENDINGS = dict(
    [
        *_endings("text", "txt text log out err nfo srt vtt lst"),
        *_endings("json", "json geojson jsonl ndjson ipynb har webmanifest"),
        *_endings("table", "csv tsv tab"),
        *_endings("markdown", "md markdown mkd"),
        *_endings("parquet", "parquet pq"),
        *_endings("image", "png jpg jpeg jfif gif webp avif svg bmp ico apng"),
        *_endings("audio", "mp3 wav ogg oga opus flac m4a aac weba"),
        *_endings("video", "mp4 m4v webm mov ogv mkv"),
        *_endings("pdf", "pdf"),
        *_endings("archive", "zip jar war whl apk epub docx xlsx pptx odt ods odp kmz"),
        *_endings("archive", "tar tgz tbz tbz2 txz gz bz2 xz"),
        *_endings("code", "py pyi pyw js mjs cjs ts mts cts tsx jsx c h cc cpp cxx hpp hh cs java kt kts"),
        *_endings("code", "go rs rb php pl pm lua swift scala clj ex exs erl hs ml fs r jl dart zig nim"),
        *_endings("code", "sh bash zsh fish ps1 bat cmd sql html htm xhtml css scss sass less vue svelte"),
        *_endings("code", "xml xsd xsl rss plist yaml yml toml ini cfg conf properties env proto graphql"),
        *_endings("code", "tf hcl nix cmake mk diff patch tex bib rst asm s v vhd jinja j2 tmpl service"),
    ]
)
_NAMES = frozenset({"makefile", "dockerfile", "containerfile", "rakefile", "gemfile", "cmakelists.txt"})
_BEGINNINGS = (
    (b"%PDF-", "pdf"),
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "archive"),
    (b"PK\x05\x06", "archive"),
    (b"\x1f\x8b", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ\x00", "archive"),
    (b"\x89PNG\r\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"OggS", "audio"),
    (b"fLaC", "audio"),
    (b"ID3", "audio"),
    (b"\x1aE\xdf\xa3", "video"),
)


def ending(key: str) -> str:
    """What follows the last dot of the last part of a key, in small letters; "": nothing does."""
    name = key.rsplit("/", 1)[-1]
    return name.rpartition(".")[2].lower() if "." in name else ""


def kind_of(content_type: str | None, key: str, head: bytes = b"") -> str:
    """As what an object is shown at first: a word of `KINDS`.

    Args:
        head: its first bytes, if they were read.
    """
    named = (content_type or "").partition(";")[0].strip().lower()
    by_ending = _by_name(key)
    if by_ending == "code" and ending(key) in ("ts", "mts") and named.startswith("video/"):
        named = ""  # tables of types take TypeScript for a film
    if named in _TYPES:
        found = _TYPES[named]
    elif named == "text/plain" or named in _SAYS_NOTHING:
        found = by_ending or ("text" if named == "text/plain" else "")
    else:
        found = _by_family(named) or by_ending
    return found or _by_head(head)


def raw_kind(kind: str, key: str, content_type: str | None) -> str:
    """As what the same object is shown raw."""
    is_drawn_by_text = kind == "image" and ("svg" in (content_type or "") or ending(key) == "svg")
    return "text" if kind in TEXTUAL or is_drawn_by_text else "hex"


def looks_like_text(head: bytes) -> bool:
    """Are these the first bytes of text?  A character may be cut at their end."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return True


def _by_name(key: str) -> str:
    name = key.rsplit("/", 1)[-1].lower()
    return "code" if name in _NAMES else _ENDINGS.get(ending(key), "")


def _by_family(named: str) -> str:
    family = named.partition("/")[0]
    if family in ("image", "audio", "video"):
        return family
    if named.endswith("+json"):
        return "json"
    if named.endswith("+xml") or named in ("text/html", "text/xml", "text/css", "text/javascript"):
        return "code"
    if family == "text":
        return "code" if named.startswith("text/x-") else "text"
    return ""


def _by_head(head: bytes) -> str:
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[4:8] == b"ftyp":
        return "video"
    if head[257:262] == b"ustar":
        return "archive"
    return "text" if looks_like_text(head) else "hex"
