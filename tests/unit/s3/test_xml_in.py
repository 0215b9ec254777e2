"""Documents of clients: what cannot be read is MalformedXML before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from botocore_kit import serialized
from warehouse.s3 import xml_in
from warehouse.s3.checksums import SHA256, Sent
from warehouse.s3.failures import Failure
from warehouse.s3.xml_in import (
    BucketConfiguration,
    CompletedPart,
    Delete,
    DeleteKey,
    Versioning,
    is_empty,
    parse,
    read_bucket_configuration,
    read_complete,
    read_delete,
    read_tagging,
    read_versioning,
)


def refusal(read: Callable[[bytes], Any], document: bytes | str) -> Failure:
    with pytest.raises(Failure) as refused:
        read(document if isinstance(document, bytes) else document.encode())
    return refused.value


def delete(inner: str) -> bytes:
    return f"<Delete>{inner}</Delete>".encode()


def complete(inner: str) -> bytes:
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


KEY = "<Object><Key>a</Key></Object>"
PART = "<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
BOMB = (
    '<!DOCTYPE d [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
)


@pytest.mark.parametrize(
    "document",
    [
        "",
        " ",
        "<",
        "<Delete>",
        "Delete",
        '{"Delete": []}',
        "<Delete/><Delete/>",
        "<Other/>",
        f"<!DOCTYPE Delete><Delete>{KEY}</Delete>",
        f'<!DOCTYPE Delete SYSTEM "file:///etc/passwd"><Delete>{KEY}</Delete>',
        f'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>{KEY}</Delete>',
        BOMB,
        "<Delete><Object><Key>&x;</Key></Object></Delete>",
        "<Delete><Object><Key>&#0;</Key></Object></Delete>",
        "<Delete><Object><Key>&#xD800;</Key></Object></Delete>",
        f"<Delete>{KEY}" + "<a>" * 20 + "</a>" * 20 + "</Delete>",
        f"<Delete>{KEY}" + "<a/>" * 1000 + "</Delete>",
        f"<Delete>{'<Object>' + '<a/>' * 1000 + '<Key>a</Key></Object>'}</Delete>",
        f"<Delete>{KEY}{' ' * (2 * 1024 * 1024)}</Delete>",
        f'<?xml version="1.0" encoding="ISO-8859-1"?><Delete>{KEY}</Delete>',
        f'<?xml version="1.0" encoding="UTF-16"?><Delete>{KEY}</Delete>',
        f"<Delete>{KEY}</Delete>".encode("utf-16"),
        f"<Delete>{KEY}</Delete>".encode("utf-16-le"),
        f"<Delete>{KEY}</Delete>".encode("utf-16-be"),
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>\xed\xa0\x80</Key></Object></Delete>",
        b"<Delete><Object><Key>\x00</Key></Object></Delete>",
        "<x:Delete><Object><Key>a</Key></Object></x:Delete>",
    ],
)
def test_a_document_that_cannot_be_read_is_malformed(document: bytes | str) -> None:
    assert refusal(read_delete, document).code == "MalformedXML"


@pytest.mark.parametrize(
    "document",
    [
        f"<Delete>{KEY}</Delete>",
        f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{KEY}</Delete>',
        f'<Delete xmlns="https://example.com/other">{KEY}</Delete>',
        '<s:Delete xmlns:s="http://s3.amazonaws.com/doc/2006-03-01/"><s:Object><s:Key>a</s:Key></s:Object></s:Delete>',
        f'<?xml version="1.0" encoding="utf-8"?>\n<Delete>\n  {KEY}\n</Delete>\n',
        f'\ufeff<?xml version="1.0" encoding="UTF-8"?><Delete>{KEY}</Delete>',
        f'<?xml version="1.0" encoding="US-ASCII"?><Delete>{KEY}</Delete>',
        f'<Delete when="now"><!-- all of it --><Unknown><Object><Key>b</Key></Object></Unknown>{KEY}<?x y?></Delete>',
        f'<?xml version="1.1"?><Delete>{KEY}</Delete>',
        f"<Delete>{KEY}<Quiet>false</Quiet></Delete>",
        "<Delete><Object><Key><![CDATA[a]]></Key><VersionId/><Unknown/></Object></Delete>",
        f"<Delete>{KEY}" + "<a>" * 19 + "</a>" * 19 + "</Delete>",
    ],
)
def test_what_differs_between_clients_means_the_same(document: str) -> None:
    assert read_delete(document.encode()) == Delete((DeleteKey("a"),), is_quiet=False)


def test_a_long_namespace_is_refused_before_it_is_repeated_with_every_element() -> None:
    """The parser makes a name of it for each tag: 2 MiB of it and as much of tags took minutes."""
    for attribute in ("xmlns", "xmlns:x"):
        document = f'<Delete {attribute}="{"u" * 257}">{KEY}</Delete>'
        assert refusal(read_delete, document).code == "MalformedXML"
    assert read_delete(f'<Delete xmlns="{"u" * 256}">{KEY}</Delete>'.encode()).keys == (DeleteKey("a"),)


def test_a_thousand_keys_can_be_deleted_and_no_more() -> None:
    assert len(read_delete(delete(KEY * 1000)).keys) == 1000
    assert refusal(read_delete, delete(KEY * 1001)).code == "MalformedXML"


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<Object/>",
        "<Object><Key/></Object>",
        "<Object><Key></Key></Object>",
        "<Object><Key>a</Key><Key>b</Key></Object>",
        "<Object><Key>a<b/>c</Key></Object>",
        f"{KEY}<Quiet><a/>true</Quiet>",
        f"{KEY}<Quiet>maybe</Quiet>",
        f"{KEY}<Quiet>true</Quiet><Quiet>false</Quiet>",
    ],
)
def test_deletions_that_say_nothing_clear(inner: str) -> None:
    assert refusal(read_delete, delete(inner)).code == "MalformedXML"


def test_keys_are_taken_as_they_are() -> None:
    inner = "<Object><Key> a&#13;&#10;\n&lt;&amp;/../ü😀</Key></Object>"
    assert read_delete(delete(inner)).keys[0].key == " a\r\n\n<&/../ü😀"
    assert len(read_delete(delete(f"<Object><Key>{'x' * 5000}</Key></Object>")).keys[0].key) == 5000


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("", "MalformedXML"),
        ("<Part/>", "MalformedXML"),
        ("<Part><PartNumber>1</PartNumber></Part>", "MalformedXML"),
        ("<Part><ETag>x</ETag></Part>", "MalformedXML"),
        ("<Part><PartNumber>one</PartNumber><ETag>x</ETag></Part>", "MalformedXML"),
        ("<Part><PartNumber>-1</PartNumber><ETag>x</ETag></Part>", "MalformedXML"),
        (f"<Part><PartNumber>{'9' * 5000}</PartNumber><ETag>x</ETag></Part>", "MalformedXML"),
        ("<Part><PartNumber>٣</PartNumber><ETag>x</ETag></Part>", "MalformedXML"),
        ("<Part><PartNumber>0</PartNumber><ETag>x</ETag></Part>", "InvalidArgument"),
        ("<Part><PartNumber>10001</PartNumber><ETag>x</ETag></Part>", "InvalidArgument"),
        (PART.replace("1", "2") + PART, "InvalidPartOrder"),
        (PART.replace("</Part>", "<ChecksumMD5>x</ChecksumMD5></Part>"), "NotImplemented"),
        (PART.replace("</Part>", "<ChecksumNEW>x</ChecksumNEW></Part>"), "InvalidRequest"),
        (PART.replace("</Part>", "<ChecksumCRC32>x</ChecksumCRC32></Part>"), "BadDigest"),
        (PART.replace("</Part>", "<ChecksumSHA1>AAAA</ChecksumSHA1></Part>"), "BadDigest"),
        (
            PART.replace("</Part>", "<ChecksumSHA1>x</ChecksumSHA1><ChecksumCRC32>x</ChecksumCRC32></Part>"),
            "MalformedXML",
        ),
    ],
)
def test_lists_of_parts_that_make_no_object(inner: str, code: str) -> None:
    assert refusal(read_complete, complete(inner)).code == code


@pytest.mark.parametrize("etag", ["x", '"x"', "&quot;x&quot;", "&#34;x&#34;", " x\n"])
def test_an_etag_comes_with_or_without_quotes(etag: str) -> None:
    inner = f"<Part><PartNumber> 7 </PartNumber><ETag>{etag}</ETag></Part>"
    assert read_complete(complete(inner)) == (CompletedPart(7, "x"),)


def test_ten_thousand_parts_with_checksums_are_taken() -> None:
    parts = "".join(
        f"<Part>\n  <ETag>&quot;{'0' * 32}&quot;</ETag>\n  <PartNumber>{number}</PartNumber>\n"
        f"  <ChecksumSHA256>{'A' * 43}=</ChecksumSHA256>\n</Part>\n"
        for number in range(1, 10_001)
    )
    found = read_complete(complete(parts))
    assert len(found) == 10_000
    assert found[-1] == CompletedPart(10_000, "0" * 32, Sent(SHA256, bytes(32)))


def test_a_bucket_may_have_a_location_and_tags() -> None:
    assert read_bucket_configuration(b"") == read_bucket_configuration(b" \n") == BucketConfiguration()
    body = serialized("CreateBucket", Bucket="photos").body
    assert read_bucket_configuration(body or b"") == BucketConfiguration()
    configuration = {"LocationConstraint": "eu-west-1", "Tags": [{"Key": "a", "Value": "b"}]}
    body = serialized("CreateBucket", Bucket="photos", CreateBucketConfiguration=configuration).body
    assert read_bucket_configuration(body) == BucketConfiguration("eu-west-1", (("a", "b"),))


def test_a_directory_bucket_is_refused() -> None:
    configuration = {"Bucket": {"Type": "Directory", "DataRedundancy": "SingleAvailabilityZone"}}
    body = serialized("CreateBucket", Bucket="photos", CreateBucketConfiguration=configuration).body
    assert refusal(read_bucket_configuration, body).code == "NotImplemented"
    too_long = b"<CreateBucketConfiguration>" + b" " * 70_000 + b"</CreateBucketConfiguration>"
    assert refusal(read_bucket_configuration, too_long).code == "MalformedXML"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("<Tagging/>", "MalformedXML"),
        ("<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", "MalformedXML"),
        ("<Tagging><TagSet><Tag><Value>a</Value></Tag></TagSet></Tagging>", "MalformedXML"),
        ("<Tagging><TagSet/><TagSet/></Tagging>", "MalformedXML"),
        ("<Tagging><TagSet><Tag><Key/><Value/></Tag></TagSet></Tagging>", "InvalidTag"),
        (
            f"<Tagging><TagSet>{'<Tag><Key>a</Key><Value>b</Value></Tag>' * 2}</TagSet></Tagging>",
            "InvalidTag",
        ),
        (
            "<Tagging><TagSet>"
            + "".join(f"<Tag><Key>{n}</Key><Value/></Tag>" for n in range(11))
            + "</TagSet></Tagging>",
            "InvalidTag",
        ),
    ],
)
def test_bad_tags(document: str, code: str) -> None:
    assert refusal(read_tagging, document).code == code


def test_no_tags_are_tags() -> None:
    assert read_tagging(b"<Tagging><TagSet/></Tagging>") == ()


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
@pytest.mark.parametrize("mfa", ["Enabled", "Disabled"])
def test_versioning(status: str, mfa: str) -> None:
    body = serialized(
        "PutBucketVersioning", Bucket="photos", VersioningConfiguration={"Status": status, "MFADelete": mfa}
    ).body
    assert read_versioning(body) == Versioning(status, mfa == "Enabled")
    assert read_versioning(b"<VersioningConfiguration/>") == Versioning(None, False)
    for name in ("Status", "MfaDelete"):
        wrong = f"<VersioningConfiguration><{name}>On</{name}></VersioningConfiguration>"
        assert refusal(read_versioning, wrong).code == "MalformedXML"


def test_a_configuration_may_be_empty() -> None:
    for configuration, expected in [({}, True), ({"EventBridgeConfiguration": {}}, False)]:
        body = serialized(
            "PutBucketNotificationConfiguration", Bucket="photos", NotificationConfiguration=configuration
        ).body
        assert is_empty(body, "NotificationConfiguration") is expected


def test_rows_and_what_is_between_them_do_not_stay_in_the_tree() -> None:
    rows: list[str] = []
    document = delete(f"{KEY}{' ' * 1000}" * 900 + "<Quiet>true</Quiet>\n")
    root = parse(document, "Delete", 10**6, "Object", lambda element: rows.append(element.name))
    assert len(rows) == 900
    assert [child.name for child in root.children] == ["Quiet"]
    assert root.text == "\n"


def test_a_parser_holds_nothing_when_it_is_done() -> None:
    """It would be garbage that only a collection frees: megabytes for each upload."""
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        parser = xml_in._Parser(None, None)
        parser.parse(b"<a/>")
        gone = weakref.ref(parser)
        del parser
        assert gone() is None
    finally:
        gc.enable()
