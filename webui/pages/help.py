"""The page /help: first steps, keyboard shortcuts, versions, the certificate, the support bundle."""

from __future__ import annotations

import time

from quart import Blueprint, Response, request
from quart.typing import ResponseReturnValue

from warehouse.errors import NoSuchObject
from warehouse.webui import here
from warehouse.webui.rendering import page
from warehouse.webui.support import support_bundle, versions

bp = Blueprint("help", __name__)

SHORTCUTS = (
    (("?",), "This page"),
    (("/",), "Search in the list that is shown"),
    (("g", "o"), "Overview"),
    (("g", "d"), "Disks"),
    (("g", "b"), "Buckets"),
    (("g", "k"), "Keys"),
    (("g", "a"), "Activity"),
    (("Esc",), "Close a dialog, or the newest message"),
)
DOCS = (
    ("docs/cli.md", "All commands; warehouse COMMAND --help shows the same."),
    ("docs/library.md", "Programs in Python: import warehouse."),
    ("docs/http.md", "Programs in other languages: the data ports."),
    ("docs/settings.md", "Every setting, with its default."),
    ("docs/security.md", "What is protected, how, and what a key may do."),
    ("docs/rescue.md", "When a disk, a machine or the catalog is lost."),
    ("docs/errors.md", "Every error code, and what to do."),
)


@bp.get("/help")
async def show() -> ResponseReturnValue:
    opened, can = here.opened(), here.can()
    status = await opened.store.status(volumes=False) if can.see_cluster else None
    return await page(
        "help/index.html",
        shortcuts=SHORTCUTS,
        docs=DOCS,
        versions=versions(status),
        profile=opened.profile,
        is_tls=here.console().options.is_secure,
        console_url=here.console().options.public_url or f"{request.scheme}://{request.host}",
    )


@bp.get("/help/authority.pem")
async def authority() -> ResponseReturnValue:
    """The certificates that signed those of the store: public, and the same for every key."""
    text = here.opened().profile.authority
    if not text:
        raise NoSuchObject(
            "this store has no authority: it speaks plain HTTP, or has its operator's certificate"
        )
    response = Response(text, content_type="application/x-pem-file")
    response.headers["Content-Disposition"] = 'attachment; filename="warehouse-authority.pem"'
    return response


@bp.get("/help/support.zip")
async def support() -> ResponseReturnValue:
    content = await support_bundle(here.store(), here.console().options.settings, here.can())
    response = Response(content, content_type="application/zip")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    response.headers["Content-Disposition"] = f'attachment; filename="warehouse-support-{stamp}.zip"'
    return response
