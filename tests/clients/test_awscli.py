"""The AWS command line, with path style; and with virtual hosts, through nginx as its HTTP proxy."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from client_environments import environment_of
from client_kit import Endpoint, Tool, command, files_below

MIB = 1024 * 1024


class Aws(Tool):
    def s3(self, *words: str | Path, **options: Any) -> bytes:
        return self.run("s3", *words, **options)

    def api(self, operation: str, *words: str | Path) -> dict[str, Any]:
        output = self.run("s3api", operation, *words)
        return dict(json.loads(output)) if output.strip() else {}


def variables_of(endpoint: Endpoint, url: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": endpoint.key_id,
        "AWS_SECRET_ACCESS_KEY": endpoint.secret,
        "AWS_DEFAULT_REGION": endpoint.region,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def aws_of(endpoint: Endpoint, folder: Path, *, style: str = "path") -> Aws:
    variables = variables_of(endpoint, endpoint.url)
    if style == "virtual":
        variables |= {"AWS_ENDPOINT_URL_S3": endpoint.virtual_url, "HTTP_PROXY": endpoint.proxy_url}
    config = folder / ".aws" / "config"
    config.parent.mkdir()
    config.write_text(f"[default]\ns3 =\n  addressing_style = {style}\n")
    return Aws(environment_of("awscli") / "aws", folder, variables)


@pytest.fixture
def aws(endpoint: Endpoint, work: Path) -> Aws:
    return aws_of(endpoint, work)


@command("s3 mb, s3 ls, s3 rb --force")
def test_buckets(aws: Aws, endpoint: Endpoint, bucket: str) -> None:
    name = f"{bucket}-second"
    aws.s3("mb", f"s3://{name}")
    endpoint.put(name, {"a/b": b"x"})
    assert name in aws.s3("ls").decode()
    aws.s3("rb", "--force", f"s3://{name}")
    assert name not in aws.s3("ls").decode()


@command("s3 cp of a file and of a stream, s3 mv, s3 rm")
def test_one_object(aws: Aws, endpoint: Endpoint, bucket: str) -> None:
    path, data = aws.file("up", 300_000)
    aws.s3("cp", path, f"s3://{bucket}/a b/ü+%")
    assert aws.s3("cp", f"s3://{bucket}/a b/ü+%", "-") == data
    stream = os.urandom(500_000)
    aws.s3("cp", "-", f"s3://{bucket}/stream", data=stream)
    aws.s3("mv", f"s3://{bucket}/stream", f"s3://{bucket}/moved")
    assert endpoint.stored(bucket) == {"a b/ü+%": data, "moved": stream}
    aws.s3("mv", f"s3://{bucket}/moved", aws.folder / "down")
    assert (aws.folder / "down").read_bytes() == stream
    aws.s3("rm", f"s3://{bucket}/a b/ü+%")
    assert endpoint.stored(bucket) == {}


@command("s3 cp --recursive, s3 ls --recursive, s3 sync --delete, s3 rm --recursive")
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_folders(endpoint: Endpoint, bucket: str, work: Path, style: str) -> None:
    aws = aws_of(endpoint, work, style=style)
    kept = {name: aws.file(f"tree/{name}", 10_000)[1] for name in ("a", "b/c é", "b/d/e +")}
    aws.s3("cp", "--recursive", "tree", f"s3://{bucket}/tree")
    listed = aws.s3("ls", "--recursive", f"s3://{bucket}").decode().splitlines()
    assert sorted(line.split(None, 3)[3] for line in listed) == sorted(f"tree/{name}" for name in kept)
    (work / "tree" / "a").unlink()
    kept["b/c é"] = aws.file("tree/b/c é", 20_000)[1]
    aws.s3("sync", "--delete", "tree", f"s3://{bucket}/tree")
    del kept["a"]
    assert endpoint.stored(bucket) == {f"tree/{name}": data for name, data in kept.items()}
    assert aws.s3("sync", "--delete", "tree", f"s3://{bucket}/tree") == b"", "nothing has changed"
    aws.s3("sync", f"s3://{bucket}/tree", "back")
    assert files_below(work / "back") == kept
    aws.s3("rm", "--recursive", f"s3://{bucket}")
    assert endpoint.stored(bucket) == {}


@command("s3 presign")
def test_presign(aws: Aws, endpoint: Endpoint, bucket: str) -> None:
    data = os.urandom(1000)
    endpoint.put(bucket, {"a b": data})
    url = aws.s3("presign", f"s3://{bucket}/a b", "--expires-in", "60").decode().strip()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == data


@command(
    "s3api create-bucket, head-bucket, get-bucket-location, get-bucket-acl, list-buckets, list-objects,"
    " list-objects-v2, list-object-versions, delete-bucket"
)
def test_api_of_buckets(aws: Aws, endpoint: Endpoint, bucket: str) -> None:
    name = f"{bucket}-second"
    aws.api("create-bucket", "--bucket", name)
    aws.api("head-bucket", "--bucket", name)
    assert aws.api("get-bucket-location", "--bucket", name)["LocationConstraint"] is None
    assert aws.api("get-bucket-acl", "--bucket", name)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert name in [one["Name"] for one in aws.api("list-buckets")["Buckets"]]
    endpoint.put(bucket, {"a": b"1", "b é": b"22"})
    for operation, found in (
        ("list-objects", "Contents"),
        ("list-objects-v2", "Contents"),
        ("list-object-versions", "Versions"),
    ):
        listed = aws.api(operation, "--bucket", bucket)[found]
        assert [(one["Key"], one["Size"]) for one in listed] == [("a", 1), ("b é", 2)], operation
    aws.api("delete-bucket", "--bucket", name)


@command(
    "s3api put-object, get-object, head-object, copy-object, get-object-acl, delete-object, delete-objects"
)
def test_api_of_objects(aws: Aws, endpoint: Endpoint, bucket: str) -> None:
    path, data = aws.file("up", 100_000)
    where = ["--bucket", bucket, "--key", "k é"]
    etag = aws.api("put-object", *where, "--body", path, "--metadata", "x=y")["ETag"]
    head = aws.api("head-object", *where)
    assert (head["ETag"], head["ContentLength"], head["Metadata"]) == (etag, len(data), {"x": "y"})
    aws.api("get-object", *where, aws.folder / "down")
    assert (aws.folder / "down").read_bytes() == data
    aws.api("copy-object", "--bucket", bucket, "--key", "copy", "--copy-source", f"{bucket}/k é")
    assert endpoint.stored(bucket)["copy"] == data
    assert aws.api("get-object-acl", *where)["Grants"][0]["Permission"] == "FULL_CONTROL"
    refused = aws.try_to_run("s3api", "put-object", *where, "--body", path, "--if-none-match", "*")
    assert b"PreconditionFailed" in refused.stderr
    aws.api("delete-object", *where)
    gone = aws.api("delete-objects", "--bucket", bucket, "--delete", "Objects=[{Key=copy},{Key=none}]")
    assert {one["Key"] for one in gone["Deleted"]} == {"copy", "none"}
    assert endpoint.stored(bucket) == {}
