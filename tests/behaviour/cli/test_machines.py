"""Commands about machines: join-token, nodes, disks."""

from __future__ import annotations

import json
import os
import threading
import tomllib
from pathlib import Path

import pytest

from cli_kit import Run, process
from fake_store import FakeStore
from warehouse.cli.copying.deletions import DeletionRefused
from warehouse.cli.usage import UsageError
from warehouse.conf.join import Join
from warehouse.errors import NoSuchDisk, NoSuchJoinToken, NoSuchNode, SetupError


async def test_a_token_is_printed_once_and_listed_without_its_secret(store: FakeStore, run: Run) -> None:
    token = (await run("join-token", "create")).out.strip()
    [info] = store.machines.tokens.values()
    assert (info.role, info.is_reusable) == ("both", False)
    assert info.expires_ms is not None
    assert info.expires_ms - info.created_ms == 24 * 3600 * 1000
    assert token.startswith(f"wjt-{info.token_id}-")
    listed = await run("join-token", "ls")
    assert info.token_id in listed.out
    assert "one machine" in listed.out
    assert token not in listed.out
    [made] = (
        await run("join-token", "create", "--role", "volume", "--reusable", "--expires", "never", "--json")
    ).objects
    assert (made["role"], made["reusable"], made["expires_ms"]) == ("volume", True, None)
    assert [one["use_count"] for one in (await run("join-token", "ls", "--json")).objects] == [0, 0]
    await run("join-token", "rm", made["token_id"])
    assert list(store.machines.tokens) == [info.token_id]
    with pytest.raises(NoSuchJoinToken):
        await run("join-token", "rm", made["token_id"])


async def test_a_join_file_has_the_store_and_the_token_for_its_owner_alone(
    store: FakeStore, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "join.toml"
    said = (await run("join-token", "create", "--output", str(path), "--expires", "1h")).out
    assert str(path) in said
    assert "1 h" in said
    assert path.stat().st_mode & 0o777 == 0o600
    join = Join.load(path)
    assert (join.master, join.server_key) == (store.profile.master, store.profile.server_key)
    assert join.token not in said
    assert tomllib.loads(path.read_text()).keys() == {"master", "server_key", "token"}
    with pytest.raises(UsageError, match="exists already"):
        await run("join-token", "create", "--output", str(path))
    assert Join.load(path) == join
    assert len(store.machines.tokens) == 1, "no token was made in vain"


async def test_a_join_file_needs_its_profile_once(store: FakeStore, tmp_path: Path) -> None:
    """`--profile <(decrypt profile)`: a pipe gives its content once."""
    pipe, output = tmp_path / "pipe", tmp_path / "join.toml"
    store.profile.save(tmp_path / "copy.toml")
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=lambda: pipe.write_bytes((tmp_path / "copy.toml").read_bytes()))
    writer.start()
    ran = await process(tmp_path, "join-token", "create", "--profile", str(pipe), "--output", str(output))
    writer.join()
    assert ran.status == 0, ran.err
    assert Join.load(output).master == store.profile.master


async def test_a_join_file_that_cannot_be_written_loses_no_token(
    store: FakeStore, tmp_path: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError):
        await run("join-token", "create", "--output", str(tmp_path / "file" / "join.toml"))
    [token] = store.machines.tokens
    assert token in capfd.readouterr().out


async def test_nodes_and_disks_are_listed_removed_and_confirmed(store: FakeStore, run: Run) -> None:
    await run("join-token", "create")
    out = (await run("nodes", "ls")).out
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [
        ["disk-1", "offline", "both", "disk-1"],
        ["disk-2", "offline", "both", "disk-2"],
    ]
    removed = await run("nodes", "rm", "disk-2")
    assert "1 join token" in removed.out
    assert list(store.machines.nodes) == ["disk-1"]
    with pytest.raises(NoSuchNode):
        await run("nodes", "rm", "disk-2")
    await run("disks", "confirm", "disk-1", "http://192.0.2.7:7410")
    assert "http://192.0.2.7:7410" in (await run("disks", "ls")).out
    assert [disk["name"] for disk in (await run("disks", "ls", "--json")).objects] == ["disk-1", "disk-2"]
    with pytest.raises(NoSuchDisk):
        await run("disks", "confirm", "disk-9", "http://192.0.2.7:7410")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["join-token", "create", "--role", "master"], "--role is one of both, volume, compactor"),
        (["join-token", "create", "--expires", "soon"], "a time must look like"),
        (["join-token", "crate"], "no command 'join-token crate'; did you mean create?"),
        (["nodes", "rm"], "NODE"),
        (["disks", "confirm", "disk-1"], "URL"),
        (["join-token", "create", "--output", ""], "--output is empty"),
    ],
)
async def test_wrong_words_are_explained(
    store: FakeStore, tmp_path: Path, words: list[str], said: str
) -> None:
    ran = await process(tmp_path, *words)
    assert ran.status == 2
    assert said in ran.err
    assert not store.machines.tokens


async def test_what_is_lost_with_a_disk_is_said_before_it_is_removed(store: FakeStore, run: Run) -> None:
    out = (await run("disks", "lost", "disk-2")).out
    assert [line.split()[2:] for line in out.splitlines()] == [
        ["wh://photos/a/b"],
        ["(an", "object", "of", "others)"],
    ]
    assert [one["size"] for one in (await run("disks", "lost", "disk-2", "--json")).objects] == [
        1000,
        5_000_000,
    ]
    with pytest.raises(DeletionRefused, match=r"disk-2 for good, and lose 2 objects.*nothing was removed"):
        await run("disks", "rm", "disk-2")
    assert "disk-2" in store.machines.urls
    [done] = (await run("disks", "rm", "disk-2", "--yes", "--json")).objects
    assert (done["event"], done["object_count"], done["disk"]) == ("removed", 3, "disk-2")
    assert list(store.machines.urls) == ["disk-1"]
    with pytest.raises(NoSuchDisk):
        await run("disks", "rm", "disk-2", "--yes")
    assert "lost 3 objects" in (await run("disks", "rm", "disk-1", "-y")).out


async def test_a_program_reads_what_would_be_lost_with_a_disk(
    store: FakeStore, run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.cli.commands.nodes.NAMED_MAX", 1)
    with pytest.raises(DeletionRefused, match="needs --yes"):
        await run("disks", "rm", "disk-2", "--json")
    lost, total = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (lost["key"], lost["size"]) == ("a/b", 1000)
    assert total == {
        "event": "would_remove",
        "disk": "disk-2",
        "object_count": 2,
        "byte_count": 5_001_000,
        "more_count": 1,
    }
    assert "disk-2" in store.machines.urls
