"""The command about orphans: needles in volumes that the catalog does not know."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import SPACE, app
from warehouse.cli.copying.deletions import is_terminal, require_yes
from warehouse.cli.options import NOTHING_SPECIAL, Common, Yes
from warehouse.cli.output.formats import format_count
from warehouse.cli.output.objects import result_console, say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store

# Troubles that this command can end.
DECIDED = ("catalog_behind", "orphans_kept")


@app.command(group=SPACE, usage="Usage: warehouse orphans [--keep | --drop [--yes]]")
async def orphans(
    *,
    keep: Annotated[
        bool, Parameter(help="Continue with this catalog and keep the needles that it does not know.")
    ] = False,
    drop: Annotated[bool, Parameter(help="Delete these needles and free their bytes.")] = False,
    yes: Yes = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Show, keep or delete needles that no object names.

    A crash leaves a few, which the store collects automatically. Many of them mean that the catalog is older
    than the volumes, for example after it was restored from a copy. The store then keeps them until you
    decide. To bring their objects back, stop the store and run `warehouse rebuild --replace`.
    """
    if keep and drop:
        raise UsageError("give one of --keep and --drop")
    if yes and not drop:
        raise UsageError("--yes goes with --drop")
    async with common.connect() as store:
        if drop and not yes and not common.json:
            await _ask_before(store)
        if keep or drop:
            await (store.keep_orphans() if keep else store.drop_orphans())
        status = await store.status()
    troubles = [trouble for trouble in status.troubles if trouble.name in DECIDED]
    if common.json:
        say_json(
            orphan_count=status.orphan_count,
            troubles=[{"name": one.name, "subject": one.subject, "message": one.message} for one in troubles],
        )
        return 0
    if keep:
        tell(
            common.json,
            "kept aside; `warehouse rebuild --replace` can still bring them back",
        )
    if drop:
        tell(common.json, "garbage from now on; the store removes them within minutes")
    console = result_console()
    console.print(f"{format_count(status.orphan_count, 'needle')} that no object names")
    for trouble in troubles:
        console.print(trouble.message, soft_wrap=True, markup=False)
    return 0


async def _ask_before(store: Store) -> None:
    """Ask at a terminal, where a person can see how much would be deleted; a script needs only --drop."""
    count = (await store.status()).orphan_count
    if count and is_terminal():
        await require_yes(f"Delete {format_count(count, 'needle')} that no object names?", can_ask=True)
