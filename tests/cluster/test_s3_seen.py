"""What an operator sees of S3: metrics by operation and status, an access log, and one id for each request."""

from __future__ import annotations

import gc
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from s3_kit import RunningGateway, client_of, root_client, s3_store
from warehouse.conf.profile import Profile

WAIT_S = 20.0


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, Path]]:
    folder = tmp_path_factory.mktemp("s3")
    path = folder / "access.jsonl"
    with s3_store(folder, config=f'[s3]\naccess_log = "{path}"\n') as gateway:
        yield gateway, path


@pytest.fixture
def s3(seen: tuple[RunningGateway, Path]) -> Iterator[Any]:
    with root_client(seen[0]) as client:
        yield client


@pytest.fixture
def stranger(seen: tuple[RunningGateway, Path]) -> Iterator[Any]:
    gateway = seen[0]
    key_id = Profile.load(gateway.store.profile).key_id
    client = client_of(gateway.url, key_id, "not-the-secret")
    yield client
    client.close()
    del client
    gc.collect()


def metrics(gateway: RunningGateway) -> dict[str, float]:
    url = f"http://127.0.0.1:{gateway.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def line_about(path: Path, request_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while True:
        for line in path.read_bytes().splitlines() if path.exists() else ():
            read: dict[str, Any] = json.loads(line)
            if read["request_id"] == request_id:
                return read
        assert time.monotonic() < deadline, f"no line about {request_id}"
        time.sleep(0.05)


def test_each_request_is_counted_and_written_down(seen: tuple[RunningGateway, Path], s3: Any) -> None:
    gateway, path = seen
    before = metrics(gateway)
    s3.create_bucket(Bucket="seen")
    put = s3.put_object(Bucket="seen", Key="ä/b", Body=b"x" * 1000)
    got = s3.get_object(Bucket="seen", Key="ä/b", Range="bytes=0-99")
    got["Body"].read()
    with pytest.raises(ClientError) as missing:
        s3.get_object(Bucket="seen", Key="none")
    told = missing.value.response
    ids = [one["ResponseMetadata"]["RequestId"] for one in (put, got, told)]
    lines = [line_about(path, request_id) for request_id in ids]
    key_id = Profile.load(gateway.store.profile).key_id
    for line in lines:
        assert (line["bucket"], line["key_id"]) == ("seen", key_id)
        assert line["address"].startswith("127.0.0.1:")
        assert "Botocore" in line["user_agent"]
        assert 0 < line["duration_ms"] < 60_000
    assert [(line["operation"], line["status"], line["code"]) for line in lines] == [
        ("PutObject", 200, ""),
        ("GetObject", 206, ""),
        ("GetObject", 404, "NoSuchKey"),
    ]
    assert [line["key"] for line in lines] == ["ä/b", "ä/b", "none"]
    assert lines[0]["bytes_in"] >= 1000
    assert (lines[0]["bytes_out"], lines[1]["bytes_out"]) == (0, 100)
    assert lines[2]["bytes_out"] == int(told["ResponseMetadata"]["HTTPHeaders"]["content-length"])
    assert told["ResponseMetadata"]["RequestId"] in gateway.log.read_text(), "the log names it, too"

    after = metrics(gateway)
    added = {name: value - before.get(name, 0) for name, value in after.items()}
    assert added['warehouse_gateway_requests_total{operation="PutObject",status="200"}'] == 1
    assert added['warehouse_gateway_requests_total{operation="GetObject",status="206"}'] == 1
    assert added['warehouse_gateway_requests_total{operation="GetObject",status="404"}'] == 1
    assert added['warehouse_gateway_refused_total{code="NoSuchKey"}'] == 1
    assert added['warehouse_gateway_request_seconds_count{operation="GetObject"}'] == 2
    assert added['warehouse_gateway_request_seconds_bucket{le="+Inf",operation="GetObject"}'] == 2
    assert added['warehouse_gateway_received_bytes_total{operation="PutObject"}'] == lines[0]["bytes_in"]
    assert added['warehouse_gateway_sent_bytes_total{operation="GetObject"}'] == 100 + lines[2]["bytes_out"]
    assert after["warehouse_gateway_open_requests"] == 0
    assert after["warehouse_gateway_keys"] == 1


def test_refusals_have_one_id_in_header_document_and_both_logs(seen: tuple[RunningGateway, Path]) -> None:
    gateway, path = seen
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{gateway.url}/seen/secret-name?versions", timeout=20)
    with refused.value as answer:
        request_id, document = answer.headers["x-amz-request-id"], answer.read()
    assert b"<RequestId>" + request_id.encode() in document
    assert request_id in gateway.log.read_text()
    line = line_about(path, request_id)
    assert (line["status"], line["key_id"], line["bytes_out"]) == (refused.value.code, "", len(document))


def test_a_request_that_cannot_be_read_is_counted_without_an_operation(
    seen: tuple[RunningGateway, Path],
) -> None:
    gateway, path = seen
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
        answer = b""
        while piece := plain.recv(65_536):
            answer += piece
    found = re.search(rb"x-amz-request-id: ([0-9A-F]+)", answer, re.IGNORECASE)
    assert found is not None
    line = line_about(path, found[1].decode())
    assert (line["operation"], line["status"], line["bucket"]) == ("", 400, "")
    assert metrics(gateway)['warehouse_gateway_requests_total{operation="none",status="400"}'] >= 1


def test_an_upload_that_breaks_off_is_written_down(seen: tuple[RunningGateway, Path], s3: Any) -> None:
    gateway, path = seen
    s3.create_bucket(Bucket="torn")
    url = s3.generate_presigned_url("put_object", {"Bucket": "torn", "Key": "half"})
    target = url.removeprefix(gateway.url).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as plain:
        head = b"PUT %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 5000000\r\n\r\n"
        plain.sendall(head % (target, gateway.port) + b"x" * 100_000)
    deadline = time.monotonic() + WAIT_S
    while True:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        if found := [line for line in lines if line["key"] == "half"]:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found[0]["operation"] == "PutObject"
    assert found[0]["code"]
    assert 0 < found[0]["bytes_in"] <= 100_000
    assert metrics(gateway)["warehouse_gateway_open_requests"] == 0


def test_no_secret_and_no_signature_is_written_down(
    seen: tuple[RunningGateway, Path], s3: Any, stranger: Any
) -> None:
    gateway, path = seen
    profile = Profile.load(gateway.store.profile)
    s3.create_bucket(Bucket="private")
    url = s3.generate_presigned_url("get_object", {"Bucket": "private", "Key": "a"})
    signature = url.rpartition("X-Amz-Signature=")[2]
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(url, timeout=20)
    missing.value.close()
    with pytest.raises(ClientError) as refused:
        stranger.list_buckets()
    wrong = refused.value.response["ResponseMetadata"]["RequestId"]
    line_about(path, missing.value.headers["x-amz-request-id"])
    assert line_about(path, wrong)["code"] == "SignatureDoesNotMatch"
    written = path.read_text() + gateway.log.read_text()
    for secret in (profile.secret, signature, "X-Amz-", "not-the-secret"):
        assert secret not in written
