"""Forms as other programs write them: urllib3 as `requests` calls it, and browsers by hand."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from warehouse.s3.form import Form, FormDecoder

BOUNDARY = "----WebKitFormBoundaryq7lMLrrU5BfzSbUN"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}".encode()


def written(fields: Mapping[str, str], data: bytes, file_name: str | None = None) -> bytes:
    """As `requests` writes a form: every part has a file name."""
    parts = [RequestField(name, value, name) for name, value in fields.items()]
    parts.append(RequestField("file", data, "file" if file_name is None else file_name))
    for part in parts:
        part.make_multipart()
    return encode_multipart_formdata(parts, BOUNDARY)[0]


def part(name: str, value: bytes, more: str = "") -> bytes:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        + b"\r\n"
    )


END = f"--{BOUNDARY}--\r\n".encode()


def decoded(body: bytes, step: int | None = None, content_type: bytes = CONTENT_TYPE) -> tuple[Form, bytes]:
    decoder = FormDecoder(content_type)
    data = b""
    step = step or max(len(body), 1)
    for start in range(0, len(body), step):
        pieces = decoder.feed(memoryview(body)[start : start + step])
        assert decoder.form is not None or not pieces
        data += b"".join(pieces)
    decoder.finish()
    assert decoder.form is not None
    return decoder.form, data


def policy(*conditions: Any, expiration: str = "2026-11-30T12:00:00.000Z") -> bytes:
    return b64encode(json.dumps({"expiration": expiration, "conditions": conditions}).encode())
