"""S3 through nginx: one that keeps the host, and one that changes what it can."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness import free_port
from s3_kit import REGION, RunningGateway, client_of, s3_store
from warehouse.conf.profile import Profile

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 0;
  merge_slashes off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{gateway};
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_set_header Connection "";
      {headers}
    }}
  }}
}}
"""
KEEPS = "proxy_set_header Host $http_host;"
CHANGES = """
      proxy_set_header Host inner.example;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-For "203.0.113.5, 198.51.100.9";
      proxy_set_header Accept-Encoding "br";
"""
KEYS = ["a//b", "../up", "100%/zz%zz", "ünïcödé/😀", "with space+plus", "ends/"]


@contextmanager
def nginx(folder: Path, gateway: RunningGateway, headers: str) -> Iterator[str]:
    folder.mkdir()
    port = free_port()
    config = NGINX.format(folder=folder, port=port, gateway=gateway.port, headers=headers)
    (folder / "nginx.conf").write_text(config)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 20
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=20)
            except urllib.error.HTTPError as refused:
                refused.close()
                break
            except OSError:
                assert time.monotonic() < deadline, "nginx does not answer"
                time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("s3")
    settings = (
        f'[s3]\ndomains = ["s3.localhost"]\ntrusted_proxies = ["127.0.0.0/8"]\n'
        f'access_log = "{folder / "access.jsonl"}"\n'
    )
    with s3_store(folder, config=settings) as gateway:
        yield gateway


def signed(url: str, profile: Profile, host: str, **headers: str) -> urllib.request.Request:
    """A request with these headers, all of which are signed, to `url`, for another host."""
    request = AWSRequest("GET", url, headers={"Host": host, **headers})
    S3SigV4Auth(Credentials(profile.key_id, profile.secret), "s3", REGION).add_auth(request)
    return urllib.request.Request(url, headers=dict(request.headers.items()))


@pytest.mark.parametrize("headers", [KEEPS, CHANGES], ids=["keeps the host", "changes the host"])
def test_objects_pass_a_proxy_whatever_it_does_to_the_host(
    gateway: RunningGateway, tmp_path: Path, headers: str
) -> None:
    profile = Profile.load(gateway.store.profile)
    with nginx(tmp_path / "nginx", gateway, headers) as url:
        client = client_of(url, profile.key_id, profile.secret)
        try:
            client.create_bucket(Bucket="proxied")
            for key in KEYS:
                client.put_object(Bucket="proxied", Key=key, Body=key.encode() * 50_000)
                assert client.get_object(Bucket="proxied", Key=key)["Body"].read() == key.encode() * 50_000
            listed = client.list_objects_v2(Bucket="proxied")
            assert [one["Key"] for one in listed["Contents"]] == sorted(KEYS, key=str.encode)
        finally:
            client.close()


def test_a_first_signature_counts_though_the_proxy_has_changed_what_it_signs(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    """Nothing of this key is known to the gateway: the master has to be shown what was meant."""
    made = tmp_path / "key.toml"
    words = ["keys", "create", "first", "--preset", "reader", "--save-profile", str(made)]
    gateway.store_command(*words)
    profile = Profile.load(made)
    with nginx(tmp_path / "nginx", gateway, CHANGES) as url:
        port = url.rpartition(":")[2]
        request = signed(f"{url}/", profile, f"127.0.0.1:{port}", **{"Accept-Encoding": "identity"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
            request_id = answer.headers["x-amz-request-id"]
    log = gateway.log.parent / "access.jsonl"
    deadline = time.monotonic() + 20
    while not (found := [line for line in log.read_text().splitlines() if request_id in line]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert json.loads(found[0])["address"] == "198.51.100.9"


def test_the_host_that_was_signed_says_which_bucket_is_meant(gateway: RunningGateway, tmp_path: Path) -> None:
    profile = Profile.load(gateway.store.profile)
    direct = client_of(gateway.url, profile.key_id, profile.secret)
    direct.create_bucket(Bucket="named")
    direct.put_object(Bucket="named", Key="a", Body=b"of the host")
    direct.close()
    with nginx(tmp_path / "nginx", gateway, CHANGES) as url:
        request = signed(f"{url}/a", profile, "named.s3.localhost")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.read() == b"of the host"
        lie = signed(f"{gateway.url}/a", profile, f"127.0.0.1:{gateway.port}")
        lie.add_header("X-Forwarded-Host", "named.s3.localhost")
        with pytest.raises(
            urllib.error.HTTPError
        ) as refused:  # signed for path style: bucket "a" is not there
            urllib.request.urlopen(lie, timeout=30)
        with refused.value:
            assert refused.value.code == 404
