"""Console in a browser: what a person with a real Chromium waits for, and what that costs.

    python bench/console_browser.py [--only load,lists,idle,transfers,zip] [--directory DIR] [--json FILE]
    python bench/console_browser.py --objects 100000 --size 64MiB --rounds 3 --seconds 5     # a quick look

    load        pages with an empty cache: bytes over the wire, until `load`, until the live connection is up
    lists       a bucket of a million objects: first page, scrolling, search as typed, newest first
    idle        20 open pages that nobody touches: processor time of the console, and of the master
    transfers   a file of 1 GiB, up and down, straight to the volume actor and through the console
    zip         1 GiB as an archive: 1,024 objects of 1 MiB, and one object

Real processes on loopback.  Times are medians, the slowest next to them, until what was asked for is on the
screen; memory is the largest resident size.  `--directory` is where the data goes: about five times `--size`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]  # runs from any checkout

import warehouse  # noqa: E402
from bench import console_acts as acts  # noqa: E402
from bench.machine import Machine, made_folder  # noqa: E402
from bench.one_master import (  # noqa: E402
    BUCKET,
    cpu_s,
    make_catalog,
    progress_bar,
    running_master,
    until_quiet,
)
from console_kit import ConsoleStore, running_console  # noqa: E402
from warehouse.conf.programs import module_command, module_environment  # noqa: E402
from warehouse.conf.setting_types import parse_size  # noqa: E402
from warehouse.webui.names import object_url  # noqa: E402

PORT, CONSOLE_PORT = 17_600, 17_690
KIB, MIB = 1024, 1024 * 1024
LOADED = {"overview": "/", "buckets": "/buckets", "objects": "/buckets/bench", "volumes": "/volumes"}
IDLE_PAGES = 20
CALM_S = 10.0  # until pages and processes have done what they do at their start
TYPING_PAUSE_MS = 150.0  # the page waits so long whether another key follows (templates/objects/index.html)
SMALL_SIZE = MIB
PAGE_MIB = 250.0  # whatever the size of what is moved; an idle page has some 150


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        worst: the slowest of several; None: there is one value.
        goal: the most that it should be; None: there is no goal.
    """

    section: str
    name: str
    value: float
    unit: str
    worst: float | None = None
    goal: float | None = None


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    folder: Path
    objects: int
    rounds: int
    seconds: float
    size: int


Figures = Iterator[Figure]


def middle(section: str, name: str, values: list[float], unit: str, goal: float | None = None) -> Figure:
    return Figure(section, name, statistics.median(values), unit, max(values), goal)


# --- sections -------------------------------------------------------------------------------------


def measure_load(wish: Wish) -> Figures:
    with running_console(wish.folder) as console, acts.chromium(wish.folder) as browser:
        console.put("bench", {f"folder-{n % 20:02}/object-{n:05}": b"x" * 4096 for n in range(2000)})
        with acts.person(browser, console.url, console.root) as somebody:
            for name, path in LOADED.items():
                found = [acts.load(browser, somebody, console.url + path) for _ in range(wish.rounds)]
                sizes = [one["bytes"] / KIB for one in found]
                yield middle("load", f"{name}, over the wire", sizes, "KiB", 250 * 1000 / KIB)
                for what in ("load", "usable"):
                    seconds = [one[f"{what}_ms"] / 1000 for one in found]
                    yield middle("load", f"{name}, until {what}", seconds, "s", 1.0)


@contextmanager
def large_catalog(wish: Wish) -> Iterator[tuple[str, warehouse.Profile]]:
    """A master with a bucket of many objects, and a console; where that is, and a key that may all."""
    data = wish.folder / "master"
    root = make_catalog(data, wish.objects, volumes=1, progress=progress_bar(wish.objects))
    with running_master(data, root, checkout=ROOT, port=PORT) as master:
        trio.run(until_quiet, master.pid)
        profile = wish.folder / "profile.toml"
        master.profile.save(profile)
        command = module_command("warehouse.webui", "--profile", str(profile), "--json")
        command += ["--port", str(CONSOLE_PORT), "--log-level", "error"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=module_environment()) as console:
            try:
                assert console.stdout is not None
                yield json.loads(console.stdout.readline())["url"], master.profile
            finally:
                console.terminate()


def measure_lists(wish: Wish) -> Figures:
    with (
        large_catalog(wish) as (url, profile),
        acts.chromium(wish.folder) as browser,
        acts.person(browser, url, profile) as somebody,
    ):
        page = somebody.new_page()
        acts.first_page(page, url, BUCKET)  # the browser has the scripts then
        rounds = range(wish.rounds)
        opened = [acts.first_page(page, url, BUCKET) for _ in rounds]
        yield middle("lists", "first page", opened, "ms", 150.0)
        # A thousand folders have ten pages.
        scrolled = [acts.next_rows(page) for _ in range(min(8, 2 * wish.rounds))]
        yield middle("lists", "scrolling to the next rows, folders", scrolled, "ms", 100.0)
        newest = []
        for _ in rounds:
            acts.first_page(page, url, BUCKET)
            newest.append(acts.newest_first(page))
        yield middle("lists", "first page, the newest first", newest, "ms", 150.0)
        acts.first_page(page, url, BUCKET)
        typed = [acts.typed(page, f"object-{number:04}") for number in rounds]
        yield middle("lists", "search as typed, from the last key", typed, "ms", 100 + TYPING_PAUSE_MS)
        waited = [took - TYPING_PAUSE_MS for took in typed]
        yield middle("lists", "search as typed, from the page's question", waited, "ms", 100.0)
        scrolled = [acts.next_rows(page) for _ in range(2 * wish.rounds) if _has_more(page)]
        if scrolled:
            yield middle("lists", "scrolling to the next rows, found", scrolled, "ms", 100.0)


def _has_more(page: acts.Page) -> bool:
    return page.locator("#more").count() > 0


def measure_idle(wish: Wish) -> Figures:
    with running_console(wish.folder) as console, acts.chromium(wish.folder) as browser:
        console.put("bench", {f"object-{n:05}": b"x" * 4096 for n in range(2000)})
        with acts.person(browser, console.url, console.root) as somebody:
            paths = [*LOADED.values(), "/nodes"]
            for number in range(IDLE_PAGES):
                page = somebody.new_page()
                page.goto(console.url + paths[number % len(paths)])
                acts.until_usable(page)
            time.sleep(CALM_S)
            pids = {name: console.store.pids()[name] for name in ("console", "master")}
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            began = time.monotonic()
            time.sleep(wish.seconds)
            elapsed = time.monotonic() - began
            for name, pid in pids.items():
                percent = (cpu_s(pid) - before[name]) / elapsed * 100
                goal = 1.0 if name == "console" else None
                yield Figure("idle", f"{IDLE_PAGES} pages, the {name}", percent, "% of a core", goal=goal)


def measure_transfers(wish: Wish) -> Figures:
    source = wish.folder / "large.bin"
    make_file(source, wish.size)
    with running_console(wish.folder) as console, acts.chromium(wish.folder) as browser:
        console.put("bench", {})
        data_port = f"http://127.0.0.1:{console.store.port_base + 10}"
        for way in ("straight", "through the console"):
            with acts.person(browser, console.url, console.root) as somebody:
                page = somebody.new_page()
                if way != "straight":
                    acts.block(page, data_port)
                page.goto(f"{console.url}/buckets/bench")
                yield from _moved(
                    console, browser, f"upload, {way}", lambda page=page: acts.upload(page, source)
                )
                address = console.url + object_url("bench", source.name, "download")
                address += "" if way == "straight" else "?through=console"
                yield from _moved(
                    console,
                    browser,
                    f"download, {way}",
                    lambda page=page, address=address: acts.download(page, address),
                )
            console.ask(lambda store: store.bucket("bench").delete(source.name))


def _moved(
    console: ConsoleStore,
    browser: acts.Browser,
    name: str,
    act: Callable[[], None],
    section: str = "transfers",
) -> Figures:
    found = acts.spent(browser, console.store.pids()["console"], act)
    yield Figure(section, name, found["s"], "s")
    yield Figure(section, f"{name}, memory of the console", found["console_bytes"] / MIB, "MiB")
    yield Figure(section, f"{name}, memory of the page", found["page_bytes"] / MIB, "MiB", goal=PAGE_MIB)


def measure_zip(wish: Wish) -> Figures:
    count = max(1, wish.size // SMALL_SIZE)
    content = os.urandom(SMALL_SIZE)
    with running_console(wish.folder) as console, acts.chromium(wish.folder) as browser:
        console.put("small", {f"object-{number:05}.bin": content for number in range(count)})
        console.put("large", {})
        source = wish.folder / "large.bin"
        make_file(source, count * SMALL_SIZE)
        console.ask(lambda store: store.bucket("large").put(source.name, source))
        source.unlink()
        with acts.person(browser, console.url, console.root) as somebody:
            for bucket, words in (
                ("small", f"{count:,} objects of 1 MiB"),
                ("large", f"1 object of {count:,} MiB"),
            ):
                page = somebody.new_page()
                page.goto(f"{console.url}/buckets/{bucket}")
                yield from _moved(
                    console,
                    browser,
                    words,
                    lambda page=page, bucket=bucket: acts.archive(page, bucket),
                    section="zip",
                )
                page.close()


def make_file(path: Path, size: int) -> None:
    """Bytes that nothing can make smaller."""
    piece = os.urandom(min(MIB, size))
    with path.open("wb") as file:
        for begin in range(0, size, MIB):
            file.write(piece[: size - begin])


SECTIONS: dict[str, Callable[[Wish], Figures]] = {
    "load": measure_load,
    "lists": measure_lists,
    "idle": measure_idle,
    "transfers": measure_transfers,
    "zip": measure_zip,
}


# --- the command ----------------------------------------------------------------------------------


def line_of(figure: Figure) -> str:
    worst = f"{figure.worst:10,.2f}" if figure.worst is not None else " " * 10
    goal = (
        ""
        if figure.goal is None
        else f"{figure.goal:9,.1f}  {'met' if figure.value <= figure.goal else 'MISSED'}"
    )
    return f"{figure.section:10}{figure.name:50}{figure.value:10,.2f}{worst} {figure.unit:12}{goal}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--objects", type=int, default=1_000_000, help="in the bucket of the lists")
    parser.add_argument("--rounds", type=int, default=9, help="of pages and lists")
    parser.add_argument("--seconds", type=float, default=60.0, help="that idle pages are watched for")
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"), help="of what is moved")
    parser.add_argument(
        "--directory", type=made_folder, help="where the data goes; default: the system's own"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    sections = arguments.only.split(",")
    if unknown := set(sections) - SECTIONS.keys():
        parser.error(f"there is no section {', '.join(sorted(unknown))}: {', '.join(SECTIONS)}")
    machine = Machine.this()
    print(machine)
    print(f"{'':60}{'median':>10}{'slowest':>10} {'':12}{'goal':>9}")
    figures = []
    for section in sections:
        with tempfile.TemporaryDirectory(prefix="warehouse-bench-", dir=arguments.directory) as folder:
            wish = Wish(Path(folder), arguments.objects, arguments.rounds, arguments.seconds, arguments.size)
            for figure in SECTIONS[section](wish):
                figures.append(figure)
                print(line_of(figure), flush=True)
    if arguments.json is not None:
        found = {"machine": asdict(machine), "figures": [asdict(figure) for figure in figures]}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
