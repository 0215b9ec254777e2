"""The application: pages, what all of them share, and how failures look."""

from __future__ import annotations

import logging
from importlib import import_module
from urllib.parse import urlencode, urlsplit

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Quart, Response, current_app, make_response, redirect, request
from quart.ctx import RequestContext
from quart.typing import ResponseReturnValue, ResponseTypes
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from warehouse.errors import PermissionDenied, StoreError
from warehouse.version import package_version
from warehouse.webui import bodies, held, here, live, sign_in, static_files, uploads_through
from warehouse.webui.abilities import Abilities
from warehouse.webui.console import Console
from warehouse.webui.form_parsing import FormRequest
from warehouse.webui.key_rights import refusal_in_words
from warehouse.webui.rendering import FILTERS, GLOBALS, TESTS, is_htmx, page, toast_header, url
from warehouse.webui.security import (
    SAFE_METHODS,
    comes_from_elsewhere,
    csrf_token,
    is_of_a_person,
    keep_cookie,
    protect,
    require_our_page,
)
from warehouse.webui.stores import KEY_FAILURES

log = logging.getLogger(__name__)

PAGES = (
    "overview",
    "disks",
    "disk_joining",
    "disk_removal",
    "jobs",
    "buckets",
    "objects",
    "details",
    "uploads",
    "downloads",
    "archives",
    "bucket_settings",
    "object_actions",
    "work",
    "keys",
    "key_editing",
    "key_secrets",
    "accounts",
    "nodes",
    "activity",
    "measure",
    "help",
)
BODY_MAX = 1024 * 1024  # bytes of a form; objects go to the volume actors


class _App(QuartTrio):
    """Answers requests in turns."""

    request_class = FormRequest

    async def dispatch_request(self, request_context: RequestContext | None = None) -> ResponseReturnValue:
        if request.blueprint == static_files.bp.name:
            return await super().dispatch_request(request_context)
        if request.method not in SAFE_METHODS:
            await request.get_data()  # whoever sends slowly keeps no place
        opened = here.current()
        try:
            async with here.console().shares.share(opened.key_id if opened is not None else ""):
                return await super().dispatch_request(request_context)
        finally:
            request.body.clear()  # an error keeps the request until garbage is collected


def create_app(console: Console) -> QuartTrio:
    """The ASGI application of one console."""
    app = _App(__name__, static_folder=None)
    app.config["CONSOLE"] = console
    app.config["ROOT"] = console.options.root
    app.config["STATIC_FILES"] = static_files.StaticFiles()
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX
    app.config["MAX_FORM_MEMORY_SIZE"] = BODY_MAX
    app.url_map.merge_slashes = False  # keys of objects may have empty parts
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.globals.update(GLOBALS)
    app.jinja_env.tests.update(TESTS)
    for module in (
        static_files,
        sign_in,
        live,
        *(import_module(f"warehouse.webui.pages.{n}") for n in PAGES),
    ):
        app.register_blueprint(module.bp)
    app.before_request(_admit)
    app.after_request(_protect)
    app.after_websocket(_protect_refusal)
    app.context_processor(_known_to_templates)
    app.register_error_handler(StoreError, _store_failed)
    app.register_error_handler(HTTPException, _http_failed)
    app.register_error_handler(Exception, _broken)
    bodies.mount(app, BODY_MAX)
    held.mount(app)
    uploads_through.mount(app, console)
    _mount(app, console.options.root)
    return app


def _mount(app: Quart, root: str) -> None:
    """Answer below `root`, whether the proxy in front takes it away or not."""
    if not root:
        return
    inner = app.asgi_app

    async def outer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] in ("http", "websocket"):
            path, raw = scope["path"], scope["raw_path"]
            if path == root or path.startswith(root + "/"):
                changed = {"path": path[len(root) :] or "/", "raw_path": raw[len(root) :] or b"/"}
                scope = {**scope, **changed}  # type: ignore[assignment]
        await inner(scope, receive, send)

    app.asgi_app = outer  # type: ignore[method-assign]


async def _admit() -> None:
    here.current()  # the key that this request is made with, whatever other tabs do from here on
    await require_our_page(request, here.session(), here.console().options)


async def _protect(response: Response) -> Response:
    session = here.session()
    if (
        is_htmx()
        and session is not None
        and session.toasts
        and response.status_code < 300
        and "HX-Trigger" not in response.headers
    ):
        response.headers["HX-Trigger"] = toast_header(session.take_toasts())  # `#toasts` is not swapped
    _renew_cookie(response)
    protect(response, here.data_origins(), is_secure=here.console().options.is_secure)
    return response


def _renew_cookie(response: Response) -> None:
    """A browser keeps the cookie for as long as the session lasts, which each use makes longer."""
    console, cookie = here.console(), here.cookie()
    is_its_own = "Set-Cookie" in response.headers  # of signing in or out
    is_kept_by_others = request.blueprint == static_files.bp.name
    if cookie is None or is_its_own or is_kept_by_others or not is_of_a_person(request):
        return
    most_s = console.sessions.renew(cookie)
    if most_s is not None:
        keep_cookie(response, cookie, console.options, most_s=most_s)


async def _protect_refusal(response: ResponseTypes | None) -> ResponseTypes | None:
    """A WebSocket was refused with an ordinary answer."""
    if isinstance(response, Response):
        protect(response, here.data_origins(), is_secure=here.console().options.is_secure)
    return response


async def _known_to_templates() -> dict[str, object]:
    session, current = here.session(), here.current()
    files: static_files.StaticFiles = current_app.config["STATIC_FILES"]

    def static(name: str) -> str:
        return url(f"/static/{files.version}/{name}")

    return {
        "url": url,
        "root": here.console().options.root,
        "static": static,
        "static_version": files.version,
        "missing_assets": files.missing,
        "session": session,
        "csrf_token": csrf_token(session.csrf_secret) if session is not None else "",
        "me": current.info if current is not None else None,
        "works": current.work.works if current is not None else [],
        "can": Abilities(current.info) if current is not None else None,
        "toasts": session.take_toasts() if session is not None and not is_htmx() else [],
        "version": package_version(),
        "path": request.path if request else "",
    }


async def _store_failed(error: StoreError) -> ResponseReturnValue:
    session = here.session()
    if isinstance(error, KEY_FAILURES) and not request.path.startswith("/sign-in"):
        return await _sign_in_again(error, was_signed_in=session is not None)
    if error.status >= 500:
        log.warning("a page failed", extra={"path": request.path, "code": error.code, "cause": error.message})
    message = refusal_in_words(error.message) if isinstance(error, PermissionDenied) else error.message
    return await _failed(error.status, message, error.code)


async def _sign_in_again(error: StoreError, *, was_signed_in: bool) -> ResponseReturnValue:
    """The key has ended, or nobody is signed in: back here afterwards."""
    here.drop_ended()
    query = {
        "next": url(request.full_path.rstrip("?")) if request.method == "GET" and not is_htmx() else url("/")
    }
    if is_htmx() and (shown := request.headers.get("HX-Current-URL", "")):
        query["next"] = "/" + shown.split("/", 3)[3] if shown.count("/") >= 3 else url("/")
    if was_signed_in:
        query["cause"] = "ended"
    elif comes_from_elsewhere(
        request, here.console().options
    ):  # without its cookie: the browser asks again, now from this page
        query["cause"] = "elsewhere"
        return await page("sign_in/again.html", where=url("/sign-in") + "?" + urlencode(query))
    where = url("/sign-in") + "?" + urlencode(query)
    if is_htmx():
        return Response("", 401, {"HX-Redirect": where})
    if request.accept_mimetypes.best_match(("text/html", "application/json")) == "application/json":
        return Response('{"code": "not_authenticated"}', 401, content_type="application/json")
    return redirect(where, 303)


async def _http_failed(error: HTTPException) -> ResponseReturnValue:
    if isinstance(error, RequestRedirect):  # to the same path with a slash at its end
        to = urlsplit(error.new_url)
        return redirect(url(to.path) + (f"?{to.query}" if to.query else ""), 308)
    status = error.code or 500
    texts = {404: "There is no such page.", 405: "This page does not do that.", 413: "That is too much."}
    return await _failed(status, texts.get(status, error.description or error.name), "")


async def _broken(error: Exception) -> ResponseReturnValue:
    log.error("a page broke", exc_info=error, extra={"path": request.path})
    return await _failed(500, "The console made a mistake; its log says which.", "internal_error")


async def _failed(status: int, message: str, code: str) -> ResponseReturnValue:
    """A failure as a page; for htmx as a toast; for scripts as JSON."""
    if is_htmx():
        text = f"{message} ({code})" if code else message
        headers = {"HX-Reswap": "none", "HX-Push-Url": "false", "HX-Trigger": toast_header([("bad", text)])}
        return Response("", status, headers)
    if request.accept_mimetypes.best_match(("text/html", "application/json")) == "application/json":
        return {"code": code or str(status), "message": message}, status
    return await make_response(await page("failed.html", status=status, message=message, code=code))
