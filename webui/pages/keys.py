"""The page /keys."""

from __future__ import annotations

from quart import Blueprint
from quart.typing import ResponseReturnValue

from warehouse.webui import here
from warehouse.webui.rendering import page

bp = Blueprint("keys", __name__)


@bp.get("/keys")
async def show() -> ResponseReturnValue:
    here.opened()
    return await page("stub.html", heading="Keys")
