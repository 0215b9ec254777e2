"""Downloads: single objects, straight and through the console, and many as an archive, in a real browser."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Download, Page, expect

import warehouse
from console_kit import HARD_KEYS, ConsoleStore, Watched
from warehouse.webui.names import object_url

CLICK = """
address => {
  const link = document.createElement("a");
  link.href = address;
  link.setAttribute("hx-boost", "false");
  document.getElementById("main").append(link);
  link.click();
  link.remove();
}
"""
SUBMIT = """
([action, fields]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = action;
  form.setAttribute("hx-boost", "false");
  for (const [name, value] of [["csrf", document.body.dataset.csrf], ...fields]) {
    const field = document.createElement("input");
    field.name = name;
    field.value = value;
    form.append(field);
  }
  document.getElementById("main").append(form);
  form.submit();
  form.remove();
}
"""
# Characters that Chromium writes as "_" into the names of files.
FORBIDDEN = str.maketrans(dict.fromkeys('<>:"/\\|?*\n', "_"))
GET = """
async ([address, headers]) => {
  const answer = await fetch(address, {headers});
  return [answer.status, answer.headers.get("Content-Range"), await answer.text()];
}
"""


def download(page: Page, address: str) -> Download:
    with page.expect_download() as found:
        page.evaluate(CLICK, address)
    return found.value


def archive(page: Page, bucket: str, *fields: tuple[str, str]) -> Download:
    with page.expect_download() as found:
        page.evaluate(SUBMIT, [f"/buckets/{bucket}/zip", [list(field) for field in fields]])
    return found.value


def entries(found: Download) -> Mapping[str, bytes]:
    with zipfile.ZipFile(found.path()) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize("way", ["", "console"])
def test_every_object_is_saved_under_its_name(console: ConsoleStore, page: Page, way: str) -> None:
    bucket = f"hard-{way or 'straight'}"
    objects = {key: f"text of {key}".encode() for key in HARD_KEYS} | {"empty": b""}
    console.put(bucket, objects)
    console.sign_in(page, path=f"/buckets/{bucket}")
    for key, content in objects.items():
        address = console.url + object_url(bucket, key, "download")
        address += ("&" if "?" in address else "?") + f"through={way}"
        found = download(page, address)
        name = key.rstrip("/").rsplit("/", 1)[-1]
        assert found.suggested_filename == name.translate(FORBIDDEN)
        assert found.path().read_bytes() == content
        straight = f":{console.store.port_base + 10}/v1/needles/"
        assert (straight in found.url) is (way == "")


def test_ranges_and_conditions_work_through_the_console(console: ConsoleStore, page: Page) -> None:
    console.put("ranges", {"a.txt": b"0123456789"})
    console.sign_in(page, path="/buckets/ranges")
    address = object_url("ranges", "a.txt", "download") + "?through=console"
    assert page.evaluate(GET, [address, {"Range": "bytes=2-4"}]) == [206, "bytes 2-4/10", "234"]
    assert page.evaluate(GET, [address, {"Range": "bytes=-3"}]) == [206, "bytes 7-9/10", "789"]
    assert page.evaluate(GET, [address, {"Range": "bytes=7-", "If-Range": '"other"'}])[0] == 200
    assert page.evaluate(GET, [address, {"Range": "bytes=99-"}])[0] == 416
    assert page.evaluate(GET, [object_url("ranges", "b", "download") + "?through=console", {}])[0] == 404


def test_a_key_that_may_not_sign_reads_through_the_console(console: ConsoleStore, page: Page) -> None:
    console.put("unsigned", {"a.txt": b"hello"})
    console.sign_in(page, console.make_key("reads", preset="reader"), path="/buckets/unsigned")
    found = download(page, console.url + object_url("unsigned", "a.txt", "download"))
    assert found.path().read_bytes() == b"hello"
    assert found.url.startswith(console.url)


def test_a_key_that_may_only_upload_downloads_nothing(console: ConsoleStore, page: Page) -> None:
    console.put("writeonly", {"a.txt": b"hello"})
    console.sign_in(page, console.make_key("loads", preset="upload-only"), path="/buckets/writeonly")
    for address in (object_url("writeonly", "a.txt", "download"), "/buckets/writeonly/objects/a.txt"):
        assert page.evaluate(GET, [address, {"Accept": "application/json"}])[0] in (403, 404)
    status = page.evaluate(
        """async () => (await fetch("/buckets/writeonly/zip", {
          method: "POST", headers: {"X-CSRF-Token": document.body.dataset.csrf, "Accept": "application/json"},
          body: new URLSearchParams({item: "o:5:a.txt"}),
        })).status"""
    )
    assert status == 403


# --- archives -------------------------------------------------------------------------------------


def test_a_whole_bucket_is_an_archive_with_safe_names(console: ConsoleStore, page: Page) -> None:
    objects = {key: f"text of {key}".encode() * 20 for key in HARD_KEYS}
    objects |= {"big.bin": os.urandom(3_000_000), "dir/": b"", "a": b"file and folder", "C:/x": b"drive"}
    console.put("all", objects)
    console.sign_in(page, path="/buckets/all")
    found = archive(page, "all", ("prefix", ""))
    assert found.suggested_filename == "all.zip"
    unpacked = entries(found)
    assert sorted(unpacked.values()) == sorted(objects.values())
    assert len({name.casefold() for name in unpacked}) == len(objects)
    for name in unpacked:
        assert not name.startswith("/")
        assert not {"", ".", ".."} & set(name.removesuffix("/").split("/")), name
        assert ":" not in name.split("/")[0]
        assert "\\" not in name
    for key in ("plain.txt", "a", "big.bin", "emoji 🐈 ünïcödé.txt", "مرحبا بالعالم.txt", "100%25 #1?.txt"):
        assert unpacked[key] == objects[key]


def test_a_selection_is_an_archive_of_what_was_selected(console: ConsoleStore, page: Page) -> None:
    console.put("some", {"in/a.txt": b"a", "in/b.txt": b"b", "in/sub/c.txt": b"c", "out.txt": b"out"})
    console.sign_in(page, path="/buckets/some?prefix=in/")
    for name in ("a.txt", "sub/"):
        page.get_by_role("checkbox", name=f"Select {name}").check()
    with page.expect_download() as found:
        page.get_by_role("button", name="Download", exact=True).click()
    assert entries(found.value) == {"a.txt": b"a", "sub/c.txt": b"c"}


def test_a_folder_is_an_archive_with_the_folder_in_it(console: ConsoleStore, page: Page) -> None:
    console.put("folders", {"x/in/a.txt": b"a", "x/in/sub/c.txt": b"c", "x/out.txt": b"out"})
    console.sign_in(page, path="/buckets/folders")
    found = archive(page, "folders", ("prefix", "x/in/"))
    assert found.suggested_filename == "in.zip"
    assert entries(found) == {"in/a.txt": b"a", "in/sub/c.txt": b"c"}


def test_an_archive_of_many_small_objects_is_whole(console: ConsoleStore, page: Page) -> None:
    objects = {f"{number:05}.txt": f"{number}".encode() for number in range(2_500)}
    console.put("many", objects)
    console.sign_in(page, path="/buckets/many")
    assert entries(archive(page, "many", ("prefix", ""))) == objects


def test_an_archive_of_nothing_says_so(console: ConsoleStore, page: Page) -> None:
    console.put("none", {})
    console.sign_in(page, path="/buckets/none")
    page.evaluate(SUBMIT, ["/buckets/none/zip", [["prefix", "no/such/"]]])
    expect(page.get_by_text("there is nothing to download")).to_be_visible()


def test_a_damaged_object_breaks_the_archive_off(console: ConsoleStore, watched: Watched, page: Page) -> None:
    mark = os.urandom(64)
    console.put("damaged", {"a.bin": os.urandom(400_000), "b.bin": mark * 10_000})
    spoil(console.store.data, mark)
    console.sign_in(page, path="/buckets/damaged")
    found = archive(page, "damaged", ("prefix", ""))
    assert found.failure() is not None
    watched.complaints.clear()


def spoil(data: Path, mark: bytes) -> None:
    """Change a byte of what is stored on disk and contains this, near its end."""
    for path in sorted(data.rglob("*")):
        if not path.is_file() or path.stat().st_size < len(mark):
            continue
        with path.open("r+b") as file:
            content = file.read()
            place = content.rfind(mark)
            if place >= 0:
                file.seek(place)
                file.write(bytes([mark[0] ^ 1]))
                return
    raise AssertionError("no file holds these bytes")


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_a_large_object_passes_through_the_console_in_little_memory(
    console: ConsoleStore, page: Page, tmp_path: Path
) -> None:
    source = tmp_path / "large.bin"
    with source.open("wb") as file:
        for number in range(100):
            file.write(bytes([number]) * 1024 * 1024)

    async def put(store: warehouse.Store) -> None:
        await (await store.create_bucket("large")).put("large.bin", source)

    console.ask(put)
    console.sign_in(page, path="/buckets/large")
    before = resident(console.store.pids()["console"])
    most = before
    started = time.monotonic()
    with page.expect_download() as found:
        page.evaluate(CLICK, console.url + object_url("large", "large.bin", "download") + "?through=console")
        while time.monotonic() - started < 2:
            most = max(most, resident(console.store.pids()["console"]))
            page.wait_for_timeout(50)
    with found.value.path().open("rb") as got, source.open("rb") as wanted:
        assert hashlib.file_digest(got, "sha256").digest() == hashlib.file_digest(wanted, "sha256").digest()
    most = max(most, resident(console.store.pids()["console"]))
    assert most - before < 60 * 1024 * 1024, (before, most)
