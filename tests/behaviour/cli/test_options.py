"""No option is ignored: each is honoured, or refused with a word, for every kind of source and target.

The table has a row for each option of each command and each kind of place where its answer differs; a test
looks for options that have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

import warehouse
from cli_kit import Run
from fake_store import FakeStore
from warehouse.cli import main as cli
from warehouse.cli.usage import UsageError
from warehouse.errors import StoreError

# What may stand in a row: {file}, {folder}, {new} local; wh://b is a bucket with f/1, f/2.txt and o.
REFUSED = [
    ("cp --content-type text/x wh://b/o {new}", "--content-type is for objects"),
    ("cp --content-type text/x wh://b/o -", "--content-type is for objects"),
    ("cp -r --content-type text/x wh://b {new}", "--content-type is for objects"),
    ("cp -r wh://b/f -", "-r makes no sense with standard output"),
    ("cp -r - wh://b/x", "-r makes no sense with standard input"),
    ("cp --links follow {file} wh://b/x", "--links needs a local source folder"),
    ("cp --links follow wh://b/o {new}", "--links needs a local source folder"),
    ("cp -r --links follow wh://b/f {new}", "--links needs a local source folder"),
    ("cp -r --links follow wh://b/f wh://c/", "--links needs a local source folder"),
    ("cp --links follow - wh://b/x", "--links makes no sense with standard input"),
    ("cp --exclude x {file} wh://b/x", "--exclude and --include need a source folder"),
    ("cp --include x wh://b/o {new}", "--exclude and --include need a source folder"),
    ("cp --include x wh://b/o wh://c/", "--exclude and --include need a source folder"),
    ("cp --exclude x wh://b/o -", "make"),
    ("cp -r --exclude / {folder} wh://b/", "names none"),
    ("cp --no-glob {file} wh://b/x", "--no-glob needs a source"),
    ("cp {file}/ wh://b/x", "ends like the name of a folder"),
    ("cp {file}/. wh://b/x", "ends like the name of a folder"),
    ("cp wh://b/f/* wh://b/f/", "onto themselves"),
    ("sync --yes {folder} wh://b", "--yes goes with --delete"),
    ("sync --allow-empty-source {folder} wh://b", "--allow-empty-source goes with --delete"),
    ("rb --yes b", "--yes goes with --force"),
    ("ls --no-glob", "needs a place"),
    ("du --no-glob", "needs a place"),
    ("presign --put --size-max 1.5 wh://b/o", "a size must look like"),
    ("presign --put --size-max 99999999999999999999 wh://b/o", "is too large"),
    ("presign --put --size-max 9999999PiB wh://b/o", "is too large"),
    ("sync --max-delete 5 {folder} wh://b", "--max-delete goes with --delete"),
    ("sync --delete --max-delete many {folder} wh://b", "--max-delete must be a number"),
    ("sync --links follow wh://b/f {new}", "--links needs a local source folder"),
    ("sync --checksum --exact {folder} wh://b", "give one"),
    ("sync --size-only --checksum {folder} wh://b", "give one"),
    ("sync --exact --size-only {folder} wh://b", "give one"),
    ("sync --include / {folder} wh://b", "names none"),
    ("rm --exclude x wh://b/o", "--exclude and --include need a folder"),
    ("rm --include x wh://b/o", "--exclude and --include need a folder"),
    ("ls -r", "needs a place"),
    ("ls --sort size", "needs a place"),
    ("ls --reverse", "needs a place"),
    ("ls -l --etag", "needs a place"),
    ("ls --bytes wh://b", "--bytes goes with --long"),
    ("ls --etag wh://b", "--etag goes with --long"),
    ("du --depth 1", "needs a place"),
    ("du --depth -1 wh://b", "whole number"),
    ("tree --depth x wh://b", "whole number"),
    ("status --every 1s", "--every goes with --watch"),
    ("status --times 2", "--times goes with --watch"),
    ("status --watch --every 0.01s", "at least"),
    ("top --times 0", "from 1 to"),
    ("completion bash x", "one word too many"),
    ("mv wh://b/o", "a source and a target"),
    ("mv {file} wh://b/x", "use cp, and then rm"),
    ("mv wh://b/o {new}", "use cp, and then rm"),
    ("mv wh://b/o wh://b/o", "onto itself"),
    ("mv wh://b/f/ wh://c/", "move it with -r"),
    ("mv -r wh://b/f wh://b/f/g", "would never end"),
    ("mv -r wh://b wh://b", "onto themselves"),
    ("mv wh://b/f/* wh://b/f/", "onto themselves"),
    ("mv -r wh://b/f wh://b/o wh://c/", "give one source"),
    ("mv wh://b/f/1 wh://b/o wh://c/x", "need a folder as target"),
    ("mv wh://b/f/1 wh://b/g/1 wh://c/", "two sources would both become"),
    ("mv --exclude x wh://b/o wh://c/", "--exclude and --include need"),
    ("mv --include x wh://b/o wh://c/", "--exclude and --include need"),
    ("set wh://b/o", "say what to change"),
    ("set --content-type text/x", "name an object"),
    ("set --content-type text/x wh://b", "with -r"),
    ("set --metadata x wh://b/o", "NAME=VALUE"),
    ("set --metadata x=1 --unset x wh://b/o", "both name 'x'"),
    ("tree b", "did you mean wh://b"),
    ("find", "name a place"),
    ("find wh://b --larger much", "a size must look like"),
    ("find wh://b --newer soon", "--newer must look like"),
    ("find wh://b --older 2999-01-01", "lies ahead"),
    ("find wh://b --metadata =x", "NAME=PATTERN"),
    ("cat --range 5 wh://b/o", "a range must look like"),
    ("cat --range 5-4 wh://b/o", "ends before it begins"),
    ("cat --range - wh://b/o", "a range must look like"),
    ("head -n 1 -c 1 wh://b/o", "give one"),
    ("tail -n x wh://b/o", "whole number"),
    ("tail -c x wh://b/o", "a size must look like"),
    ("head wh://b", "name an object"),
    ("presign --size-max 5 wh://b/o", "go with --put"),
    ("presign --no-overwrite wh://b/o", "go with --put"),
    ("presign --put --once wh://b/o", "are for reading"),
    ("presign --put --size-min 1.5 wh://b/o", "a size must look like"),
    ("presign --expires never wh://b/o", "a time must look like"),
    ("compact --cancel --no-wait --all", "--no-wait is only for starting jobs"),
    ("compact --pause --no-wait", "--no-wait is only for starting jobs"),
    ("compact --resume --no-wait", "--no-wait is only for starting jobs"),
    ("compact --pause --cancel", "give one"),
    ("compact --force 1", "--force is for --all"),
    ("compact --all 1", "name volumes"),
    ("compact 1.5", "whole number"),
    ("compact -1", "whole number"),
    ("compact 0", "from 1 to"),
    ("compact 4294967296", "from 1 to"),
    ("verify 0x1", "whole number"),
    ("verify 1e0", "whole number"),
    ("verify 99999999999999999999", "from 1 to"),
    ("watch --since 1.5", "whole number"),
    ("watch --since 99999999999999999999", "from 0 to"),
    ("bench --objects 1.5", "whole number"),
    ("bench --processes 1.5", "whole number"),
    ("bench --concurrency 1.5", "whole number"),
    ("bench --concurrency 1_0", "whole number"),
    ("verify --cancel --no-wait --all", "--no-wait is only for starting jobs"),
    ("verify --all 1", "name volumes"),
    ("watch --since -1", "numbered from 1"),
    ("quota --bytes lots b", "a size must look like"),
    ("quota --bytes -1 b", "a size must look like"),
    ("quota --objects 1.5 b", "whole number"),
    ("quota --objects 9999999999999999999 b", "from 0 to"),
    ("quota --none --objects 1 b", "give it alone"),
    ("quota wh://b/o", "names an object"),
    ("audit --since soon", "must look like"),
    ("audit --action logn", "did you mean login"),
    ("audit --follow --action x", "has no action"),
    ("audit --key \x01", "id of an API key"),
    ("orphans --keep --drop", "give one"),
    ("orphans --yes", "--yes goes with --drop"),
    ("orphans --keep --yes", "--yes goes with --drop"),
    ("rotate keys", "not 'keys'"),
    ("rotate data --now --overlap 1h", "give one"),
    ("rotate access --overlap 0.5s", "at least 1s"),
    *(
        (f"keys {command} {words}", message)
        for command in ("create n", "import n", "edit n")
        for words, message in (
            ("--preset reader --permissions read", "give one of --preset and --permissions"),
            ("--grant photos/2026:read", "at the end of the place"),
            ("--expires soon", "--expires must look like"),
            ("--sign-max long", "a time must look like"),
            ("--limit-requests 0", "--limit-requests"),
            ("--limit-at-once 1.5", "--limit-at-once"),
            ("--limit-uploads many", "--limit-uploads"),
            ("--limit-bytes 0", "--limit-bytes"),
            ("--limit-lease much", "a size must look like"),
        )
    ),
    ("keys import n --name x --force --description y --account z --preset p --permissions q", "give one of"),
    ("keys edit n --every-bucket --grant photos:read", "--grant or --every-bucket"),
    ("keys create n --force", "--force goes with --save-profile"),
    ("keys rotate n --force", "--force goes with --save-profile"),
    ("keys import n --save-profile x --preset p --permissions q", "give one of"),
    ("keys rotate n --now --overlap 1h", "give one of --now and --overlap"),
    ("keys disable", "name a key"),
    ("accounts edit main", "give --name or --email"),
    ("accounts rm", "name an account"),
    ("bench --seconds 0", "--seconds"),
    ("bench --size x", "a size must look like"),
    ("bench --large-size x", "a size must look like"),
    ("bench --concurrency x", "--concurrency"),
    ("bench --objects 0", "--objects"),
    ("bench --processes 0", "--processes"),
]

# A row: the words, and what must be seen of the option: in the output, or of the store as "key: type".
HONOURED = [
    ("cp --content-type text/x {file} wh://c/x", "x: text/x"),
    ("cp -r --content-type text/x {folder} wh://c/", "a.tmp: text/x"),
    ("cp --content-type text/x wh://b/o wh://c/x", "x: text/x"),
    ("cp -r --content-type text/x wh://b/f wh://c/", "2.txt: text/x"),
    ("cp --content-type text/x wh://b/f/* wh://c/", "2.txt: text/x"),
    ("cp wh://b/f/2.txt wh://c/x", "x: text/plain"),
    ("cp --recursive {folder} wh://c/", "d/z: application/octet-stream"),
    ("cp -r --links skip {folder} wh://c/", "left out"),
    ("cp -r --exclude *.tmp --dry-run {folder} wh://c/", "would copy 2 files"),
    ("cp -r --include *.tmp --dry-run {folder} wh://c/", "would copy 1 file"),
    ("cp -r --exclude 1 --dry-run wh://b/f {new}", "would copy 1 file"),
    ("cp -r --exclude 1 --dry-run wh://b/f wh://c/", "would copy 1 file"),
    ("cp --exclude 1 --dry-run wh://b/f/* wh://c/", "would copy 1 file"),
    ("cp --dry-run {file} wh://c/x", "would copy 1 file"),
    ("cp --dry-run wh://b/o {new}", "would copy"),
    ("cp --no-glob --dry-run wh://b/f/* {new}", "!no_such_object"),
    ("sync --links skip {folder} wh://c", "left out"),
    ("sync --exclude *.tmp --dry-run {folder} wh://c", "would copy 2 files"),
    ("sync --include *.tmp --dry-run {folder} wh://c", "would copy 1 file"),
    ("sync --include 1 --dry-run wh://b wh://c", "would copy 1 file"),
    ("sync --delete --yes --dry-run {folder} wh://b", "3 would be deleted"),
    ("sync --delete --max-delete 2 --dry-run {folder} wh://b", "!deletion_refused"),
    ("sync --delete --allow-empty-source --dry-run wh://c wh://b", "3 would be deleted"),
    ("sync --allow-empty-source wh://c/none {new}", "0 files"),
    ("sync --checksum --dry-run {folder} wh://same", "would copy 1 file"),
    ("sync --size-only --dry-run {folder} wh://same", "would copy 0 files"),
    ("sync --exact --dry-run {folder} wh://same", "would copy 0 files"),
    ("sync --exact-times --dry-run {folder} wh://same", "would copy 0 files"),
    ("rm -r --exclude 1 --dry-run wh://b/f", "would delete 1 object"),
    ("rm -r --include 1 --dry-run wh://b/f", "would delete 1 object"),
    ("rm --exclude 1 --dry-run wh://b/f/*", "would delete 1 object"),
    ("rm --dry-run wh://b/o", "would delete wh://b/o"),
    ("rm --recursive wh://b", "!deletion_refused"),
    ("rm -r --yes wh://b", "deleted 3 objects"),
    ("rm --no-glob wh://b/f/*", "!no_such_object"),
    ("rb --force --yes b", "removed wh://b"),
    ("cat --no-glob wh://b/f/*", "!no_such_object"),
    ("ls --no-glob wh://b/f/*", "!no_such_object"),
    ("du --no-glob wh://b/f/*", "!no_such_object"),
    ("quota wh://b --bytes 5GiB --objects 1", "3 of 1 objects"),
    ("quota b --none", "3 objects, any number"),
    ("quota b --objects none --bytes 1MiB", "3 objects, any number"),
    ("quota none-such", "!no_such_bucket"),
    ("ls --long wh://b", "1 B"),
    ("ls --recursive wh://b", "f/1"),
    ("ls --long --bytes --etag wh://b", "              1  20"),
    ("ls --sort time wh://b", "f/\no\n"),
    ("ls --reverse wh://b", "o\nf/\n"),
    ("ls -r --sort size --reverse wh://b", "f/1\nf/2.txt\no\n"),
    ("du --depth 1 wh://b", "2 objects  wh://b/f\n"),
    ("mv --recursive --exclude 1 --dry-run wh://b/f wh://c/", "would move 1 file"),
    ("mv -r --include 1 --dry-run wh://b/f wh://c/", "would move 1 file"),
    ("mv --no-glob wh://b/f/* wh://c/", "!no_such_object"),
    ("mv wh://b/f/2.txt wh://c/x", "x: text/plain"),
    ("set --content-type text/x --metadata a=b --unset c wh://b/o", "changed 1 file"),
    ("set --recursive --metadata a=b wh://b/f", "changed 2 files"),
    ("set --no-glob --metadata a=b wh://b/f/*", "!no_such_object"),
    ("status --watch --every 0.1s --times 2", "warehouse is "),
    ("top --every 0.1s --times 1", "gets/s"),
    ("tree --depth 1 --sizes wh://b", "└── o  (1 B)"),
    ("find --name *.txt wh://b", "wh://b/f/2.txt\n"),
    ("find --type TEXT/* --long wh://b", " 1 B  20"),
    ("find --larger 0 --smaller 2 --newer 2001-01-01 --name o wh://b", "wh://b/o\n"),
    ("find --older 2001-01-01 wh://b", ""),
    ("find --metadata mtime --json wh://b", ""),
    ("find --no-glob wh://b/f/*", "!no_such_object"),
    ("cat --range 0-0 wh://b/o", "1"),
    ("cat --range -1 wh://b/o", "1"),
    ("cat --range 1- wh://b/o", "!range_not_satisfiable"),
    ("head --lines 1 wh://b/f/*", "==> wh://b/f/1 <==\n1\n==> wh://b/f/2.txt <==\n1"),
    ("head --bytes 1 wh://b/o", "1"),
    ("head --no-glob wh://b/f/*", "!no_such_object"),
    ("tail --lines 1 wh://b/o", "1"),
    ("tail --bytes 1 wh://b/o", "1"),
    ("tail --no-glob wh://b/f/*", "!no_such_object"),
    ("presign --once --inline --file-name x --cache-control public --content-type a/b wh://b/o", "http://"),
    ("presign --put --size-min 1 --no-overwrite wh://b/o", "http://"),
    ("presign --put --size-max 5 --content-type text/x --expires 1m wh://b/o", "http://"),
    ("compact --all --force --no-wait", "compact"),
    ("compact --all --cancel", "no job to cancel"),
    ("compact --pause", "paused"),
    ("compact --resume", "resumed"),
    ("verify --all --no-wait", "verif"),
    ("verify --all --cancel", "no job to cancel"),
    ("rotate access --now", "all earlier access tokens are void"),
    ("rotate data --overlap 1h", "are valid until 2"),
    ("rotate curve", "are valid until 2"),
    ("keys rotate-seal", "3 API keys"),
    ("keys create n --permissions see_events --description nightly --account main --json", "nightly"),
    ("keys create n --grant photos/2026/*:read --json", "2026/"),
    ("keys create n --save-profile {new} --force", "The secret is in"),
    ("keys edit WHFAKE --name renamed --description nightly --account main --json", "renamed"),
    ("keys edit WHFAKE --every-bucket --expires none --json", '"grants":null'),
    ("keys rotate WHFAKE --now --save-profile {new}", "The secret is in"),
    ("keys rm WHFAKE --yes", "deleted WHFAKE"),
    ("accounts create family --email a@b --json", "a@b"),
    ("accounts edit main --name house --email none", "changed house"),
    ("accounts rm main --yes", "deleted main"),
    ("bench put --seconds 0.05 --size 1 --concurrency 1 --objects 5", "--objects has no effect"),
    ("bench put --seconds 0.05 --processes 1 --large-size 1", "--large-size has no effect"),
]

# Tested where they are at home: every command has these; `watch --since` needs events.
ELSEWHERE = {"--profile", "--data", "--json", "--since"}
# Become other programs, whose own parsers refuse what they do not know.
PROGRAMS = {"up", "rebuild", "export", "backup", "restore", "keys reset-root"}


@pytest.fixture
def store(store: FakeStore) -> FakeStore:
    store.buckets |= {"b": {}, "c": {}, "same": {}}
    return store


def words_of(row: str, tmp_path: Path) -> list[str]:
    folder = tmp_path / "folder"
    return row.format(file=folder / "a.tmp", folder=folder, new=tmp_path / "new").split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "d").mkdir(parents=True)
    for name in ("a.tmp", "b", "d/z"):
        (folder / name).write_bytes(name.encode())
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    (folder / "link").symlink_to("nothing")
    return folder


def options_of(app: App) -> set[str]:
    arguments = app.assemble_argument_collection()
    names = [argument.names for argument in arguments if argument.parse]
    return {next(name for name in one if name.startswith("--")) for one in names if one[0].startswith("-")}


# Groups of commands with a test file of their own, which has all their options.
GROUPS = {
    "join-token": "machines",
    "nodes": "machines",
    "disks": "machines",
    "accounts": "keys",
    "profile": "profiles",
}


def commands_of(app: App, before: str = "") -> Iterator[tuple[str, App]]:
    """The commands of one word, and those of two."""
    for name in app:
        if name.startswith("-"):
            continue
        if any(not inner.startswith("-") for inner in app[name]):
            yield from commands_of(app[name], f"{name} ")
        else:
            yield before + name, app[name]


def test_every_option_of_every_command_has_a_row() -> None:
    rows = [row.split() for row, _ in REFUSED + HONOURED]
    short = {"-r": "--recursive", "-l": "--long", "-y": "--yes", "-n": "--lines", "-c": "--bytes"}
    for command, found in commands_of(cli.app):
        if command in PROGRAMS:
            continue
        words = command.split()
        if len(words) > 1 and (home := GROUPS.get(words[0])) is not None:
            tests = (Path(__file__).parent / f"test_{home}.py").read_text()
            unnamed = {option for option in options_of(found) - ELSEWHERE if option not in tests}
            assert not unnamed, f"{command}: {', '.join(sorted(unnamed))}"
            continue
        tried = {short.get(word, word) for row in rows if row[: len(words)] == words for word in row}
        untried = options_of(found) - tried - ELSEWHERE
        assert not untried, f"{command}: {', '.join(sorted(untried))}"


@pytest.mark.parametrize(("row", "message"), REFUSED, ids=[row for row, _ in REFUSED])
async def test_an_option_that_makes_no_sense_is_refused_before_anything_is_asked(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path, row: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await run(*words_of(row, tmp_path))
    assert store.asked == []


@pytest.mark.parametrize(("row", "seen"), HONOURED, ids=[row for row, _ in HONOURED])
async def test_an_option_does_what_it_says(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path, row: str, seen: str
) -> None:
    async with warehouse.connect(store.profile) as client:
        for key in ("f/1", "f/2.txt", "o"):
            await client.bucket("b").put(key, b"1")
    if "wh://same" in row:
        await run("sync", str(folder), "wh://same")
        changed_ns = (folder / "b").stat().st_mtime_ns - 1_000_000_000
        info = store.buckets["same"]["b"]
        assert info.size == 1
        (folder / "b").write_bytes(b"B")
        os.utime(folder / "b", ns=(changed_ns, changed_ns))
        store.buckets["same"]["b"] = warehouse.ObjectInfo(
            **{name: getattr(info, name) for name in ("key", "size", "etag", "created_ms", "chunks")},
            metadata={"mtime": f"{changed_ns // 10**9}.{changed_ns % 10**9:09}"},
        )
    if seen.startswith("!"):
        with pytest.raises(StoreError) as caught:
            await run(*words_of(row, tmp_path))
        assert caught.value.code == seen[1:]
        return
    ran = await run(*words_of(row, tmp_path))
    assert ran.status == 0
    types = [f"{key}: {info.content_type}" for key, info in store.buckets["c"].items()]
    assert seen in "\n".join([ran.out, ran.err, *types])
    if "--dry-run" in row:
        assert len(store.buckets["b"]) == 3
        assert store.buckets["c"] == {}
        assert not (tmp_path / "new").exists()


# A row: the words, and how many of the files can be known to fail.
TRIED = [
    ("cp {file} wh://none/x", "no_such_bucket"),
    ("cp -r {folder} wh://none", "no_such_bucket"),
    ("cp wh://b/o wh://none/x", "no_such_bucket"),
    ("sync {folder} wh://none", "no_such_bucket"),
    ("cp {file} wh://c/{long}", "1 failed"),
    ("cp -r {folder} wh://c/{long}", "3 failed"),
    ("cp wh://b/o wh://c/{long}", "1 failed"),
    ("cp --content-type \u00e9 {file} wh://c/x", "1 failed"),
    ("cp --content-type \u00e9 wh://b/o wh://c/x", "1 failed"),
    ("cp wh://b/o {new}/x", "1 failed"),
    ("cp wh://b/o /dev/null", "1 failed"),
    ("cp -r wh://b/f {file}", "2 failed"),
    ("cp -r wh://b/f {folder}/taken", "1 failed"),
    ("cp -r wh://b {folder}/taken", "1 failed"),
    ("cp -r wh://b {folder}/linked", "2 failed"),
    ("cp -r wh://b/f {new}", ""),
    ("sync wh://b {folder}/taken", "1 failed"),
    ("sync wh://b {folder}/linked", "2 failed"),
    ("sync {folder} wh://c/{long}", "3 failed"),
]


@pytest.mark.parametrize(("row", "seen"), TRIED, ids=[row for row, _ in TRIED])
async def test_a_dry_run_fails_where_the_command_would_and_changes_nothing(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path, row: str, seen: str
) -> None:
    async with warehouse.connect(store.profile) as client:
        for key in ("f/1", "f/2.txt", "o"):
            await client.bucket("b").put(key, b"1")
    row = row.replace("{long}", "k" * 1025)
    if "/taken" in row:
        (folder / "taken" / "1").mkdir(parents=True)
        (folder / "taken" / "o").mkdir()
    elif "/linked" in row:
        (folder / "linked").mkdir()
        (folder / "linked" / "f").symlink_to("..")

    def what_is_there() -> list[object]:
        files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
        return [files, {name: sorted(bucket) for name, bucket in store.buckets.items()}]

    before = what_is_there()
    for words in (["--dry-run", *words_of(row, tmp_path)[1:]], words_of(row, tmp_path)[1:]):
        if seen == "no_such_bucket":
            with pytest.raises(StoreError) as caught:
                await run(row.split()[0], *words)
            assert caught.value.code == seen
        else:
            ran = await run(row.split()[0], *words)
            assert ran.status == (1 if seen else 0), ran
            assert seen in ran.out + ran.err
        if words[0] == "--dry-run":
            assert what_is_there() == before


async def test_what_is_excluded_is_no_failure_whatever_it_is_called(
    store: FakeStore, run: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / os.fsdecode(b"bad-\xff")).write_bytes(b"")
    (folder / os.fsdecode(b"worse-\xff")).mkdir()
    (folder / os.fsdecode(b"worse-\xff") / "in").write_bytes(b"")
    for command in ("cp -r", "sync --delete"):
        ran = await run(*command.split(), str(folder), "wh://c")
        assert (ran.status, ran.err.count("UTF-8")) == (1, 2)
        ran = await run(*command.split(), "--exclude", "bad*", "--exclude", "worse*/", str(folder), "wh://c")
        assert (ran.status, ran.err.count("UTF-8")) == (0, 0)
    assert sorted(store.buckets["c"]) == ["a.tmp", "b", "d/z"]


async def test_a_folder_that_cannot_be_read_is_no_failure_where_it_is_excluded(
    store: FakeStore, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(path: Path | int) -> object:
        if isinstance(path, int):  # whoever removes the folder of this test has it open
            return scandir(path)
        if Path(path).name == "d" or (Path(path) == folder and is_all):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    is_all = False
    for command in ("cp -r", "sync"):
        assert (await run(*command.split(), str(folder), "wh://c")).status == 1
        for rule in ("d", "d/", "/d"):
            assert (await run(*command.split(), "--exclude", rule, str(folder), "wh://c")).status == 0
    is_all = True
    for command in ("cp -r", "sync --delete"):  # the whole source is never excluded
        assert (await run(*command.split(), "--exclude", "*", str(folder), "wh://c")).status == 1
