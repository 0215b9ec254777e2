"""The page /nodes: the machines of the store, and the tokens that let others join."""

from __future__ import annotations

import time

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from warehouse.errors import NoSuchJoinToken, NoSuchNode
from warehouse.transport.messages import JoinTokenInfo
from warehouse.webui import feeds, forms, here
from warehouse.webui.following import NEVER_S, follow_changes
from warehouse.webui.paging import rows_of
from warehouse.webui.rendering import page, plural, url
from warehouse.webui.stores import OpenStore

bp = Blueprint("nodes", __name__)

NAME_MAX = 200


@bp.get("/nodes")
async def show() -> ResponseReturnValue:
    store = here.store()
    nodes = await store.nodes()
    tokens = await store.join_tokens() if here.can().manage_cluster else []
    return await page(
        "nodes/index.html",
        nodes=rows_of(nodes, request.args),
        node_count=sum(node.removed_ms is None for node in nodes),
        disk_names={disk.disk_id: disk.name for disk in await store.disks()},
        tokens=[(token, _state(token)) for token in reversed(tokens)],
    )


def _state(token: JoinTokenInfo) -> tuple[str, str]:
    """A kind of pill, and its word."""
    if token.expires_ms is not None and token.expires_ms <= time.time() * 1000:
        return "quiet", "expired"
    if token.use_count and not token.is_reusable:
        return "quiet", "used"
    return "good", "good"


@bp.get("/nodes/remove")
async def ask_to_remove() -> ResponseReturnValue:
    here.require("manage_cluster")
    key = forms.text(request.args, "node", most=NAME_MAX)
    node = next((one for one in await here.store().nodes() if one.key == key), None)
    if node is None:
        raise NoSuchNode("there is no node with this key")
    return await page("nodes/ask.html", node=node, token=None)


@bp.post("/nodes/remove")
async def remove() -> ResponseReturnValue:
    form, store = await request.form, here.store()
    await store.remove_node(forms.text(form, "node", most=NAME_MAX))
    name = forms.text(form, "name", most=NAME_MAX)
    good = [token for token in await store.join_tokens() if _state(token)[0] == "good"]
    here.tell("good", f"Node {name} removed")
    if good:
        here.tell("warn", f"{plural(len(good), 'join token')} can still let machines in")
    return redirect(url("/nodes"), 303)


@bp.get("/nodes/tokens/<token_id>/remove")
async def ask_to_revoke(token_id: str) -> ResponseReturnValue:
    token = next((one for one in await here.store().join_tokens() if one.token_id == token_id), None)
    if token is None:
        raise NoSuchJoinToken("there is no join token of this id")
    return await page("nodes/ask.html", node=None, token=token)


@bp.post("/nodes/tokens/<token_id>/remove")
async def revoke(token_id: str) -> ResponseReturnValue:
    await here.store().remove_join_token(token_id)
    here.tell("good", f"Join token {token_id} revoked")
    return redirect(url("/nodes"), 303)


@feeds.provider("nodes")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that nodes or join tokens have changed."""

    async def tell(is_news: bool) -> float:
        publish({"at": time.time()})
        return NEVER_S

    await follow_changes(opened.store, ("nodes",), tell)
