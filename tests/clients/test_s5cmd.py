"""s5cmd, the fast one of the command line."""

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


class S5cmd(Tool):
    def do(self, *words: str | Path, **options: Any) -> bytes:
        return self.run("--retry-count", "0", *words, **options)


@pytest.fixture
def s5cmd(endpoint: Endpoint, work: Path) -> S5cmd:
    variables = {
        "AWS_ACCESS_KEY_ID": endpoint.key_id,
        "AWS_SECRET_ACCESS_KEY": endpoint.secret,
        "AWS_REGION": endpoint.region,
        "S3_ENDPOINT_URL": endpoint.url,
    }
    return S5cmd(environment_of("s5cmd") / "s5cmd", work, variables)


@command("mb, ls, rb")
def test_buckets(s5cmd: S5cmd, bucket: str) -> None:
    name = f"{bucket}-second"
    s5cmd.do("mb", f"s3://{name}")
    assert name in s5cmd.do("ls").decode()
    s5cmd.do("rb", f"s3://{name}")
    assert name not in s5cmd.do("ls").decode()


@command("cp, cat, mv, rm, du")
def test_one_object(s5cmd: S5cmd, endpoint: Endpoint, bucket: str) -> None:
    path, data = s5cmd.file("up", 300_000)
    s5cmd.do("cp", path, f"s3://{bucket}/a b/ü+")
    assert s5cmd.do("cat", f"s3://{bucket}/a b/ü+") == data
    s5cmd.do("cp", f"s3://{bucket}/a b/ü+", f"s3://{bucket}/copy")
    s5cmd.do("mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved")
    assert endpoint.stored(bucket) == {"a b/ü+": data, "moved": data}
    assert b"600000 bytes in 2 objects" in s5cmd.do("du", f"s3://{bucket}/*")
    s5cmd.do("rm", f"s3://{bucket}/moved")
    assert set(endpoint.stored(bucket)) == {"a b/ü+"}


@command("sync --delete, ls, cp of a folder, rm of many")
def test_sync(s5cmd: S5cmd, endpoint: Endpoint, bucket: str) -> None:
    kept = {name: s5cmd.file(f"tree/{name}", 10_000)[1] for name in ("a", "b/c é", "b/d/e")}
    s5cmd.do("sync", "tree/", f"s3://{bucket}/tree/")
    listed = [json.loads(line)["key"] for line in s5cmd.do("--json", "ls", f"s3://{bucket}/*").splitlines()]
    assert sorted(key.split("/", 3)[3] for key in listed) == sorted(f"tree/{name}" for name in kept)
    (s5cmd.folder / "tree" / "a").unlink()
    del kept["a"]
    s5cmd.do("sync", "--delete", "tree/", f"s3://{bucket}/tree/")
    assert endpoint.stored(bucket) == {f"tree/{name}": data for name, data in kept.items()}
    s5cmd.do("cp", f"s3://{bucket}/tree/*", "back/")
    assert files_below(s5cmd.folder / "back") == kept
    s5cmd.do("rm", f"s3://{bucket}/*")
    assert endpoint.stored(bucket) == {}


@command("run")
def test_run(s5cmd: S5cmd, endpoint: Endpoint, bucket: str) -> None:
    files = [s5cmd.file(f"f{number}", 1000 + number) for number in range(20)]
    jobs = "".join(f"cp {path} s3://{bucket}/{path.name}\n" for path, _ in files)
    s5cmd.do("run", data=jobs.encode())
    assert endpoint.stored(bucket) == {path.name: data for path, data in files}


@command("pipe; cp of 12 MiB in parts (multipart)")
def test_multipart(s5cmd: S5cmd, endpoint: Endpoint, bucket: str) -> None:
    path, data = s5cmd.file("large", 12 * MIB)
    s5cmd.do("pipe", f"s3://{bucket}/pipe", data=data)
    s5cmd.do("cp", "--part-size", "5", path, f"s3://{bucket}/large")
    assert endpoint.stored(bucket) == {"pipe": data, "large": data}


@command("presign")
def test_presign(s5cmd: S5cmd, endpoint: Endpoint, bucket: str) -> None:
    data = os.urandom(1000)
    endpoint.put(bucket, {"k": data})
    url = s5cmd.do("presign", "--expire", "1m", f"s3://{bucket}/k").decode().strip()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == data
