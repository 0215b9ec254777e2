"""rclone, as today's release and as one of 2022, which Debian still has; today's also through nginx."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from client_environments import environment_of, system_program
from client_kit import Endpoint, Tool, command, files_below, wait_for
from harness import free_port

MIB = 1024 * 1024
CONFIG = """
[store]
type = s3
provider = Other
endpoint = {url}
access_key_id = {key_id}
secret_access_key = {secret}
region = {region}
force_path_style = true
acl = private
"""


class Rclone(Tool):
    def __init__(self, program: Path, folder: Path, endpoint: Endpoint, url: str) -> None:
        config = folder / "rclone.conf"
        config.write_text(
            CONFIG.format(url=url, key_id=endpoint.key_id, secret=endpoint.secret, region=endpoint.region)
        )
        super().__init__(program, folder, {"RCLONE_CONFIG": str(config), "RCLONE_LOW_LEVEL_RETRIES": "1"})

    def do(self, *words: str | Path, **options: Any) -> bytes:
        return self.run("--retries", "1", *words, **options)


@pytest.fixture(params=["1.75", "1.60", "1.75 through nginx"])
def rclone(request: pytest.FixtureRequest, endpoint: Endpoint, work: Path) -> Rclone:
    if request.param == "1.60":
        return Rclone(system_program("rclone"), work, endpoint, endpoint.url)
    url = endpoint.proxy_url if "nginx" in request.param else endpoint.url
    return Rclone(environment_of("rclone") / "rclone", work, endpoint, url)


@command("mkdir, lsd, copy, check, lsf -R, cat, moveto, deletefile, purge")
def test_copy(rclone: Rclone, endpoint: Endpoint, bucket: str) -> None:
    second = f"store:{bucket}-second"
    rclone.do("mkdir", second)
    assert f"{bucket}-second" in rclone.do("lsd", "store:").decode()
    tree = {
        name: rclone.file(f"tree/{name}", size)[1]
        for name, size in (("a", 0), ("b/c é", 400_000), ("b/d +", 99))
    }
    rclone.do("copy", "tree", second)
    rclone.do("check", "--download", "tree", second)
    assert set(rclone.do("lsf", "-R", "--files-only", second).decode().splitlines()) == set(tree)
    assert rclone.do("cat", f"{second}/b/c é") == tree["b/c é"]
    assert rclone.do("cat", "--offset", "100", "--count", "10", f"{second}/b/c é") == tree["b/c é"][100:110]
    rclone.do("copy", second, "back")
    assert files_below(rclone.folder / "back") == tree
    rclone.do("moveto", f"{second}/a", f"store:{bucket}/moved")
    assert endpoint.stored(bucket) == {"moved": b""}
    rclone.do("deletefile", f"{second}/b/d +")
    rclone.do("purge", second)
    assert f"{bucket}-second" not in rclone.do("lsd", "store:").decode()


@command("sync, check by MD5")
def test_sync(rclone: Rclone, endpoint: Endpoint, bucket: str) -> None:
    kept = {name: rclone.file(f"tree/{name}", 10_000)[1] for name in ("a", "b/c", "d")}
    rclone.do("sync", "tree", f"store:{bucket}")
    (rclone.folder / "tree" / "a").unlink()
    del kept["a"]
    kept["b/c"] = rclone.file("tree/b/c", 10_000)[1]
    rclone.do("sync", "--checksum", "tree", f"store:{bucket}")
    assert endpoint.stored(bucket) == kept
    assert b"differences" in rclone.try_to_run("check", "tree", f"store:{bucket}").stderr
    assert b"0 differences" in rclone.try_to_run("check", "tree", f"store:{bucket}").stderr
    assert b"hashes could not be checked" not in rclone.try_to_run("check", "tree", f"store:{bucket}").stderr


@command("rcat of unknown length, small and large (multipart)")
def test_rcat(rclone: Rclone, endpoint: Endpoint, bucket: str) -> None:
    small, large = os.urandom(50_000), os.urandom(12 * MIB)
    rclone.do("rcat", f"store:{bucket}/small", data=small)
    rclone.do("rcat", f"store:{bucket}/large", data=large)
    assert endpoint.stored(bucket) == {"small": small, "large": large}


@command("dedupe --by-hash")
def test_dedupe(rclone: Rclone, endpoint: Endpoint, bucket: str) -> None:
    data, other = os.urandom(1000), os.urandom(1000)
    endpoint.put(bucket, {"one": data, "two": data, "three": other})
    rclone.do("dedupe", "--by-hash", "--dedupe-mode", "first", f"store:{bucket}")
    assert sorted(endpoint.stored(bucket).values()) == sorted([data, other])


@command("serve http")
def test_serve(rclone: Rclone, endpoint: Endpoint, bucket: str) -> None:
    data, port = os.urandom(200_000), free_port()
    endpoint.put(bucket, {"a b/c": data})
    url = f"http://127.0.0.1:{port}/a%20b/c"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bool(answer.read() == data)
        except urllib.error.URLError:
            return False

    with rclone.running("serve", "http", "--addr", f"127.0.0.1:{port}", f"store:{bucket}"):
        wait_for(answers, "rclone serves nothing")
