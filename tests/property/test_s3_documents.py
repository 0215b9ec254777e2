"""What we write botocore reads, and what botocore writes we read: for names of every kind."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, unquote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botocore_kit import parsed, serialized
from warehouse.s3 import xml_out
from warehouse.s3.checksums import ALGORITHMS, Algorithm, Sent, text_of
from warehouse.s3.failures import Failure
from warehouse.s3.listing import ListObjects, ListObjectsV2, ListUploads, ListVersions
from warehouse.s3.names import object_url
from warehouse.s3.paging import Page, UploadPage
from warehouse.s3.tags import read_tagging_header
from warehouse.s3.xml_in import DELETE_COUNT_MAX, read_complete, read_delete, read_tagging
from warehouse.s3.xml_out import Deleted, ListedObject, ListedUpload, NotDeleted, Owner

HOSTILE = "a/+ %&<>\"'\\]\t\n\r\x7f\x85\u2028é😀\ue000\ufffd~*?#=;:@."
CONTROLS = "\x00\x01\x08\x0b\x0c\x1f\ufffe\uffff"
legal = st.text(
    st.one_of(
        st.sampled_from(HOSTILE),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
    ),
    max_size=12,
)
names = st.text(
    st.one_of(st.sampled_from(HOSTILE + CONTROLS), st.characters(exclude_categories=["Cs"])), max_size=12
)
etags = st.text(string.hexdigits + "-", min_size=1, max_size=40)
times_ms = st.integers(0, 4_000_000_000_000)
sizes = st.integers(0, 2**63 - 1)
owners = st.builds(Owner, legal, legal)


def objects(keys: st.SearchStrategy[str]) -> st.SearchStrategy[list[ListedObject]]:
    return st.lists(
        st.builds(ListedObject, keys, times_ms, etags, sizes, st.just("STANDARD"), st.none() | owners),
        max_size=5,
    )


def is_unwritable(character: str) -> bool:
    """Is that a character that XML cannot hold?"""
    return character in "\ufffe\uffff" or (character < " " and character not in "\t\n\r")


def shown(row: ListedObject, decode: Any) -> dict[str, Any]:
    found = {
        "Key": decode(row.key),
        "LastModified": moment(row.modified_ms),
        "ETag": f'"{row.etag}"',
        "Size": row.size,
        "StorageClass": row.storage_class,
    }
    if row.owner is not None:
        found["Owner"] = {"ID": row.owner.id, "DisplayName": row.owner.display_name}
    return found


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms // 1000, UTC).replace(microsecond=time_ms % 1000 * 1000)


@given(
    rows=objects(names),
    prefixes=st.lists(names, max_size=3),
    prefix=names,
    delimiter=names,
    marker=names,
    next_after=st.none() | names,
)
def test_encoded_names_come_back_by_either_way_of_decoding(
    rows: list[ListedObject],
    prefixes: list[str],
    prefix: str,
    delimiter: str,
    marker: str,
    next_after: str | None,
) -> None:
    """Some clients take `+` for a blank, others do not."""
    request = ListObjects("photos", prefix, delimiter or None, marker, 1000, True)
    found = parsed("ListObjects", xml_out.list_objects(request, Page(rows, prefixes, next_after)))
    for decode in (unquote, unquote_plus):
        assert [decode(row["Key"]) for row in found.get("Contents", [])] == [row.key for row in rows]
        assert [decode(row["Prefix"]) for row in found.get("CommonPrefixes", [])] == prefixes
        assert decode(found["Marker"]) == marker
        assert decode(found.get("Delimiter", "")) == delimiter
        assert (decode(found["NextMarker"]) if "NextMarker" in found else None) == next_after
    assert found["Prefix"] == "".join("\ufffd" if is_unwritable(one) else one for one in prefix)
    assert found["IsTruncated"] is (next_after is not None)


@given(
    rows=objects(legal),
    prefixes=st.lists(legal, max_size=3),
    prefix=legal,
    delimiter=legal,
    start_after=legal,
    next_after=st.none() | legal,
)
def test_plain_names_come_back(
    rows: list[ListedObject],
    prefixes: list[str],
    prefix: str,
    delimiter: str,
    start_after: str,
    next_after: str | None,
) -> None:
    request = ListObjectsV2(
        "photos", prefix, delimiter or None, None, start_after, start_after, 1000, False, True
    )
    found = parsed("ListObjectsV2", xml_out.list_objects_v2(request, Page(rows, prefixes, next_after)))
    assert found.get("Contents", []) == [shown(row, str) for row in rows]
    assert [row["Prefix"] for row in found.get("CommonPrefixes", [])] == prefixes
    assert (found["Prefix"], found["StartAfter"]) == (prefix, start_after)
    assert found.get("Delimiter", "") == delimiter
    assert found["KeyCount"] == len(rows) + len(prefixes)
    versions = ListVersions("photos", prefix, delimiter or None, start_after, "", 1000, False)
    found = parsed("ListObjectVersions", xml_out.list_versions(versions, Page(rows, prefixes, next_after)))
    assert found.get("Versions", []) == [
        {**shown(row, str), "VersionId": "null", "IsLatest": True} for row in rows
    ]
    assert found["KeyMarker"] == start_after


@given(rows=st.lists(st.tuples(legal, legal, times_ms, owners, owners), max_size=4), marker=legal, last=legal)
def test_uploads_come_back(rows: list[tuple[str, str, int, Owner, Owner]], marker: str, last: str) -> None:
    uploads = [ListedUpload(*row) for row in rows]
    request = ListUploads("photos", "", None, marker, marker, 1000, False)
    found = parsed("ListMultipartUploads", xml_out.list_uploads(request, UploadPage(uploads, [], last, last)))
    assert [(row["Key"], row["UploadId"]) for row in found.get("Uploads", [])] == [row[:2] for row in rows]
    assert [row["Initiated"] for row in found.get("Uploads", [])] == [moment(row[2]) for row in rows]
    assert found["KeyMarker"] == found["UploadIdMarker"] == marker
    assert (found.get("NextKeyMarker", ""), found["IsTruncated"]) == (last, bool(last))


@given(done=st.lists(legal, max_size=4), refused=st.lists(st.tuples(legal, legal), max_size=4))
def test_deletions_come_back(done: list[str], refused: list[tuple[str, str]]) -> None:
    outcomes: list[Deleted | NotDeleted] = [
        *(Deleted(key) for key in done),
        *(NotDeleted(key, Failure("AccessDenied", message)) for key, message in refused),
    ]
    found = parsed("DeleteObjects", xml_out.delete_result(outcomes))
    assert [row["Key"] for row in found.get("Deleted", [])] == done
    assert [(row["Key"], row["Message"]) for row in found.get("Errors", [])] == refused


@given(bucket=legal, key=legal, upload_id=legal, location=legal, etag=etags)
def test_uploads_that_begin_and_end_come_back(
    bucket: str, key: str, upload_id: str, location: str, etag: str
) -> None:
    found = parsed("CreateMultipartUpload", xml_out.initiate_upload(bucket, key, upload_id))
    assert found == {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    found = parsed("CompleteMultipartUpload", xml_out.complete_upload(location, bucket, key, etag, None))
    assert found == {"Location": location, "Bucket": bucket, "Key": key, "ETag": f'"{etag}"'}


@given(key=names, version_id=names, message=names)
def test_answers_about_one_key_can_be_read_whatever_it_is(key: str, version_id: str, message: str) -> None:
    """A client that cannot read the answer does not learn the id of its upload."""
    legal_key = replaced(key)
    found = parsed("CreateMultipartUpload", xml_out.initiate_upload("photos", key, "7"))
    assert (found["Key"], found["UploadId"]) == (legal_key, "7")
    location = object_url("http://localhost:7490", "photos", key, is_virtual=False)
    found = parsed("CompleteMultipartUpload", xml_out.complete_upload(location, "photos", key, "x", None))
    assert found == {"Location": location, "Bucket": "photos", "Key": legal_key, "ETag": '"x"'}
    assert unquote(location) == f"http://localhost:7490/photos/{key}"
    outcomes: list[Deleted | NotDeleted] = [
        Deleted(key, version_id),
        NotDeleted(key, Failure("AccessDenied", message), version_id),
    ]
    found = parsed("DeleteObjects", xml_out.delete_result(outcomes))
    assert found["Deleted"] == [{"Key": legal_key, "VersionId": replaced(version_id)}]
    assert found["Errors"][0] == {
        "Key": legal_key,
        "VersionId": replaced(version_id),
        "Code": "AccessDenied",
        "Message": replaced(message),
    }


def replaced(text: str) -> str:
    illegal = set(CONTROLS) | {chr(code) for code in range(32) if chr(code) not in "\t\n\r"}
    return "".join("\ufffd" if one in illegal else one for one in text)


@given(message=names, value=names, resource=names)
def test_every_error_can_be_read(message: str, value: str, resource: str) -> None:
    failure = Failure("InvalidArgument", message, {"ArgumentValue": value})
    error = parsed("GetObject", xml_out.error_document(failure, resource, "1", "2"), 400)["Error"]
    assert error["Code"] == "InvalidArgument"
    assert (error["Message"] or "") == replaced(message)


# --- what botocore writes -----------------------------------------------------------------------------

# botocore writes CR as it is, and every parser of XML reads LF then.
written = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=20
)
entries = st.fixed_dictionaries(
    {"Key": written},
    optional={"VersionId": written, "ETag": etags, "Size": sizes},
)


@given(entries=st.lists(entries, min_size=1, max_size=8), quiet=st.none() | st.booleans())
def test_botocores_deletions_are_read(entries: list[dict[str, Any]], quiet: bool | None) -> None:
    asked: dict[str, Any] = {"Objects": entries}
    if quiet is not None:
        asked["Quiet"] = quiet
    found = read_delete(serialized("DeleteObjects", Bucket="photos", Delete=asked).body)
    assert found.is_quiet is bool(quiet)
    assert [(one.key, one.version_id, one.etag, one.size) for one in found.keys] == [
        (
            entry["Key"],
            entry.get("VersionId"),
            entry.get("ETag"),
            str(entry["Size"]) if "Size" in entry else None,
        )
        for entry in entries
    ]


def test_botocores_longest_deletion_is_read() -> None:
    entries = [{"Key": "😀" * 250 + str(number), "ETag": "0" * 32} for number in range(DELETE_COUNT_MAX)]
    body = serialized("DeleteObjects", Bucket="photos", Delete={"Objects": entries}).body
    assert [one.key for one in read_delete(body).keys] == [entry["Key"] for entry in entries]


@given(
    parts=st.dictionaries(
        st.integers(1, 10_000),
        st.tuples(etags.map(str.lower), st.none() | st.sampled_from(ALGORITHMS)),
        min_size=1,
        max_size=8,
    )
)
def test_botocores_lists_of_parts_are_read(parts: dict[int, tuple[str, Algorithm | None]]) -> None:
    listed = [
        {
            "PartNumber": number,
            "ETag": f'"{etag}"',
            **({f"Checksum{algorithm.name}": text_of(bytes(algorithm.size))} if algorithm else {}),
        }
        for number, (etag, algorithm) in sorted(parts.items())
    ]
    body = serialized(
        "CompleteMultipartUpload", Bucket="photos", Key="a", UploadId="7", MultipartUpload={"Parts": listed}
    ).body
    found = {part.number: (part.etag, part.checksum) for part in read_complete(body)}
    assert found == {
        number: (etag, Sent(algorithm, bytes(algorithm.size)) if algorithm else None)
        for number, (etag, algorithm) in parts.items()
    }
    if len(parts) > 1:
        listed.reverse()
        body = serialized(
            "CompleteMultipartUpload",
            Bucket="photos",
            Key="a",
            UploadId="7",
            MultipartUpload={"Parts": listed},
        ).body
        with pytest.raises(Failure, match="InvalidPartOrder"):
            read_complete(body)


tag_text = st.text(st.characters(categories=("L", "N")) | st.sampled_from(" _.:/=+-@"), max_size=20)


@given(
    tags=st.dictionaries(
        tag_text.filter(lambda text: text and "aws:" not in text.lower()), tag_text, max_size=10
    )
)
def test_tags_are_read_from_documents_and_headers(tags: dict[str, str]) -> None:
    tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
    body = serialized("PutObjectTagging", Bucket="photos", Key="a", Tagging={"TagSet": tag_set}).body
    assert dict(read_tagging(body)) == tags
    assert parsed("GetObjectTagging", xml_out.tagging(tags.items()))["TagSet"] == tag_set
    assert read_tagging_header(urlencode(tags).encode()) == tuple(sorted(tags.items()))


@given(document=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_document_is_our_fault(document: bytes) -> None:
    for read in (read_delete, read_complete, read_tagging):
        with pytest.raises(Failure, match="MalformedXML"):
            read(document)


def outcome(document: bytes) -> int | str:
    try:
        return len(read_delete(document).keys)
    except Failure as failure:
        return failure.code


@given(data=st.data(), entries=st.lists(entries, min_size=1, max_size=3))
def test_a_damaged_document_is_read_or_refused(data: st.DataObject, entries: list[dict[str, Any]]) -> None:
    body = bytearray(serialized("DeleteObjects", Bucket="photos", Delete={"Objects": entries}).body)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(body)) in ("MalformedXML", *range(1, len(entries) + 1))
