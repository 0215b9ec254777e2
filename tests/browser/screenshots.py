"""Screenshots: each page of the console, light and dark, wide and narrow, for README and docs.

    python tests/browser/screenshots.py [--into docs/images] [--only overview,disks]

It starts a store, gives it content and a month of history, and writes console-PAGE-{light,dark}-{wide,narrow}.png.
"""

from __future__ import annotations

import argparse
import io
import math
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

from PIL import Image  # noqa: E402
from playwright.sync_api import Page  # noqa: E402

import warehouse  # noqa: E402
from console_kit import NARROW, WIDE, ConsoleStore, running_browser  # noqa: E402
from harness import RunningStore  # noqa: E402
from warehouse.actors.control.history import HISTORY_NAME  # noqa: E402
from warehouse.actors.control.history_file import BucketSize, HistoryFile  # noqa: E402
from warehouse.actors.control.history_series import TIERS, Changes, Sample, slot_of  # noqa: E402
from warehouse.webui.names import bucket_url, object_url  # noqa: E402

DAY_S = 86_400
KIB, MIB = 1024, 1024 * 1024
COLOURS = 128
README = """# Builds

What the pipeline has made, **newest first**. A release is kept; nightly builds leave after 30 days.

| build | size |
|---|---:|
| `app-2.4.1.tar.zst` | 18 MiB |
| `app-2.4.0.tar.zst` | 17 MiB |
"""
CSV = "day,requests,errors,p99_ms\n" + "".join(
    f"2026-11-{day:02},{48_000 + 913 * day % 7000},{day % 4},{11 + day % 5}.{day % 10}\n"
    for day in range(1, 29)
)
PAGES = {
    "sign-in": "/sign-in",
    "overview": "/",
    "disks": "/volumes",
    "buckets": "/buckets",
    "settings": "/buckets/photos/settings",
    "objects": bucket_url("photos", "2026/iceland/"),
    "details": object_url("reports", "2026/requests.csv"),
    "keys": "/keys",
    "new-key": "/keys/new",
    "accounts": "/accounts",
    "nodes": "/nodes",
    "activity": "/activity",
    "audit": "/activity/audit",
    "measure": "/measure",
    "help": "/help",
}


def content() -> dict[str, dict[str, bytes]]:
    """Buckets and objects as people have them."""
    sizes = random.Random(7)

    def photo() -> bytes:
        return bytes(sizes.randrange(200 * KIB, 900 * KIB))

    places = ("iceland", "garden", "mountains", "birthday")
    photos = {f"2026/{p}/DSC_{4100 + 37 * n:05}.jpg": photo() for p in places for n in range(24)}
    photos |= {f"2026/iceland/raw/DSC_{4100 + 37 * n:05}.nef": bytes(3 * MIB) for n in range(6)}
    photos |= {
        "2026/iceland/map.pdf": bytes(412 * KIB),
        "2026/iceland/notes.md": b"Day 1: rain. Day 2: waterfalls.\n",
    }
    backups = {f"laptop/2026-11-{day:02}.tar.zst": bytes(4 * MIB + day * 31_337) for day in range(1, 29, 3)}
    logs = {
        f"web/2026-11-{day:02}/part-{n}.json.gz": bytes(20_000 + day * n)
        for day in range(1, 29)
        for n in range(12)
    }
    builds = {f"app-2.{minor}.{patch}.tar.zst": bytes(2 * MIB) for minor in range(5) for patch in range(2)}
    reports = {"2026/requests.csv": CSV.encode(), "2026/README.md": README.encode()}
    return {"photos": photos, "backups": backups, "logs": logs, "builds": builds, "reports": reports}


async def fill(store: warehouse.Store) -> None:
    for name, objects in content().items():
        await store.create_bucket(name)
        async for result in store.bucket(name).put_many(objects.items()):
            assert result.error is None, result.error
    await store.bucket("backups").set_quota(byte_count=64 * MIB)
    await store.bucket("photos").set_quota(byte_count=512 * MIB)
    await store.create_key("photo site", preset="reader", grants=[warehouse.KeyGrant(bucket="photos")])
    await store.create_key(
        "nightly backup", preset="upload-only", grants=[warehouse.KeyGrant(bucket="backups")]
    )
    await store.create_key(
        "log shipper", preset="upload-only", grants=[warehouse.KeyGrant(bucket="logs", prefix="web/")]
    )
    await store.create_key("Mara, operator", preset="admin")


def remember(path: Path, buckets: list[warehouse.BucketInfo], now_s: float) -> None:
    """A month in which the store grew, busy by day and quiet at night."""
    objects, held = sum(b.object_count for b in buckets), sum(b.byte_count for b in buckets)
    noise = random.Random(3)
    rows = []
    for step_ms, count in TIERS:
        last = slot_of(int(now_s * 1000), step_ms) - 1
        for slot in range(last - count + 1, last + 1):
            at_ms = (slot + 1) * step_ms
            age = (now_s - at_ms / 1000) / (30 * DAY_S)
            busy = (1.2 + math.sin(2 * math.pi * (at_ms / 1000 / DAY_S - 0.3))) * (0.8 + 0.4 * noise.random())
            grown = 1 - 0.62 * age + 0.02 * math.sin(40 * age)
            gets, puts = int(46 * busy * step_ms / 1000), int(7 * busy * step_ms / 1000)
            sample = Sample(
                at_ms=at_ms,
                span_ms=step_ms,
                bucket_count=len(buckets),
                object_count=int(objects * grown),
                byte_count=int(held * grown),
                stored_bytes=int(held * grown * 1.01),
                dead_bytes=int(held * 0.06 * abs(math.sin(9 * age))),
                free=6 * 1024**3,
                capacity=8 * 1024**3,
                gets=gets,
                puts=puts,
                deletes=puts // 9,
                bytes_in=puts * 300 * KIB,
                bytes_out=gets * 350 * KIB,
            )
            rows.append((step_ms, slot, sample))
    ids = {name: number for number, name in enumerate(content(), start=1)}  # in the order of making
    file = HistoryFile(path)
    file.save(Changes(rows, {}, is_all=False))
    for day in range(30, 0, -1):
        share = 1 - 0.62 * day / 30
        file.save_buckets(
            int(now_s) - day * DAY_S,
            [
                BucketSize(
                    ids[b.name], int(b.object_count * share), int(b.byte_count * (share - 0.02 * (day % 3)))
                )
                for b in buckets
            ],
        )
    file.close()


def smaller(png: bytes) -> bytes:
    """The same picture with a palette."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    kept = io.BytesIO()
    picture.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def take(page: Page, url: str, stem: Path) -> int:
    """All four pictures of one page; how many bytes they have."""
    taken = 0
    for width, size in (("wide", WIDE), ("narrow", NARROW)):
        for scheme in ("light", "dark"):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.goto(url)
            page.wait_for_load_state("load")
            page.wait_for_timeout(3_000 if stem.name.endswith("overview") else 700)  # for figures and plots
            picture = smaller(page.screenshot())
            stem.with_name(f"{stem.name}-{scheme}-{width}.png").write_bytes(picture)
            taken += len(picture)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", default="", help="pages, separated by commas")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only.split(",") if arguments.only else [*PAGES]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        store = RunningStore(Path(folder) / "warehouse-data", volumes=4, has_console=True)
        with store, running_browser() as browser:
            console = ConsoleStore(store)
            console.ask(fill)
            buckets = console.ask(lambda found: found.buckets())
            store.stop()
            remember(store.data / "master" / HISTORY_NAME, buckets, time.time())
            store.start()
            context = browser.new_context(device_scale_factor=1)
            page = context.new_page()
            total = 0
            for name in wanted:
                if name != "sign-in" and not context.cookies():
                    console.sign_in(page)
                total += take(page, console.url + PAGES[name], arguments.into / f"console-{name}")
            print(f"{4 * len(wanted)} pictures, {total / 1024:,.0f} KiB")
            context.close()


if __name__ == "__main__":
    main()
