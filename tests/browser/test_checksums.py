"""Checksums of files in a real browser: right for every size, none of them waited for forever, and in flat memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from crc32c import crc32c
from playwright.sync_api import Browser, Page

from console_kit import ConsoleStore

KIB, MIB = 1024, 1024 * 1024
CHUNK = 16 * MIB  # static/js/transfers/plan.js
# What the memory of the page may grow by.  With a buffer for each piece it grew by 61 to 73 MiB, with one by 0 to 9.
GROWTH_MAX = 32 * MIB
# Rubbish, so that the worker's garbage is collected while it reads.
RUBBISH = (
    "() => void setInterval(() => { for (let n = 0; n < 4; n++) new ArrayBuffer(16 * 1024 * 1024) }, 10)"
)
FIELD = """
() => {
  const field = document.createElement("input");
  Object.assign(field, { type: "file", id: "sums" });
  document.body.append(field);
}
"""
# The parts of a file, some at once: [start, end] each.  A checksum that does not come is "none".
SUMS = """
async ([parts, atOnce]) => {
  const main = document.querySelector("script[src*='js/main.js']").src;
  const { checksum } = await import(new URL("./transfers/checksums.js", main));
  const file = document.getElementById("sums").files[0];
  const found = parts.map(() => "none");
  let next = 0;
  const some = async () => {
    while (next < parts.length) {
      const number = next++;
      const late = new Promise((resolve) => setTimeout(() => resolve("none"), 20_000));
      found[number] = await Promise.race([checksum(file.slice(...parts[number])).crc, late]);
      if (found[number] === "none") return;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, some));
  return found;
}
"""


@pytest.fixture
def page(console: ConsoleStore, page: Page) -> Page:
    console.sign_in(page)
    page.evaluate(FIELD)
    return page


def sums(page: Page, path: Path, parts: list[tuple[int, int]]) -> list[str]:
    page.locator("#sums").set_input_files(path)
    found: list[str] = page.evaluate(SUMS, [parts, 6])
    return found


def renderer(browser: Browser) -> list[int]:
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
    return [process["id"] for process in found["processInfo"] if process["type"] == "renderer"]


def peak(pids: list[int]) -> int:
    """Of the largest process, in bytes."""
    kilobytes = [
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return max(kilobytes) * KIB


def test_parts_of_any_size_have_the_checksum_that_the_store_computes(page: Page, tmp_path: Path) -> None:
    content = b"".join(number.to_bytes(4, "little") for number in range((2 * CHUNK + 4) // 4))
    path = tmp_path / "numbers.bin"
    path.write_bytes(content)
    sizes = [0, 1, 3, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1]
    sizes += [5 * MIB + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]
    parts = [(0, size) for size in sizes] + [(len(content) - size, len(content)) for size in sizes]
    expected = [f"{crc32c(content[start:end]):08x}" for start, end in parts]
    assert sums(page, path, parts) == expected


def test_no_small_part_is_waited_for_forever(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(bytes(range(250)) * 4)
    sums(page, path, [(0, 1)])  # there is a worker now
    page.workers[0].evaluate(RUBBISH)
    found = sums(page, path, [(number % 997, number % 997 + 3) for number in range(1_000)])
    assert found.count("none") == 0
    assert len(set(found)) == 250


def test_a_large_file_takes_the_page_no_more_memory_than_a_small_one(
    browser: Browser, page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(512 * MIB)
    parts = [(start, start + CHUNK) for start in range(0, 512 * MIB, CHUNK)]
    sums(page, path, parts[:6])
    pids = renderer(browser)
    before = peak(pids)
    assert len(set(sums(page, path, parts))) == 1
    grown = peak(pids) - before
    assert grown < GROWTH_MAX, f"{grown / MIB:.0f} MiB"
