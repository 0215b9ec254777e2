"""Samples: small files of the kinds that the console previews.

console.put("kinds", {"a.pdf": pdf("Hello"), "b.png": png(), ...})
"""

from __future__ import annotations

import base64
import io
import struct
import tarfile
import wave
import zipfile
import zlib
from typing import Final

EVIL: Final = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"


def pdf(text: str, pages: int = 1) -> bytes:
    """A PDF whose pages say this, in a font that it does not contain."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number in range(pages):
        drawn = f"BT /F1 24 Tf 40 100 Td ({text} {number + 1}) Tj ET".encode()
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Resources << /Font << /F1 3 0 R >> >> "
            + f"/Contents {5 + 2 * number} 0 R >>".encode()
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n".encode() + drawn + b"\nendstream")
    made = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    table += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    end = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(made)}\n%%EOF\n".encode()
    return made + table + end


def png(width: int = 40, height: int = 30) -> bytes:
    """A picture of one colour."""
    rows = b"".join(b"\0" + b"\x20\x80\xc0" * width for _ in range(height))

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )


def svg() -> bytes:
    """A picture that would run scripts, were it a page."""
    return (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" onload="window.pwned = 3">'
        b"<script>window.top.pwned = 4</script><rect width='40' height='30' fill='teal'/></svg>"
    )


def wav(seconds: int = 10) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes(128 for _ in range(8000 * seconds)))
    return made.getvalue()


def zipped(*names: str, content: bytes = b"content") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6)), content)
    return made.getvalue()


def tarred(*names: str, content: bytes = b"content", mode: str = "w") -> bytes:
    """mode: "w", "w:gz", "w:bz2" or "w:xz"."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as file:  # type: ignore[call-overload]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_767_323_046
            file.addfile(info, io.BytesIO(content))
    return made.getvalue()


# Three rows of five columns; the first name is a script.  Made by pyarrow.
PARQUET_SNAPPY: Final = base64.b64decode(
    "UEFSMRUEFXAVbEwVBhUAEgAAOGwfAAAAPHNjcmlwdD53aW5kb3cucHduZWQ9MTwvDRdQAwAAAGNhdAoAAADZhdix2K3YqNinFQAV"
    "FBUYLBUGFRAVBhUGHAAAAAokAgAAAAYBAgMkABUEFSAVJEwVBBUAEgAAEDwBAAAAAAAAAAAAAAAAAAAQFQAVEhUWLBUGFRAVBhUG"
    "HAAAAAkgAgAAAAMDAQMCFQQVFBUYTBUEFQASAAAKJAEAAABhAQAAAGIVABUgFSQsFQgVEBUGFQYcAAAAEDwCAAAAAwIDAAAAAx8A"
    "AQMCFQQVEBUUTBUCFQASAAAIHEDzTPZeRwYAFQAVEhUWLBUGFRAVBhUGHAAAAAkgAgAAAAYBAQYAFQQVFBUYTBUEFQASAAAKJAIA"
    "AAAA/wAAAAAVABUSFRYsFQYVEBUGFQYcAAAACSACAAAAAwMBAwIVBBmMNQAYBnNjaGVtYRUKABUMJQIYBG5hbWUlAEwcAAAAFQQl"
    "AhgFY291bnQANQIYBHRhZ3MVAhUGTDwAAAA1BBgEbGlzdBUCABUMJQIYB2VsZW1lbnQlAEwcAAAAFQQlAhgCYXQlFEyMEhwsAAAA"
    "AAAVDCUCGANyYXcAFgYZHBlcJgAcFQwZNQAGEBkYBG5hbWUVAhYGFsYBFsYBJpABJggpLBUEFQAVAgAVABUQFQIAPBZYGQYZJgAG"
    "AAAAJgAcFQQZNQAGEBkYBWNvdW50FQIWBhZ0FnwmjgImzgEpLBUEFQAVAgAVABUQFQIAPCkGGSYCBAAAACYAHBUMGTUABhAZOAR0"
    "YWdzBGxpc3QHZWxlbWVudBUCFggWdhZ+Jv4CJsoCKSwVBBUAFQIAFQAVEBUCADwWBBkmBgIZRgICAAQAAAAmABwVBBk1AAYQGRgC"
    "YXQVAhYGFmQWbCb4AybIAyksFQQVABUCABUAFRAVAgA8KQYZJgAGAAAAJgAcFQwZNQAGEBkYA3JhdxUCFgYWaBZwJugEJrQEKSwV"
    "BBUAFQIAFQAVEBUCADwWBBkGGSYCBAAAABb8BBYGJggWnAUAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRlcHAAA"
    "HAAAHAAAHAAAHAAAAPQBAABQQVIx"
)
PARQUET_ZSTD: Final = base64.b64decode(
    "UEFSMRUEFXAVggFMFQYVABIAACi1L/0gOMEBAB8AAAA8c2NyaXB0PndpbmRvdy5wd25lZD0xPC9zY3JpcHQ+AwAAAGNhdAoAAADZ"
    "hdix2K3YqNinFQAVFBUmLBUGFRAVBhUGHAAAACi1L/0gClEAAAIAAAAGAQIDJAAVBBUgFSRMFQQVABIAACi1L/0gEE0AABgBABAB"
    "AAfAAhUAFRIVJCwVBhUQFQYVBhwAAAAotS/9IAlJAAACAAAAAwMBAwIVBBUUFSZMFQQVABIAACi1L/0gClEAAAEAAABhAQAAAGIV"
    "ABUgFTIsFQgVEBUGFQYcAAAAKLUv/SAQgQAAAgAAAAMCAwAAAAMfAAEDAhUEFRAVIkwVAhUAEgAAKLUv/SAIQQAAQPNM9l5HBgAV"
    "ABUSFSQsFQYVEBUGFQYcAAAAKLUv/SAJSQAAAgAAAAYBAQYAFQQVFBUmTBUEFQASAAAotS/9IApRAAACAAAAAP8AAAAAFQAVEhUk"
    "LBUGFRAVBhUGHAAAACi1L/0gCUkAAAIAAAADAwEDAhUEGYw1ABgGc2NoZW1hFQoAFQwlAhgEbmFtZSUATBwAAAAVBCUCGAVjb3Vu"
    "dAA1AhgEdGFncxUCFQZMPAAAADUEGARsaXN0FQIAFQwlAhgHZWxlbWVudCUATBwAAAAVBCUCGAJhdCUUTIwSHCwAAAAAABUMJQIY"
    "A3JhdwAWBhkcGVwmABwVDBk1AAYQGRgEbmFtZRUMFgYWyAEW7AEmqAEmCCksFQQVABUCABUAFRAVAgA8FlgZBhkmAAYAAAAmABwV"
    "BBk1AAYQGRgFY291bnQVDBYGFnQWigEmtAIm9AEpLBUEFQAVAgAVABUQFQIAPCkGGSYCBAAAACYAHBUMGTUABhAZOAR0YWdzBGxp"
    "c3QHZWxlbWVudBUMFggWdhaaASbAAyb+AiksFQQVABUCABUAFRAVAgA8FgQZJgYCGUYCAgAEAAAAJgAcFQQZNQAGEBkYAmF0FQwW"
    "BhZkFogBJtYEJpgEKSwVBBUAFQIAFQAVEBUCADwpBhkmAAYAAAAmABwVDBk1AAYQGRgDcmF3FQwWBhZoFowBJuIFJqAFKSwVBBUA"
    "FQIAFQAVEBUCADwWBBkGGSYCBAAAABb+BBYGJggWpAYAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRlcHAAAHAAA"
    "HAAAHAAAHAAAAPgBAABQQVIx"
)
