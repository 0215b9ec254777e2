"""URL rates: small objects by presigned URL beside the same with a token in a header; needs `wrk`.

    python bench/url_rate.py [--seconds 4] [--rounds 3] [--objects 1000] [--directory DIR] [--json FILE]

A store of one disk serves 4 KiB objects to 16 connections.  A header carries one token for all objects, as
the library's do; each URL carries its own.  Each kind of request is measured in turn, round after round; the
table shows medians, and for URLs the ratio to the same request with a header.  wrk cannot send HEAD, so
`http_load.py` does, which is slower than the disk's process: look at its CPU.  Goal: 0.9 for each kind.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import trio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kits")]

import warehouse  # noqa: E402
from bench.machine import Machine, cpu_seconds, made_folder  # noqa: E402
from bench.run import control_link  # noqa: E402
from harness import RunningStore  # noqa: E402
from warehouse.transport.messages import LocateObjects, ObjectsLocated  # noqa: E402

BUCKET = "bench"
SIZE = 4096
CONNECTIONS = 16
SHAPES = {"GET": (), "range": ("Range: bytes=1024-2047",), "304": ("If-None-Match: {etag}",)}
GENERATOR = ROOT / "bench/http_load.py"


async def prepare(store: RunningStore, keys: list[str]) -> tuple[list[str], str]:
    """Store objects, and return a URL of each, and one token to read all of them."""
    async with warehouse.connect(store.profile) as client:
        await client.create_bucket(BUCKET)
        bucket = client.bucket(BUCKET)
        outcomes = bucket.put_many((key, os.urandom(SIZE)) for key in keys)
        assert [outcome async for outcome in outcomes if outcome.error] == []
        urls = [await bucket.presign_get(key) for key in keys]
    async with control_link(store) as control:
        [grant] = (await control.ask(LocateObjects(bucket=BUCKET, keys=keys), ObjectsLocated)).grants
    return urls, grant.token


def etag_of(url: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30) as answer:
        return str(answer.headers["ETag"])


def kinds_of(urls: list[str], token: str) -> dict[str, list[str]]:
    """Requests of each kind: path and headers, tab-separated."""
    targets = [urlsplit(url) for url in urls]
    etags = [etag_of(url) for url in urls]
    kinds: dict[str, list[str]] = {}
    for name, shape in SHAPES.items():
        shapes = [[header.format(etag=etag) for header in shape] for etag in etags]
        kinds[f"{name}, header"] = [
            "\t".join([target.path, f"Authorization: Bearer {token}", *headers])
            for target, headers in zip(targets, shapes, strict=True)
        ]
        kinds[f"{name}, URL"] = [
            "\t".join([f"{target.path}?{target.query}", *headers])
            for target, headers in zip(targets, shapes, strict=True)
        ]
    return kinds


def by_wrk(url: str, lines: list[str], scratch: Path, seconds: float) -> float:
    """Requests a second.

    Raises:
        SystemExit: wrk failed, or connections did.
    """
    path = scratch / "requests"
    path.write_text("".join(f"GET\t{line}\n" for line in lines))
    ran = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(ROOT / "bench/requests.lua"), url],
        env={**os.environ, "REQUESTS": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    result = next((line.split() for line in ran.stdout.splitlines() if line.startswith("RESULT ")), None)
    if result is None or int(result[3]):
        raise SystemExit(f"wrk failed: {ran.stdout}{ran.stderr}")
    return int(result[1]) / (int(result[2]) / 1e6)


def by_http_load(method: str, url: str, lines: list[str], scratch: Path, seconds: float) -> float:
    """Requests a second.

    Raises:
        SystemExit: a request failed.
    """
    path = scratch / "targets"
    path.write_text("".join(f"{line}\n" for line in lines))
    words = ["--url", url, "--method", method, "--targets", str(path)]
    words += ["--connections", str(CONNECTIONS), "--seconds", str(seconds)]
    ran = subprocess.run([sys.executable, str(GENERATOR), *words], stdout=subprocess.PIPE, check=True)
    measured = json.loads(ran.stdout)
    if measured["failures"]:
        raise SystemExit(f"requests failed: {measured['failures']}")
    return float(measured["count"] / measured["elapsed_s"])


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, list[tuple[float, float]]]:
    """Of each kind, rates and CPU microseconds of the volume actor."""
    found: dict[str, list[tuple[float, float]]] = {}
    with RunningStore(scratch / "store", volumes=1) as store:
        urls, token = trio.run(prepare, store, [f"small/{number}" for number in range(arguments.objects)])
        kinds = kinds_of(urls, token)
        origin = "http://" + urlsplit(urls[0]).netloc
        pid = store.pids()["disk-1"]
        ways: dict[str, Callable[[], float]] = {}
        for name, lines in kinds.items():
            ways[name] = lambda lines=lines: by_wrk(origin, lines, scratch, arguments.seconds)
        for where in ("header", "URL"):
            lines = kinds[f"GET, {where}"]
            ways[f"HEAD, {where}"] = lambda lines=lines: by_http_load(
                "HEAD", origin, lines, scratch, arguments.seconds
            )
        for number in range(arguments.rounds):
            for name, way in ways.items():
                print(f"\rround {number + 1}: {name:16}", end="", file=sys.stderr, flush=True)
                before = cpu_seconds([pid])
                rate = way()
                spent_us = (cpu_seconds([pid]) - before) / (rate * arguments.seconds) * 1e6
                found.setdefault(name, []).append((rate, spent_us))
    print(f"\r{'':50}\r", end="", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--directory", type=made_folder, help="where the data goes")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        found = measure(arguments, Path(folder))
    print(Machine.this())
    print("| request | a second | of the rate with a header | CPU of the disk's process, us |")
    print("|---|---:|---:|---:|")
    for name, pairs in found.items():
        rate, spent_us = (statistics.median(each) for each in zip(*pairs, strict=True))
        base = statistics.median(rate for rate, _ in found[name.replace("URL", "header")])
        ratio = f"{rate / base:.2f}" if "URL" in name else ""
        print(f"| {name} | {rate:,.0f} | {ratio} | {spent_us:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
