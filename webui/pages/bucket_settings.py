"""The page /buckets/NAME/settings: quota, owner, who may do what, and deleting the bucket."""

from __future__ import annotations

from dataclasses import dataclass

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.conf.setting_types import parse_size
from warehouse.errors import BadRequest
from warehouse.webui import forms, here
from warehouse.webui.abilities import Abilities
from warehouse.webui.names import bucket_url
from warehouse.webui.pages.buckets import owner_names
from warehouse.webui.rendering import page, url

bp = Blueprint("bucket_settings", __name__)

OBJECTS = ("read", "write", "list", "delete", "sign", "manage_buckets")  # what concerns a bucket
KEYS_SHOWN = 200
COUNT_MAX = (1 << 62) - 1


@dataclass(frozen=True)
class Reach:
    """What one key may do here.

    Attributes:
        parts: for each beginning of names, "" for the whole bucket, the permissions that hold there.
    """

    key: warehouse.KeyInfo
    parts: list[tuple[str, list[str]]]


@bp.get("/buckets/<bucket>/settings")
async def show(bucket: str) -> ResponseReturnValue:
    store, can = here.store(), here.can()
    info = await store.bucket(bucket).info()
    owners = await owner_names(store, can)
    reaches = _reaches(await store.keys(), bucket) if can.manage_keys else []
    return await page(
        "buckets/settings.html",
        info=info,
        bucket=bucket,
        owner=owners.get(info.owner_id, ""),
        accounts=sorted(owners.values()) if can.manage_keys else [],
        reaches=reaches[:KEYS_SHOWN],
        reach_count=len(reaches),
        may_manage=can.may("manage_buckets", bucket),
    )


def _reaches(keys: list[warehouse.KeyInfo], bucket: str) -> list[Reach]:
    """The keys that may do something in the bucket."""
    found = []
    for key in keys:
        parts: dict[str, list[str]] = {}
        can = Abilities(key)
        for permission in OBJECTS:
            for prefix in can.prefixes(permission, bucket):
                parts.setdefault(prefix, []).append(permission)
        if parts:
            found.append(Reach(key, sorted(parts.items())))
    return sorted(found, key=lambda reach: (reach.key.name, reach.key.key_id))


@bp.post("/buckets/<bucket>/settings/quota")
async def set_quota(bucket: str) -> ResponseReturnValue:
    form = await request.form
    text = forms.text(form, "size", most=40)
    try:
        size = parse_size(text) if text else None
    except ValueError as error:
        raise BadRequest(f"Size is {text!r}: {error}; write 5 GiB, for example") from None
    count = (
        forms.number(form, "objects", least=0, most=COUNT_MAX) if form.get("objects", "").strip() else None
    )
    await here.store().bucket(bucket).set_quota(byte_count=size, object_count=count)
    here.tell("good", "Quota saved")
    return redirect(url(bucket_url(bucket) + "/settings"), 303)


@bp.post("/buckets/<bucket>/settings/owner")
async def set_owner(bucket: str) -> ResponseReturnValue:
    account = forms.text(await request.form, "account", least=1, most=200)
    await here.store().give_bucket(bucket, account)
    here.tell("good", f"The bucket belongs to {account} now")
    return redirect(url(bucket_url(bucket) + "/settings"), 303)
