"""s3cmd, with signatures of version 4 and, where the operator allows it, of version 2."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from client_environments import environment_of
from client_kit import Endpoint, Tool, command, files_below

MIB = 1024 * 1024


@pytest.fixture
def s3cmd(endpoint: Endpoint, work: Path) -> Tool:
    place = urlsplit(endpoint.url).netloc
    (work / ".s3cfg").write_text(
        f"[default]\naccess_key = {endpoint.key_id}\nsecret_key = {endpoint.secret}\n"
        f"host_base = {place}\nhost_bucket = {place}\nuse_https = False\n"
        f"bucket_location = {endpoint.region}\nmax_retries = 1\n"
    )
    return Tool(environment_of("s3cmd") / "s3cmd", work)


@command("mb, ls, rb")
def test_buckets(s3cmd: Tool, bucket: str) -> None:
    name = f"s3://{bucket}-second"
    s3cmd.run("mb", name)
    assert name in s3cmd.run("ls").decode()
    s3cmd.run("rb", name)
    assert name not in s3cmd.run("ls").decode()


@command("put, get, info, cp, mv, la, du, del; --signature-v2")
@pytest.mark.parametrize("version", [(), ("--signature-v2",)], ids=["v4", "v2"])
def test_objects(s3cmd: Tool, endpoint: Endpoint, bucket: str, version: tuple[str, ...]) -> None:
    path, data = s3cmd.file("up", 300_000)
    s3cmd.run(*version, "put", path, f"s3://{bucket}/a b/ü+")
    s3cmd.run(*version, "get", f"s3://{bucket}/a b/ü+", "down")
    assert (s3cmd.folder / "down").read_bytes() == data
    assert b"300000" in s3cmd.run(*version, "info", f"s3://{bucket}/a b/ü+")
    s3cmd.run(*version, "cp", f"s3://{bucket}/a b/ü+", f"s3://{bucket}/copy")
    s3cmd.run(*version, "mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved")
    assert endpoint.stored(bucket) == {"a b/ü+": data, "moved": data}
    assert f"s3://{bucket}/moved" in s3cmd.run(*version, "la").decode()
    assert s3cmd.run(*version, "du", f"s3://{bucket}").split()[0] == b"600000"
    s3cmd.run(*version, "del", f"s3://{bucket}/moved")
    assert set(endpoint.stored(bucket)) == {"a b/ü+"}


@command("sync --delete-removed, ls -r, del -r")
def test_sync(s3cmd: Tool, endpoint: Endpoint, bucket: str) -> None:
    kept = {name: s3cmd.file(f"tree/{name}", 10_000)[1] for name in ("a", "b/c é", "b/d")}
    s3cmd.run("sync", "tree/", f"s3://{bucket}/tree/")
    (s3cmd.folder / "tree" / "a").unlink()
    kept["b/d"] = s3cmd.file("tree/b/d", 10_000)[1]
    del kept["a"]
    s3cmd.run("sync", "--delete-removed", "tree/", f"s3://{bucket}/tree/")
    assert endpoint.stored(bucket) == {f"tree/{name}": data for name, data in kept.items()}
    assert len(s3cmd.lines("ls", "-r", f"s3://{bucket}")) == 2
    s3cmd.run("sync", f"s3://{bucket}/tree/", "back/")
    assert files_below(s3cmd.folder / "back") == kept
    s3cmd.run("del", "-r", "--force", f"s3://{bucket}/")
    assert endpoint.stored(bucket) == {}


@command("setacl is refused: NotImplemented")
def test_setacl(s3cmd: Tool, endpoint: Endpoint, bucket: str) -> None:
    endpoint.put(bucket, {"k": b"x"})
    refused = s3cmd.try_to_run("setacl", "--acl-public", f"s3://{bucket}/k")
    assert refused.returncode
    assert b"501" in refused.stderr, refused.stderr
