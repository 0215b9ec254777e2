"""Contents that people choose to harm: every kind of preview of each is a page, and nothing of it is markup."""

from __future__ import annotations

import gzip
import struct

import pytest

from console_http import Visitor
from console_kit import ConsoleStore
from warehouse.webui.previews.kinds import KINDS

EVIL = "<script>evil()</script><img src=x onerror=evil()>"
CONTENTS = {
    "markup.html": EVIL.encode(),
    "half.json": rb'{"\ud800": ["\udfff", "' + EVIL.encode() + rb'"], "\u2028": 1e99999}',
    "deep.json": b"[" * 100_000,
    "digits.json": b"9" * 100_000,
    "lines.jsonl": b'{"a": "\\ud800"}\n' * 50 + b"{",
    "wide.csv": b'"' + EVIL.encode() + b'",=1+1,@x,' + b"," * 50_000,
    "open.csv": b'"' + b"x" * 200_000,
    "nul.txt": b"\0\x1b[2J\x07" * 100 + "\u202e\ufeff".encode(),
    "half.txt": b"\xff\xfe" + b"\x00\xd8" * 1000,
    "links.md": f"[a](javascript:evil()) ![b](//evil.example/x) {EVIL}\n".encode() + b"> " * 10_000,
    "emphasis.md": b"*_" * 20_000 + b"[" * 20_000,
    "code.py": b"(" * 50_000 + b"'''" + EVIL.encode(),
    "short.zip": b"PK\x05\x06" + b"\xff" * 18,
    "lies.zip": b"PK\x03\x04"
    + b"PK\x01\x02"
    + b"\xff" * 42
    + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 46, 4, 0),
    "bomb.tar.gz": gzip.compress(bytes(8 * 1024 * 1024)),
    "short.pdf": b"%PDF-1.7 " + EVIL.encode(),
    "short.parquet": b"PAR1" + b"\xff" * 100 + b"PAR1",
    "picture.svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="evil()">{EVIL}</svg>'.encode(),
}


@pytest.fixture(scope="module")
def harmful(console: ConsoleStore) -> str:
    console.put("harmful", CONTENTS)
    return "harmful"


@pytest.mark.parametrize("name", CONTENTS)
def test_every_preview_of_it_is_a_page_without_its_markup(root: Visitor, harmful: str, name: str) -> None:
    for kind in ("", *KINDS):
        answer = root.get(f"/buckets/{harmful}/objects/{name}?as={kind}&bytes=5000000")
        assert answer.status == 200, (kind, answer.status)
        lowered = answer.text.lower()
        assert "<script>evil" not in lowered, kind
        assert "<img src=x" not in lowered, kind
        assert 'href="javascript:' not in lowered, kind
        assert "//evil.example" not in "".join(part.partition('"')[0] for part in lowered.split('src="')[1:])
        assert len(answer.body) < 16 * 1024 * 1024, kind
