"""The command about how busy and how full the store is, and was: history."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import STORE, app
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import parse_moment
from warehouse.cli.output.history import print_history
from warehouse.cli.output.objects import plain, say_json

LINES = 20  # of the table
POINTS = 500  # of --json


@app.command(group=STORE)
async def history(
    *,
    since: Annotated[
        str, Parameter(metavar="TIME", help="From when on: 90s, 30m, 24h or 30d ago, or 2026-11-29T16:00.")
    ] = "24h",
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Show how busy and how full the store is, and how that was.

    For example:

        warehouse history
        warehouse history --since 30d
        warehouse history --since 1h --json

    The first line is about the last ten seconds. A disk counts an object of several chunks once for each. The
    store keeps 30 days: the last hour in steps of ten seconds, a day in minutes, the rest in quarters of an
    hour. It takes the permission see_cluster.
    """
    moment = parse_moment(since)
    async with common.connect() as store:
        figures = await store.figures()
        points = await store.history(since=moment, points_max=POINTS if common.json else LINES)
    if common.json:
        say_json(now=plain(figures), points=plain(points))
    else:
        print_history(figures, points)
    return 0
