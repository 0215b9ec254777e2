"""Commands about the machines of a store: join-token, nodes, disks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, Parameter

from warehouse.cli.app import STORE, app
from warehouse.cli.copying.deletions import require_yes
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import format_count, format_size, format_span, parse_span
from warehouse.cli.output.nodes import print_disks, print_lost, print_nodes, print_tokens
from warehouse.cli.output.objects import say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.client.store import connect
from warehouse.conf.join import Join
from warehouse.conf.profile import load_profile
from warehouse.errors import SetupError

NAMED_MAX = 20  # lost objects that are named before the question
ROLES = ("both", "volume", "compactor", "gateway")
NEVER = "never"


def _group(name: str, help_text: str) -> App:
    found = App(name=name, help=help_text, group=STORE, default_parameter=app.default_parameter)
    app.command(found)
    return found


join_token = _group("join-token", "Tokens that let machines join the store: create, list, remove.")
nodes = _group("nodes", "The machines of the store: list, remove.")
disks = _group("disks", "The disks of the store: list, confirm a new address, remove a lost one.")


# --- join tokens ----------------------------------------------------------------------------------


@join_token.command
async def create(
    *,
    role: Annotated[
        str,
        Parameter(
            metavar="ROLE",
            help="What a machine may join as: volume, compactor, both of them (default), or gateway.",
        ),
    ] = "both",
    reusable: Annotated[bool, Parameter(help="For any number of machines; without it, for one.")] = False,
    expires: Annotated[
        str, Parameter(metavar="TIME", help="How long it is good, such as 1h or 7d (default: 24h), or never.")
    ] = "24h",
    output: Annotated[
        Path | None,
        Parameter(metavar="FILE", help="Write a join file with the token, instead of printing it."),
    ] = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Make a token that lets a machine join.

    Without --output, it prints the token, this once. Copy the join file to the other machine, and start its
    `warehouse volume` and `warehouse compactor` with it.
    """
    if role not in ROLES:
        raise UsageError(f"--role is one of {', '.join(ROLES)}, not {role!r}")
    expires_in_s = None if expires == NEVER else parse_span(expires)
    if output is not None and output.exists():
        raise UsageError(f"--output {output} exists already")
    path = common.profile_path()
    profile = await trio.to_thread.run_sync(
        load_profile, path, abandon_on_cancel=True
    )  # once: it may be a pipe
    async with connect(profile) as store:
        made = await store.create_join_token(role=role, is_reusable=reusable, expires_in_s=expires_in_s)
    fields = {"token_id": made.token_id, "expires_ms": made.expires_ms, "role": role, "reusable": reusable}
    if output is None:
        tell(common.json, made.token, token=made.token, **fields)
        return 0
    join = Join(profile.master, profile.server_key, token=made.token, authority=profile.authority)
    try:
        join.save(output)
    except SetupError:
        tell(common.json, made.token, token=made.token, **fields)  # nobody can ask for it a second time
        raise
    life = "until it is removed" if expires_in_s is None else f"for {format_span(expires_in_s)}"
    whom = "any number of machines" if reusable else "one machine"
    text = f"{output}: lets {whom} join, {life} (token {made.token_id})"
    tell(common.json, text, output=str(output), **fields)
    return 0


@join_token.command(name="ls")
async def list_tokens(*, common: Common = NOTHING_SPECIAL) -> int:
    """List the tokens: what they are for, how long they are good, how often they were used."""
    async with common.connect() as store:
        print_tokens(await store.join_tokens(), is_json=common.json)
    return 0


@join_token.command(name="rm")
async def remove_token(token_id: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Remove a token: nobody joins with it any more. Machines that have joined stay.

    Parameters
    ----------
    token_id
        The id of a token, as shown by `warehouse join-token ls`.
    """
    async with common.connect() as store:
        await store.remove_join_token(token_id)
    tell(common.json, f"removed the join token {token_id}", event="removed", token_id=token_id)
    return 0


# --- nodes ----------------------------------------------------------------------------------------


@nodes.command(name="ls")
async def list_nodes(*, common: Common = NOTHING_SPECIAL) -> int:
    """List the nodes: the key of each machine, its role and its disk."""
    async with common.connect() as store:
        found = await store.nodes()
        names = {disk.disk_id: disk.name for disk in await store.disks()}
    print_nodes(found, names, is_json=common.json)
    return 0


@nodes.command(name="rm")
async def remove_node(node: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Remove a node: its connections end now, and its key never comes back.

    Do it when a machine or its key was stolen. The disk stays in the catalog, offline; a new key takes it
    over with a join token that is made after this.

    Parameters
    ----------
    node
        The name or the key of a node, as shown by `warehouse nodes ls`.
    """
    async with common.connect() as store:
        await store.remove_node(node)
        good = [token for token in await store.join_tokens() if token.is_reusable or not token.use_count]
    text = f"removed node {node}"
    if good:
        text += f"; still good: {format_count(len(good), 'join token')}, see `warehouse join-token ls`"
    tell(common.json, text, event="removed", node=node, join_token_count=len(good))
    return 0


# --- disks ----------------------------------------------------------------------------------------


@disks.command(name="ls")
async def list_disks(*, common: Common = NOTHING_SPECIAL) -> int:
    """List the disks: where they are, and which node each belongs to."""
    async with common.connect() as store:
        print_disks(await store.disks(), is_json=common.json)
    return 0


@disks.command
async def confirm(disk: str, url: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """Confirm that a disk is at another host now.

    A disk that says so is refused until somebody confirms it, because all its clients would follow.

    Parameters
    ----------
    disk
        The name or the id of a disk, as shown by `warehouse disks ls`.
    url
        The URL that its actor advertises, such as http://192.0.2.7:7410.
    """
    async with common.connect() as store:
        await store.confirm_disk(disk, url)
    tell(common.json, f"disk {disk} may come online at {url}", event="confirmed", disk=disk, url=url)
    return 0


@disks.command
async def lost(disk: str, /, *, common: Common = NOTHING_SPECIAL) -> int:
    """List the objects that need a disk: they are lost if it is gone for good.

    An object of many chunks is lost with each of them. Names that your key may not know are left out.

    Parameters
    ----------
    disk
        The name or the id of a disk, as shown by `warehouse disks ls`.
    """
    async with common.connect() as store:
        async for one in store.lost_objects(disk):
            print_lost(one, is_json=common.json)
    return 0


@disks.command(name="rm")
async def remove_disk(
    disk: str,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="Remove without asking.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Remove a disk that is gone for good, and all objects that need it.

    It first says how many objects are lost, and names some of them; `warehouse disks lost` names all. The
    objects of other disks stay. A disk that is online is not removed, and one that comes back later is
    refused.

    Parameters
    ----------
    disk
        The name or the id of a disk, as shown by `warehouse disks ls`.
    """
    async with common.connect() as store:
        if not yes:
            count = size = 0
            async for one in store.lost_objects(disk):
                count, size = count + 1, size + one.size
                if count <= NAMED_MAX:
                    print_lost(one, is_json=common.json)
            what = f"{format_count(count, 'object')} ({format_size(size)})"
            more = max(count - NAMED_MAX, 0)
            if common.json:
                say_json(
                    event="would_remove", disk=disk, object_count=count, byte_count=size, more_count=more
                )
            elif more:
                tell(False, f"and {more:,} more: see `warehouse disks lost {disk}`")
            question = f"Remove the disk {disk} for good, and lose {what}?"
            await require_yes(question, can_ask=not common.json, outcome="nothing was removed")
        done = await store.remove_disk(disk)
    text = (
        f"removed disk {disk}: lost {format_count(done.object_count, 'object')}"
        f" ({format_size(done.byte_count)}), ended {format_count(done.upload_count, 'unfinished upload')}"
    )
    if done.manifest_count:
        text += (
            f"\nkept without a manifest: {format_count(done.manifest_count, 'object')}; a rebuild from the"
            " disks would not find them: keep backups of the catalog, and copy these objects"
        )
    counts = {"object_count": done.object_count, "byte_count": done.byte_count}
    if done.manifest_count:
        counts["manifest_count"] = done.manifest_count
    tell(common.json, text, event="removed", disk=disk, **counts, upload_count=done.upload_count)
    return 0
