"""The page /buckets."""

from __future__ import annotations

from quart import Blueprint
from quart.typing import ResponseReturnValue

from warehouse.webui import here
from warehouse.webui.rendering import page

bp = Blueprint("buckets", __name__)


@bp.get("/buckets")
async def show() -> ResponseReturnValue:
    here.opened()
    return await page("stub.html", heading="Buckets")
