"""A whole client of botocore whose requests are caught before they leave: serialised, checksummed, signed."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, NoReturn

import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config

from s3_bodies import ACCESS_KEY, SECRET

REGION = "eu-west-1"


class Sent(NamedTuple):
    """One request as it would have gone out."""

    method: str
    url: str
    headers: dict[bytes, bytes]
    body: bytes


class _Caught(Exception):
    """Ends a call of a client before anything leaves."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__("caught")
        self.request = request


def _catch(request: AWSPreparedRequest, **_: Any) -> NoReturn:
    raise _Caught(request)


@functools.cache
def client(
    endpoint: str, *, signature: str = "s3v4", style: str = "auto", checksums: str = "when_supported"
) -> Any:
    """A client whose requests are caught; `signature` is "s3v4" or "s3", `style` says where the bucket is."""
    made = botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        config=Config(
            signature_version=signature,
            s3={"addressing_style": style},
            request_checksum_calculation=checksums,
            retries={"total_max_attempts": 1},
        ),
    )
    made.meta.events.register("before-send.s3", _catch)
    return made


def caught(by: Any, operation: str, **parameters: Any) -> Sent:
    """What a client sends for one call, such as `put_object`."""
    try:
        getattr(by, operation)(**parameters)
    except _Caught as end:
        request = end.request
    else:
        raise AssertionError("nothing was sent")
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    headers = {
        name.lower().encode(): (value if isinstance(value, bytes) else value.encode())
        for name, value in request.headers.items()
    }
    return Sent(request.method, request.url, headers, body)


def sent(operation: str, *, tls: bool, checksums: str = "when_supported", **parameters: Any) -> Sent:
    """What a client sends for one call to this machine."""
    endpoint = f"http{'s' if tls else ''}://127.0.0.1:7490"
    return caught(client(endpoint, checksums=checksums), operation, **parameters)
