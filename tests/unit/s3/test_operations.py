"""Operations: the table names everything that botocore's model of S3 has, and says how each stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from botocore_kit import OF_BROWSERS, parsed, service_model
from warehouse.s3.failures import STATUS_OF
from warehouse.s3.operations import (
    BY_NAME,
    OPERATIONS,
    PARAMETERS,
    SUBRESOURCES,
    About,
    Empty,
    Missing,
    Operation,
    Refused,
    table,
)
from warehouse.s3.xml_out import configuration

PAGE = Path(__file__).resolve().parents[3] / "docs/s3.md"
BEGIN, END = "<!-- operations: begin -->\n", "<!-- operations: end -->\n"


def names() -> set[str]:
    return {name for one in OPERATIONS for name in (one.name, one.also) if name}


def test_every_operation_of_botocore_is_in_the_table() -> None:
    model = set(service_model().operation_names)
    assert len(model) >= 116
    assert names() - OF_BROWSERS == model
    assert len(BY_NAME) == len(OPERATIONS), "no name stands twice"


@pytest.mark.parametrize("name", sorted(names() - OF_BROWSERS))
def test_an_operation_has_the_method_and_the_address_of_the_model(name: str) -> None:
    operation = next(one for one in OPERATIONS if name in (one.name, one.also))
    http = service_model().operation_model(name).http
    path, _, query = http["requestUri"].partition("?")
    paths = {
        "/": About.SERVICE,
        "/{Bucket}": About.BUCKET,
        "/{Bucket}/{Key+}": About.OBJECT,
        "/WriteGetObjectResponse": About.LAMBDA,
    }
    assert operation.method.decode() == http["method"]
    assert operation.about is paths[path]
    if query:
        assert query.split("&")[0].split("=")[0] == operation.subresource
    required = {
        shape.serialization["name"]
        for member, shape in shape_members(name)
        if shape.serialization.get("location") == "querystring" and member in required_members(name)
    }
    # ListDirectoryBuckets may do without its parameter, but nothing else tells it from ListBuckets.
    chosen_by = {operation.needs, operation.subresource} - {"max-directory-buckets"}
    assert required == chosen_by & set(parameters_of(name))


def shape_members(name: str) -> list:
    shape = service_model().operation_model(name).input_shape
    return list(shape.members.items()) if shape else []


def required_members(name: str) -> list[str]:
    shape = service_model().operation_model(name).input_shape
    return list(shape.required_members) if shape else []


def parameters_of(name: str) -> list[str]:
    return [
        shape.serialization["name"]
        for _, shape in shape_members(name)
        if shape.serialization.get("location") == "querystring"
    ]


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.name not in OF_BROWSERS], ids=lambda one: one.name
)
def test_an_operation_takes_the_selectors_of_the_model(operation: Operation) -> None:
    assert operation.selectors == {"versionId", "partNumber"} & set(parameters_of(operation.name))


def test_all_parameters_of_the_model_are_known() -> None:
    model = {parameter for name in service_model().operation_names for parameter in parameters_of(name)}
    assert model - SUBRESOURCES == PARAMETERS - {"select-type"}
    assert not PARAMETERS & SUBRESOURCES


def test_every_code_of_what_is_not_there_has_a_status() -> None:
    for operation in OPERATIONS:
        if isinstance(operation.standing, Missing):
            failure = operation.failure()
            assert failure is not None
            assert failure.status == STATUS_OF[operation.standing.code]
            assert failure.status < 500


EMPTY = {
    name: one.standing
    for one in OPERATIONS
    if isinstance(one.standing, Empty)
    for name in (one.name, one.also)
    if name
}
SAYS: dict[str, dict[str, object]] = {
    "GetBucketAbac": {"AbacStatus": {"Status": "Disabled"}},
    "GetBucketRequestPayment": {"Payer": "BucketOwner"},
}


@pytest.mark.parametrize("name", EMPTY)
def test_botocore_reads_no_setting_from_an_empty_document(name: str) -> None:
    expected = {"IsTruncated": False} if name.startswith("List") else SAYS.get(name, {})
    assert parsed(name, configuration(EMPTY[name].root, EMPTY[name].fields)) == expected


def test_what_is_refused_names_the_feature() -> None:
    failure = BY_NAME["SelectObjectContent"].failure()
    assert failure is not None
    assert (failure.code, failure.status) == ("NotImplemented", 501)
    assert failure.fields == {"Feature": "queries within objects (S3 Select)"}
    assert BY_NAME["GetObject"].failure() is None
    assert BY_NAME["GetBucketVersioning"].failure() is None


def test_reading_a_configuration_is_never_refused() -> None:
    """Terraform, s3cmd and Cyberduck read all of them on each visit."""
    refused = {one.name for one in OPERATIONS if isinstance(one.standing, Refused) and one.method == b"GET"}
    assert refused == {
        "CreateSession",
        "ListDirectoryBuckets",
        "GetObjectAnnotation",
        "ListObjectAnnotations",
    }


def test_the_page_has_the_table() -> None:
    page = PAGE.read_text()
    shown = page.partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), f"put the output of `python -m warehouse.s3.operations` into {PAGE.name}"


def test_the_table_shows_how_a_request_looks() -> None:
    rows = table().splitlines()
    assert (
        "| UploadPartCopy | `PUT /bucket/key?uploadId&partNumber`, with `x-amz-copy-source` | served |  |"
        in rows
    )
    assert "| GetBucketPolicy | `GET /bucket?policy` | not configured | `NoSuchBucketPolicy` |" in rows
    assert (
        "| DeleteBucketPolicy | `DELETE /bucket?policy` | not configured | 204: nothing to delete |" in rows
    )
