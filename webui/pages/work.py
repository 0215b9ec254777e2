"""The panel of long work: what runs, how far it is, and cancelling it."""

from __future__ import annotations

from contextlib import aclosing

from quart import Blueprint, redirect
from quart.typing import ResponseReturnValue

from warehouse.webui import feeds, here
from warehouse.webui.rendering import is_htmx, page, url
from warehouse.webui.stores import OpenStore

bp = Blueprint("work", __name__)


@bp.get("/tasks")
async def show() -> ResponseReturnValue:
    here.opened()
    return await page("work/_panel.html")


@bp.post("/tasks/<int:number>/stop")
async def stop(number: int) -> ResponseReturnValue:
    """Cancel work that is running; forget work that has ended."""
    here.opened().work.stop(number)
    if is_htmx():
        return await page("work/_panel.html")
    return redirect(url("/buckets"), 303)


@feeds.provider("work")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    async with aclosing(opened.work.versions()) as versions:
        async for version in versions:
            publish({"version": version})
