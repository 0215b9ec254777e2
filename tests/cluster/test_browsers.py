"""Pages of the console at the data ports of a real store: what a browser asks before it lets a script go on."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

import warehouse
from harness import RunningStore

PROXY = "https://files.example"
ELSEWHERE = "https://evil.example"
CONFIG = f'[console]\nurl = "{PROXY}/store"\n'


def ask(
    url: str, method: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def preflight(url: str, origin: str, method: str, headers: str) -> http.client.HTTPMessage | None:
    """What a browser asks of its own; None: the script does not get to send its request."""
    fields = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    status, answer, _ = ask(url, "OPTIONS", fields)
    return answer if status == 204 and answer["Access-Control-Allow-Origin"] == origin else None


@pytest.mark.timeout(180)
def test_a_page_of_the_console_puts_and_gets_at_the_data_port_and_no_other_page_does(tmp_path: Path) -> None:
    async def signed(profile: Path) -> tuple[str, str, list[str]]:
        async with warehouse.connect(profile) as client:
            bucket = await client.create_bucket("photos")
            await bucket.put("a.txt", b"hello, page")
            return (
                await bucket.presign_get("a.txt"),
                await bucket.presign_put("b.txt"),
                await client.data_urls(),
            )

    with RunningStore(tmp_path / "store", volumes=2, config=CONFIG) as store:
        get_url, put_url, data_urls = trio.run(signed, store.profile)
        assert data_urls == [f"http://127.0.0.1:{store.port_base + 10 + number}" for number in (0, 1)]
        assert all(url.startswith(tuple(data_urls)) for url in (get_url, put_url))

        asked = "authorization,content-type,x-warehouse-crc32c,x-warehouse-key,x-warehouse-metadata"
        allowed = preflight(put_url, PROXY, "PUT", asked)
        assert allowed is not None
        assert "PUT" in allowed["Access-Control-Allow-Methods"].split(", ")
        assert allowed["Access-Control-Allow-Headers"] == asked
        assert allowed["Access-Control-Allow-Credentials"] is None
        assert preflight(get_url, PROXY, "GET", "range") is not None
        assert preflight(put_url, ELSEWHERE, "PUT", asked) is None

        status, headers, _ = ask(
            put_url, "PUT", {"Origin": PROXY, "Content-Type": "text/plain"}, b"from a page"
        )
        assert (status, headers["Access-Control-Allow-Origin"]) == (201, PROXY)
        exposed = headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Content-Range", "Retry-After"} <= set(exposed)

        status, headers, body = ask(get_url, "GET", {"Origin": PROXY, "Range": "bytes=0-4"})
        assert (status, body, headers["Content-Range"]) == (206, b"hello", "bytes 0-4/11")
        own = {name for name in headers if name.lower().startswith("x-warehouse-")}
        assert own <= set(headers["Access-Control-Expose-Headers"].split(", "))

        for _ in range(3):  # the server remembers heads that it has seen
            status, headers, body = ask(get_url, "GET", {"Origin": ELSEWHERE})
            assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (200, None, "Origin")
            status, headers, body = ask(get_url, "GET", {"Origin": PROXY})
            assert (body, headers["Access-Control-Allow-Origin"]) == (b"hello, page", PROXY)
            status, headers, body = ask(get_url, "GET", {})
            assert (body, headers["Vary"]) == (b"hello, page", "Origin")
        status, headers, _ = ask(put_url, "PUT", {"Origin": PROXY}, b"once more, and different")
        assert (status, headers["Access-Control-Allow-Origin"]) == (409, PROXY)


@pytest.mark.timeout(180)
def test_a_follower_hears_of_changes_before_and_after_the_master_was_killed(tmp_path: Path) -> None:
    async def follow(store: RunningStore) -> None:
        async with warehouse.connect(store.profile) as client, warehouse.connect(store.profile) as other:
            photos = await client.create_bucket("photos")
            changes, of_store = photos.changes("2026/"), client.changes()
            with trio.fail_after(60):
                assert (await anext(changes)).is_missed
                assert (await anext(of_store)).is_missed
                await other.bucket("photos").put("2027/a", b"elsewhere")
                await other.bucket("photos").put("2026/a", b"here")
                assert (await anext(changes)) == warehouse.BucketChange(count=1, keys=["2026/a"])
                await other.create_bucket("films")
                change = await anext(of_store)
                assert (change.subjects, change.buckets) == (["buckets"], ["films"])
                store.kill_actor("master")
                assert (await anext(changes)).is_missed
                assert (await anext(of_store)).is_missed
                await other.bucket("photos").put("2026/b", b"again")
                while "2026/b" not in (change_of_key := await anext(changes)).keys:
                    assert change_of_key.is_missed

    with RunningStore(tmp_path / "store") as store:
        trio.run(follow, store)
