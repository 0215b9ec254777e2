"""Route: whatever botocore sends is recognised; whatever nobody knows is refused, never taken for something simpler."""

from __future__ import annotations

from typing import Any

import pytest

from botocore_kit import service_model
from s3_requests import by_method, client, parameters, sent
from warehouse.s3.credentials import claim_of, headers_meant
from warehouse.s3.failures import Failure
from warehouse.s3.operations import OPERATIONS, Operation
from warehouse.s3.query import parse_query
from warehouse.s3.request import Request
from warehouse.s3.route import route
from warehouse.s3.target import target_of

FORM = {b"content-type": b"multipart/form-data; boundary=x"}


def routed(
    method: str,
    path: str,
    headers: dict[bytes, bytes] | None = None,
    *,
    host: bytes = b"h",
    domains: tuple[str, ...] = (),
) -> Operation:
    raw_path, _, raw_query = path.encode().partition(b"?")
    target = target_of(raw_path, host, domains)
    return route(method.encode(), target, parse_query(raw_query), headers or {})


def refusal(method: str, path: str, headers: dict[bytes, bytes] | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        routed(method, path, headers)
    return caught.value


def operation_of(request: Request, domains: tuple[str, ...] = ()) -> Operation:
    target = target_of(request.path, request.headers[b"host"], domains)
    headers = headers_meant(request, claim_of(request))
    return route(request.method, target, request.query, headers)


# Without this parameter nothing but the host tells it from ListBuckets, and the host is ours.
MORE: dict[str, dict[str, Any]] = {"ListDirectoryBuckets": {"MaxDirectoryBuckets": 1}}

# Requests of these are signed for another service, so nobody asks which operation they are.
FOREIGN = {"ListDirectoryBuckets", "CreateSession", "WriteGetObjectResponse"}


def named(name: str) -> str:
    """The name by which we know an operation of botocore."""
    return next(one.name for one in OPERATIONS if name in (one.name, one.also))


@pytest.mark.parametrize("name", service_model().operation_names)
def test_what_botocore_sends_for_an_operation_is_recognised(name: str) -> None:
    request = sent(client(), name, **parameters(name, **MORE.get(name, {})))
    if name in FOREIGN:
        target = target_of(request.path, request.headers[b"host"], ())
        assert route(request.method, target, request.query, request.headers).name == named(name)
    else:
        assert operation_of(request).name == named(name)


# botocore asks for the location at the service's own address, whatever it was told.
NEVER_VIRTUAL = {"ListBuckets", "GetBucketLocation"}


@pytest.mark.parametrize("name", sorted(set(service_model().operation_names) - FOREIGN - NEVER_VIRTUAL))
def test_it_is_recognised_with_the_bucket_in_the_host_as_well(name: str) -> None:
    virtual = client(style="virtual", endpoint="http://s3.example.org:7490")
    request = sent(virtual, name, **parameters(name))
    assert request.headers[b"host"] == b"photos.s3.example.org:7490"
    assert operation_of(request, ("s3.example.org",)).name == named(name)


@pytest.mark.parametrize(
    "name", ["GetObject", "PutObject", "UploadPart", "ListObjectsV2", "DeleteObject", "HeadObject"]
)
@pytest.mark.parametrize("signature", ["s3v4", "s3"])
def test_it_is_recognised_when_it_was_signed_beforehand(name: str, signature: str) -> None:
    url = client(signature).generate_presigned_url(by_method(name), Params=parameters(name))
    http = service_model().operation_model(name).http["method"]
    path, _, query = url.removeprefix("http://127.0.0.1:7490").encode().partition(b"?")
    request = Request(http.encode(), path, parse_query(query), {b"host": b"127.0.0.1:7490"})
    assert operation_of(request).name == name


@pytest.mark.parametrize(
    ("method", "path", "headers", "name"),
    [
        ("GET", "/", {}, "ListBuckets"),
        ("GET", "/photos", {}, "ListObjects"),
        ("GET", "/photos/", {}, "ListObjects"),
        ("GET", "/photos?prefix=&delimiter&max-keys=0", {}, "ListObjects"),
        ("GET", "/photos?list-type=2&prefix=acl", {}, "ListObjectsV2"),
        ("GET", "/photos/?location", {}, "GetBucketLocation"),
        ("GET", "/photos/?location=", {}, "GetBucketLocation"),
        ("GET", "/photos?uploads=", {}, "ListMultipartUploads"),
        ("PUT", "/photos/a?x-id=PutObject", {}, "PutObject"),
        ("PUT", "/photos/a?x-id", {}, "PutObject"),
        ("PUT", "/photos/a", {b"x-amz-copy-source": b"/photos/b"}, "CopyObject"),
        ("PUT", "/photos/a?partNumber=1&uploadId=u", {}, "UploadPart"),
        ("PUT", "/photos/a?uploadId=u&partNumber=1", {b"x-amz-copy-source": b"/photos/b"}, "UploadPartCopy"),
        ("POST", "/photos/a?uploads", {}, "CreateMultipartUpload"),
        ("POST", "/photos/a?uploads=", {}, "CreateMultipartUpload"),
        ("POST", "/photos/a?uploadId=u", {}, "CompleteMultipartUpload"),
        ("GET", "/photos/a?partNumber=1", {}, "GetObject"),
        ("GET", "/photos/a?cachebuster=1&utm_source=x", {}, "GetObject"),
        ("GET", "/photos/a?response-content-type=text%2Fplain", {}, "GetObject"),
        ("GET", "/photos/a?X-Amz-Something-New", {}, "GetObject"),
        ("HEAD", "/photos/a?partNumber=1&versionId=null", {}, "HeadObject"),
        ("HEAD", "/photos", {}, "HeadBucket"),
        ("POST", "/photos?delete", {}, "DeleteObjects"),
        ("POST", "/photos/?delete=", {}, "DeleteObjects"),
        ("POST", "/photos", FORM, "PostObject"),
        ("POST", "/photos/", {b"content-type": b"Multipart/Form-Data; boundary=x"}, "PostObject"),
        ("GET", "/photos?analytics", {}, "ListBucketAnalyticsConfigurations"),
        ("GET", "/photos?analytics&id=1", {}, "GetBucketAnalyticsConfiguration"),
        ("OPTIONS", "/photos/a?X-Amz-Signature=1", {}, "Preflight"),
        ("OPTIONS", "/photos", {}, "Preflight"),
        ("GET", "/photos/acl", {}, "GetObject"),  # a key is no sub-resource
        ("GET", "/photos/%3Facl", {}, "GetObject"),
    ],
)
def test_requests_of_other_clients(method: str, path: str, headers: dict[bytes, bytes], name: str) -> None:
    assert routed(method, path, headers).name == name


@pytest.mark.parametrize(
    ("method", "path", "subresource"),
    [
        ("GET", "/photos/a?newthing", "newthing"),
        ("PUT", "/photos/a?append", "append"),
        ("PUT", "/photos/a?append&position=0", "append"),
        ("GET", "/photos?newthing=", "newthing"),
        ("GET", "/?newthing", "newthing"),
        ("GET", "/photos?ACL", "ACL"),  # names are told apart by case
        ("PUT", "/photos/a?policy", "policy"),  # of a bucket, not of an object
        ("GET", "/photos/a?cors=1", "cors"),
        ("GET", "/photos?attributes", "attributes"),  # of an object, not of a bucket
        ("GET", "/?acl", "acl"),
        ("DELETE", "/photos/a?versions", "versions"),
        ("POST", "/photos/a?delete", "delete"),
    ],
)
def test_a_sub_resource_that_nobody_knows_is_refused_by_name(
    method: str, path: str, subresource: str
) -> None:
    failure = refusal(method, path)
    assert (failure.code, failure.status) == ("NotImplemented", 501)
    assert failure.fields == {"ResourceType": subresource}
    assert subresource in failure.message


@pytest.mark.parametrize(
    ("method", "path", "resource", "allowed"),
    [
        ("POST", "/", "SERVICE", "GET"),
        ("HEAD", "/", "SERVICE", "GET"),
        ("DELETE", "/", "SERVICE", "GET"),
        ("PATCH", "/photos", "BUCKET", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
        ("TRACE", "/photos/a", "OBJECT", "DELETE, GET, HEAD, PUT"),
        ("POST", "/photos/a", "OBJECT", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/photos?acl", "ACL", "GET, PUT"),
        ("HEAD", "/photos/a?acl", "ACL", "GET, PUT"),
        ("DELETE", "/photos?versioning", "VERSIONING", "GET, PUT"),
        ("PUT", "/photos?uploads", "UPLOADS", "GET"),
        ("PUT", "/photos/a?uploads", "UPLOADS", "POST"),
        ("HEAD", "/photos/a?uploadId=u", "UPLOADID", "DELETE, GET, POST, PUT"),
        ("GET", "/photos?delete", "DELETE", "POST"),
    ],
)
def test_a_method_that_is_not_allowed_hears_which_are(
    method: str, path: str, resource: str, allowed: str
) -> None:
    failure = refusal(method, path)
    assert (failure.code, failure.status) == ("MethodNotAllowed", 405)
    assert failure.fields == {"Method": method, "ResourceType": resource, "AllowedMethods": allowed}


@pytest.mark.parametrize(
    ("method", "path", "argument"),
    [
        ("GET", "/photos?acl&policy", "ResourceType"),
        ("PUT", "/photos/a?tagging&acl", "ResourceType"),
        ("POST", "/photos/a?uploads&uploadId=u", "ResourceType"),
        ("GET", "/photos?versions&list-type=2", "ResourceType"),
        ("PUT", "/photos/a?uploadId=u", "partNumber"),  # it must not become an object
        ("PUT", "/photos/a?partNumber=1", "partNumber"),
        ("PUT", "/photos/a?versionId=null", "versionId"),
        ("DELETE", "/photos/a?partNumber=1", "partNumber"),
        ("GET", "/photos?versionId=null", "versionId"),
        ("POST", "/photos/a?uploadId=u&partNumber=1", "partNumber"),
        ("GET", "/photos?list-type=1", "list-type"),
        ("GET", "/photos?list-type", "list-type"),
        ("GET", "/photos?list-type=2&list-type=2", "list-type"),
        ("GET", "/photos/a?acl&acl", "acl"),
        ("POST", "/photos/a?uploadId=u&uploadId=v", "uploadId"),
        ("DELETE", "/photos?analytics", "id"),
    ],
)
def test_what_does_not_go_together_is_a_wrong_argument(method: str, path: str, argument: str) -> None:
    failure = refusal(method, path)
    assert (failure.code, failure.status) == ("InvalidArgument", 400)
    assert failure.fields["ArgumentName"] == argument


@pytest.mark.parametrize("content_type", [None, b"", b"application/x-www-form-urlencoded", b"text/plain"])
def test_a_post_to_a_bucket_is_a_form(content_type: bytes | None) -> None:
    failure = refusal("POST", "/photos", {} if content_type is None else {b"content-type": content_type})
    assert (failure.code, failure.status) == ("PreconditionFailed", 412)
    assert "multipart/form-data" in failure.fields["Condition"]


@pytest.mark.parametrize(
    "header", ["x-amz-server-side-encryption", "x-amz-copy-source-server-side-encryption-customer-key"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/photos/a"),
        ("GET", "/photos/a"),
        ("HEAD", "/photos/a"),
        ("POST", "/photos/a?uploads"),
        ("PUT", "/photos/a?uploadId=u&partNumber=1"),
        ("PUT", "/photos"),
    ],
)
def test_no_request_to_encrypt_is_overlooked(method: str, path: str, header: str) -> None:
    failure = refusal(method, path, {header.encode(): b"AES256"})
    assert (failure.code, failure.status) == ("NotImplemented", 501)
    assert failure.fields == {"Header": header, "Feature": "server-side encryption"}


@pytest.mark.parametrize("parameter", ["x-amz-server-side-encryption", "X-Amz-Server-Side-Encryption"])
def test_no_request_to_encrypt_is_overlooked_in_a_query(parameter: str) -> None:
    url = client().generate_presigned_url("put_object", Params={"Bucket": "photos", "Key": "a"})
    path, _, query = url.removeprefix("http://127.0.0.1:7490").encode().partition(b"?")
    query += f"&{parameter}=AES256".encode()
    request = Request(b"PUT", path, parse_query(query), {b"host": b"127.0.0.1:7490"})
    with pytest.raises(Failure) as caught:
        operation_of(request)
    assert caught.value.status == 501
