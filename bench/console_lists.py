"""Console lists: how long the console takes for pages of a bucket of a million objects.

    python bench/console_lists.py [--objects N] [--rounds N] [--directory DIR]

A catalog is made in bulk; a real master and a real console serve it, and this program asks over HTTP as a
browser does, one request after another on one connection.  `whole` is the page with its frame, `rows` what
scrolling asks for, `find` what typing asks for.  Times are until the last byte, medians and the slowest.
Goals: the first page under 150 ms, further pages and searches under 100 ms.
"""

from __future__ import annotations

import argparse
import html
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from any checkout

from bench.one_master import BUCKET, make_catalog, progress_bar, running_master  # noqa: E402
from warehouse import Profile  # noqa: E402
from warehouse.conf.programs import module_command, module_environment  # noqa: E402

PORT, CONSOLE_PORT = 17_600, 17_690
NEXT = re.compile(rb'<tr id="more"[^>]* hx-get="([^"]*)"')
TOKEN = re.compile(rb'name="csrf" value="([^"]*)"')


class Browser:
    """One connection that keeps its cookie, as a browser does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._cookie = ""

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[float, bytes]:
        """Seconds until the last byte, and the answer."""
        headers = {"Cookie": self._cookie, "HX-Request": "true"}
        body = None
        if form is not None:
            body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        began = time.perf_counter()
        self._connection.request("GET" if form is None else "POST", path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took_s = time.perf_counter() - began
        if (cookie := answer.headers.get("Set-Cookie")) is not None:
            self._cookie = cookie.partition(";")[0]
        if answer.status >= 400:
            raise SystemExit(f"{path} answered {answer.status}: {content[:500]!r}")
        return took_s, content

    def sign_in(self, profile: Profile) -> None:
        _, page = self.ask("/sign-in")
        token = TOKEN.search(page)
        csrf = "" if token is None else token[1].decode()
        self.ask("/sign-in", {"key_id": profile.key_id, "secret": profile.secret, "csrf": csrf})


def report(name: str, took: list[float]) -> None:
    middle, worst = statistics.median(took) * 1000, max(took) * 1000
    print(f"{name:34} {middle:7.1f} ms {worst:7.1f} ms")


def measure(browser: Browser, rounds: int) -> None:
    base = f"/buckets/{BUCKET}"
    questions = {
        "whole, by name": base,
        "whole, the newest": f"{base}?sort=time&desc=1",
        "whole, of a folder": f"{base}?prefix=folder-0500/",
        "find, a frequent text": f"{base}?find=object-0000",
        "find, a text that no key has": f"{base}?find=no+such+text",
        "find, names that begin so": f"{base}?find=folder-09&how=begins",
        "rows, a thousand anew": f"{base}/rows?shown=1000",
    }
    print(f"{'':34}  median    slowest")
    for name, path in questions.items():
        report(name, [browser.ask(path)[0] for _ in range(rounds)])
    for name, query in {"by name": "find=object", "the newest": "sort=time&desc=1&find=object"}.items():
        took: list[float] = []
        path = f"{base}/rows?{query}"
        while path and len(took) < 5 * rounds:
            took_s, page = browser.ask(path)
            took.append(took_s)
            found = NEXT.search(page)
            path = html.unescape(found[1].decode()) if found is not None else ""
        report(f"rows, {len(took)} pages, {name}", took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        data = Path(folder) / "master"
        root = make_catalog(data, arguments.objects, volumes=1, progress=progress_bar(arguments.objects))
        with running_master(data, root, checkout=ROOT, port=PORT) as master:
            profile = Path(folder) / "profile.toml"
            master.profile.save(profile)
            command = module_command("warehouse.webui", "--profile", str(profile), "--json")
            command += ["--port", str(CONSOLE_PORT)]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, cwd=ROOT, env=module_environment()
            ) as console:
                try:
                    assert console.stdout is not None
                    url = json.loads(console.stdout.readline())["url"]
                    browser = Browser(url)
                    browser.sign_in(master.profile)
                    measure(browser, arguments.rounds)
                finally:
                    console.terminate()


if __name__ == "__main__":
    main()
