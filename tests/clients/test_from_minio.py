"""docs/s3-from-minio.md, as it is written, with a second Warehouse in the place of MinIO."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from client_environments import environment_of
from client_kit import Endpoint
from harness import ROOT, environment
from s3_kit import client_of, root_client, s3_store
from warehouse.conf.profile import Profile
from warehouse.conf.programs import module_command

PAGE = (ROOT / "docs" / "s3-from-minio.md").read_text()
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?m)^(?:    .*\n|\n(?=    ))+", PAGE)]


def block(word: str) -> str:
    """The block of the page in which this stands."""
    [found] = [text for text in BLOCKS if word in text]
    return found


def test_keys_buckets_and_objects_move_as_the_page_says(
    endpoint: Endpoint, work: Path, tmp_path: Path
) -> None:
    objects = {"photos": {"a b/ü": os.urandom(300_000), "b": b""}, "logs": {"2026/1.txt": os.urandom(5_000)}}
    with s3_store(tmp_path) as old, root_client(old) as there:
        for bucket, contents in objects.items():
            there.create_bucket(Bucket=bucket)
            for key, data in contents.items():
                there.put_object(Bucket=bucket, Key=key, Body=data, ContentType="text/x-own")
        profile = Profile.load(old.store.profile)
        config = block("[minio]").replace("http://127.0.0.1:9000", old.url)
        config = config.replace("OLD-ID", profile.key_id).replace("OLD-SECRET", profile.secret)
        config = config.replace("http://127.0.0.1:7490", endpoint.url)
        config = config.replace("= ID", f"= {endpoint.key_id}").replace("= SECRET", f"= {endpoint.secret}")
        (work / "rclone.conf").write_text(config)
        variables = {
            "PATH": f"{environment_of('rclone')}:{os.environ['PATH']}",
            "HOME": str(work),
            "RCLONE_CONFIG": str(work / "rclone.conf"),
        }
        for script in (block("rclone sync"), block("rclone sync"), block("rclone check")):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                env=variables,
                capture_output=True,
                text=True,
                timeout=120,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode == 0, done.stderr
            assert "rclone check" not in script or done.stderr.count(" 0 differences found") == len(objects)
    for bucket, contents in objects.items():
        assert endpoint.stored(bucket) == contents
    with endpoint.client() as client:
        assert client.head_object(Bucket="photos", Key="b")["ContentType"] == "text/x-own"


def test_a_program_keeps_its_key(endpoint: Endpoint, work: Path, bucket: str) -> None:
    secret = os.urandom(20).hex()
    (work / "secret.txt").write_text(secret)
    words = block("keys import").split()
    assert (words[:3], words[-2:]) == (["warehouse", "keys", "import"], ["<", "secret.txt"])
    options = ["old.program" if word == "OLD-ACCESS-KEY" else word for word in words[1:-2]]
    with (work / "secret.txt").open() as stdin:
        subprocess.run(
            [*module_command("warehouse"), *options, "--profile", str(endpoint.gateway.store.profile)],
            stdin=stdin,
            env=environment(),
            check=True,
            capture_output=True,
            timeout=60,
        )
    program = client_of(endpoint.url, "old.program", secret)
    try:
        program.put_object(Bucket=bucket, Key="k", Body=b"as before")
        assert program.get_object(Bucket=bucket, Key="k")["Body"].read() == b"as before"
        with pytest.raises(ClientError, match="AccessDenied"):
            program.create_bucket(Bucket=f"{bucket}-second")
    finally:
        program.close()
