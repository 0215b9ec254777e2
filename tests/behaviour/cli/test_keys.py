"""The commands about keys and accounts, at a real master."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from rich.console import Console

import warehouse
from cli_kit import Run, process, runner
from master_kit import RunningMaster, open_master
from warehouse.actors.reset_root import KEY_NAME
from warehouse.auth.keys import generate_api_key
from warehouse.auth.rights import Permission
from warehouse.catalog.identities import ApiKeyRow
from warehouse.cli.usage import UsageError
from warehouse.conf.profile import Profile
from warehouse.errors import (
    AccountNotEmpty,
    BadCredentials,
    DeletionRefused,
    ExpiryPassed,
    GrantNamesNothing,
    NoSuchApiKey,
    NoSuchPreset,
    SetupError,
)


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[RunningMaster]:
    async with open_master(tmp_path / "data", has_compactor=False) as master:
        await master.create_bucket("photos")
        master.profile.save(tmp_path / "profile.toml")
        yield master


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(tmp_path, capfd)


def as_key(master: RunningMaster, made: dict[str, str]) -> Profile:
    """The profile of a key that a command has made."""
    root = master.profile
    return Profile(root.master, root.server_key, made["key_id"], made["secret"])


async def buckets_of(profile: Profile) -> list[str]:
    async with warehouse.connect(profile) as store:
        return [info.name for info in await store.buckets()]


async def test_a_key_is_made_used_disabled_enabled_and_deleted(master: RunningMaster, run: Run) -> None:
    await master.create_bucket("films")
    ran = await run("keys", "create", "thumbnails", "--grant", "photos/2026/*:read,list", "--json")
    (made,) = ran.objects
    assert {"key_id", "secret", "permissions", "grants", "abilities"} <= made.keys()
    assert made["abilities"][0] == "can read and list photos/2026/*"
    assert made["grants"] == [{"bucket": "photos", "prefix": "2026/", "permissions": ["read", "list"]}]
    profile = as_key(master, made)
    assert await buckets_of(profile) == ["photos"]
    (info,) = (await run("keys", "disable", made["key_id"], "--json")).objects
    assert info["is_enabled"] is False
    with pytest.raises(BadCredentials):
        await buckets_of(profile)
    assert "enabled" in (await run("keys", "enable", made["key_id"])).out
    assert await buckets_of(profile) == ["photos"]
    with pytest.raises(DeletionRefused, match=r"thumbnails.*--yes"):
        await run("keys", "rm", made["key_id"])
    (gone,) = (await run("keys", "rm", made["key_id"], "--yes", "--json")).objects
    assert gone == {"event": "deleted", "key_id": made["key_id"]}
    with pytest.raises(BadCredentials):
        await buckets_of(profile)
    with pytest.raises(NoSuchApiKey):
        await run("keys", "rm", made["key_id"], "--yes")


async def test_all_options_of_a_key(master: RunningMaster, run: Run) -> None:
    words: tuple[str, ...] = (
        "--preset",
        "writer",
        "--grant",
        "photos",
        "--grant",
        "team-*",
        "--expires",
        "30d",
    )
    words += (
        "--description",
        "each night",
        "--sign-max",
        "1h",
        "--limit-requests",
        "50",
        "--limit-bytes",
        "1MiB",
    )
    words += ("--limit-at-once", "8", "--limit-uploads", "4", "--limit-lease", "1GiB")
    (made,) = (await run("keys", "create", "nightly", *words, "--json")).objects
    assert abs(made["expires_ms"] / 1000 - time.time() - 30 * 86_400) < 600
    assert made["sign_s_max"] == 3600
    assert made["limits"] == {
        "requests_per_s": 50.0,
        "bytes_per_s": 1048576.0,
        "requests_at_once": 8,
        "open_uploads": 4,
        "lease_bytes": 1 << 30,
    }
    assert [grant["bucket"] for grant in made["grants"]] == ["photos", "team-*"]
    out = (await run("keys", "show", made["key_id"])).out
    for text in (
        "each night",
        "main (",
        "photos:read,write,delete,list,sign",
        "50 requests/s",
        "1.0 MiB/s",
        "1 h",
    ):
        assert text in out
    assert "can read, list, write and delete buckets named team-*" in out
    words = (
        "--name",
        "x",
        "--expires",
        "none",
        "--sign-max",
        "none",
        "--limit-uploads",
        "none",
        "--grant",
        "none",
    )
    (edited,) = (await run("keys", "edit", made["key_id"], *words, "--json")).objects
    assert (edited["name"], edited["expires_ms"], edited["sign_s_max"]) == ("x", None, None)
    assert (edited["limits"]["open_uploads"], edited["limits"]["requests_at_once"]) == (None, 8)
    assert (edited["grants"], edited["description"]) == ([], "each night")
    (edited,) = (
        await run("keys", "edit", made["key_id"], "--every-bucket", "--preset", "reader", "--json")
    ).objects
    assert (edited["grants"], edited["permissions"]) == (None, ["read", "list"])
    (edited,) = (
        await run("keys", "edit", made["key_id"], "--permissions", "read,see_events", "--json")
    ).objects
    assert edited["permissions"] == ["read", "see_events"]


async def test_the_table_has_what_an_operator_looks_for(master: RunningMaster, run: Run) -> None:
    old = generate_api_key()
    row = ApiKeyRow(
        id=old.key_id, name="old", hashed=old.hashed, permissions=int(Permission.READ), created_ms=1
    )
    await master.running.keys.add(row)
    (made,) = (await run("keys", "create", "n", "--expires", "1h", "--json")).objects
    await run("keys", "disable", old.key_id)
    out = (await run("keys", "ls")).out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("WH")}
    assert KEY_NAME in lines[master.root.key_id]
    assert " ago" in lines[master.root.key_id]
    assert "disabled" in lines[old.key_id]
    assert "ends in 59 min" in lines[made["key_id"]]
    (days,) = (await run("keys", "create", "n", "--expires", "2d", "--json")).objects
    assert "ends in 1 d 23 h" in (await run("keys", "ls")).out
    await run("keys", "rm", "--yes", days["key_id"])
    assert "never" in lines[made["key_id"]]
    assert f"1 key of an earlier release, to be rotated before use with S3: {old.key_id}" in out
    assert "3 keys" in out
    assert (await run("keys", "ls", "--json")).objects[0]["key_id"] == old.key_id
    (own,) = (await run("keys", "show", "--json")).objects
    assert own["key_id"] == master.root.key_id
    assert all("secret" not in key for key in (await run("keys", "ls", "--json")).objects)


async def test_a_rotated_key_has_two_secrets_for_a_while_or_one_at_once(
    master: RunningMaster, run: Run
) -> None:
    (first,) = (await run("keys", "create", "n", "--json")).objects
    (second,) = (await run("keys", "rotate", first["key_id"], "--overlap", "1h", "--json")).objects
    assert 0 < second["previous_until_ms"] / 1000 - time.time() < 3700
    for made in (first, second):
        assert await buckets_of(as_key(master, made)) == ["photos"]
    ran = await run("keys", "rotate", first["key_id"])
    assert "The secret is shown this once" in ran.out
    assert "The secret before works until" in ran.out
    (third,) = (await run("keys", "rotate", first["key_id"], "--now", "--json")).objects
    assert await buckets_of(as_key(master, third)) == ["photos"]
    with pytest.raises(BadCredentials):
        await buckets_of(as_key(master, second))


async def test_a_narrow_window_shows_every_key_whole(
    master: RunningMaster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = (
        await run("keys", "create", "thumbnails", "--grant", "photos/2026/*:read,list", "--json")
    ).objects

    def narrow() -> Console:
        return Console(width=80, force_terminal=True, color_system=None, highlight=False)

    monkeypatch.setattr("warehouse.cli.output.keys.result_console", narrow)
    lines = (await run("keys", "ls")).out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith(made["key_id"]))
    assert lines[at].split()[1:] == ["thumbnails", "main", "enabled", "never"]
    assert lines[at + 1].strip() == "read, list; photos/2026/*:read,list"
    assert any(line.startswith(master.root.key_id) for line in lines)


async def test_a_new_key_is_shown_with_its_end_and_its_limits(master: RunningMaster, run: Run) -> None:
    out = (await run("keys", "create", "n", "--expires", "2127-06-30", "--limit-requests", "50")).out
    assert "  ends: 2127-06-30" in out
    assert "  limits: 50 requests/s" in out
    assert "ends:" not in (await run("keys", "create", "n")).out


async def test_a_profile_is_written_once_and_has_the_secret_alone(
    master: RunningMaster, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "thumbnails.toml"
    ran = await run("keys", "create", "n", "--save-profile", str(path))
    profile = Profile.load(path)
    assert profile.secret not in ran.out + ran.err
    assert str(path) in ran.out
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert await buckets_of(profile) == ["photos"]
    before = len((await run("keys", "ls", "--json")).objects)
    with pytest.raises(UsageError, match="exists already: give --force"):
        await run("keys", "create", "n", "--save-profile", str(path))
    with pytest.raises(UsageError, match="--force goes with"):
        await run("keys", "create", "n", "--force")
    blocked = tmp_path / "profile.toml" / "x.toml"
    with pytest.raises(SetupError, match="cannot write"):
        await run("keys", "create", "n", "--save-profile", str(blocked))
    with pytest.raises(NoSuchPreset):
        await run("keys", "create", "n", "--preset", "king", "--save-profile", str(tmp_path / "none.toml"))
    assert not (tmp_path / "none.toml").exists()
    assert Profile.load(path) == profile
    assert len((await run("keys", "ls", "--json")).objects) == before
    (made,) = (await run("keys", "create", "n", "--save-profile", str(path), "--force", "--json")).objects
    assert made["profile"] == str(path)
    assert Profile.load(path).secret == made["secret"]


async def test_a_secret_comes_from_standard_input_and_from_nowhere_else(
    master: RunningMaster, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def typed(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    typed("a-secret-that-programs-have\n")
    (info,) = (await run("keys", "import", "AKIAIOSFODNN7EXAMPLE", "--preset", "writer", "--json")).objects
    assert (info["key_id"], info["name"]) == ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE")
    assert "secret" not in info
    made = {"key_id": "AKIAIOSFODNN7EXAMPLE", "secret": "a-secret-that-programs-have"}
    assert await buckets_of(as_key(master, made)) == ["photos"]
    typed("")
    with pytest.raises(UsageError, match="standard input, which is empty"):
        await run("keys", "import", "AKIA2")
    monkeypatch.setattr("warehouse.cli.commands.keys.is_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "another-secret-typed")
    path = tmp_path / "typed.toml"
    words = ("keys", "import", "AKIA2", "--name", "typed", "--save-profile", str(path), "--json")
    (info,) = (await run(*words)).objects
    assert info["name"] == "typed"
    profile = Profile.load(path)
    assert (profile.key_id, profile.secret) == ("AKIA2", "another-secret-typed")
    assert await buckets_of(profile) == ["photos"]


async def test_accounts_have_commands(master: RunningMaster, run: Run) -> None:
    (made,) = (await run("accounts", "create", "family", "--email", "a@example.org", "--json")).objects
    (key,) = (await run("keys", "create", "n", "--account", "family", "--json")).objects
    assert key["account_id"] == made["account_id"]
    out = (await run("accounts", "ls")).out
    assert [line.split()[0] for line in out.splitlines()] == ["name", "main", "family"]
    assert "a@example.org" in out
    with pytest.raises(DeletionRefused):
        await run("accounts", "rm", "family")
    with pytest.raises(AccountNotEmpty):
        await run("accounts", "rm", "family", "--yes")
    await run("keys", "edit", key["key_id"], "--account", "main")
    (edited,) = (
        await run("accounts", "edit", "family", "--name", "house", "--email", "none", "--json")
    ).objects
    assert (edited["name"], edited["email"]) == ("house", None)
    ran = await run("accounts", "give", "house", "wh://photos")
    assert ran.out == "wh://photos is house's\n"
    await run("accounts", "give", "main", "photos")
    await run("accounts", "rm", made["account_id"], "--yes")
    assert [one["name"] for one in (await run("accounts", "ls", "--json")).objects] == ["main"]
    with pytest.raises(UsageError, match="--name or --email"):
        await run("accounts", "edit", "main")


async def test_what_is_wrong_has_a_code_and_says_what_to_do(master: RunningMaster, run: Run) -> None:
    for words, error, text in (
        (("--grant", "flims:read"), GrantNamesNothing, "flims"),
        (("--grant", "photos/2026:read"), UsageError, "--grant: .* at the end"),
        (("--expires", "2020-01-01"), ExpiryPassed, "time to come"),
        (("--expires", "soon"), UsageError, "--expires must look like"),
        (("--preset", "king"), NoSuchPreset, "there are admin"),
        (("--preset", "reader", "--permissions", "read"), UsageError, "one of --preset and --permissions"),
        (("--limit-requests", "0"), UsageError, "--limit-requests"),
        (("--limit-bytes", "0"), UsageError, "--limit-bytes"),
    ):
        with pytest.raises(error, match=text):
            await run("keys", "create", "n", *words)
    with pytest.raises(UsageError, match="one of --now and --overlap"):
        await run("keys", "rotate", "WHA", "--now", "--overlap", "1h")
    with pytest.raises(UsageError, match="name a key"):
        await run("keys", "disable")


async def test_a_failure_is_an_event_for_a_program(master: RunningMaster, tmp_path: Path) -> None:
    with trio.fail_after(60):
        ran = await process(tmp_path, "keys", "create", "n", "--grant", "flims:read", "--json")
    assert ran.status == 1
    assert json.loads(ran.out)["code"] == "grant_names_nothing"
    assert os.linesep in ran.err
