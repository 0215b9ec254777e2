"""Requests as botocore sends them: serialised and signed by a real client, caught before they leave.

Whoever checks a signature here checks it against botocore's, never against one of our own making.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.auth import HmacV1Auth, HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import botocore_client
from botocore_kit import service_model
from s3_bodies import ACCESS_KEY, SECRET
from warehouse.s3.query import parse_query
from warehouse.s3.request import Request
from warehouse.s3.signing_keys import derive_signing_key
from warehouse.s3.sigv4 import V4Claim

CREDENTIALS: Final = Credentials(ACCESS_KEY, SECRET)
ENDPOINT: Final = "http://127.0.0.1:7490"


def client(signature: str = "s3v4", style: str = "path", endpoint: str = ENDPOINT) -> Any:
    """A client of botocore whose requests are caught; `signature` is "s3v4" or "s3"."""
    return botocore_client.client(endpoint, signature=signature, style=style)


def sent(by: Any, operation: str, **parameters: Any) -> Request:
    """What a client sends for an operation with such parameters."""
    caught = botocore_client.caught(by, by_method(operation), **parameters)
    fields = {name.decode(): value for name, value in caught.headers.items()}
    return received(caught.method, caught.url, fields)


@functools.cache
def by_method(operation: str) -> str:
    """The method of a client for an operation: GetObject is get_object."""
    names: dict[str, str] = {name: method for method, name in client().meta.method_to_api_mapping.items()}
    return names[operation]


def received(method: str, url: str, headers: Mapping[str, Any]) -> Request:
    """A request as our HTTP server hands it over."""
    address = urlsplit(url)
    fields = {
        name.lower().encode(): (value if isinstance(value, bytes) else str(value).encode()).strip()
        for name, value in headers.items()
    }
    fields.setdefault(b"host", address.netloc.encode())
    query = parse_query(address.query.encode())
    return Request(method.encode(), address.path.encode() or b"/", query, fields)


_SIGNERS: Final = {
    "v4": lambda: S3SigV4Auth(CREDENTIALS, "s3", "us-east-1"),
    "v4-presigned": lambda: S3SigV4QueryAuth(CREDENTIALS, "s3", "us-east-1", expires=3600),
    "v2": lambda: HmacV1Auth(CREDENTIALS),
    "v2-presigned": lambda: HmacV1QueryAuth(CREDENTIALS, expires=3600),
}


def signed(
    way: str, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Request:
    """A request of any shape, signed by botocore: "v4", "v4-presigned", "v2" or "v2-presigned"."""
    request = AWSRequest(method=method, url=url, headers=dict(headers or {}), data=body)
    request.context["payload_signing_enabled"] = True
    _SIGNERS[way]().add_auth(request)
    return received(method, request.url, request.headers)


def key_for(claim: V4Claim, secret: str = SECRET) -> bytes:
    return derive_signing_key(secret, claim.scope.date, claim.scope.region)


# --- parameters that an operation needs ---------------------------------------------------------------

_SAMPLES: Final = {
    "Bucket": "photos",
    "Key": "2026/a b+c%/\N{GRINNING FACE}é.txt",
    "CopySource": "photos/older",
    "RenameSource": "photos/older",
    "UploadId": "an+upload/id==",
    "AccountId": "123456789012",
    "RequestRoute": "route",
}


def parameters(operation: str, **more: Any) -> dict[str, Any]:
    """The least that botocore's model lets a client send for an operation, and what the test adds."""
    shape = service_model().operation_model(operation).input_shape
    return {**(_structure(shape) if shape else {}), **more}


def _structure(shape: Any) -> dict[str, Any]:
    names = list(shape.required_members)
    if getattr(shape, "is_tagged_union", False):
        names = list(shape.members)[:1]
    return {name: _SAMPLES.get(name, _sample(shape.members[name])) for name in names}


def _sample(shape: Any) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape)
        case "list":
            return [_sample(shape.member)]
        case "map":
            return {}
        case "string":
            return shape.enum[0] if shape.enum else "x" * max(1, shape.metadata.get("min", 1))
        case "boolean":
            return True
        case "timestamp":
            return datetime(2026, 11, 30, tzinfo=UTC)
        case "blob":
            return b"x"
        case _:
            return 1
