"""Accounts and API keys of a fake store: they are remembered, and open nothing."""

from __future__ import annotations

import itertools

import msgspec
from msgspec import UNSET

from warehouse.errors import ApiKeyExists, BadRequest, NoSuchAccount, NoSuchApiKey
from warehouse.transport.messages import (
    AccountInfo,
    Accounts,
    AccountShown,
    Answer,
    CreateAccount,
    CreateKey,
    DeleteAccount,
    DeleteKey,
    Done,
    EditAccount,
    EditKey,
    GiveBucket,
    ImportKey,
    KeyCreated,
    KeyInfo,
    Keys,
    KeyShown,
    KeyWish,
    ListAccounts,
    ListKeys,
    Request,
    RotateKey,
    ShowKey,
)

CREATED_MS = 1_790_000_000_000
IDENTITY_REQUESTS = (
    *(CreateKey, ImportKey, ShowKey, ListKeys, EditKey, RotateKey, DeleteKey),
    *(CreateAccount, ListAccounts, EditAccount, GiveBucket, DeleteAccount),
)


class FakeIdentities:
    def __init__(self, own_key_id: str) -> None:
        self.own_key_id = own_key_id
        self.keys: dict[str, KeyInfo] = {}
        self.accounts = {"main": AccountInfo(account_id="0a", name="main", email=None, created_ms=1)}
        self._numbers = itertools.count(1)
        self._add(own_key_id, CreateKey(name="root", permissions=["manage_keys"]))

    def answer(self, request: Request) -> Answer:
        match request:
            case CreateKey():
                info = self._add(f"WHKEY{next(self._numbers)}", request)
                return KeyCreated(key=info, secret=f"secret-of-{info.key_id}")
            case ImportKey(key_id=key_id):
                if key_id in self.keys:
                    raise ApiKeyExists(f"an API key {key_id!r} exists already")
                return KeyShown(key=self._add(key_id, request))
            case ShowKey(key_id=key_id):
                return KeyShown(key=self._key(key_id or self.own_key_id))
            case ListKeys():
                return Keys(keys=[*self.keys.values()])
            case EditKey(key_id=key_id):
                return KeyShown(key=self._edit(key_id, request))
            case RotateKey(key_id=key_id):
                self._key(key_id)
                return KeyCreated(key=self.keys[key_id], secret=f"secret-{next(self._numbers)}-of-{key_id}")
            case DeleteKey(key_id=key_id):
                self._key(key_id)
                del self.keys[key_id]
                return Done()
            case CreateAccount(name=name, email=email):
                self.accounts[name] = AccountInfo(
                    account_id=f"{next(self._numbers):032x}", name=name, email=email, created_ms=CREATED_MS
                )
                return AccountShown(account=self.accounts[name])
            case ListAccounts():
                return Accounts(accounts=[*self.accounts.values()])
            case EditAccount(account=name):
                changed = {
                    field: getattr(request, field)
                    for field in ("name", "email")
                    if getattr(request, field) is not UNSET
                }
                account = msgspec.structs.replace(self._account(name), **changed)
                del self.accounts[name]
                self.accounts[account.name] = account
                return AccountShown(account=account)
            case GiveBucket(account=name):
                self._account(name)
                return Done()
            case DeleteAccount(account=name):
                self._account(name)
                del self.accounts[name]
                return Done()
        raise BadRequest(f"the fake store does not answer {type(request).__name__}")

    def _key(self, key_id: str) -> KeyInfo:
        if key_id not in self.keys:
            raise NoSuchApiKey(f"there is no API key with the id {key_id!r}")
        return self.keys[key_id]

    def _account(self, name: str) -> AccountInfo:
        if name not in self.accounts:
            raise NoSuchAccount(f"there is no account {name!r}")
        return self.accounts[name]

    def _add(self, key_id: str, wish: KeyWish) -> KeyInfo:
        account = self._account(wish.account or "main")
        info = KeyInfo(
            key_id=key_id,
            name=wish.name,
            description=wish.description,
            account=account.name,
            account_id=account.account_id,
            permissions=wish.permissions or [],
            grants=wish.grants,
            abilities=["can do what a test wants"],
            is_enabled=True,
            is_sealed=True,
            created_ms=CREATED_MS,
            expires_ms=wish.expires_ms,
            sign_s_max=wish.sign_s_max,
            limits=wish.limits,
        )
        self.keys[key_id] = info
        return info

    def _edit(self, key_id: str, edit: EditKey) -> KeyInfo:
        changed = {
            field: getattr(edit, field)
            for field in KeyInfo.__struct_fields__
            if field != "key_id" and getattr(edit, field, UNSET) is not UNSET
        }
        self.keys[key_id] = msgspec.structs.replace(self._key(key_id), **changed)
        return self.keys[key_id]
