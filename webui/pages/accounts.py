"""The page /accounts: whose keys and buckets belong together."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

import warehouse
from warehouse.errors import NoSuchAccount
from warehouse.webui import forms, here
from warehouse.webui.key_lines import line_of
from warehouse.webui.paging import rows_of
from warehouse.webui.rendering import page, url

bp = Blueprint("accounts", __name__)

BUCKETS_OFFERED = 1000
SHOWN_MAX = 200  # keys, and buckets, of one account
NAME_MAX = 200  # characters that are sent on; the store says what is wrong with a name


@bp.get("/accounts")
async def show() -> ResponseReturnValue:
    store = here.store()
    keys = Counter(key.account_id for key in await store.keys())
    buckets = Counter(bucket.owner_id for bucket in await store.buckets())
    return await page(
        "accounts/index.html",
        accounts=rows_of(await store.accounts(), request.args),
        key_counts=keys,
        bucket_counts=buckets,
    )


@bp.post("/accounts")
async def create() -> ResponseReturnValue:
    form = await request.form
    name = forms.text(form, "name", most=NAME_MAX)
    account = await here.store().create_account(name, email=forms.text(form, "email", most=NAME_MAX) or None)
    here.tell("good", f"Account {account.name} created")
    return redirect(url("/accounts"), 303)


@bp.get("/accounts/<account_id>")
async def show_one(account_id: str) -> ResponseReturnValue:
    store = here.store()
    account = next((one for one in await store.accounts() if one.account_id == account_id), None)
    if account is None:
        raise NoSuchAccount("there is no account of this id")
    now_ms = time.time() * 1000
    keys = [line_of(key, now_ms) for key in await store.keys() if key.account_id == account_id]
    everybodys = await store.buckets()
    buckets = [bucket for bucket in everybodys if bucket.owner_id == account_id]
    return await page(
        "accounts/one.html",
        account=account,
        lines=keys[:SHOWN_MAX],
        buckets=buckets[:SHOWN_MAX],
        key_count=len(keys),
        bucket_count=len(buckets),
        others=_to_give(everybodys, account_id) if here.can().manage_keys else [],
    )


def _to_give(buckets: list[warehouse.BucketInfo], account_id: str) -> list[str]:
    """The buckets of other accounts that the signed-in key may give to this one."""
    can = here.can()
    names = (bucket.name for bucket in buckets if bucket.owner_id != account_id)
    return [*islice((name for name in names if can.may("manage_buckets", name)), BUCKETS_OFFERED)]


@bp.post("/accounts/<account_id>/buckets")
async def take_bucket(account_id: str) -> ResponseReturnValue:
    """Make a bucket this account's."""
    bucket = forms.text(await request.form, "bucket", least=1, most=NAME_MAX)
    await here.store().give_bucket(bucket, account_id)
    here.tell("good", f"The bucket {bucket} belongs to this account now")
    return redirect(url(f"/accounts/{account_id}"), 303)


@bp.post("/accounts/<account_id>")
async def edit(account_id: str) -> ResponseReturnValue:
    form = await request.form
    name = forms.text(form, "name", most=NAME_MAX)
    email = forms.text(form, "email", most=NAME_MAX) or None
    account = await here.store().edit_account(account_id, name=name, email=email)
    here.tell("good", f"Account {account.name} changed")
    return redirect(url("/accounts"), 303)


@bp.post("/accounts/<account_id>/delete")
async def delete(account_id: str) -> ResponseReturnValue:
    form = await request.form
    await here.store().delete_account(account_id)
    here.tell("good", f"Account {forms.text(form, 'name', most=NAME_MAX) or account_id} deleted")
    return redirect(url("/accounts"), 303)
