"""Route: which operation is a request?  Pure

Method and target say half of it, and the sub-resource in the query (`?acl`, `?uploads`) the rest; for three
operations a parameter or a header decides.  What S3 has but we have not is found, too: the operation says
how it stands (`operations.py`).  What nobody knows is refused, never taken for something simpler: an object
must not be stored, or handed out, because a sub-resource was not understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

from warehouse.s3.failures import Failure
from warehouse.s3.features import check_headers
from warehouse.s3.operations import BY_NAME, OPERATIONS, PARAMETERS, SUBRESOURCES, About, Operation
from warehouse.s3.query import Query
from warehouse.s3.target import Target

_SELECTORS: Final = frozenset({"versionId", "partNumber"})
_LIST_OBJECTS_V2: Final = BY_NAME["ListObjectsV2"]
GET_OBJECT: Final = BY_NAME["GetObject"]
POST_OBJECT: Final = BY_NAME["PostObject"]
PREFLIGHT: Final = BY_NAME["Preflight"]

# Names that may stand without a value: SDKs also name the operation (`x-id`), and presigned requests their
# signature.
_KNOWN: Final = SUBRESOURCES | PARAMETERS | {"x-id", "AWSAccessKeyId", "Signature", "Expires"}


# The operations about one thing, by method and sub-resource, those with more conditions first.
_Shapes = Mapping[tuple[bytes, str], tuple[Operation, ...]]


def _shapes_of(about: About) -> _Shapes:
    shapes: dict[tuple[bytes, str], list[Operation]] = {}
    for operation in OPERATIONS:
        if operation.about is about:
            shapes.setdefault((operation.method, operation.subresource), []).append(operation)
    return {
        shape: tuple(sorted(found, key=lambda one: (not one.needs, not one.needs_header)))
        for shape, found in shapes.items()
    }


_SHAPES: Final = {about: _shapes_of(about) for about in About}
_OF_OBJECT: Final = _SHAPES[About.OBJECT]
_OF_BUCKET: Final = _SHAPES[About.BUCKET]


def route(method: bytes, target: Target, query: Query, headers: Mapping[bytes, bytes]) -> Operation:
    """Find the operation of a request.

    Args:
        headers: as the client means them: with those that a presigned request has in its query.
    Raises:
        Failure: NotImplemented for sub-resources and headers that nobody obeys; MethodNotAllowed;
            InvalidArgument for sub-resources and parameters that do not go together.
    """
    if method == b"OPTIONS":  # a browser asks before it sends the request proper, which may be any
        return PREFLIGHT
    subresource = _subresource(query) if query.pairs else ""
    found = _shapes(target).get((method, subresource))
    if found is None:
        _refuse_method(method, target, subresource)
    operation = _choose(found, query, headers)
    if query.pairs:
        _check_parameters(operation, query)
    if operation is POST_OBJECT:
        _require_form(headers)
    check_headers(headers)
    return operation


def _shapes(target: Target) -> _Shapes:
    if target.key:
        return _OF_OBJECT
    if target.bucket == "WriteGetObjectResponse":
        return _SHAPES[About.LAMBDA]
    return _OF_BUCKET if target.bucket else _SHAPES[About.SERVICE]


def _subresource(query: Query) -> str:
    """The one sub-resource of a query; empty for none."""
    found = SUBRESOURCES.intersection(query.values)
    for name, value in query.values.items():
        # A name with a value may be anybody's; S3 takes no notice of such a parameter, and neither do we.
        if not value and name not in _KNOWN and not name.lower().startswith("x-amz-"):
            raise _unknown(name)
    if not found:
        return ""
    if len(found) > 1:
        names = sorted(found)
        raise Failure(
            "InvalidArgument",
            f"Conflicting query string parameters: {', '.join(names)}",
            {"ArgumentName": "ResourceType", "ArgumentValue": names[0]},
        )
    return next(iter(found))


def _choose(found: tuple[Operation, ...], query: Query, headers: Mapping[bytes, bytes]) -> Operation:
    for operation in found:
        has_parameter = not operation.needs or query.has(operation.needs)
        if has_parameter and (not operation.needs_header or operation.needs_header in headers):
            return operation
    missing = found[-1].needs
    raise Failure("InvalidArgument", f"The parameter {missing} is missing.", {"ArgumentName": missing})


def _check_parameters(operation: Operation, query: Query) -> None:
    """Refuse what selects a version or a part where there is nothing to select."""
    if operation.subresource:
        query.get(operation.subresource)  # must come once
    for name in _SELECTORS.intersection(query.values) - operation.selectors:
        raise Failure(
            "InvalidArgument",
            f"{operation.name} does not accept the parameter {name}.",
            {"ArgumentName": name, "ArgumentValue": query.values[name][:100]},
        )
    if operation is _LIST_OBJECTS_V2 and query.values["list-type"] != "2":
        raise Failure(
            "InvalidArgument",
            "Invalid List Type specified in Request",
            {"ArgumentName": "list-type", "ArgumentValue": query.values["list-type"][:100]},
        )


def _require_form(headers: Mapping[bytes, bytes]) -> None:
    if not headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data"):
        raise Failure(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
            {"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
        )


def _refuse_method(method: bytes, target: Target, subresource: str) -> NoReturn:
    methods = sorted(each.decode() for each, name in _shapes(target) if name == subresource)
    if not methods:  # S3 has this sub-resource elsewhere, or has no such sub-resource
        raise _unknown(subresource)
    raise Failure(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        {
            "Method": method.decode("ascii", "backslashreplace"),
            "ResourceType": subresource.upper() or _kind(target),
            "AllowedMethods": ", ".join(methods),
        },
    )


def _kind(target: Target) -> str:
    if target.key:
        return "OBJECT"
    return "BUCKET" if target.bucket else "SERVICE"


def _unknown(name: str) -> Failure:
    return Failure(
        "NotImplemented",
        f"The sub-resource {name[:100]} is not implemented for this resource.",
        {"ResourceType": name[:100]},
    )
