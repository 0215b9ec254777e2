"""What the pages say must be so: every fragment of docs/library.md runs, every command of docs/cli.md exists."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from fake_store import fake_store
from warehouse.cli import main as cli

PROGRAMS = ("master", "volume", "compactor", "console", "gateway")
DOCS = Path(__file__).resolve().parents[3] / "docs"


def fragments() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / "library.md").read_text(), re.DOTALL)


async def test_the_library_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes(bytes(6_000_000))
    names: dict[str, Any] = {"warehouse": warehouse, "trio": trio, "print": lambda *words: None}
    first, *others = fragments()
    assert len(others) >= 6
    async with fake_store() as store:
        store.profile.save(tmp_path / "profile.toml")
        monkeypatch.setenv("WAREHOUSE_PROFILE", str(tmp_path / "profile.toml"))
        # The first one is a whole program, with a loop of its own.
        await trio.to_thread.run_sync(exec, compile(first, "first fragment", "exec"), {})
        assert store.buckets["photos"]["2026/hello.txt"].size == 5
        async with warehouse.connect() as client:
            names |= {"store": client, "photos": client.bucket("photos")}
            for number, text in enumerate(others, 2):
                code = compile(text, f"fragment {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                result = builtins.eval(code, names)
                if inspect.isawaitable(result):
                    await result
        await trio.to_thread.run_sync(names["blocking"])
        await trio.to_thread.run_sync(lambda: asyncio.run(names["on_asyncio"]()))
        assert {"sync.txt", "aio.txt"} <= {*store.buckets["photos"]}
    assert (tmp_path / "copy.mp4").read_bytes() == bytes(6_000_000)


def test_the_library_page_tells_of_every_public_method() -> None:
    text = (DOCS / "library.md").read_text()
    for owner in (warehouse.Store, warehouse.Bucket):
        for name, _ in inspect.getmembers(owner, inspect.isfunction):
            assert name.startswith("_") or f".{name}(" in text, f"{owner.__name__}.{name}"
    for name in ("connect", "Prefix", "Profile"):
        assert f"warehouse.{name}" in text


def test_the_command_line_page_tells_of_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "cli.md").read_text()
    commands = [name for name in cli.app if not name.startswith("-")]
    assert len(commands) >= 25
    for command in commands:
        assert re.search(rf"`(warehouse )?{command}`", text.replace("`, `", "` `")), command
        if command in PROGRAMS:  # it would take this process's place
            continue
        inner = [name for name in cli.app[command] if not name.startswith("-")]
        for words in [[command], *([command, name] for name in inner)]:
            assert words == [command] or f"{command} {words[1]}" in text, words
            assert cli.main([*words, "--help"]) == 0
            for option in re.findall(r"--[a-z-]+", capsys.readouterr().out):
                assert option in text or option in ("--recursive", "--long"), f"{words} {option}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_command_line_page_tells_of_every_option_of_a_program(program: str) -> None:
    command = [sys.executable, "-P", "-m", "warehouse", program, "--help"]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert f"usage: warehouse {program}" in done.stdout
    for option in re.findall(r"--[a-z-]+", done.stdout):
        assert option in (DOCS / "cli.md").read_text(), option


def test_the_command_line_page_names_nothing_that_is_not_there() -> None:
    text = (DOCS / "cli.md").read_text()
    lines = re.findall(r"^    (?:.*[|(] ?)?warehouse (.*)$", text, re.MULTILINE)
    assert len(lines) > 20
    for line in lines:
        assert line.split()[0] in cli.app, line
