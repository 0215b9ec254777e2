"""Identities: accounts, API keys and their rights, as a catalog keeps them.

An engine reads its columns in the order of the fields (`sqlite/columns.py`, `sqlite/key_columns.py`), so both
change together.
"""

from __future__ import annotations

import msgspec

from warehouse.auth.keys import HashedSecret
from warehouse.auth.limits import NO_LIMITS, KeyLimits
from warehouse.auth.rights import Grant, Permission, Rights
from warehouse.errors import BadRequest

# API keys, and those whose revocation is remembered: a volume actor is told of all of them in one message.
KEYS_MAX = 20_000
ROOTS_MAX = 1_000  # root keys beyond that: whoever has filled a store with keys does not lock its owner out
MAIN_ACCOUNT = "main"  # the name of the account that every catalog begins with


class AccountRow(msgspec.Struct, frozen=True):
    """Whose keys and buckets belong together."""

    id: str  # 32 hexadecimal digits
    name: str
    email: str | None
    created_ms: int


class ApiKeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key.

    Attributes:
        account_id: "" for the first account there is, when the row is written.
        hashed: of the secret, in a catalog of an earlier release; None where the secret is sealed.
        sealed: the secret, see `auth/sealing.py`; a key that has none can log in, and cannot sign for S3.
        permissions: a number of `auth.rights.Permission`.
        grants: None is every bucket, () is none.
        epoch: grows with every change that takes rights away; what was signed at an older one is void.
        previous_hashed, previous_sealed: of the secret before the last rotation.
        previous_until_ms: until when that one works, too.
        sign_s_max: how long, in seconds, what the key has signed may live; None: as long as the store allows.
    """

    id: str
    account_id: str = ""
    name: str = ""
    description: str = ""
    hashed: HashedSecret | None = None
    sealed: bytes | None = None
    permissions: int
    grants: tuple[Grant, ...] | None = None
    is_enabled: bool = True
    epoch: int = 1
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    previous_hashed: HashedSecret | None = None
    previous_sealed: bytes | None = None
    previous_until_ms: int | None = None
    sign_s_max: int | None = None
    limits: KeyLimits = NO_LIMITS

    @property
    def rights(self) -> Rights:
        return Rights(Permission(self.permissions), self.grants)

    def is_usable(self, now_ms: int) -> bool:
        """Is it enabled, and not expired?"""
        return self.is_enabled and (self.expires_ms is None or now_ms < self.expires_ms)

    def may_manage_keys(self, now_ms: int) -> bool:
        return self.is_usable(now_ms) and bool(self.permissions & Permission.MANAGE_KEYS)

    def is_free_manager(self, now_ms: int) -> bool:
        """May it manage keys, with nothing of its own that keeps it from some of them?

        A key touches none that has more than itself.  So a manager that ends, or has grants or limits, cannot
        take these away again, from itself or from others.
        """
        return self.may_manage_keys(now_ms) and (
            self.expires_ms is None
            and self.grants is None
            and self.sign_s_max is None
            and self.limits == NO_LIMITS
        )


def check_account_name(name: str) -> None:
    """
    Raises:
        BadRequest: a name has 1 to 128 characters that can be printed.
    """
    if not 1 <= len(name) <= 128 or not name.isprintable() or name != name.strip():
        raise BadRequest(
            "the name of an account has 1 to 128 printable characters, and no space at either end,"
            f" not {name[:200]!r}"
        )
