"""Documents: botocore reads back what we meant.  Hostile names: tests/property/test_s3_documents.py."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import botocore.handlers
import pytest

from botocore_kit import parsed
from warehouse.s3 import xml_out
from warehouse.s3.failures import Failure
from warehouse.s3.listing import (
    read_list_buckets,
    read_list_objects,
    read_list_objects_v2,
    read_list_parts,
    read_list_uploads,
    read_list_versions,
)
from warehouse.s3.operations import OPERATIONS, Empty, Operation
from warehouse.s3.paging import Page, UploadPage
from warehouse.s3.xml_out import (
    AttributeParts,
    Attributes,
    Checksum,
    Deleted,
    ListedBucket,
    ListedObject,
    ListedPart,
    ListedUpload,
    NotDeleted,
    Owner,
    UploadFacts,
)

ANN = Owner("79a59df900b949e5", "ann & co")
BOB = Owner("0b949e579a59df90", "bob")
NOON_MS = 1_790_000_000_250
NOON = datetime.fromtimestamp(NOON_MS / 1000, UTC)
LISTED = ("Analytics", "IntelligentTiering", "Inventory", "Metrics")
NAMES = ("Prefix", "Delimiter", "Marker", "NextMarker", "StartAfter", "KeyMarker", "NextKeyMarker")
CRC = Checksum("CRC32", "y/Q5Jg==", "COMPOSITE")


def test_a_time_has_milliseconds() -> None:
    assert xml_out.timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert xml_out.timestamp(NOON_MS) == "2026-09-21T14:13:20.250Z"
    assert xml_out.timestamp(-1) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain/ü😀 key", "plain/ü😀 key"),
        ("a&b<c>d\"e'f", "a&amp;b&lt;c&gt;d&quot;e'f"),
        ("\r\n\t", "&#xD;\n\t"),
        ("\x00\x01\x1f\ufffe", "&#x0;&#x1;&#x1F;&#xFFFE;"),
        ("]]>", "]]&gt;"),
    ],
)
def test_text_is_escaped(text: str, escaped: str) -> None:
    assert xml_out.escape(text) == escaped


def test_names_are_percent_encoded_where_that_is_asked_for() -> None:
    assert xml_out.url_encoded("foo+1/quux ab/é*~%\x01") == "foo%2B1/quux%20ab/%C3%A9%2A~%25%01"


def test_buckets() -> None:
    request = read_list_buckets({"prefix": "p"})
    rows = [ListedBucket("photos", NOON_MS, "eu-central-1"), ListedBucket("plans", NOON_MS)]
    assert parsed("ListBuckets", xml_out.list_buckets(request, Page(rows, next_after="plans"), ANN)) == {
        "Buckets": [
            {"Name": "photos", "CreationDate": NOON, "BucketRegion": "eu-central-1"},
            {"Name": "plans", "CreationDate": NOON},
        ],
        "Owner": {"ID": ANN.id, "DisplayName": ANN.display_name},
        "Prefix": "p",
        "ContinuationToken": request.token_after("plans"),
    }


def test_no_buckets() -> None:
    found = parsed("ListBuckets", xml_out.list_buckets(read_list_buckets({}), Page([]), ANN))
    assert found["Buckets"] == []
    assert "ContinuationToken" not in found


def test_objects() -> None:
    request = read_list_objects("photos", {"delimiter": "/", "marker": "a", "max-keys": "2"})
    rows = [ListedObject("b&w", NOON_MS, "0cc175b9c0f1b6a831c399e269772661", 5_000_000_000, owner=ANN)]
    assert parsed("ListObjects", xml_out.list_objects(request, Page(rows, ["c/"], "c/"))) == {
        "Name": "photos",
        "Prefix": "",
        "Marker": "a",
        "NextMarker": "c/",
        "MaxKeys": 2,
        "Delimiter": "/",
        "IsTruncated": True,
        "Contents": [
            {
                "Key": "b&w",
                "LastModified": NOON,
                "ETag": '"0cc175b9c0f1b6a831c399e269772661"',
                "Size": 5_000_000_000,
                "StorageClass": "STANDARD",
                "Owner": {"ID": ANN.id, "DisplayName": ANN.display_name},
            }
        ],
        "CommonPrefixes": [{"Prefix": "c/"}],
    }


def test_objects_of_the_second_version() -> None:
    request = read_list_objects_v2("photos", {"prefix": "b", "start-after": "b", "encoding-type": "url"})
    rows = [ListedObject("b c", NOON_MS, "x-2", 0, "REDUCED_REDUNDANCY", None, "CRC32", "COMPOSITE")]
    assert parsed("ListObjectsV2", xml_out.list_objects_v2(request, Page(rows, [], "b c"))) == {
        "Name": "photos",
        "Prefix": "b",
        "StartAfter": "b",
        "KeyCount": 1,
        "MaxKeys": 1000,
        "EncodingType": "url",
        "IsTruncated": True,
        "NextContinuationToken": request.token_after("b c"),
        "Contents": [
            {
                "Key": "b%20c",
                "LastModified": NOON,
                "ETag": '"x-2"',
                "Size": 0,
                "StorageClass": "REDUCED_REDUNDANCY",
                "ChecksumAlgorithm": ["CRC32"],
                "ChecksumType": "COMPOSITE",
            }
        ],
    }


def test_an_empty_page_of_the_second_version() -> None:
    request = read_list_objects_v2("photos", {"continuation-token": "", "max-keys": "0"})
    assert parsed("ListObjectsV2", xml_out.list_objects_v2(request, Page([]))) == {
        "Name": "photos",
        "Prefix": "",
        "ContinuationToken": "",
        "KeyCount": 0,
        "MaxKeys": 0,
        "IsTruncated": False,
    }


def test_versions() -> None:
    request = read_list_versions("photos", {"max-keys": "1", "key-marker": "a"})
    rows = [ListedObject("b", NOON_MS, "x", 1, owner=ANN)]
    assert parsed("ListObjectVersions", xml_out.list_versions(request, Page(rows, next_after="b"))) == {
        "Name": "photos",
        "Prefix": "",
        "KeyMarker": "a",
        "VersionIdMarker": "",
        "NextKeyMarker": "b",
        "NextVersionIdMarker": "null",
        "MaxKeys": 1,
        "IsTruncated": True,
        "Versions": [
            {
                "Key": "b",
                "VersionId": "null",
                "IsLatest": True,
                "LastModified": NOON,
                "ETag": '"x"',
                "Size": 1,
                "StorageClass": "STANDARD",
                "Owner": {"ID": ANN.id, "DisplayName": ANN.display_name},
            }
        ],
    }


@pytest.mark.parametrize("rows", [[], [ListedObject("b", NOON_MS, "x", 1)]])
def test_a_page_of_versions_that_ends_with_a_prefix_names_no_version(rows: list[ListedObject]) -> None:
    request = read_list_versions("photos", {"delimiter": "/"})
    found = parsed("ListObjectVersions", xml_out.list_versions(request, Page(rows, ["c/"], "c/")))
    assert found["NextKeyMarker"] == "c/"
    assert "NextVersionIdMarker" not in found
    assert found["CommonPrefixes"] == [{"Prefix": "c/"}]


@pytest.mark.parametrize("name", ["\n", "a%41 +&b", "ü/%"])
def test_botocore_gives_names_back_as_they_are(name: str) -> None:
    """It asks for encoded names by itself, and decodes another choice of them for each operation."""
    page = Page([ListedObject(name, NOON_MS, "e", 1, owner=ANN)], [name], name)
    asked = {"prefix": name, "delimiter": name, "encoding-type": "url"}
    documents = {
        "ListObjects": xml_out.list_objects(read_list_objects("b", {**asked, "marker": name}), page),
        "ListObjectsV2": xml_out.list_objects_v2(
            read_list_objects_v2("b", {**asked, "start-after": name, "fetch-owner": "true"}), page
        ),
        "ListObjectVersions": xml_out.list_versions(
            read_list_versions("b", {**asked, "key-marker": name}), page
        ),
    }
    decoders = {
        "ListObjects": botocore.handlers.decode_list_object,
        "ListObjectsV2": botocore.handlers.decode_list_object_v2,
        "ListObjectVersions": botocore.handlers.decode_list_object_versions,
    }
    for operation, document in documents.items():
        found = parsed(operation, document)
        decoders[operation](found, {"encoding_type_auto_set": True})
        shown = {key: found[key] for key in found if key in NAMES}
        assert shown == dict.fromkeys(shown, name), operation
        assert len(shown) >= 3
        assert [one["Key"] for one in found.get("Contents", found.get("Versions"))] == [name]
        assert [one["Prefix"] for one in found["CommonPrefixes"]] == [name]


def test_uploads() -> None:
    request = read_list_uploads("photos", {"delimiter": "/", "key-marker": "a", "upload-id-marker": "6"})
    rows = [ListedUpload("b", "7", NOON_MS, ANN, BOB, "STANDARD", "CRC32", "COMPOSITE")]
    assert parsed(
        "ListMultipartUploads", xml_out.list_uploads(request, UploadPage(rows, ["c/"], "c/", ""))
    ) == {
        "Bucket": "photos",
        "KeyMarker": "a",
        "UploadIdMarker": "6",
        "NextKeyMarker": "c/",
        "NextUploadIdMarker": "",
        "Prefix": "",
        "Delimiter": "/",
        "MaxUploads": 1000,
        "IsTruncated": True,
        "Uploads": [
            {
                "Key": "b",
                "UploadId": "7",
                "Initiated": NOON,
                "StorageClass": "STANDARD",
                "Owner": {"ID": ANN.id, "DisplayName": ANN.display_name},
                "Initiator": {"ID": BOB.id, "DisplayName": BOB.display_name},
                "ChecksumAlgorithm": "CRC32",
                "ChecksumType": "COMPOSITE",
            }
        ],
        "CommonPrefixes": [{"Prefix": "c/"}],
    }


def test_parts() -> None:
    request = read_list_parts("photos", "b", "7", {"part-number-marker": "3", "max-parts": "1"})
    parts = [ListedPart(4, NOON_MS, "x", 5_242_880, Checksum("SHA256", "abc="))]
    upload = UploadFacts(ANN, BOB, "STANDARD", "SHA256", "COMPOSITE")
    assert parsed("ListParts", xml_out.list_parts(request, parts, True, upload)) == {
        "Bucket": "photos",
        "Key": "b",
        "UploadId": "7",
        "PartNumberMarker": 3,
        "NextPartNumberMarker": 4,
        "MaxParts": 1,
        "IsTruncated": True,
        "Parts": [
            {
                "PartNumber": 4,
                "LastModified": NOON,
                "ETag": '"x"',
                "Size": 5_242_880,
                "ChecksumSHA256": "abc=",
            }
        ],
        "Owner": {"ID": ANN.id, "DisplayName": ANN.display_name},
        "Initiator": {"ID": BOB.id, "DisplayName": BOB.display_name},
        "StorageClass": "STANDARD",
        "ChecksumAlgorithm": "SHA256",
        "ChecksumType": "COMPOSITE",
    }


def test_uploads_begin_and_end() -> None:
    assert parsed("CreateMultipartUpload", xml_out.initiate_upload("photos", "a<b", "7")) == {
        "Bucket": "photos",
        "Key": "a<b",
        "UploadId": "7",
    }
    location = "http://localhost:7490/photos/a%26b"
    assert parsed(
        "CompleteMultipartUpload", xml_out.complete_upload(location, "photos", "a&b", "x-2", CRC)
    ) == {
        "Location": location,
        "Bucket": "photos",
        "Key": "a&b",
        "ETag": '"x-2"',
        "ChecksumCRC32": "y/Q5Jg==",
        "ChecksumType": "COMPOSITE",
    }


@pytest.mark.parametrize(
    ("operation", "write", "member"),
    [
        ("CopyObject", xml_out.copy_object, "CopyObjectResult"),
        ("UploadPartCopy", xml_out.copy_part, "CopyPartResult"),
    ],
)
def test_copies(operation: str, write: object, member: str) -> None:
    assert callable(write)
    body = write("x", NOON_MS, Checksum("CRC64NVME", "AAAA"))
    assert parsed(operation, body) == {
        member: {"ETag": '"x"', "LastModified": NOON, "ChecksumCRC64NVME": "AAAA"}
    }
    # A long copy sends the declaration, and blanks until it is done.
    late = xml_out.DECLARATION + b" " * 100 + body.removeprefix(xml_out.DECLARATION)
    assert parsed(operation, late) == parsed(operation, body)


def test_deletions() -> None:
    outcomes: list[Deleted | NotDeleted] = [
        Deleted("a"),
        Deleted("b", "null", True, "null"),
        NotDeleted("c", Failure("AccessDenied", "Access Denied"), "v7"),
    ]
    assert parsed("DeleteObjects", xml_out.delete_result(outcomes)) == {
        "Deleted": [
            {"Key": "a"},
            {"Key": "b", "VersionId": "null", "DeleteMarker": True, "DeleteMarkerVersionId": "null"},
        ],
        "Errors": [{"Key": "c", "VersionId": "v7", "Code": "AccessDenied", "Message": "Access Denied"}],
    }
    assert parsed("DeleteObjects", xml_out.delete_result([])) == {}


def test_a_form_is_answered() -> None:
    root = ET.fromstring(xml_out.post_response("http://h/photos/a", "photos", "a&b", "x"))
    assert root.tag == "PostResponse"
    assert {child.tag: child.text for child in root} == {
        "Location": "http://h/photos/a",
        "Bucket": "photos",
        "Key": "a&b",
        "ETag": '"x"',
    }


def test_attributes() -> None:
    parts = AttributeParts(
        total=6,
        after=3,
        limit=1,
        is_truncated=True,
        parts=[ListedPart(4, 0, "x", 5, Checksum("CRC32", "AA=="))],
    )
    body = xml_out.object_attributes(Attributes("x-6", CRC, parts, "STANDARD", 30))
    assert parsed("GetObjectAttributes", body) == {
        "ETag": "x-6",
        "Checksum": {"ChecksumCRC32": "y/Q5Jg==", "ChecksumType": "COMPOSITE"},
        "ObjectParts": {
            "TotalPartsCount": 6,
            "PartNumberMarker": 3,
            "NextPartNumberMarker": 4,
            "MaxParts": 1,
            "IsTruncated": True,
            "Parts": [{"PartNumber": 4, "Size": 5, "ChecksumCRC32": "AA=="}],
        },
        "StorageClass": "STANDARD",
        "ObjectSize": 30,
    }
    assert parsed("GetObjectAttributes", xml_out.object_attributes(Attributes(size=0))) == {"ObjectSize": 0}


def test_tags() -> None:
    tags = (("project", "blue & green"), ("empty", ""))
    expected = {"TagSet": [{"Key": "project", "Value": "blue & green"}, {"Key": "empty", "Value": ""}]}
    assert parsed("GetObjectTagging", xml_out.tagging(tags)) == expected
    assert parsed("GetBucketTagging", xml_out.tagging(tags)) == expected
    assert parsed("GetObjectTagging", xml_out.tagging(())) == {"TagSet": []}


def test_locations() -> None:
    assert parsed("GetBucketLocation", xml_out.location_constraint("eu-west-1")) == {
        "LocationConstraint": "eu-west-1"
    }
    assert parsed("GetBucketLocation", xml_out.location_constraint("")) == {"LocationConstraint": None}


def test_what_belongs_to_its_owner_alone() -> None:
    owner = {"ID": ANN.id, "DisplayName": ANN.display_name}
    for operation in ("GetBucketAcl", "GetObjectAcl"):
        assert parsed(operation, xml_out.access_control_policy(ANN)) == {
            "Owner": owner,
            "Grants": [{"Grantee": {"Type": "CanonicalUser", **owner}, "Permission": "FULL_CONTROL"}],
        }


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if isinstance(one.standing, Empty)],
    ids=lambda operation: operation.name,
)
def test_what_nobody_has_configured(operation: Operation) -> None:
    assert isinstance(operation.standing, Empty)
    expected = {
        "GetBucketAbac": {"AbacStatus": {"Status": "Disabled"}},
        "GetBucketRequestPayment": {"Payer": "BucketOwner"},
        **{f"ListBucket{name}Configurations": {"IsTruncated": False} for name in LISTED},
    }
    body = xml_out.configuration(operation.standing.root, operation.standing.fields)
    assert parsed(operation.name, body) == expected.get(operation.name, {})


def test_errors() -> None:
    failure = Failure("InvalidArgument", 'max-keys < 0 & "more"', {"ArgumentName": "max-keys"})
    body = xml_out.error_document(failure, "/photos/a\x01&b", "4442587FB7D0A2F9", "x+y=")
    found = parsed("ListObjects", body, 400, {"x-amz-request-id": "4442587FB7D0A2F9"})
    assert found["Error"]["Code"] == "InvalidArgument"
    assert found["Error"]["Message"] == 'max-keys < 0 & "more"'
    assert found["Error"]["ArgumentName"] == "max-keys"
    assert found["ResponseMetadata"]["RequestId"] == "4442587FB7D0A2F9"
    root = ET.fromstring(body)
    assert [child.tag for child in root] == [
        *("Code", "Message", "ArgumentName", "Resource", "RequestId", "HostId"),
    ]
    assert root.findtext("Resource") == "/photos/a\ufffd&b"
    assert root.findtext("RequestId") == "4442587FB7D0A2F9"


@pytest.mark.parametrize("text", ["\x00", "\ufffe", "\ud800", "\x1b[31m", "]]>", "<!--"])
def test_an_error_can_be_read_whatever_it_quotes(text: str) -> None:
    failure = Failure("InvalidArgument", f"no {text} here", {"ArgumentValue": text})
    root = ET.fromstring(xml_out.error_document(failure, f"/{text}", "1", "2"))
    assert root.findtext("Code") == "InvalidArgument"
