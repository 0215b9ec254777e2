"""Identity reads: accounts, API keys, and what was revoked."""

from __future__ import annotations

from warehouse.catalog.identities import AccountRow, ApiKeyRow
from warehouse.catalog.sqlite.columns import ACCOUNT_COLUMNS
from warehouse.catalog.sqlite.key_columns import API_KEY_COLUMNS, api_key_row
from warehouse.catalog.sqlite.reader import Reader


class IdentityReads(Reader):
    """Part of `SqliteCatalog`."""

    def accounts(self) -> list[AccountRow]:
        rows = self._all(f"SELECT {ACCOUNT_COLUMNS} FROM accounts ORDER BY created_ms, id")
        return [AccountRow(*columns) for columns in rows]

    def account(self, account_id: str) -> AccountRow | None:
        found = self._one(f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id = ?", (account_id,))
        return None if found is None else AccountRow(*found)

    def account_by_name(self, name: str) -> AccountRow | None:
        found = self._one(f"SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE name = ?", (name,))
        return None if found is None else AccountRow(*found)

    def api_key(self, key_id: str) -> ApiKeyRow | None:
        found = self._one(f"SELECT {API_KEY_COLUMNS} FROM api_keys WHERE id = ?", (key_id,))
        return None if found is None else api_key_row(found)

    def api_keys(self) -> list[ApiKeyRow]:
        rows = self._all(f"SELECT {API_KEY_COLUMNS} FROM api_keys ORDER BY created_ms, id")
        return [api_key_row(columns) for columns in rows]

    def api_keys_after(self, after: str, limit: int) -> list[ApiKeyRow]:
        rows = self._all(
            f"SELECT {API_KEY_COLUMNS} FROM api_keys WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return [api_key_row(columns) for columns in rows]

    def api_key_count(self) -> int:
        return int(self._one("SELECT count(*) FROM api_keys")[0])

    def revocations(self) -> dict[str, int]:
        return dict(self._all("SELECT key_id, epoch FROM revocations"))

    def revocation(self, key_id: str) -> int | None:
        found = self._one("SELECT epoch FROM revocations WHERE key_id = ?", (key_id,))
        return None if found is None else int(found[0])
