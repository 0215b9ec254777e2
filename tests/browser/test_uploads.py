"""Uploads: files and folders, chosen and dropped, paused, cancelled, taken up again, in a real browser."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Dialog, Locator, Page, Request, Response, Route, expect

import warehouse
from console_kit import HARD_KEYS, ConsoleStore, Watched, running_console

MIB = 1024 * 1024
CHUNK = 16 * MIB  # static/js/transfers/plan.js
DROP = """
async ([names, isFolder]) => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File([`text of ${name}`], name, {lastModified: 1700000000000}));
  const target = document.getElementById("main");
  for (const kind of ["dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
  }
}
"""
# A file of four chunks that the browser can open again by itself: in the page's own folder, because nothing can pick
# one in a dialog.  Dropping it gives a handle, as dropping a file of a person does.
DROP_WITH_HANDLE = """
async ([name, chunk]) => {
  const folder = await navigator.storage.getDirectory();
  const handle = await folder.getFileHandle(name, {create: true});
  const writable = await handle.createWritable();
  for (const number of [0, 1, 2]) await writable.write(new Uint8Array(chunk).fill(number));
  await writable.write("the end");
  await writable.close();
  DataTransferItem.prototype.getAsFileSystemHandle = async () => handle;
  const transfer = new DataTransfer();
  transfer.items.add(await handle.getFile());
  document.getElementById("main").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}
"""
WRITE = """
async (name) => {
  const folder = await navigator.storage.getDirectory();
  const writable = await (await folder.getFileHandle(name)).createWritable();
  await writable.write("something else");
  await writable.close();
}
"""
ASKS_FIRST = """
FileSystemHandle.prototype.queryPermission = async () => "prompt";
FileSystemHandle.prototype.requestPermission = async function ({mode}) { return this.kind === "file" && mode === "read" ? "granted" : "denied"; };
"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStore]:
    with running_console(tmp_path_factory.mktemp("console"), volumes=2) as found:
        yield found


@pytest.fixture
def bucket(console: ConsoleStore, request: pytest.FixtureRequest) -> str:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60].strip("-")

    async def create(store: warehouse.Store) -> None:
        await store.create_bucket(name)

    console.ask(create)
    return name


def panel(page: Page) -> Locator:
    return page.get_by_role("region", name="Uploads")


def contents(console: ConsoleStore, bucket: str) -> dict[str, int]:
    async def look(store: warehouse.Store) -> dict[str, int]:
        return {info.key: info.size async for info in store.bucket(bucket).list()}

    return console.ask(look)


def content(console: ConsoleStore, bucket: str, key: str) -> bytes:
    async def get(store: warehouse.Store) -> bytes:
        return await store.bucket(bucket).get(key)

    return console.ask(get)


def choose(page: Page, *files: Path | Mapping[str, object]) -> None:
    page.get_by_label("Upload files").set_input_files(list(files))  # type: ignore[arg-type]


def until(page: Page, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        page.wait_for_timeout(50)  # hears of requests meanwhile


CONFIRMED = """() => new Promise((resolve) => {
  const opened = indexedDB.open("warehouse-transfers", 1);
  opened.onerror = () => resolve(0);
  opened.onsuccess = () => {
    const asked = opened.result.transaction("uploads").objectStore("uploads").getAll();
    asked.onsuccess = () => {
      opened.result.close();
      resolve(asked.result.reduce((sum, record) => sum + record.confirmed.length, 0));
    };
  };
})"""


def until_remembered(page: Page) -> None:
    """Until the browser has written down that a chunk is stored: after a reload it is sent again else."""
    until(page, lambda: page.evaluate(CONFIRMED) >= 1, "no chunk was written down as stored")


class Puts:
    """The chunks that a browser sends to volume actors.

    Attributes:
        stored: of requests that were answered with 201.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.stored = self.begun = 0
        context.on("request", self._begun)
        context.on("response", self._answered)

    def _begun(self, request: Request) -> None:
        self.begun += request.method == "PUT"

    def _answered(self, response: Response) -> None:
        self.stored += response.request.method == "PUT" and response.status == 201


class Network:
    """The network of a page: as slow as it is told to be."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Network.enable")

    def limit(self, kilobytes_a_second: int = 0, *, is_offline: bool = False) -> None:
        """0: as quick as it goes."""
        rate = kilobytes_a_second * 1024 or -1
        self._session.send(
            "Network.emulateNetworkConditions",
            {"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate},
        )


@pytest.fixture
def network(page: Page) -> Network:
    return Network(page)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Four chunks, each other than the next."""
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        for number in range(3):
            file.write(bytes([number]) * CHUNK)
        file.write(b"the end")
    return path


# --- what goes well -------------------------------------------------------------------------------


def test_files_that_are_chosen_are_stored_and_told_in_a_sentence(
    console: ConsoleStore, page: Page, bucket: str, big: Path, tmp_path: Path
) -> None:
    small = tmp_path / "note.txt"
    small.write_text("hello")
    console.sign_in(page, path=f"/buckets/{bucket}?prefix=in/")
    puts = Puts(page.context)
    choose(page, big, small)
    expect(panel(page)).to_contain_text("2 files, 48.0 MiB stored in")
    assert content(console, bucket, "in/big.bin") == big.read_bytes()
    assert content(console, bucket, "in/note.txt") == b"hello"
    until(page, lambda: puts.stored == 5, "the chunks did not go straight to the volume actors")
    expect(
        page.get_by_role("link", name="note.txt", exact=True)
    ).to_be_visible()  # the list has renewed itself
    panel(page).get_by_role("button", name="Close the uploads").click()
    expect(panel(page)).to_have_count(0)


def test_names_of_files_are_kept_to_the_letter(console: ConsoleStore, page: Page, bucket: str) -> None:
    names = [key for key in HARD_KEYS if "/" not in key and "\n" not in key]
    console.sign_in(page, path=f"/buckets/{bucket}")
    page.evaluate(DROP, [names, False])
    expect(panel(page)).to_contain_text(f"{len(names)} files")
    expect(panel(page)).to_contain_text("stored in")
    assert set(contents(console, bucket)) == set(names)
    assert content(console, bucket, names[0]) == f"text of {names[0]}".encode()


def test_a_folder_keeps_its_inner_folders(
    console: ConsoleStore, page: Page, bucket: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    (folder / "2026" / "ü").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "2026" / "ü" / "b #1.txt").write_text("b")
    console.sign_in(page, path=f"/buckets/{bucket}?prefix=all/")
    page.get_by_label("Upload a folder").set_input_files(folder)
    expect(panel(page)).to_contain_text("2 files, 2 B stored in")
    assert contents(console, bucket) == {"all/pictures/a.txt": 1, "all/pictures/2026/ü/b #1.txt": 1}


def test_many_small_files_need_few_questions(
    console: ConsoleStore, page: Page, bucket: str, tmp_path: Path
) -> None:
    files = []
    for number in range(300):
        files.append(tmp_path / f"{number:03}.txt")
        files[-1].write_text(f"{number}")
    console.sign_in(page, path=f"/buckets/{bucket}")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/uploads" in request.url else None)
    choose(page, *files)
    expect(panel(page)).to_contain_text("300 files")
    expect(panel(page)).to_contain_text("stored in")
    assert len(contents(console, bucket)) == 300
    assert len(asked) <= 100, len(asked)  # each alone would be 900; a slow machine sends smaller groups


def test_an_empty_file_and_a_type_are_kept(console: ConsoleStore, page: Page, bucket: str) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    choose(
        page,
        {"name": "empty", "mimeType": "", "buffer": b""},
        {"name": "photo", "mimeType": "image/webp", "buffer": b"1"},
        {"name": "page.html", "mimeType": "", "buffer": b"<p>"},
    )
    expect(panel(page)).to_contain_text("3 files, 4 B stored in")

    async def types(store: warehouse.Store) -> list[tuple[int, str | None]]:
        found = [await store.bucket(bucket).stat(key) for key in ("empty", "photo", "page.html")]
        return [(info.size, info.content_type) for info in found]

    assert console.ask(types) == [(0, "application/octet-stream"), (1, "image/webp"), (3, "text/html")]


def test_the_panel_stays_while_somebody_moves_around(
    console: ConsoleStore, page: Page, network: Network, bucket: str, big: Path
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    network.limit(8 * 1024)
    choose(page, big)
    expect(panel(page)).to_contain_text("MiB/s")
    page.get_by_role("link", name="Overview").click()
    expect(page).to_have_url(console.url + "/")
    expect(panel(page)).to_contain_text("Uploading")
    network.limit()
    expect(panel(page)).to_contain_text("1 file, 48.0 MiB stored in")
    assert contents(console, bucket) == {"big.bin": big.stat().st_size}


def test_an_upload_of_100_mib_takes_the_console_no_memory(
    console: ConsoleStore, page: Page, bucket: str, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(100 * MIB)

    def resident() -> int:
        status = Path(f"/proc/{console.store.pids()['console']}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    console.sign_in(page, path=f"/buckets/{bucket}")
    before = resident()
    choose(page, large)
    expect(panel(page)).to_contain_text("1 file, 100 MiB stored in", timeout=60_000)
    assert resident() - before < 16 * MIB


# --- files that exist -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "keys", "first"),
    [
        ("Replace", {"a.txt": 9, "b.txt": 9, "c.txt": 9}, b"text of a"),
        ("Keep both", {"a.txt": 3, "a (2).txt": 9, "b.txt": 3, "b (2).txt": 9, "c.txt": 9}, b"old"),
        ("Skip", {"a.txt": 3, "b.txt": 3, "c.txt": 9}, b"old"),
    ],
)
def test_one_answer_is_for_all_files_that_exist(
    console: ConsoleStore, page: Page, answer: str, keys: dict[str, int], first: bytes
) -> None:
    bucket = "exist-" + answer.lower().replace(" ", "-")
    console.put(bucket, {"a.txt": b"old", "b.txt": b"old"})
    console.sign_in(page, path=f"/buckets/{bucket}")
    files = [{"name": f"{n}.txt", "mimeType": "", "buffer": f"text of {n}".encode()} for n in "abc"]
    choose(page, *files)
    question = page.get_by_role("group", name="Files that exist already")
    expect(question).to_contain_text("2 files exist already")
    question.get_by_role("button", name=answer).click()
    expect(question).to_be_hidden()
    until(page, lambda: contents(console, bucket) == keys, f"{contents(console, bucket)}")
    assert content(console, bucket, "a.txt").startswith(first)


# --- pause, cancel, refusal -------------------------------------------------------------------------


def test_a_file_can_be_paused_resumed_and_cancelled(
    console: ConsoleStore, page: Page, network: Network, bucket: str, big: Path
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    network.limit(12 * 1024)
    choose(page, big)
    until(page, lambda: puts.stored >= 1, "no chunk was stored")
    panel(page).get_by_role("button", name="Pause big.bin").click()
    expect(panel(page).get_by_role("heading")).to_have_text("Paused")
    stored = puts.stored
    network.limit()
    panel(page).get_by_role("button", name="Resume big.bin").click()
    expect(panel(page)).to_contain_text("1 file, 48.0 MiB stored in")
    until(page, lambda: puts.stored == 4, f"{puts.stored} chunks were sent, {stored} of them before")
    network.limit(1024)
    choose(page, big.rename(big.with_name("other.bin")))
    panel(page).get_by_role("button", name="Cancel other.bin").click()
    expect(panel(page)).to_have_count(0)
    assert set(contents(console, bucket)) == {"big.bin"}


def test_a_quota_that_is_used_up_is_told_in_words(console: ConsoleStore, page: Page, bucket: str) -> None:
    async def limit(store: warehouse.Store) -> None:
        await store.bucket(bucket).set_quota(byte_count=10)

    console.ask(limit)
    console.sign_in(page, path=f"/buckets/{bucket}")
    choose(
        page,
        {"name": "fits.txt", "mimeType": "", "buffer": b"12345"},
        {"name": "large.txt", "mimeType": "", "buffer": b"1" * 100},
    )
    expect(panel(page)).to_contain_text("1 file, 5 B stored")
    expect(panel(page)).to_contain_text("1 file failed")
    expect(panel(page)).to_contain_text("This is more than the quota leaves")
    assert set(contents(console, bucket)) == {"fits.txt"}

    async def lift(store: warehouse.Store) -> None:
        await store.bucket(bucket).set_quota(byte_count=None)

    console.ask(lift)
    panel(page).get_by_role("button", name="Retry large.txt").click()
    until(page, lambda: set(contents(console, bucket)) == {"fits.txt", "large.txt"}, "it was not tried again")


def test_a_key_that_may_only_upload_uploads_and_sees_nothing(
    console: ConsoleStore, page: Page, bucket: str
) -> None:
    console.put(bucket, {"there.txt": b"old"})
    console.sign_in(page, console.make_key("loader", preset="upload-only"), path=f"/buckets/{bucket}")
    choose(page, {"name": "new.txt", "mimeType": "", "buffer": b"new"})
    expect(panel(page)).to_contain_text("1 file, 3 B stored")
    choose(page, {"name": "there.txt", "mimeType": "", "buffer": b"another"})
    question = page.get_by_role("group", name="Files that exist already")
    question.get_by_role("button", name="Keep both").click()
    expected = {"new.txt": 3, "there.txt": 3, "there (2).txt": 7}
    until(page, lambda: contents(console, bucket) == expected, "keeping both did something else")


def test_the_panel_covers_no_button_at_the_end_of_a_page(
    console: ConsoleStore, page: Page, bucket: str
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    choose(page, {"name": "new.txt", "mimeType": "", "buffer": b"new"})
    expect(panel(page)).to_contain_text("1 file, 3 B stored")
    page.get_by_role("link", name="Keys", exact=True).click()
    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Name", exact=True).fill("below the panel")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", name="Its secret, shown this once")).to_be_visible()


def test_a_reader_sees_no_upload_and_is_refused(console: ConsoleStore, page: Page, bucket: str) -> None:
    console.sign_in(page, console.make_key("only reads", preset="reader"), path=f"/buckets/{bucket}")
    expect(page.get_by_role("heading", name=bucket)).to_be_visible()
    expect(page.get_by_label("Upload files")).to_have_count(0)
    answer = page.evaluate(
        """async (bucket) => {
          const answer = await fetch(`/buckets/${bucket}/uploads`, {
            method: "POST", headers: {"X-CSRF-Token": document.body.dataset.csrf, "Content-Type": "application/json"},
            body: JSON.stringify({files: [{key: "a", size: 1, chunk_size: 1}]}),
          });
          return (await answer.json()).results[0].code;
        }""",
        bucket,
    )
    assert answer == "permission_denied"
    assert contents(console, bucket) == {}


# --- what breaks --------------------------------------------------------------------------------------


def test_after_a_reload_the_same_file_goes_on_where_it_was(
    console: ConsoleStore, page: Page, network: Network, bucket: str, big: Path
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    network.limit(12 * 1024)
    choose(page, big)
    until(page, lambda: puts.stored >= 1, "no chunk was stored")
    until_remembered(page)
    warned: list[str] = []

    def leave(dialog: Dialog) -> None:
        warned.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    page.get_by_role("heading", name=bucket).click()  # without a gesture, browsers do not warn
    page.reload()
    assert warned == ["beforeunload"]
    lost = page.get_by_role("group", name="Unfinished uploads")
    expect(lost).to_contain_text("1 upload was not finished")
    before = puts.stored
    lost.get_by_label("Choose the files again").set_input_files(big)
    expect(panel(page)).to_contain_text("1 file, 48.0 MiB stored in")
    until(page, lambda: puts.stored == 4, f"{puts.stored} chunks were sent, {before} of them before")
    assert content(console, bucket, "big.bin") == big.read_bytes()
    page.reload()
    expect(page.get_by_role("link", name="big.bin", exact=True)).to_be_visible()
    expect(panel(page)).to_have_count(0)


def begin_with_handle(page: Page, network: Network, puts: Puts) -> None:
    """Drop a file with a handle, and leave the page when a chunk is stored."""
    network.limit(12 * 1024)
    page.on("dialog", lambda dialog: dialog.accept())
    page.evaluate(DROP_WITH_HANDLE, ["big.bin", CHUNK])
    until(page, lambda: puts.stored >= 1, "no chunk was stored")
    until_remembered(page)


@pytest.mark.parametrize("asks_first", [False, True])
def test_after_a_reload_a_file_with_a_handle_goes_on_by_itself(
    console: ConsoleStore, page: Page, network: Network, big: Path, asks_first: bool
) -> None:
    bucket = f"handle-{asks_first}".lower()
    console.put(bucket, {})
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    begin_with_handle(page, network, puts)
    if asks_first:  # as browsers do for files of people, where they were not told to remember
        page.add_init_script(ASKS_FIRST)
    page.reload()
    if asks_first:
        lost = page.get_by_role("group", name="Unfinished uploads")
        expect(lost).to_contain_text("1 upload was not finished")
        lost.get_by_role("button", name="Go on").click()
    network.limit()
    expect(panel(page)).to_contain_text("1 file, 48.0 MiB stored in")
    until(page, lambda: puts.stored == 4, f"{puts.stored} chunks were stored of 4: some were sent again")
    assert content(console, bucket, "big.bin") == big.read_bytes()


def test_a_file_with_a_handle_that_was_changed_is_asked_for(
    console: ConsoleStore, page: Page, network: Network, bucket: str
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    begin_with_handle(page, network, Puts(page.context))
    picture = page.locator("link[rel=icon]").get_attribute("href")
    page.goto(f"{console.url}{picture}")  # where no script of ours runs
    page.evaluate(WRITE, "big.bin")
    page.goto(f"{console.url}/buckets/{bucket}")
    lost = page.get_by_role("group", name="Unfinished uploads")
    expect(lost).to_contain_text("1 upload was not finished")
    expect(lost.get_by_role("button", name="Go on")).to_be_hidden()
    lost.get_by_role("button", name="Forget them").click()
    expect(panel(page)).to_have_count(0)
    assert contents(console, bucket) == {}


def test_a_file_that_was_changed_is_not_taken_for_the_same(
    console: ConsoleStore, page: Page, network: Network, bucket: str, big: Path
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    network.limit(12 * 1024)
    choose(page, big)
    until(page, lambda: puts.stored >= 1, "no chunk was stored")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    os.utime(big, (1, 1))
    lost = page.get_by_role("group", name="Unfinished uploads")
    lost.get_by_label("Choose the files again").set_input_files(big)
    expect(page.get_by_text("This is not the same file")).to_be_visible()
    lost.get_by_role("button", name="Forget them").click()
    expect(panel(page)).to_have_count(0)
    page.reload()
    expect(page.get_by_role("heading", name=bucket)).to_be_visible()
    assert contents(console, bucket) == {}


@pytest.mark.parametrize("actor", ["master", "disk-1"])
def test_an_upload_outlives_an_actor_that_is_killed(
    console: ConsoleStore, watched: Watched, page: Page, network: Network, big: Path, actor: str
) -> None:
    bucket = f"killed-{actor}"
    console.put(bucket, {})
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    network.limit(12 * 1024)
    choose(page, big)
    until(page, lambda: puts.stored >= 1, "no chunk was stored")
    before = console.store.pids()[actor]
    os.kill(before, signal.SIGKILL)
    until(page, lambda: console.store.pids().get(actor, before) != before, f"{actor} did not come back")
    network.limit()
    expect(panel(page)).to_contain_text("1 file, 48.0 MiB stored in", timeout=60_000)
    assert content(console, bucket, "big.bin") == big.read_bytes()
    until(page, lambda: puts.stored == 4, f"{puts.stored} chunks were stored of 4: some were sent again")
    watched.complaints.clear()  # of connections that broke


def test_a_lost_connection_is_waited_for(
    console: ConsoleStore, watched: Watched, page: Page, network: Network, bucket: str, big: Path
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    network.limit(12 * 1024)
    choose(page, big)
    until(page, lambda: puts.stored >= 1, "no chunk was stored")
    network.limit(is_offline=True)
    expect(panel(page)).to_contain_text("trying again", ignore_case=True)
    network.limit()
    expect(panel(page)).to_contain_text("1 file, 48.0 MiB stored in")
    until(page, lambda: puts.stored == 4, f"{puts.stored} chunks were stored of 4: some were sent again")
    watched.complaints.clear()


def test_a_chunk_that_was_damaged_on_its_way_is_sent_again(
    console: ConsoleStore, page: Page, bucket: str
) -> None:
    console.sign_in(page, path=f"/buckets/{bucket}")
    puts = Puts(page.context)
    damaged: list[bytes] = []

    def damage(route: Route) -> None:
        if route.request.method != "PUT" or damaged:
            return route.continue_()
        damaged.append(b"h?llo")
        return route.continue_(post_data=damaged[0])

    page.context.route("**/v1/needles/**", damage)
    choose(page, {"name": "note.txt", "mimeType": "", "buffer": b"hello"})
    expect(panel(page)).to_contain_text("1 file, 5 B stored in")
    assert content(console, bucket, "note.txt") == b"hello"
    until(page, lambda: puts.stored == 2, f"{puts.stored} chunks were stored: the damage was not noticed")


def test_a_file_that_is_gone_is_told(
    console: ConsoleStore, watched: Watched, page: Page, network: Network, bucket: str, tmp_path: Path
) -> None:
    many = tmp_path / "many.bin"
    with many.open("wb") as file:
        file.truncate(6 * CHUNK)  # four are on their way at once: the browser has them open
    console.sign_in(page, path=f"/buckets/{bucket}")
    network.limit(4 * 1024)
    choose(page, many)
    expect(panel(page)).to_contain_text("Uploading")
    many.unlink()
    network.limit()
    expect(panel(page)).to_contain_text("was changed, moved or removed")
    watched.complaints.clear()


@pytest.mark.parametrize("is_healthy", [True, False])
def test_a_browser_that_reaches_no_disk_sends_through_the_console(
    console: ConsoleStore, watched: Watched, page: Page, is_healthy: bool
) -> None:
    bucket = f"through-{is_healthy}".lower()
    console.put(bucket, {})
    console.sign_in(page, path=f"/buckets/{bucket}")
    for offset in (10, 11):
        origin = f"http://127.0.0.1:{console.store.port_base + offset}"
        page.context.route(f"{origin}/{'v1/**' if is_healthy else '**'}", lambda route: route.abort())
    files = [{"name": f"{n}.txt", "mimeType": "", "buffer": b"hello" * 50_000} for n in range(9)]
    choose(page, *files, {"name": "empty", "mimeType": "", "buffer": b""})
    expect(panel(page)).to_contain_text("10 files, 2.1 MiB stored in")
    expect(panel(page)).to_contain_text("Files go through the console")
    expect(panel(page)).to_contain_text(
        "http.cors_origins" if is_healthy else "whether a firewall is in between"
    )
    assert content(console, bucket, "8.txt") == b"hello" * 50_000
    with page.expect_download() as found:  # downloads of this tab go the same way
        page.evaluate(
            """address => {
              const link = document.createElement("a");
              link.href = address;
              link.setAttribute("hx-boost", "false");
              document.getElementById("main").append(link);
              link.click();
            }""",
            f"/buckets/{bucket}/download/8.txt",
        )
    assert found.value.path().read_bytes() == b"hello" * 50_000
    assert found.value.url.startswith(console.url)
    watched.complaints.clear()
