"""botocore as the other side of S3: what it serialises, and what it reads out of an answer.

Its model says which parameter is a header, a query or an element, so tests that use it never check our reader
with our own writer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import botocore.handlers
import botocore.parsers
import botocore.serialize
import botocore.session
from botocore.awsrequest import HeadersDict

# What browsers send is in no SDK's model.
OF_BROWSERS = {"PostObject", "Preflight"}


@functools.cache
def service_model() -> Any:
    return botocore.session.get_session().get_service_model("s3")


@functools.cache
def _parser() -> Any:
    return botocore.parsers.create_parser("rest-xml")


@functools.cache
def _serializer() -> Any:
    return botocore.serialize.create_serializer("rest-xml", include_validation=True)


class Serialized(NamedTuple):
    """A request before it is signed; the body of a document in bytes."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: Any


def serialized(operation: str, **parameters: Any) -> Serialized:
    model = service_model().operation_model(operation)
    request = _serializer().serialize_to_request(parameters, model)
    path, _, query = request["url_path"].partition("?")
    pairs = [tuple(one.partition("=")[::2]) for one in query.split("&") if one]
    pairs += request["query_string"].items()
    written = "&".join(f"{quote(str(name), safe='')}={quote(str(value), safe='')}" for name, value in pairs)
    headers = {name.lower().encode(): str(value).encode() for name, value in request["headers"].items()}
    return Serialized(request["method"].encode(), path.encode(), written.encode(), headers, request["body"])


def parsed(
    operation: str, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What botocore makes of an answer, without `ResponseMetadata`; of a refusal, with `Error`."""
    answer = {"status_code": status, "headers": HeadersDict(headers or {}), "body": body}
    found: dict[str, Any] = _parser().parse(answer, service_model().operation_model(operation).output_shape)
    if operation == "GetBucketLocation":
        botocore.handlers.parse_get_bucket_location(found, _Answer(body))
    if status < 300:
        del found["ResponseMetadata"]
    return found


class _Answer(NamedTuple):
    """What one of botocore's handlers needs of an answer."""

    content: bytes
    raw: bytes = b""
