"""Accounts: whose buckets are whose, and giving them."""

from __future__ import annotations

import warehouse
from console_http import Visitor
from console_kit import ConsoleStore


def make(console: ConsoleStore, name: str, *buckets: str) -> str:
    """A new account, and buckets of the root key's; return the account's id."""

    async def work(store: warehouse.Store) -> str:
        for bucket in buckets:
            await store.create_bucket(bucket)
        return (await store.create_account(name)).account_id

    return console.ask(work)


def owner(console: ConsoleStore, bucket: str) -> str:
    async def find(store: warehouse.Store) -> str:
        return (await store.bucket(bucket).info()).owner_id

    return console.ask(find)


def test_a_bucket_is_given_on_the_page_of_an_account(console: ConsoleStore, root: Visitor) -> None:
    account = make(console, "film", "reels")
    assert '<option value="reels">' in root.get(f"/accounts/{account}").text
    answer = root.post(f"/accounts/{account}/buckets", {"bucket": "reels"})
    assert (answer.status, answer.headers["location"]) == (303, f"/accounts/{account}")
    assert owner(console, "reels") == account
    page = root.get(f"/accounts/{account}").text
    assert 'href="/buckets/reels"' in page
    assert '<option value="reels">' not in page
    assert f'href="/accounts/{account}"' in root.get("/buckets").text
    assert f'href="/accounts/{account}"' in root.get("/buckets/reels/settings").text


def test_a_bucket_that_nobody_has_is_given_to_nobody(console: ConsoleStore, root: Visitor) -> None:
    account = make(console, "nothing")
    answer = root.post(f"/accounts/{account}/buckets", {"bucket": "no-such"}, {"Accept": "application/json"})
    assert (answer.status, answer.code) == (404, "no_such_bucket")


def test_who_may_not_manage_a_bucket_is_not_offered_it(console: ConsoleStore) -> None:
    account = make(console, "keepers", "kept")
    profile = console.make_key("keeper", permissions=["list", "manage_keys"], grants=None)
    keeper = Visitor(console.url).sign_in(profile)
    assert "Give it" not in keeper.get(f"/accounts/{account}").text
    answer = keeper.post(f"/accounts/{account}/buckets", {"bucket": "kept"})
    assert answer.status == 403
    assert owner(console, "kept") != account
