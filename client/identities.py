"""Identities: the accounts and API keys of a store, for a program that manages them.

Nobody gives what they do not have: a key that manages keys makes, changes, rotates and deletes only keys that
may do no more than itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET, UnsetType

from warehouse.client.control import Control
from warehouse.client.grant_texts import grants_of
from warehouse.conf.profile import Profile
from warehouse.transport.messages import (
    OVERLAP_S,
    AccountInfo,
    Accounts,
    AccountShown,
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
    KeyGrant,
    KeyInfo,
    KeyLimits,
    Keys,
    KeyShown,
    ListAccounts,
    ListKeys,
    RotateKey,
    ShowKey,
)

Grants = Iterable[KeyGrant | str]
Expiry = datetime | timedelta


@dataclass(frozen=True)
class NewKey:
    """A key with its secret, which the store shows this once.

    Attributes:
        profile: with which a program connects as this key.
    """

    key: KeyInfo
    secret: str = field(repr=False)
    profile: Profile

    @property
    def key_id(self) -> str:
        return self.key.key_id


class Identities:
    """The methods of `Store` about accounts and API keys."""

    def __init__(self, control: Control) -> None:
        self._control = control

    # --- API keys ---------------------------------------------------------------------------------

    async def create_key(
        self,
        name: str,
        *,
        preset: str | None = None,
        permissions: Iterable[str] | None = None,
        grants: Grants | None = None,
        expires: Expiry | None = None,
        description: str = "",
        account: str = "",
        sign_s_max: int | None = None,
        limits: KeyLimits | None = None,
    ) -> NewKey:
        """Make an API key.

        Args:
            name: for people, up to 128 characters; two keys may have the same.
            preset: "admin", "operator" (no data), "writer", "read-only", "reader" or "upload-only".
            permissions: instead of a preset, by name: "read", "write", "delete", "list", "sign",
                "manage_buckets", "see_cluster", "see_events", "manage_cluster", "manage_keys".  With neither,
                those that the grants name; without grants, those of a reader.
            grants: the buckets that the permissions are confined to, as `KeyGrant` or in words, such as
                "photos/2026/*:read,list"; None: every bucket.
            expires: a moment, or how long from now.
            account: name or id; "": that of this key.
            sign_s_max: longest life, in seconds, of URLs that the key has signed.
        Raises:
            GrantNamesNothing, GrantContradicts, GrantExceeds, NoSuchPreset, NoSuchAccount, ExpiryPassed,
            BadRequest, PermissionDenied.
            OutcomeUnknown: the connection broke before the answer arrived, and with it the secret.
        """
        wish = _wish(permissions, grants, expires, limits)
        request = CreateKey(
            name=name,
            preset=preset or "",
            description=description,
            account=account,
            sign_s_max=sign_s_max,
            **wish,
        )
        return self._new_key(await self._control.ask(request, KeyCreated, is_repeatable=False))

    async def import_key(
        self,
        key_id: str,
        secret: str,
        name: str,
        *,
        preset: str | None = None,
        permissions: Iterable[str] | None = None,
        grants: Grants | None = None,
        expires: Expiry | None = None,
        description: str = "",
        account: str = "",
        sign_s_max: int | None = None,
        limits: KeyLimits | None = None,
    ) -> KeyInfo:
        """Make an API key of an id and a secret that people have in their programs already.

        Args:
            key_id: 3 to 128 letters, digits, '.', '_' and '-'.
            secret: 16 to 256 printable characters without spaces.
        Raises:
            ApiKeyExists: the store has a key of that id.
            BadApiKey: the id or the secret is out of bounds.
            All others as `create_key`.
        """
        wish = _wish(permissions, grants, expires, limits)
        request = ImportKey(
            key_id=key_id,
            secret=secret,
            name=name,
            preset=preset or "",
            description=description,
            account=account,
            sign_s_max=sign_s_max,
            **wish,
        )
        return (await self._control.ask(request, KeyShown, is_repeatable=False)).key

    async def keys(self) -> list[KeyInfo]:
        """All API keys, the oldest first."""
        found: list[KeyInfo] = []
        after = ""
        while True:
            page = await self._control.ask(ListKeys(after=after), Keys)
            found += page.keys
            after = page.next_after
            if not after:
                return sorted(found, key=lambda key: (key.created_ms, key.key_id))

    async def key(self, key_id: str | None = None) -> KeyInfo:
        """One API key; without an id, the one that this program uses, for which it needs no permission.

        Raises:
            NoSuchApiKey.
        """
        return (await self._control.ask(ShowKey(key_id=key_id or ""), KeyShown)).key

    async def edit_key(
        self,
        key_id: str,
        *,
        name: str | UnsetType = UNSET,
        preset: str | UnsetType = UNSET,
        permissions: Iterable[str] | UnsetType = UNSET,
        grants: Grants | UnsetType | None = UNSET,
        expires: Expiry | UnsetType | None = UNSET,
        description: str | UnsetType = UNSET,
        account: str | UnsetType = UNSET,
        sign_s_max: int | UnsetType | None = UNSET,
        limits: KeyLimits | UnsetType = UNSET,
    ) -> KeyInfo:
        """Change what is named, and nothing else; it counts at once, also for open connections.

        Where a right is taken away, connections of the key end, and what it has signed is void.

        Args:
            grants: None: every bucket.
            expires: None: never.
        Raises:
            NoSuchApiKey, LastKeyManager; all others as `create_key`.
        """
        request = EditKey(
            key_id=key_id,
            name=name,
            preset=preset,
            permissions=UNSET if isinstance(permissions, UnsetType) else [*permissions],
            grants=UNSET if isinstance(grants, UnsetType) else grants_of(grants),
            expires_ms=UNSET if isinstance(expires, UnsetType) else _expires_ms(expires),
            description=description,
            account=account,
            sign_s_max=sign_s_max,
            limits=limits,
        )
        return (await self._control.ask(request, KeyShown, is_repeatable=False)).key

    async def disable_key(self, key_id: str) -> KeyInfo:
        """End what a key can do until it is enabled again: its connections and URLs end within a second.

        Raises:
            NoSuchApiKey, LastKeyManager, GrantExceeds, PermissionDenied.
        """
        request = EditKey(key_id=key_id, is_enabled=False)
        return (await self._control.ask(request, KeyShown, is_repeatable=False)).key

    async def enable_key(self, key_id: str) -> KeyInfo:
        """Let a disabled key work again; URLs that it signed before stay void.

        Raises:
            NoSuchApiKey, GrantExceeds, PermissionDenied.
        """
        request = EditKey(key_id=key_id, is_enabled=True)
        return (await self._control.ask(request, KeyShown, is_repeatable=False)).key

    async def rotate_key(self, key_id: str, *, overlap_s: float = OVERLAP_S) -> NewKey:
        """Give a key a new secret.

        Args:
            overlap_s: how long the present secret works, too, up to 30 days; 0: it ends at once, and with it
                the connections of the key and what it has signed.
        Raises:
            NoSuchApiKey, GrantExceeds, BadRequest, PermissionDenied.
            OutcomeUnknown: the connection broke before the answer arrived: rotate again.
        """
        request = RotateKey(key_id=key_id, overlap_s=overlap_s)
        return self._new_key(await self._control.ask(request, KeyCreated, is_repeatable=False))

    async def delete_key(self, key_id: str) -> None:
        """Delete a key for good; what it has signed is void within a second.

        Raises:
            NoSuchApiKey, LastKeyManager, GrantExceeds, PermissionDenied.
        """
        await self._control.ask(DeleteKey(key_id=key_id), Done, is_repeatable=False)

    def _new_key(self, answer: KeyCreated) -> NewKey:
        profile = replace(self._control.profile, key_id=answer.key.key_id, secret=answer.secret)
        return NewKey(answer.key, answer.secret, profile)

    # --- accounts ---------------------------------------------------------------------------------

    async def create_account(self, name: str, *, email: str | None = None) -> AccountInfo:
        """Make an account.  Whoever it is for gets a key of it with `create_key(..., account=name)`.

        Raises:
            AccountExists, BadRequest, PermissionDenied.
        """
        request = CreateAccount(name=name, email=email)
        return (await self._control.ask(request, AccountShown, is_repeatable=False)).account

    async def accounts(self) -> list[AccountInfo]:
        """All accounts, the oldest first."""
        found: list[AccountInfo] = []
        after = ""
        while True:
            page = await self._control.ask(ListAccounts(after=after), Accounts)
            found += page.accounts
            after = page.next_after
            if not after:
                return found

    async def edit_account(
        self, account: str, *, name: str | UnsetType = UNSET, email: str | UnsetType | None = UNSET
    ) -> AccountInfo:
        """
        Args:
            account: name or id.
        Raises:
            NoSuchAccount, AccountExists, BadRequest, PermissionDenied.
        """
        request = EditAccount(account=account, name=name, email=email)
        return (await self._control.ask(request, AccountShown, is_repeatable=False)).account

    async def give_bucket(self, bucket: str, account: str) -> None:
        """Make a bucket another account's; who may do what with it stays.

        Raises:
            NoSuchBucket, NoSuchAccount, PermissionDenied.
        """
        await self._control.ask(GiveBucket(bucket=bucket, account=account), Done)

    async def delete_account(self, account: str) -> None:
        """Delete an account that has neither keys nor buckets.

        Raises:
            NoSuchAccount, AccountNotEmpty, PermissionDenied.
        """
        await self._control.ask(DeleteAccount(account=account), Done, is_repeatable=False)


def _wish(
    permissions: Iterable[str] | None, grants: Grants | None, expires: Expiry | None, limits: KeyLimits | None
) -> dict[str, Any]:
    return {
        "permissions": None if permissions is None else [*permissions],
        "grants": grants_of(grants),
        "expires_ms": _expires_ms(expires),
        "limits": limits or KeyLimits(),
    }


def _expires_ms(expires: Expiry | None) -> int | None:
    """Milliseconds since 1970; a moment without a time zone is local time."""
    if expires is None:
        return None
    moment = datetime.now(UTC) + expires if isinstance(expires, timedelta) else expires
    return int(moment.timestamp() * 1000)
