"""Commands about the store's own secrets: rotate, keys rotate-seal, keys reset-root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import STORE, app, become, keys
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import format_count, format_time, parse_span
from warehouse.cli.output.objects import say, say_json
from warehouse.cli.usage import UsageError
from warehouse.transport.messages import SecretRotated

MEANING = {
    "access": "access tokens",
    "data": "data tokens and signed URLs",
    "curve": "profiles and join files",
    "authority": "certificates of servers",
}


@app.command(
    group=STORE, usage="Usage: warehouse rotate access|data|curve|authority [--now | --overlap TIME]"
)
async def rotate(
    what: str,
    /,
    *,
    now: Annotated[bool, Parameter(help="Make everything void that the old secret signed.")] = False,
    overlap: Annotated[
        str | None,
        Parameter(metavar="TIME", help="How long that stays valid, such as 30m, 1h or 7d."),
    ] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Replace a secret that the store signs with.

    For example:

        warehouse rotate access
        warehouse rotate data --now

    Without an option, what the old secret signed stays valid until it expires on its own, so nobody notices.
    With --now it is void at once: that is for a secret that leaked. It takes the permissions manage_keys and
    manage_cluster.

    Parameters
    ----------
    what
        `access`: the key that signs access tokens; --now logs everybody out, and the library logs in again.
        `data`: the secret of data tokens and signed URLs; --now voids every signed URL.
        `curve`: the key of the control socket. Clients and nodes are told of the new one and write it into
        their profiles and join files; those that do not connect within the overlap need new files. --now
        tells nobody, so everybody needs new files.
        `authority`: the authority that signs the certificates of the servers for TLS.
    """
    if what not in MEANING:
        raise UsageError(f"rotate {' or '.join(MEANING)}, not {what!r}")
    if now and overlap is not None:
        raise UsageError("give one of --now and --overlap")
    overlap_s = 0 if now else None if overlap is None else _seconds(overlap)
    async with common.connect() as store:
        rotated = await store.rotate_secret(what, overlap_s=overlap_s)
    if common.json:
        _print_json(what, rotated)
        return 0
    if rotated.until_ms:
        say(f"rotated; earlier {MEANING[what]} are valid until {format_time(rotated.until_ms)}")
    else:
        say(f"rotated; all earlier {MEANING[what]} are void")
    for name in rotated.unreached:
        say(f"  {name} does not know yet: it learns of it when it is online")
    return 0


@keys.command(name="rotate-seal")
async def rotate_seal(*, common: Common = NOTHING_SPECIAL) -> int:
    """Seal the secrets of all API keys with a new key.

    The catalog holds these secrets encrypted, under a key of the master's `keys/` folder. Nobody is logged
    out, and no secret changes. It takes the permissions manage_keys and manage_cluster.
    """
    async with common.connect() as store:
        rotated = await store.rotate_secret("seal")
    if common.json:
        _print_json("seal", rotated)
    else:
        say(f"sealed again: the secrets of {format_count(rotated.resealed_count, 'API key')}")
    return 0


@keys.command(name="reset-root", usage="Usage: warehouse keys reset-root [OPTIONS]")
def reset_root(
    *others: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    data: Annotated[
        Path | None, Parameter(metavar="DIR", help="Data folder of the store (default: ./warehouse-data).")
    ] = None,
    disable_others: Annotated[
        bool, Parameter(help="Disable every other key that may manage keys; what it signed is void.")
    ] = False,
    json: Annotated[bool, Parameter(help="Print the report as one JSON object.")] = False,
) -> None:
    """Make a new root key for a store whose keys are lost; the store must be stopped.

    The new key has every right. Its secret goes to DIR/profile.toml, where the other commands find it; an
    earlier profile is moved aside. All other keys stay as they are, unless you give --disable-others.
    """
    options = (("--data", data), ("--disable-others", disable_others), ("--json", json))
    become("warehouse.actors.reset_root", options, *others)


def _seconds(text: str) -> int:
    seconds = parse_span(text)
    if seconds < 1:
        raise UsageError("an overlap is at least 1s; without one, give --now")
    return int(seconds)


def _print_json(what: str, rotated: SecretRotated) -> None:
    say_json(
        secret=what,
        valid_until_ms=rotated.until_ms or None,
        unreached=rotated.unreached,
        resealed=rotated.resealed_count,
    )
