"""Messages about identities: accounts, and API keys with what they may do.

Grants name buckets by their names, and the master keeps the ids: a bucket that is made anew under an old name
is not open to old keys.  No message shows a secret but `KeyCreated`, once.

`KeyInfo`, `KeyGrant`, `KeyLimits` and `AccountInfo` are public: programs hold them (`warehouse.KeyInfo`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Signed, Whole
from warehouse.transport.messages.texts import Few, Key, Name, Page, Secret, Sentence, Word

OVERLAP_S = 86_400.0  # how long the secret before a rotation works, unless somebody says otherwise

Permissions = Annotated[list[Word], Few]  # by name: "read", "list", ...


class KeyGrant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an API key may do in one bucket, or in all buckets whose names begin alike."""

    bucket: Name  # "photos"; "team-*": all whose names begin so, also those to come; "*": every bucket
    prefix: Key = ""  # of the keys of objects; "": the whole bucket
    permissions: Permissions = []  # in a request: none named means all that the key has for objects


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much an API key may ask of the store; None: no limit of its own."""

    requests_per_s: float | None = None
    bytes_per_s: float | None = None  # bodies of objects, both directions together
    requests_at_once: Signed | None = None
    open_uploads: Signed | None = None
    lease_bytes: Signed | None = None  # room under lease


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without its secret."""

    key_id: Name
    name: Name
    description: Sentence
    account: Name  # its name
    account_id: Name
    permissions: Permissions
    grants: Annotated[list[KeyGrant], Few] | None  # None: every bucket
    abilities: Annotated[list[Sentence], Few]  # what all of this comes to, in words
    is_enabled: bool
    is_sealed: bool  # False: of a release before 0.2; rotate it before it is used for S3
    created_ms: Whole
    expires_ms: Whole | None = None
    last_used_ms: Whole | None = None  # within a minute
    previous_until_ms: Whole | None = None  # until when the secret before the last rotation works
    sign_s_max: Whole | None = None  # longest life of what it has signed, seconds
    limits: KeyLimits = KeyLimits()
    hidden_grant_count: Whole = 0  # grants on buckets that the asker may not see, which are left out


class KeyWish(Message, frozen=True, kw_only=True):
    """What a new key shall be; not sent itself.

    With neither `preset` nor `permissions`, the key has the permissions that its grants name; without grants,
    those of a reader.
    """

    name: Name
    description: Sentence = ""
    account: Name = ""  # name or id; "": that of the asker
    preset: Word = ""
    permissions: Permissions | None = None
    grants: Annotated[list[KeyGrant], Few] | None = None  # None: every bucket
    expires_ms: Signed | None = None
    sign_s_max: Signed | None = None
    limits: KeyLimits = KeyLimits()


class CreateKey(KeyWish, frozen=True, kw_only=True, tag="create_key"):
    """Make an API key; nobody can give it more than they have themselves."""


class ImportKey(KeyWish, frozen=True, kw_only=True, tag="import_key"):
    """Make an API key of an id and a secret that people have in their programs already."""

    key_id: Name
    secret: Secret


class KeyCreated(Message, frozen=True, tag="key_created"):
    key: KeyInfo
    secret: Secret


class ShowKey(Message, frozen=True, tag="show_key"):
    key_id: Name = ""  # "": the asker's own


class KeyShown(Message, frozen=True, tag="key_shown"):
    key: KeyInfo


class ListKeys(Message, frozen=True, tag="list_keys"):
    after: Name = ""  # only ids greater than this one
    limit: Signed = 0  # 0: as many as fit into an answer


class Keys(Message, frozen=True, tag="keys"):
    """By id."""

    keys: Annotated[list[KeyInfo], Page]
    next_after: Name = ""  # pass as `after` for the next page; "": this was the last


class EditKey(Message, frozen=True, tag="edit_key"):
    """Change what is named, and nothing else."""

    key_id: Name
    name: Name | UnsetType = UNSET
    description: Sentence | UnsetType = UNSET
    account: Name | UnsetType = UNSET
    preset: Word | UnsetType = UNSET
    permissions: Permissions | UnsetType = UNSET
    grants: Annotated[list[KeyGrant], Few] | UnsetType | None = UNSET
    expires_ms: Signed | UnsetType | None = UNSET
    sign_s_max: Signed | UnsetType | None = UNSET
    limits: KeyLimits | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET


class RotateKey(Message, frozen=True, tag="rotate_key"):
    """Give a key a new secret."""

    key_id: Name
    overlap_s: float = (
        OVERLAP_S  # how long the present secret works, too; 0: it ends at once, with its sessions
    )


class DeleteKey(Message, frozen=True, tag="delete_key"):
    key_id: Name


# --- accounts -------------------------------------------------------------------------------------


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Whose keys and buckets belong together."""

    account_id: Name
    name: Name
    email: Name | None
    created_ms: Whole


class CreateAccount(Message, frozen=True, tag="create_account"):
    name: Name
    email: Name | None = None


class AccountShown(Message, frozen=True, tag="account_shown"):
    account: AccountInfo


class ListAccounts(Message, frozen=True, tag="list_accounts"):
    after: Name = ""  # only those that were made after the account of this id


class Accounts(Message, frozen=True, tag="accounts"):
    """The oldest first."""

    accounts: Annotated[list[AccountInfo], Page]
    next_after: Name = ""


class EditAccount(Message, frozen=True, tag="edit_account"):
    account: Name  # name or id, as below
    name: Name | UnsetType = UNSET
    email: Name | UnsetType | None = UNSET


class GiveBucket(Message, frozen=True, tag="give_bucket"):
    """Make a bucket another account's."""

    bucket: Name
    account: Name


class DeleteAccount(Message, frozen=True, tag="delete_account"):
    """Refused for an account that has keys or buckets."""

    account: Name
