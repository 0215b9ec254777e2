"""S3 lists: how long pages of a large bucket take at a client of a gateway, until the last byte.

    python bench/s3_lists.py [--objects 1000000,10000000] [--rounds 9] [--directory DIR]

For each number of objects a catalog is made in bulk, in 10,000 folders; a real master and a real gateway
serve it, and this program asks one signed request after another on one connection.  Times are medians and
the slowest.  Goals: a page of 1,000 keys within 15 ms, flat from one million to ten; 10,000 common prefixes,
in ten pages, within 150 ms together.
"""

from __future__ import annotations

import argparse
import html
import http.client
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import quote, urlsplit

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.one_master import BUCKET, key_of, make_catalog, progress_bar, running_master  # noqa: E402
from bench.s3_load import Signer  # noqa: E402
from harness import RunningStore  # noqa: E402
from s3_kit import RunningGateway  # noqa: E402

PORT = 17_600
FOLDERS = 10_000
PAGE = 1_000
TOKEN = re.compile(rb"<NextContinuationToken>([^<]*)</NextContinuationToken>")


class Asker:
    """One connection to a gateway."""

    def __init__(self, url: str, key_id: str, secret: str) -> None:
        parts = urlsplit(url)
        self._key = (parts.netloc, key_id, secret)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def page(self, query: dict[str, str]) -> tuple[float, bytes]:
        """Seconds until the last byte of a page, and the page."""
        text = "&".join(f"{name}={quote(value, safe='-._~')}" for name, value in sorted(query.items()))
        began = time.perf_counter()
        lines = Signer(*self._key).head("GET", f"/{BUCKET}", text).decode().split("\r\n")[1:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        self._connection.request("GET", f"/{BUCKET}?{text}", headers=headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took_s = time.perf_counter() - began
        if answer.status != 200:
            raise SystemExit(f"{text} answered {answer.status}: {content[:500]!r}")
        return took_s, content

    def pages(self, query: dict[str, str], most: int) -> list[tuple[float, bytes]]:
        """Page after page, until the last one or `most` of them."""
        found = [self.page(query)]
        while len(found) < most and (token := TOKEN.search(found[-1][1])) is not None:
            found.append(self.page({**query, "continuation-token": html.unescape(token[1].decode())}))
        return found


def report(name: str, took: list[float]) -> None:
    print(f"{name:48} {statistics.median(took) * 1e3:8.1f} ms {max(took) * 1e3:8.1f} ms", flush=True)


def measure(asker: Asker, objects: int, rounds: int) -> None:
    plain = {"list-type": "2"}
    middle = {**plain, "start-after": key_of(FOLDERS // 2, FOLDERS)}
    folders = {**plain, "delimiter": "/"}
    one_folder = {**folders, "prefix": "folder-5000/"}
    print(f"{objects:,} objects{'':34}  median      slowest")
    report("a page of 1,000 keys, the first", [asker.page(plain)[0] for _ in range(rounds)])
    report("a page of 1,000 keys, in the middle", [asker.page(middle)[0] for _ in range(rounds)])
    report("ten pages of keys, one after the other", [took for took, _ in asker.pages(middle, 10)])
    report("with a delimiter, one folder", [asker.page(one_folder)[0] for _ in range(rounds)])
    sums = []
    for _ in range(rounds):
        pages = asker.pages(folders, FOLDERS)
        count = sum(page.count(b"<CommonPrefixes>") for _, page in pages)
        if count != min(FOLDERS, objects):
            raise SystemExit(f"{count} common prefixes of {min(FOLDERS, objects)}")
        sums.append(sum(took for took, _ in pages))
    report(f"{count:,} common prefixes in {len(pages)} pages, together", sums)


async def make_key(profile: Path) -> tuple[str, str]:
    """A key that gateways can compute with, which the one of a catalog made in bulk is not."""
    async with warehouse.connect(profile) as store:
        made = await store.create_key("bench", preset="admin")
        return made.key_id, made.secret


def run(arguments: argparse.Namespace, objects: int) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folder = Path(name)
        data = folder / "master"
        root = make_catalog(data, objects, volumes=1, progress=progress_bar(objects), folders=FOLDERS)
        with running_master(data, root, checkout=ROOT, port=PORT) as master:
            profile = folder / "profile.toml"
            master.profile.save(profile)
            key_id, secret = trio.run(make_key, profile)
            store = cast(RunningStore, SimpleNamespace(profile=profile))
            with RunningGateway(store, folder) as gateway:
                measure(Asker(gateway.url, key_id, secret), objects, arguments.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--objects",
        default="1000000,10000000",
        type=lambda text: [int(number) for number in text.split(",")],
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    for objects in arguments.objects:
        run(arguments, objects)


if __name__ == "__main__":
    main()
