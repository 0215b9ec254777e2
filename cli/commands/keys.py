"""Commands about API keys: keys create, ls, show, edit, disable, enable, rm, rotate, import."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
from cyclopts import Parameter
from msgspec import UNSET, UnsetType

from warehouse.cli.app import keys, some
from warehouse.cli.copying.deletions import is_terminal, require_yes
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import parse_number, parse_size, parse_span, printable, shortened
from warehouse.cli.output.keys import print_key, print_keys, print_new_key
from warehouse.cli.output.objects import plain, say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.client.grant_texts import parse_grant
from warehouse.client.identities import Expiry, NewKey
from warehouse.client.store import Store
from warehouse.conf.profile import load_profile
from warehouse.errors import BadRequest, SetupError
from warehouse.transport.messages import KeyGrant, KeyInfo, KeyLimits

NONE = "none"
SECRET_LENGTH_MAX = 1024
NUMBER_MAX = 10**15

Preset = Annotated[
    str | None,
    Parameter(metavar="P", help="admin, operator (no data), writer, read-only, reader or upload-only."),
]
Permissions = Annotated[
    str | None,
    Parameter(metavar="LIST", help="Instead of a preset: permissions with commas between, or none."),
]
Grants = Annotated[
    list[str] | None,
    Parameter(
        name="--grant",
        metavar="GRANT",
        help="'BUCKET[/PREFIX*]:read,list,write,delete,sign'; may be given several times.",
    ),
]
Expires = Annotated[
    str | None, Parameter(metavar="TIME", help="When it ends: 12h or 30d from now, or 2027-06-30.")
]
Description = Annotated[str | None, Parameter(metavar="TEXT", help="What it is for.")]
Account = Annotated[str | None, Parameter(metavar="NAME", help="Whose key it is (default: yours).")]
SignMax = Annotated[
    str | None, Parameter(metavar="TIME", help="Longest life of URLs that it has signed, such as 1h.")
]
SaveProfile = Annotated[
    Path | None,
    Parameter(metavar="FILE", help="Write a profile with the key, instead of showing the secret."),
]
Force = Annotated[bool, Parameter(help="Replace the file of --save-profile.")]


@Parameter(name="*")
@dataclass(frozen=True)
class LimitOptions:
    """Options about what a key may ask of the store."""

    limit_requests: Annotated[str | None, Parameter(metavar="N", help="Requests a second.")] = None
    limit_bytes: Annotated[str | None, Parameter(metavar="SIZE", help="Bytes of objects a second.")] = None
    limit_at_once: Annotated[str | None, Parameter(metavar="N", help="Requests at once.")] = None
    limit_uploads: Annotated[str | None, Parameter(metavar="N", help="Open uploads.")] = None
    limit_lease: Annotated[str | None, Parameter(metavar="SIZE", help="Room under lease.")] = None

    def changes(self) -> dict[str, int | None]:
        """Those that were named, by field of `KeyLimits`; `none` ends one."""
        changes: dict[str, int | None] = {}
        for field, option, word, parse in (
            ("requests_per_s", "--limit-requests", self.limit_requests, _count),
            ("bytes_per_s", "--limit-bytes", self.limit_bytes, _size),
            ("requests_at_once", "--limit-at-once", self.limit_at_once, _count),
            ("open_uploads", "--limit-uploads", self.limit_uploads, _count),
            ("lease_bytes", "--limit-lease", self.limit_lease, _size),
        ):
            if word is not None:
                changes[field] = None if word == NONE else parse(option, word)
        return changes


NO_LIMIT_OPTIONS = LimitOptions()


def _count(option: str, word: str) -> int:
    return parse_number(option, word, 1, NUMBER_MAX)


def _size(option: str, word: str) -> int:
    size = parse_size(word)
    if size < 1:
        raise UsageError(f"{option} must be at least 1, or {NONE}")
    return size


# --- new keys -------------------------------------------------------------------------------------


@keys.command
async def create(
    name: str,
    /,
    *,
    preset: Preset = None,
    permissions: Permissions = None,
    grant: Grants = None,
    expires: Expires = None,
    description: Description = None,
    account: Account = None,
    sign_max: SignMax = None,
    limits: LimitOptions = NO_LIMIT_OPTIONS,
    save_profile: SaveProfile = None,
    force: Force = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Make an API key, and show its secret this once.

    For example:

        warehouse keys create thumbnails --grant 'photos/2026/*:read,list' --grant thumbs:write
        warehouse keys create nightly --preset reader --expires 30d --save-profile nightly.toml

    Without --preset and --permissions, the key can do what its grants name; without grants as well, it reads
    and lists every bucket. A grant on `photos` is for the bucket of now, one on `team-*` also for those to
    come. You can give no more than your own key has.

    Parameters
    ----------
    name
        For people: what or who uses the key.
    """
    options = _wish(
        preset, permissions, grant, expires, description, account, _seconds(sign_max), limits.changes()
    )
    with _reserved(save_profile, force):
        async with common.connect() as store:
            new = await store.create_key(name, **options)
        _hand_over(new, save_profile, common.json)
    return 0


@keys.command(name="import")
async def import_(
    key_id: str,
    /,
    *,
    name: Annotated[str | None, Parameter(help="For people (default: the id).")] = None,
    preset: Preset = None,
    permissions: Permissions = None,
    grant: Grants = None,
    expires: Expires = None,
    description: Description = None,
    account: Account = None,
    sign_max: SignMax = None,
    limits: LimitOptions = NO_LIMIT_OPTIONS,
    save_profile: Annotated[
        Path | None, Parameter(metavar="FILE", help="Also write a profile with the key.")
    ] = None,
    force: Force = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Make an API key of an id and a secret that programs have already.

    It reads the secret from standard input, so that no list of processes shows it:

        warehouse keys import AKIAIOSFODNN7EXAMPLE --preset writer < secret.txt

    Parameters
    ----------
    key_id
        3 to 128 letters, digits, '.', '_' and '-'.
    """
    options = _wish(
        preset, permissions, grant, expires, description, account, _seconds(sign_max), limits.changes()
    )
    secret = await _read_secret(key_id)
    with _reserved(save_profile, force):
        async with common.connect() as store:
            info = await store.import_key(key_id, secret, name or key_id, **options)
            if save_profile is not None:
                profile = load_profile(common.profile_path())
                replace(profile, key_id=key_id, secret=secret).save(save_profile)
    _print(info, common.json)
    return 0


async def _read_secret(key_id: str) -> str:
    """From a terminal without showing it, or the only line of standard input."""
    is_typed = is_terminal()

    def read() -> str:
        if is_typed:
            return getpass.getpass(f"Secret of {printable(key_id)}: ")
        return sys.stdin.readline(SECRET_LENGTH_MAX + 1)

    secret = (await trio.to_thread.run_sync(read, abandon_on_cancel=True)).rstrip("\r\n")
    if not secret:
        raise UsageError("the secret is read from standard input, which is empty")
    return secret


# --- what there is --------------------------------------------------------------------------------


@keys.command(name="ls")
async def list_keys(*, common: Common = NOTHING_SPECIAL) -> int:
    """List the API keys: whose they are, what they can do, when they end and when they were used."""
    async with common.connect() as store:
        print_keys(await store.keys(), is_json=common.json, now_s=datetime.now(UTC).timestamp())
    return 0


@keys.command
async def show(key_id: str | None = None, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Show what an API key can do, in words.

    Parameters
    ----------
    key_id
        As shown by `warehouse keys ls`; without an id: the key of your profile.
    """
    async with common.connect() as store:
        _print(await store.key(key_id), common.json)
    return 0


# --- changes --------------------------------------------------------------------------------------


@keys.command
async def edit(
    key_id: str,
    /,
    *,
    name: Annotated[str | None, Parameter(help="Another name.")] = None,
    preset: Preset = None,
    permissions: Permissions = None,
    grant: Grants = None,
    every_bucket: Annotated[bool, Parameter(help="Take all grants away: every bucket.")] = False,
    expires: Annotated[str | None, Parameter(metavar="TIME", help="As in `create`, or none.")] = None,
    description: Description = None,
    account: Account = None,
    sign_max: Annotated[str | None, Parameter(metavar="TIME", help="As in `create`, or none.")] = None,
    limits: LimitOptions = NO_LIMIT_OPTIONS,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Change an API key; what you do not name stays. It counts at once, also for open connections.

    Where something is taken away, connections of the key end and the URLs that it signed are void. --grant
    replaces all grants; `--grant none` leaves no bucket. `--limit-... none` ends a limit.

    Parameters
    ----------
    key_id
        As shown by `warehouse keys ls`.
    """
    _require_one(preset, permissions)
    if grant and every_bucket:
        raise UsageError("give --grant or --every-bucket")
    grants: list[KeyGrant] | UnsetType | None = UNSET
    if grant or every_bucket:
        grants = [] if grant == [NONE] else _grants(grant)
    named, changes = _permissions(permissions), limits.changes()
    ends = UNSET if expires is None else _expiry(expires)
    sign_s_max = UNSET if sign_max is None else _seconds(sign_max)
    async with common.connect() as store:
        info = await store.edit_key(
            key_id,
            name=_or_unset(name),
            preset=_or_unset(preset),
            permissions=UNSET if named is None else named,
            grants=grants,
            expires=ends,
            description=_or_unset(description),
            account=_or_unset(account),
            sign_s_max=sign_s_max,
            limits=UNSET if not changes else _changed((await store.key(key_id)).limits, changes),
        )
    _print(info, common.json)
    return 0


@keys.command(usage="Usage: warehouse keys disable [OPTIONS] ID...")
async def disable(*key_ids: str, common: Common = NOTHING_SPECIAL) -> int:
    """Stop what an API key can do, until it is enabled again.

    Within a second its connections end, and what it has signed is void, for good.

    Parameters
    ----------
    key_ids
        As shown by `warehouse keys ls`.
    """
    return await _each(key_ids, lambda store, key_id: store.disable_key(key_id), "disabled", common)


@keys.command(usage="Usage: warehouse keys enable [OPTIONS] ID...")
async def enable(*key_ids: str, common: Common = NOTHING_SPECIAL) -> int:
    """Let a disabled API key work again. URLs that it signed before stay void.

    Parameters
    ----------
    key_ids
        As shown by `warehouse keys ls`.
    """
    return await _each(key_ids, lambda store, key_id: store.enable_key(key_id), "enabled", common)


@keys.command(name="rm", usage="Usage: warehouse keys rm [OPTIONS] ID...")
async def remove(
    *key_ids: str,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="Delete without asking.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Delete API keys for good; `disable` can be taken back.

    Parameters
    ----------
    key_ids
        As shown by `warehouse keys ls`.
    """
    words = some(key_ids, "a key")
    async with common.connect() as store:
        if not yes:
            names = [f"{key_id} ({printable((await store.key(key_id)).name)})" for key_id in words]
            question = f"Delete the API key {', '.join(names)} for good?"
            await require_yes(question, can_ask=not common.json)
        for key_id in words:
            await store.delete_key(key_id)
            tell(common.json, f"deleted {key_id}", event="deleted", key_id=key_id)
    return 0


@keys.command
async def rotate(
    key_id: str,
    /,
    *,
    overlap: Annotated[
        str | None,
        Parameter(metavar="TIME", help="How long the present secret works, too (default: 24h)."),
    ] = None,
    now: Annotated[
        bool, Parameter(help="End the present secret at once, with its connections and signed URLs.")
    ] = False,
    save_profile: SaveProfile = None,
    force: Force = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Give an API key a new secret, and show it this once.

    Parameters
    ----------
    key_id
        As shown by `warehouse keys ls`.
    """
    if now and overlap is not None:
        raise UsageError("give one of --now and --overlap")
    options = {} if overlap is None and not now else {"overlap_s": 0.0 if now else parse_span(overlap or "")}
    with _reserved(save_profile, force):
        async with common.connect() as store:
            new = await store.rotate_key(key_id, **options)
        _hand_over(new, save_profile, common.json)
    return 0


async def _each(
    key_ids: Sequence[str],
    work: Callable[[Store, str], Awaitable[KeyInfo]],
    verb: str,
    common: Common,
) -> int:
    words = some(key_ids, "a key")
    async with common.connect() as store:
        for key_id in words:
            info = await work(store, key_id)
            tell(common.json, f"{verb} {key_id} ({printable(info.name)})", **plain(info))
    return 0


def _changed(limits: KeyLimits, changes: dict[str, int | None]) -> KeyLimits:
    return msgspec.structs.replace(limits, **changes)


def _wish(
    preset: str | None,
    permissions: str | None,
    grants: Sequence[str] | None,
    expires: str | None,
    description: str | None,
    account: str | None,
    sign_s_max: int | None,
    limits: dict[str, int | None],
) -> dict[str, Any]:
    """What a new key shall be, as `create_key` and `import_key` take it."""
    _require_one(preset, permissions)
    return {
        "preset": preset,
        "permissions": _permissions(permissions),
        "grants": _grants(grants),
        "expires": _expiry(expires),
        "description": description or "",
        "account": account or "",
        "sign_s_max": sign_s_max,
        "limits": _changed(KeyLimits(), limits),
    }


# --- words ----------------------------------------------------------------------------------------


def _require_one(preset: str | None, permissions: str | None) -> None:
    if preset is not None and permissions is not None:
        raise UsageError("give one of --preset and --permissions")


def _permissions(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [] if text == NONE else [word.strip() for word in text.split(",")]


def _grants(texts: Sequence[str] | None) -> list[KeyGrant] | None:
    if not texts:
        return None
    try:
        return [parse_grant(text) for text in texts]
    except BadRequest as error:
        raise UsageError(f"--grant: {error.message}") from None


def _expiry(text: str | None) -> Expiry | None:
    """`"30d"` from now, or a date or time as ISO 8601 writes it, local unless it names a zone."""
    if text is None or text == NONE:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text.strip()).astimezone()
    try:
        return timedelta(seconds=parse_span(text))
    except (UsageError, OverflowError):
        raise UsageError(
            f"--expires must look like 12h, 30d, 2027-06-30 or 2027-06-30T18:00, not {shortened(repr(text))}"
        ) from None


def _seconds(text: str | None) -> int | None:
    return None if text is None or text == NONE else int(parse_span(text))


def _or_unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


# --- results --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reserved(path: Path | None, force: bool) -> Iterator[None]:
    """Make sure that a profile can be written, before there is a secret that would be lost without it.

    Raises:
        UsageError: the file exists, or --force is given without a file.
        SetupError: the file cannot be written.
    """
    if path is None:
        if force:
            raise UsageError("--force goes with --save-profile")
        yield
        return
    is_ours = _claim(path, force)
    try:
        yield
    except BaseException:
        if is_ours and path.stat().st_size == 0:
            path.unlink()
        raise


def _claim(path: Path, force: bool) -> bool:
    """Make an empty file; False: there is one that --force replaces."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}") from error
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not force:
            raise UsageError(f"--save-profile {path} exists already: give --force to replace it") from None
        return False
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}") from error
    return True


def _hand_over(new: NewKey, path: Path | None, is_json: bool) -> None:
    """Show the secret, or write it into a profile."""
    try:
        if path is not None:
            new.profile.save(path)
    except SetupError:
        print_new_key(new, None, is_json=is_json)  # nobody can ask for it a second time
        raise
    print_new_key(new, path, is_json=is_json)


def _print(info: KeyInfo, is_json: bool) -> None:
    if is_json:
        say_json(**plain(info))
    else:
        print_key(info, now_s=datetime.now(UTC).timestamp())
