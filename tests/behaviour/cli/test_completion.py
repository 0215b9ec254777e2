"""What a shell offers: commands, options, profiles, buckets and keys."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

import warehouse
from cli_kit import ROOT, process
from fake_store import FakeStore
from warehouse.cli.completing import SCRIPTS, offers
from warehouse.cli.main import app
from warehouse.conf.named_profiles import profile_path

KEYS = ("2026/a.jpg", "2026/b c.jpg", "2027/x", "note.txt", "line\nbreak")


@pytest.fixture
async def store(store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    store.buckets |= {"photos": {}, "phones": {}, "music": {}}
    async with warehouse.connect(store.profile) as client:
        for key in KEYS:
            await client.bucket("photos").put(key, b"1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WAREHOUSE_PROFILE", str(tmp_path / "profile.toml"))
    store.profile.save(profile_path("work"))
    return store


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tre"], ["tree"]),
        (["profile", ""], ["add", "ls", "rm", "use"]),
        (["sync", "--max"], ["--max-delete"]),
        (["profile", "add", "--f"], ["--force"]),
        (["ls", "--profile", "w"], ["work"]),
        (["ls", "w"], ["wh://"]),
        (["ls", "wh://ph"], ["wh://phones/", "wh://photos/"]),
        (["ls", "wh://photos/2"], ["wh://photos/2026/", "wh://photos/2027/"]),
        (["cp", "-r", "wh://photos/2026/"], ["wh://photos/2026/a.jpg", "wh://photos/2026/b c.jpg"]),
        (["cp", "x", "wh://photos/"], ["wh://photos/2026/", "wh://photos/2027/", "wh://photos/note.txt"]),
        (["ls", "--profile", "work", "wh://mu"], ["wh://music/"]),
        (["ls", "--profile", "none", "wh://mu"], []),
        (["ls", "wh://none/x"], []),
        (["cp", "loc"], []),
        (["nothing", "x"], []),
        ([], None),
    ],
)
async def test_a_word_becomes_what_is_there(
    store: FakeStore, words: list[str], offered: list[str] | None
) -> None:
    found = await offers(app, words)
    if offered is None:
        assert {"cp", "ls", "find"} <= set(found)
    else:
        assert found == offered


async def test_a_shell_is_told_nothing_but_words(store: FakeStore, tmp_path: Path) -> None:
    ran = await process(tmp_path, "completion", "words", "--", "ls", "wh://pho")
    assert (ran.status, ran.out, ran.err) == (0, "wh://phones/\nwh://photos/\n", "")
    ran = await process(tmp_path, "completion", "words", "--", "sync", "--dr")
    assert ran.out == "--dry-run\n"
    for shell, script in SCRIPTS.items():
        assert (await process(tmp_path, "completion", shell)).out == script


async def test_bash_completes_behind_a_colon_and_quotes(store: FakeStore, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "warehouse"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m warehouse "$@"\n')
    program.chmod(0o755)
    (tmp_path / "complete.bash").write_text(SCRIPTS["bash"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    async def completed(line: str) -> list[str]:
        text = (
            'compopt() { :; }; source "$1"; COMP_LINE="$2"; COMP_POINT=${#2}; _warehouse;'
            ' for x in "${COMPREPLY[@]}"; do echo "$x"; done'
        )
        command = ["bash", "--norc", "-c", text, "bash", str(tmp_path / "complete.bash"), line]
        run = partial(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60)
        done = await trio.to_thread.run_sync(run)
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert await completed("warehouse ls wh://pho") == ["//phones/", "//photos/"]
    assert await completed("warehouse cp wh://photos/2026/b") == [r"//photos/2026/b\ c.jpg"]
    assert await completed(r"warehouse cp wh://photos/2026/b\ c") == [r"//photos/2026/b\ c.jpg"]
    assert await completed("warehouse profile ") == ["add", "ls", "rm", "use"]
