"""Buckets of other accounts over S3: closed for every operation, unless a grant names the bucket."""

from __future__ import annotations

import gc
import json
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from harness import environment
from s3_forms import CONTENT_TYPE, written
from s3_kit import RunningGateway, client_of, root_client, s3_store
from warehouse.s3.operations import OPERATIONS, About, Refused, Served

MIB = 1024 * 1024
THEIRS = {"Bucket": "theirs"}
KEY = {**THEIRS, "Key": "key"}
UPLOAD = {**KEY, "UploadId": "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
ACL = {"ACL": "private"}
TAGS = {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}
COPY = {"CopySource": {"Bucket": "theirs", "Key": "key"}}
RULE = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
MINE = {"Bucket": "mine", "Key": "copy"}

# Each operation of S3 that is served, once as a stranger would ask it.
PARAMETERS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "HeadBucket": (THEIRS,),
    "DeleteBucket": (THEIRS,),
    "GetBucketLocation": (THEIRS,),
    "GetBucketTagging": (THEIRS,),
    "PutBucketTagging": ({**THEIRS, **TAGS},),
    "DeleteBucketTagging": (THEIRS,),
    "GetBucketCors": (THEIRS,),
    "PutBucketCors": ({**THEIRS, "CORSConfiguration": {"CORSRules": [RULE]}},),
    "DeleteBucketCors": (THEIRS,),
    "ListObjects": (THEIRS,),
    "ListObjectsV2": (THEIRS,),
    "ListObjectVersions": (THEIRS,),
    "ListMultipartUploads": (THEIRS,),
    "PutObject": ({**KEY, "Body": b"x"}, {**KEY, "Body": bytes(2 * MIB)}),
    "GetObject": (KEY,),
    "HeadObject": (KEY,),
    "DeleteObject": (KEY,),
    "CopyObject": (
        {**MINE, **COPY},
        {**KEY, "Key": "copy", **COPY},
        {**KEY, "CopySource": {"Bucket": "mine", "Key": "own"}},
    ),
    "GetObjectAttributes": ({**KEY, "ObjectAttributes": ["ETag"]},),
    "GetObjectTagging": (KEY,),
    "PutObjectTagging": ({**KEY, **TAGS},),
    "DeleteObjectTagging": (KEY,),
    "CreateMultipartUpload": (KEY,),
    "UploadPart": ({**UPLOAD, "PartNumber": 1, "Body": b"x"},),
    "UploadPartCopy": ({**UPLOAD, "PartNumber": 1, **COPY}, {**MINE, "PartNumber": 1, **COPY}),
    "ListParts": (UPLOAD,),
    "CompleteMultipartUpload": (
        {**UPLOAD, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'}]}},
    ),
    "AbortMultipartUpload": (UPLOAD,),
    "GetBucketAcl": (THEIRS,),
    "PutBucketAcl": ({**THEIRS, **ACL},),
    "GetObjectAcl": (KEY,),
    "PutObjectAcl": ({**KEY, **ACL},),
}
# Those that are about no bucket, are no stranger's, or have a test of their own.
OTHERS = {"ListBuckets", "CreateBucket", "PostObject", "Preflight", "DeleteObjects"}
UPLOADS = {"UploadPart", "UploadPartCopy", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"}
# What asks only for a configuration that is never there.
ASKED = [
    one
    for one in OPERATIONS
    if not isinstance(one.standing, Served | Refused) and one.about is About.BUCKET and one.name not in OTHERS
]


class Key(NamedTuple):
    key_id: str
    secret: str


class Accounts(NamedTuple):
    """Two accounts; `theirs` is a bucket of the one, with an object and an upload in it."""

    gateway: RunningGateway
    key: Key  # of the other one, with all permissions
    upload_id: str


def add_key(gateway: RunningGateway, account: str, *words: str) -> Key:
    key = Key(f"{account}-{secrets.token_hex(4)}", secrets.token_hex(16))
    subprocess.run(
        [sys.executable, "-m", "warehouse", "keys", "import", key.key_id, "--account", account]
        + [*words, "--profile", str(gateway.store.profile)],
        input=key.secret.encode(),
        env=environment(),
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    return key


@contextmanager
def client_with(gateway: RunningGateway, key: Key) -> Iterator[Any]:
    client = client_of(gateway.url, *key)
    try:
        yield client
    finally:
        client.close()
        del client
        gc.collect()  # its connections hang in circles


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    with s3_store(tmp_path_factory.mktemp("s3")) as gateway:
        gateway.store_command("accounts", "create", "stranger")
        key = add_key(gateway, "stranger", "--preset", "admin")
        with root_client(gateway) as owner:
            owner.create_bucket(**THEIRS)
            owner.put_object(**KEY, Body=b"theirs", Tagging="a=b")
            upload_id = owner.create_multipart_upload(**KEY)["UploadId"]
        with client_with(gateway, key) as client:
            client.create_bucket(Bucket="mine")
            client.put_object(Bucket="mine", Key="own", Body=b"mine")
        yield Accounts(gateway, key, upload_id)


@pytest.fixture
def client(accounts: Accounts) -> Iterator[Any]:
    with client_with(accounts.gateway, accounts.key) as client:
        yield client


def refusal(ask: Callable[..., Any], **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as refused:
        ask(**parameters)
    response = refused.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def method(client: Any, name: str) -> Callable[..., Any]:
    names = {operation: python for python, operation in client.meta.method_to_api_mapping.items()}
    found: Callable[..., Any] = getattr(client, names[name])
    return found


def test_the_table_has_every_operation_that_is_served() -> None:
    served = {one.name for one in OPERATIONS if isinstance(one.standing, Served)}
    assert served <= PARAMETERS.keys() | OTHERS


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_bucket_of_another_account_is_closed(accounts: Accounts, client: Any, name: str) -> None:
    ask = method(client, name)
    own_upload = ""
    for parameters in PARAMETERS[name]:
        if name in UPLOADS:
            if parameters["Bucket"] == "mine":
                own_upload = client.create_multipart_upload(**MINE)["UploadId"]
            parameters = {**parameters, "UploadId": own_upload or accounts.upload_id}
        code, status = refusal(ask, **parameters)
        if name.startswith("Head"):
            assert (code, status) == ("403", 403)
        else:
            assert (code, status) == ("AccessDenied", 403)


@pytest.mark.parametrize("name", [one.name for one in ASKED])
def test_nor_does_it_tell_how_it_is_set_up(client: Any, name: str) -> None:
    required = client.meta.service_model.operation_model(name).input_shape.required_members
    known = {"Bucket": "theirs", "Id": "one"}
    ask = method(client, name)
    assert refusal(ask, **{field: known[field] for field in required}) == ("AccessDenied", 403)


def test_a_form_puts_nothing_there(client: Any) -> None:
    for bucket, expected in (("mine", 204), ("theirs", 403)):
        form = client.generate_presigned_post(bucket, "from a form")
        body, content_type = written(form["fields"], b"bytes"), CONTENT_TYPE.decode()
        request = urllib.request.Request(form["url"], body, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        assert status == expected


def test_the_name_is_taken_and_the_bucket_is_not_listed(client: Any) -> None:
    assert refusal(client.create_bucket, **THEIRS) == ("BucketAlreadyExists", 409)
    assert [one["Name"] for one in client.list_buckets()["Buckets"]] == ["mine"]


def test_of_a_batch_each_key_is_refused_and_stays(accounts: Accounts, client: Any) -> None:
    keys = {"Objects": [{"Key": "key"}, {"Key": "none"}]}
    answer = client.delete_objects(**THEIRS, Delete=keys)
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [
        ("key", "AccessDenied"),
        ("none", "AccessDenied"),
    ]
    assert "Deleted" not in answer
    with root_client(accounts.gateway) as owner:
        assert owner.get_object(**KEY)["Body"].read() == b"theirs"
        assert [one["Key"] for one in owner.list_objects_v2(**THEIRS)["Contents"]] == ["key"]


@pytest.mark.parametrize(
    ("grant", "is_open"),
    [
        ("theirs:read,list", True),
        ("theirs/ke*:read", True),
        ("the*:read,list", False),
        ("*:read", False),
    ],
)
def test_a_grant_opens_it_only_by_its_name(accounts: Accounts, grant: str, is_open: bool) -> None:
    words = ("--permissions", "read,list", "--grant", grant)
    with client_with(accounts.gateway, add_key(accounts.gateway, "stranger", *words)) as client:
        if is_open:
            assert client.get_object(**KEY)["Body"].read() == b"theirs"
            assert refusal(client.put_object, **KEY, Body=b"x") == ("AccessDenied", 403)
        else:
            assert refusal(client.get_object, **KEY) == ("AccessDenied", 403)


def test_the_library_asks_for_rights_alone(accounts: Accounts, tmp_path: Path) -> None:
    profile = tmp_path / "stranger.toml"
    accounts.gateway.store_command(
        "keys",
        "create",
        "library",
        "--account",
        "stranger",
        "--preset",
        "admin",
        "--save-profile",
        str(profile),
    )
    said = subprocess.run(
        [sys.executable, "-m", "warehouse", "ls", "wh://theirs", "--json", "--profile", str(profile)],
        env=environment(),
        check=True,
        timeout=60,
        capture_output=True,
    ).stdout
    assert [json.loads(line)["key"] for line in said.splitlines()] == ["key"]
