"""The command that shows what the store does now, again and again: top."""

from __future__ import annotations

from warehouse.cli.app import STORE, app
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.objects import plain, say_json
from warehouse.cli.output.top import print_top
from warehouse.cli.repeating import Every, Times, repeated, wanted


@app.command(group=STORE)
async def top(
    *,
    every: Every = None,
    times: Times = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Show live rates and latencies, of the store and of each disk, until Ctrl-C.

    Rates are means over the last ten seconds; the busiest disk comes first. A latency does not contain the
    network of the client. It takes the permission see_cluster.
    """
    rhythm = wanted(every, times)
    async with common.connect() as store:

        async def show() -> None:
            figures = await store.figures()
            if common.json:
                say_json(**plain(figures))
            else:
                print_top(figures)

        await repeated(show, rhythm, is_json=common.json)
    return 0
