"""The page /buckets: all buckets that the key sees; making and deleting one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice

import trio
from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.client.nurseries import background, bounded_nursery
from warehouse.errors import NoSuchBucket, StoreError
from warehouse.webui import feeds, forms, here
from warehouse.webui.abilities import Abilities
from warehouse.webui.bucket_names import RULES
from warehouse.webui.rendering import page, plural, url
from warehouse.webui.sparkline import Sparkline, sparkline
from warehouse.webui.stores import OpenStore

bp = Blueprint("buckets", __name__)

PAGE_SIZE = 100
NAME_MAX = 200  # characters that are sent on; the store says what is wrong with a name
GROWTH_S = 0.3  # a page waits so long for how its buckets grew
GROWTH_DAYS = 30
GROWTH_AT_ONCE = 16
LOOK_S = 10.0  # between looks at counts


@dataclass(frozen=True)
class Line:
    """A bucket in the table."""

    info: warehouse.BucketInfo
    owner: str
    growth: Sparkline | None = None
    grown_bytes: int = 0


@bp.get("/buckets")
async def show() -> ResponseReturnValue:
    store, can = here.store(), here.can()
    find = forms.text(request.args, "find", most=NAME_MAX)
    after = forms.text(request.args, "after", most=NAME_MAX)
    found = [info for info in await store.buckets() if find in info.name]
    infos = [*islice((info for info in found if info.name > after), PAGE_SIZE)]
    owners = await owner_names(store, can)
    lines = await _with_growth(store, [Line(info, owners.get(info.owner_id, "")) for info in infos])
    return await page(
        "buckets/index.html",
        lines=lines,
        total_count=len(found),
        find=find,
        after=after,
        next_after=infos[-1].name if infos and infos[-1].name != found[-1].name else "",
        rules=RULES,
    )


async def owner_names(store: warehouse.Store, can: Abilities) -> dict[str, str]:
    """Names of accounts by id, as far as the key may know them."""
    names = {can.key.account_id: can.key.account}
    if can.manage_keys:
        names |= {account.account_id: account.name for account in await store.accounts()}
    return names


async def _with_growth(store: warehouse.Store, lines: list[Line]) -> list[Line]:
    """The lines with how the buckets grew; those that are not told in time go without."""
    grown = dict(enumerate(lines))

    async def look(number: int, line: Line) -> None:
        since = timedelta(days=GROWTH_DAYS)
        try:
            points = await store.bucket(line.info.name).history(since=since, points_max=60)
        except StoreError:
            return  # not told to this key, or the bucket was deleted just now
        picture = sparkline([(point.at_ms, point.byte_count) for point in points])
        if picture is not None:
            change = points[-1].byte_count - points[0].byte_count
            grown[number] = Line(line.info, line.owner, picture, change)

    with trio.move_on_after(GROWTH_S):
        async with bounded_nursery(GROWTH_AT_ONCE) as tasks:
            for number, line in enumerate(lines):
                if line.info.is_counted:
                    await tasks.wait_room()
                    tasks.start(partial(look, number, line))
    return [grown[number] for number in range(len(lines))]


@bp.post("/buckets")
async def create() -> ResponseReturnValue:
    name = forms.text(await request.form, "name", most=NAME_MAX)
    await here.store().create_bucket(name)
    here.tell("good", f"Bucket {name} created")
    return redirect(url("/buckets"), 303)


@bp.get("/buckets/<bucket>/delete")
async def ask_to_delete(bucket: str) -> ResponseReturnValue:
    info = await here.store().bucket(bucket).info()
    return await page("buckets/delete.html", info=info)


@bp.post("/buckets/<bucket>/delete")
async def delete(bucket: str) -> ResponseReturnValue:
    """Delete a bucket; if its name was typed, with all that is in it."""
    form = await request.form
    is_sure = forms.text(form, "typed", most=NAME_MAX) == bucket
    if "typed" in form and not is_sure:
        return await page(
            "buckets/delete.html",
            status=422,
            info=await here.store().bucket(bucket).info(),
            message=f"Type {bucket} to delete it.",
        )
    await here.store().delete_bucket(bucket, force=is_sure)
    count = forms.number(form, "count", least=0, most=1 << 62, default=0) if is_sure else 0
    here.tell("good", f"Bucket {bucket} deleted" + (f", with {plural(count, 'object')}" if count else ""))
    return redirect(url("/buckets"), 303)


# --- news -----------------------------------------------------------------------------------------


@feeds.provider("buckets")
async def follow(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that buckets were made, deleted or set, at once; and how full they are, now and then."""
    before: list[warehouse.BucketInfo] | None = None

    async def look() -> None:
        nonlocal before
        now = await opened.store.buckets()
        if now != before:
            before = now
            publish({"count": len(now), "at": time.time()})

    async def look_now_and_then() -> None:
        while True:
            await trio.sleep(LOOK_S)
            await look()

    async with background() as nursery:
        nursery.start_soon(look_now_and_then)
        async for change in opened.store.changes():
            if "buckets" in change.subjects or change.is_missed:
                await look()


@feeds.provider("bucket")
async def follow_objects(opened: OpenStore, name: str, publish: feeds.Publish) -> None:
    """Tells that objects of a bucket were stored or deleted, below a prefix: "photos" or "photos/2026/"."""
    bucket, _, prefix = name.partition("/")
    try:
        async for change in opened.store.bucket(bucket).changes(prefix):
            publish({"count": change.count, "missed": change.is_missed, "at": time.time()})
    except NoSuchBucket:
        publish({"gone": True})
