"""Commands about accounts: accounts create, ls, edit, give, rm."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from msgspec import UNSET

from warehouse.cli.app import accounts, each_bucket, some
from warehouse.cli.copying.deletions import require_yes
from warehouse.cli.copying.places import parse_bucket
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import printable
from warehouse.cli.output.keys import print_accounts
from warehouse.cli.output.objects import plain, tell
from warehouse.cli.usage import UsageError

NONE = "none"
Email = Annotated[str | None, Parameter(metavar="ADDRESS", help="Where people of the account are reached.")]


@accounts.command
async def create(name: str, /, *, email: Email = None, common: Common = NOTHING_SPECIAL) -> int:
    """Make an account: a name for keys and buckets that belong together. It gives no rights.

    Make a key of it with `warehouse keys create NAME --account ACCOUNT`; buckets that this key makes are the
    account's.

    Parameters
    ----------
    name
        1 to 128 characters.
    """
    async with common.connect() as store:
        account = await store.create_account(name, email=email)
    tell(common.json, f"created {printable(account.name)} ({account.account_id})", **plain(account))
    return 0


@accounts.command(name="ls")
async def list_accounts(*, common: Common = NOTHING_SPECIAL) -> int:
    """List the accounts, the oldest first."""
    async with common.connect() as store:
        print_accounts(await store.accounts(), is_json=common.json)
    return 0


@accounts.command
async def edit(
    account: str,
    /,
    *,
    name: Annotated[str | None, Parameter(help="Another name.")] = None,
    email: Annotated[str | None, Parameter(metavar="ADDRESS", help="Another address, or none.")] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Change an account.

    Parameters
    ----------
    account
        Name or id, as shown by `warehouse accounts ls`.
    """
    if name is None and email is None:
        raise UsageError("give --name or --email")
    async with common.connect() as store:
        changed = await store.edit_account(
            account,
            name=UNSET if name is None else name,
            email=UNSET if email is None else None if email == NONE else email,
        )
    tell(common.json, f"changed {printable(changed.name)} ({changed.account_id})", **plain(changed))
    return 0


@accounts.command(usage="Usage: warehouse accounts give [OPTIONS] ACCOUNT BUCKET...")
async def give(account: str, /, *buckets: str, common: Common = NOTHING_SPECIAL) -> int:
    """Make buckets another account's. Who may do what with them stays.

    Parameters
    ----------
    account
        Name or id, as shown by `warehouse accounts ls`.
    buckets
        Names of buckets; the prefix wh:// is optional.
    """
    names = [parse_bucket(word) for word in some(buckets, "a bucket")]
    async with common.connect() as store:

        async def hand(name: str) -> None:
            await store.give_bucket(name, account)
            text = f"wh://{name} is {printable(account)}'s"
            tell(common.json, text, event="given", bucket=name, account=account)

        await each_bucket(names, hand)
    return 0


@accounts.command(name="rm", usage="Usage: warehouse accounts rm [OPTIONS] ACCOUNT...")
async def remove(
    *names: str,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="Delete without asking.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Delete accounts that have neither keys nor buckets.

    Parameters
    ----------
    names
        Names or ids, as shown by `warehouse accounts ls`.
    """
    words = some(names, "an account")
    if not yes:
        question = f"Delete the account {', '.join(map(printable, words))}?"
        await require_yes(question, can_ask=not common.json)
    async with common.connect() as store:
        for name in words:
            await store.delete_account(name)
            tell(common.json, f"deleted {printable(name)}", event="deleted", account=name)
    return 0
