"""Tags and CORS rules of buckets, by botocore and as browsers ask, at running gateways and after a lost catalog."""

from __future__ import annotations

import http.client
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from botocore.exceptions import ClientError

import warehouse
from harness import RunningStore
from rescue_tools import report_of
from s3_kit import RunningGateway, client_of, root_client, s3_store
from warehouse.conf.profile import Profile

BUCKET = {"Bucket": "shared"}
TAGS = [{"Key": f"ключ {number}", "Value": "v" * 256} for number in range(50)]
RULES = [
    {
        "ID": "the app",
        "AllowedOrigins": ["https://*.example.org"],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["x-amz-*", "content-type"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 600,
    },
    {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
]
PAGE = "https://app.example.org"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("s3")) as gateway, root_client(gateway) as client:
        client.create_bucket(**BUCKET)
        client.put_object(**BUCKET, Key="small", Body=b"bytes")
        client.put_object(**BUCKET, Key="large", Body=bytes(2_000_000))
        yield gateway


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Any]:
    with root_client(gateway) as client:
        yield client


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def ask(url: str, method: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    """One request as a browser sends it: status, headers in small letters, body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_tags_are_put_read_replaced_and_deleted(client: Any) -> None:
    with pytest.raises(ClientError) as missing:
        client.get_bucket_tagging(**BUCKET)
    assert code_of(missing) == ("NoSuchTagSet", 404)
    for tags in (TAGS, [{"Key": "one", "Value": ""}]):
        put = client.put_bucket_tagging(**BUCKET, Tagging={"TagSet": tags})
        assert put["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert client.get_bucket_tagging(**BUCKET)["TagSet"] == tags
    with pytest.raises(ClientError) as refused:
        client.put_bucket_tagging(**BUCKET, Tagging={"TagSet": [*TAGS, {"Key": "more", "Value": ""}]})
    assert code_of(refused) == ("InvalidTag", 400)
    for _ in range(2):
        client.delete_bucket_tagging(**BUCKET)
    with pytest.raises(ClientError) as missing:
        client.get_bucket_tagging(**BUCKET)
    assert code_of(missing) == ("NoSuchTagSet", 404)


def test_rules_are_put_read_and_deleted(client: Any) -> None:
    client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": RULES})
    assert client.get_bucket_cors(**BUCKET)["CORSRules"] == RULES
    with pytest.raises(ClientError) as refused:
        client.put_bucket_cors(
            **BUCKET,
            CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["a*b*"], "AllowedMethods": ["GET"]}]},
        )
    assert code_of(refused) == ("InvalidRequest", 400)
    assert client.get_bucket_cors(**BUCKET)["CORSRules"] == RULES
    for _ in range(2):
        client.delete_bucket_cors(**BUCKET)
    with pytest.raises(ClientError) as missing:
        client.get_bucket_cors(**BUCKET)
    assert code_of(missing) == ("NoSuchCORSConfiguration", 404)


def test_both_of_a_bucket_that_is_not_there(client: Any) -> None:
    none = {"Bucket": "none-there"}
    for do in (
        lambda: client.get_bucket_tagging(**none),
        lambda: client.put_bucket_tagging(**none, Tagging={"TagSet": TAGS}),
        lambda: client.delete_bucket_tagging(**none),
        lambda: client.get_bucket_cors(**none),
        lambda: client.put_bucket_cors(**none, CORSConfiguration={"CORSRules": RULES}),
        lambda: client.delete_bucket_cors(**none),
    ):
        with pytest.raises(ClientError) as missing:
            do()
        assert code_of(missing) == ("NoSuchBucket", 404)


def test_all_documents_of_a_bucket_are_bounded_together(client: Any) -> None:
    many = [{"AllowedOrigins": ["https://" + "x" * 580], "AllowedMethods": ["GET"]} for _ in range(90)]
    client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": many})
    with pytest.raises(ClientError) as refused:
        client.put_bucket_tagging(**BUCKET, Tagging={"TagSet": TAGS})
    assert code_of(refused) == ("InvalidRequest", 400)
    client.delete_bucket_cors(**BUCKET)


def test_a_preflight_is_answered_by_the_rules_and_nothing_is_signed(
    gateway: RunningGateway, client: Any
) -> None:
    url = f"{gateway.url}/shared/small"
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    assert ask(url, "OPTIONS", headers)[0] == 403
    client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": RULES})
    status, told, _ = ask(url, "OPTIONS", {**headers, "Access-Control-Request-Headers": "X-Amz-Date"})
    assert status == 200
    assert told["access-control-allow-origin"] == PAGE
    assert told["access-control-allow-methods"] == "GET, PUT"
    assert told["access-control-allow-headers"] == "x-amz-date"
    assert told["access-control-max-age"] == "600"
    signed = client.generate_presigned_url("put_object", {**BUCKET, "Key": "small"})
    assert ask(signed, "OPTIONS", headers)[0] == 200
    for changed, expected in (
        ({"Origin": "https://elsewhere.test"}, (403, b"AccessForbidden")),
        ({"Access-Control-Request-Headers": "x-other"}, (403, b"AccessForbidden")),
        ({"Access-Control-Request-Method": ""}, (400, b"BadRequest")),
        ({"Origin": ""}, (400, b"BadRequest")),
    ):
        status, told, body = ask(url, "OPTIONS", {**headers, **changed})
        assert (status, expected[1] in body) == (expected[0], True)
        assert "access-control-allow-origin" not in told
    status, _, body = ask(f"{gateway.url}/none-there/k", "OPTIONS", headers)
    assert (status, b"NoSuchBucket" in body) == (404, True)


@pytest.mark.parametrize("key", ["small", "large", "not there"])
def test_answers_to_pages_from_elsewhere_say_so_errors_too(client: Any, key: str) -> None:
    client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": RULES})
    url = client.generate_presigned_url("get_object", {**BUCKET, "Key": key})
    status, told, body = ask(url, "GET", {"Origin": PAGE})
    assert (status, bool(body)) == (404 if key == "not there" else 200, True)
    assert (told["access-control-allow-origin"], told["access-control-expose-headers"]) == (PAGE, "ETag")
    assert "access-control-max-age" not in told
    assert ask(url, "GET", {"Origin": "https://x.test"})[1]["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in ask(url, "GET", {})[1]
    unsigned = ask(url.partition("?")[0], "GET", {"Origin": PAGE})
    assert (unsigned[0], unsigned[1]["access-control-allow-origin"]) == (403, PAGE)
    client.delete_bucket_cors(**BUCKET)
    assert "access-control-allow-origin" not in ask(url, "GET", {"Origin": PAGE})[1]


def test_a_bucket_that_is_made_anew_has_neither(client: Any) -> None:
    name = {"Bucket": "again"}
    client.create_bucket(**name)
    client.put_bucket_tagging(**name, Tagging={"TagSet": TAGS})
    client.put_bucket_cors(**name, CORSConfiguration={"CORSRules": RULES})
    client.delete_bucket(**name)
    client.create_bucket(**name)
    for read in (client.get_bucket_tagging, client.get_bucket_cors):
        with pytest.raises(ClientError):
            read(**name)


def wait_until_told(data: Path) -> None:
    deadline = time.monotonic() + 60
    with closing(sqlite3.connect(data / "master" / "catalog.sqlite3")) as catalog:
        while catalog.execute("SELECT count(*) FROM bucket_notes").fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


async def compact(store: RunningStore) -> None:
    async with warehouse.connect(store.profile) as client:
        jobs = await client.wait_jobs(await client.compact(force=True))
        assert {job.state for job in jobs} == {"done"}, jobs


def store_at(folder: Path) -> RunningStore:
    return RunningStore(folder / "store", volumes=2, has_s3=True)


def client_at(store: RunningStore) -> Any:
    profile = Profile.load(store.profile)
    return client_of(f"http://127.0.0.1:{store.port_base + 90}", profile.key_id, profile.secret)


def after_the_kill(client: Any) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.get_bucket_tagging(**BUCKET)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503 or time.monotonic() > deadline:
                raise


@pytest.mark.timeout(300)
def test_both_survive_a_kill_compactions_and_a_lost_catalog(tmp_path: Path) -> None:
    with store_at(tmp_path) as store, closing(client_at(store)) as client:
        client.create_bucket(**BUCKET)
        client.put_object(**BUCKET, Key="k", Body=b"x")
        for number in range(3):
            client.put_bucket_tagging(**BUCKET, Tagging={"TagSet": TAGS[number:]})
            client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": RULES[:1]})
        client.put_bucket_cors(**BUCKET, CORSConfiguration={"CORSRules": RULES})
        store.kill_actor("master")
        assert after_the_kill(client)["TagSet"] == TAGS[2:]
        assert client.get_bucket_cors(**BUCKET)["CORSRules"] == RULES
        wait_until_told(store.data)
        trio.run(compact, store)
    for path in (store.data / "master").glob("catalog.sqlite3*"):
        path.unlink()
    assert report_of("rebuild", "--data", store.data)["objects"] == 1
    with store_at(tmp_path) as store, closing(client_at(store)) as client:
        assert client.get_bucket_tagging(**BUCKET)["TagSet"] == TAGS[2:]
        assert client.get_bucket_cors(**BUCKET)["CORSRules"] == RULES
