"""The page /accounts."""

from __future__ import annotations

from quart import Blueprint
from quart.typing import ResponseReturnValue

from warehouse.webui import here
from warehouse.webui.rendering import page

bp = Blueprint("accounts", __name__)


@bp.get("/accounts")
async def show() -> ResponseReturnValue:
    here.opened()
    return await page("stub.html", heading="Accounts")
