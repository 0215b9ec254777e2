"""Identities: the part of a transaction that deals with accounts and API keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from warehouse.auth.rights import Permission, check_grants
from warehouse.catalog import identities
from warehouse.catalog.identities import AccountRow, ApiKeyRow, check_account_name
from warehouse.catalog.sqlite.bucket_notes import BucketNotes
from warehouse.catalog.sqlite.columns import ACCOUNT_COLUMNS, insert, marks
from warehouse.catalog.sqlite.key_columns import (
    API_KEY_COLUMNS,
    api_key_columns,
    api_key_row,
    mark_of_bucket,
    pack_grants,
)
from warehouse.errors import (
    AccountExists,
    AccountNotEmpty,
    ApiKeyExists,
    LastKeyManager,
    NoSuchAccount,
    NoSuchApiKey,
    TooManyApiKeys,
)

_REVOKE = (
    "INSERT INTO revocations (key_id, epoch, at_ms) VALUES (?, ?, ?)"
    " ON CONFLICT (key_id) DO UPDATE SET epoch = max(epoch, excluded.epoch), at_ms = excluded.at_ms"
)
_BUT_ID = API_KEY_COLUMNS.removeprefix("id, ")  # as `api_key_columns` orders them
_UPDATE_KEY = f"UPDATE api_keys SET ({_BUT_ID}) = ({marks(_BUT_ID)}) WHERE id = ?"


class Identities(BucketNotes):
    """Mixed into `Transaction`."""

    # --- accounts ---------------------------------------------------------------------------------

    def add_account(self, row: AccountRow) -> None:
        check_account_name(row.name)
        try:
            self._execute(
                insert("accounts", ACCOUNT_COLUMNS),
                msgspec.structs.astuple(row),
            )
        except sqlite3.IntegrityError as error:
            raise AccountExists(f"an account {row.name!r} exists already") from error

    def change_account(self, account_id: str, *, name: str, email: str | None) -> None:
        check_account_name(name)
        try:
            changed = self._execute(
                "UPDATE accounts SET name = ?, email = ? WHERE id = ?", (name, email, account_id)
            )
        except sqlite3.IntegrityError as error:
            raise AccountExists(f"an account {name!r} exists already") from error
        if changed.rowcount == 0:
            raise NoSuchAccount(f"there is no account {account_id!r}")

    def delete_account(self, account_id: str) -> None:
        for table, column in (("buckets", "owner_id"), ("api_keys", "account_id")):
            if self._one(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1", (account_id,)):
                what = "buckets" if table == "buckets" else "API keys"
                name = self._one("SELECT name FROM accounts WHERE id = ?", (account_id,))
                raise AccountNotEmpty(
                    f"the account {account_id if name is None else name[0]!r} has {what}: "
                    "delete them, or give them away"
                )
        if self._execute("DELETE FROM accounts WHERE id = ?", (account_id,)).rowcount == 0:
            raise NoSuchAccount(f"there is no account {account_id!r}")

    def set_bucket_owner(self, bucket_id: int, account_id: str) -> None:
        self._require_account(account_id)
        self._execute("UPDATE buckets SET owner_id = ? WHERE id = ?", (account_id, bucket_id))
        self._note_change_of_bucket(bucket_id)

    def _require_account(self, account_id: str) -> None:
        if self._one("SELECT 1 FROM accounts WHERE id = ?", (account_id,)) is None:
            raise NoSuchAccount(f"there is no account {account_id!r}")

    def _first_account(self) -> str:
        found = self._one("SELECT id FROM accounts ORDER BY created_ms, id LIMIT 1")
        return "" if found is None else str(found[0])

    # --- API keys ---------------------------------------------------------------------------------

    def api_key(self, key_id: str) -> ApiKeyRow:
        found = self._one(f"SELECT {API_KEY_COLUMNS} FROM api_keys WHERE id = ?", (key_id,))
        if found is None:
            raise NoSuchApiKey(f"there is no API key with the id {key_id!r}")
        return api_key_row(found)

    def is_key_good(self, key_id: str, epoch: int, now_ms: int) -> bool:
        found = self._one("SELECT epoch, is_enabled, expires_ms FROM api_keys WHERE id = ?", (key_id,))
        return (
            found is not None
            and found[0] == epoch
            and bool(found[1])
            and (found[2] is None or now_ms < found[2])
        )

    def add_api_key(self, row: ApiKeyRow, *, reserve: int = 0) -> ApiKeyRow:
        check_grants(row.grants)
        if row.account_id:
            self._require_account(row.account_id)
        self._require_few_keys(identities.KEYS_MAX - reserve)
        # What an earlier key of this id has signed stays void.
        revoked = self._one("SELECT epoch FROM revocations WHERE key_id = ?", (row.id,))
        row = msgspec.structs.replace(
            row,
            account_id=row.account_id or self._first_account(),
            epoch=row.epoch if revoked is None else max(row.epoch, revoked[0]),
        )
        try:
            self._execute(insert("api_keys", API_KEY_COLUMNS), api_key_columns(row))
        except sqlite3.IntegrityError as error:
            raise ApiKeyExists(f"an API key {row.id!r} exists already") from error
        return row

    def _require_few_keys(self, most: int) -> None:
        (count,) = self._one("SELECT (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM revocations)")
        if count >= most:
            raise TooManyApiKeys(
                f"there are {count:,} API keys and revocations of keys, those of deleted keys for eight days,"
                f" and you can make one only while there are fewer than {most:,}"
            )

    def change_api_key(
        self, key_id: str, change: Callable[[ApiKeyRow], ApiKeyRow], *, now_ms: int
    ) -> ApiKeyRow:
        before = self.api_key(key_id)
        after = change(before)
        assert after.id == key_id
        check_grants(after.grants)
        if after.account_id != before.account_id:
            self._require_account(after.account_id)
        if self._takes_away(before, after):
            after = msgspec.structs.replace(after, epoch=before.epoch + 1)
            self._execute(_REVOKE, (key_id, after.epoch, now_ms))
        self._execute(_UPDATE_KEY, (*api_key_columns(after)[1:], key_id))
        if before.is_free_manager(now_ms) and not after.is_free_manager(now_ms):
            self._require_free_manager()
        if before.may_manage_keys(now_ms) and not after.may_manage_keys(now_ms):
            self._require_key_manager(now_ms)
        return after

    def delete_api_key(self, key_id: str, *, now_ms: int) -> None:
        row = self.api_key(key_id)
        self._execute("DELETE FROM api_keys WHERE id = ?", (key_id,))
        self._execute(_REVOKE, (key_id, row.epoch + 1, now_ms))
        if row.is_free_manager(now_ms):
            self._require_free_manager()
        if row.may_manage_keys(now_ms):
            self._require_key_manager(now_ms)

    def reseal_api_keys(
        self, key_ids: Sequence[str], again: Callable[[ApiKeyRow], tuple[bytes | None, bytes | None]]
    ) -> int:
        count = 0
        for key_id in key_ids:
            found = self._one(f"SELECT {API_KEY_COLUMNS} FROM api_keys WHERE id = ?", (key_id,))
            if found is None:
                continue
            row = api_key_row(found)
            sealed = again(row)
            if sealed != (row.sealed, row.previous_sealed):
                count += 1
                self._execute(
                    "UPDATE api_keys SET sealed = ?, previous_sealed = ? WHERE id = ?", (*sealed, key_id)
                )
        return count

    def note_keys_used(self, used_ms: Mapping[str, int]) -> None:
        self._executemany(
            "UPDATE api_keys SET last_used_ms = max(coalesce(last_used_ms, 0), ?) WHERE id = ?",
            [(at_ms, key_id) for key_id, at_ms in used_ms.items()],
        )

    def forget_revocations(self, before_ms: int) -> None:
        self._execute("DELETE FROM revocations WHERE at_ms < ?", (before_ms,))

    def _takes_away(self, before: ApiKeyRow, after: ApiKeyRow) -> bool:
        """Can the key do less than before, or does an old secret end at once?"""
        return (
            not after.rights.covers(before.rights, self.bucket_name)
            or (before.is_enabled and not after.is_enabled)
            or _ends_earlier(before.expires_ms, after.expires_ms)
            or _ends_earlier(before.sign_s_max, after.sign_s_max)
            or _is_secret_void(before, after)
        )

    def bucket_name(self, bucket_id: int) -> str | None:
        found = self._one("SELECT name FROM buckets WHERE id = ?", (bucket_id,))
        return None if found is None else found[0]

    def _require_key_manager(self, now_ms: int) -> None:
        found = self._one(
            "SELECT 1 FROM api_keys WHERE is_enabled AND permissions & ?"
            " AND (expires_ms IS NULL OR expires_ms > ?) LIMIT 1",
            (int(Permission.MANAGE_KEYS), now_ms),
        )
        if found is None:
            raise LastKeyManager(
                "this is the last key that may manage keys: make another one with that permission first"
            )

    def _require_free_manager(self) -> None:
        """See `ApiKeyRow.is_free_manager`."""
        found = self._one(
            "SELECT 1 FROM api_keys WHERE is_enabled AND permissions & ? AND expires_ms IS NULL"
            " AND grants IS NULL AND sign_s_max IS NULL AND limits IS NULL LIMIT 1",
            (int(Permission.MANAGE_KEYS),),
        )
        if found is None:
            raise LastKeyManager(
                "this is the last key that may manage keys without an expiry, grants or limits of its own:"
                " after it nobody could take those away again, so make another one first"
            )

    def _take_grants_on(self, bucket_id: int) -> None:
        """The bucket is deleted: its id is never used again, so this only keeps the lists of grants short."""
        # Thousands of keys are not decoded for it, because all puts wait.
        rows = self._execute(
            f"SELECT {API_KEY_COLUMNS} FROM api_keys WHERE instr(grants, ?)", (mark_of_bucket(bucket_id),)
        ).fetchall()
        for row in map(api_key_row, rows):
            left = tuple(grant for grant in row.grants or () if grant.bucket_id != bucket_id)
            if left != row.grants:
                self._execute("UPDATE api_keys SET grants = ? WHERE id = ?", (pack_grants(left), row.id))


def _ends_earlier(before: int | None, after: int | None) -> bool:
    return after is not None and (before is None or after < before)


def _is_secret_void(before: ApiKeyRow, after: ApiKeyRow) -> bool:
    """Has the secret changed, and does the old one not work for a while?"""

    def secret(row: ApiKeyRow) -> tuple[Any, Any]:
        return row.hashed, row.sealed

    if secret(before) == secret(after):
        return False
    return (after.previous_hashed, after.previous_sealed) != secret(before)
