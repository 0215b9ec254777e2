"""A whole client of botocore whose requests are caught before they leave: serialised, checksummed, signed."""

from __future__ import annotations

import functools
import io
from typing import Any, NamedTuple

import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from s3_bodies import ACCESS_KEY, SECRET

REGION = "eu-west-1"


class Sent(NamedTuple):
    """One request as it would have gone out."""

    method: str
    url: str
    headers: dict[bytes, bytes]
    body: bytes


class _Answer(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        return iter(())


@functools.cache
def client(*, tls: bool, checksums: str = "when_supported") -> Any:
    made = botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=f"http{'s' if tls else ''}://127.0.0.1:7490",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        config=Config(request_checksum_calculation=checksums, retries={"total_max_attempts": 1}),
    )
    made.meta.events.register("before-send.s3", _caught)
    return made


_CAUGHT: list[Sent] = []


def _caught(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    headers = {
        name.lower().encode(): (value if isinstance(value, bytes) else value.encode())
        for name, value in request.headers.items()
    }
    _CAUGHT.append(Sent(request.method, request.url, headers, body))
    return AWSResponse(request.url, 200, {}, _Answer())


def sent(operation: str, *, tls: bool, checksums: str = "when_supported", **parameters: Any) -> Sent:
    """What a client sends for one call, such as `put_object`."""
    _CAUGHT.clear()
    getattr(client(tls=tls, checksums=checksums), operation)(**parameters)
    (only,) = _CAUGHT
    return only
