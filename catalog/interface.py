"""Interface: what the master asks of a catalog, whatever engine keeps it.

`Catalog` reads, and opens transactions; `Transaction` changes.  The master, its writer and everything in
`actors/control` know these two Protocols only; the code that opens a catalog chooses the engine.
`tests/contract/test_catalog*.py` holds every engine to what is written here.

Units: sizes in bytes, times in milliseconds since 1970, stamps as 64-bit readings of a hybrid logical clock
(milliseconds << 16 | counter).  A needle is named by the id of its volume and its own id.

Errors: everything that an engine raises is a `StoreError` of this project, whatever its driver says.  Any
call may raise `ReadFailed`, `CatalogCorrupt` or `Overloaded`; they are not repeated below.  Inside the block
of a transaction, an error of the driver may pass by on its way to the end of the block, which names it.

Opening: an engine makes a catalog that is missing and brings an older one up to date.  It raises `DiskInUse`
where the catalog is open already, `SchemaNewer` where a later release has written it.

Garbage: a needle that nothing names any more waits in the outbox until its tombstone is durable.  Its reason
says what it was, and decides what a repeated message about it is answered:

    replaced, deleted   it was visible once
    void                it was given up before it was visible
    unmet               its put had a condition that was not met
    over_quota          its bucket had no room for it
    aborted             it belonged to an upload that was aborted or expired

The invariant: each needle that was ever reported is named by exactly one object or upload,
or waits in the outbox, or is remembered as tombstoned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import EllipsisType
from typing import Protocol

from warehouse.catalog.finding import Found, Rank, Search
from warehouse.catalog.identities import AccountRow, ApiKeyRow
from warehouse.catalog.nodes import JoinTokenRow, NodeRow
from warehouse.catalog.records import (
    BucketRow,
    ChunkRow,
    CommitResult,
    CountDifference,
    DiskRemoval,
    DiskRow,
    FinishResult,
    Garbage,
    JobRow,
    LostRow,
    ObjectRow,
    Page,
    PartRow,
    UploadEnd,
    UploadPage,
    UploadRow,
    VolumeRow,
)
from warehouse.errors import StoreError
from warehouse.transport.messages import BucketNote, NeedleDamage, StoredNeedle

FINISHED_KEPT_MS = 10 * 60 * 1000  # how long a finish may be repeated: longer than any client tries


class TransactionBroken(Exception):
    """The engine failed in the middle of a transaction, so nothing of the transaction can be kept.

    `Transaction.savepoint` raises it and `Catalog.transaction` turns it into the `StoreError` that names the
    cause.  Nobody in between may take it for the failure of one request.
    """


class Catalog(Protocol):
    """An open catalog: its reads, its transactions, its checks.

    All calls come from one thread (the master's event loop) and take microseconds, except where a method
    says that any thread may call it.  One transaction at a time may be open in another thread; reads never
    wait for it, and never see what it has not committed.
    """

    # --- opening and closing ----------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The folder on this machine whose free room decides whether the catalog can grow."""

    @property
    def failure(self) -> StoreError | None:
        """Why nothing is written until the catalog is opened again; None: writes go on."""

    @property
    def displaced(self) -> str | None:
        """Why the next start would not find what is committed now; None: it would."""

    def require_in_place(self) -> None:
        """
        Raises:
            WriteFailed: the next start would not find what is committed now; the message says what to do.
        """

    def close(self) -> None: ...

    # --- changing ---------------------------------------------------------------------------------

    def transaction(self) -> AbstractContextManager[Transaction]:
        """One durable transaction: when the block has ended, all of it survives a power cut.

        An exception that leaves the block undoes everything in it, and goes on.

        Raises:
            DiskFull, Overloaded: nothing was changed; it may work later.
            WriteFailed: nothing was changed, and nothing will be until the catalog is opened again.
            OutcomeUnknown: the commit itself failed, so its last bytes may be on the disk or not.  Only
                opening the catalog again tells; until then nothing more is written.
        """

    @property
    def is_purge_left(self) -> bool:
        """A deleted bucket holds something that is not garbage yet: see `Transaction.purge`."""

    def log_size(self) -> int:
        """Bytes that `fold_log` might give back."""

    def fold_log(self) -> None:
        """Give back room on the disk that no committed change needs; a disk that refuses changes nothing.

        For the thread that writes, between transactions.
        """

    # --- buckets and objects ----------------------------------------------------------------------

    def one_moment(self) -> AbstractContextManager[None]:
        """All reads in the block see the catalog as it was at the first of them.

        Outside of such a block each read sees what is committed by then, so two reads may see two versions of
        one object.  The block awaits nothing.  Blocks may be nested.
        """

    def bucket(self, name: str) -> BucketRow:
        """
        Raises:
            NoSuchBucket
        """

    def bucket_by_id(self, bucket_id: int) -> BucketRow:
        """
        Raises:
            NoSuchBucket: it was deleted, or never there.
        """

    def buckets(
        self, *, after: str = "", limit: int | None = None, prefix: str = "", owner_id: str | None = None
    ) -> list[BucketRow]:
        """Buckets whose names begin with `prefix` and are greater than `after`, by name.

        Args:
            owner_id: only those of this account; None: of all.
        """

    def totals(self) -> tuple[int, int, int]:
        """Buckets, objects, bytes."""

    def bucket_and_object(self, bucket: str, key: str) -> tuple[BucketRow, ObjectRow | None]:
        """A bucket and one of its objects, from one moment.

        Raises:
            NoSuchBucket
        """

    def locate(
        self, bucket: str, keys: Sequence[str], *, first_chunk: int = 0, chunk_limit: int
    ) -> tuple[BucketRow, list[tuple[ObjectRow, list[ChunkRow]] | None]]:
        """A bucket, and objects of it with their chunks, each of one version; in the order of the keys.

        An object of one needle has no chunks here: its own row names the needle.

        Args:
            first_chunk: of each object, only chunks from this index on.
            chunk_limit: when the chunks are more than this many, the last objects are left out.  The first
                object is always there, with at most `chunk_limit` of its chunks.
        Raises:
            NoSuchBucket
        """

    def chunks_of_version(
        self, volume_id: int, needle_id: int, etag: str, *, first: int, limit: int
    ) -> tuple[ObjectRow, list[ChunkRow]] | None:
        """The object with this first needle, and some of its chunks; None: no object has it any more."""

    def list_objects(
        self,
        bucket_id: int,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        after: str = "",
        limit: int = 1000,
        within: Sequence[str] | None = None,
    ) -> Page:
        """One page of a bucket, in the order of the keys' UTF-8 bytes.

        A key that holds `delimiter` after the prefix is shown only as its common prefix.  Entries (keys and
        common prefixes alike) are those greater than `after`.  A common prefix costs the same however many
        keys share it.

        Args:
            within: how keys begin; the page is as if no other keys existed, and costs no more for them.
        Raises:
            BadRequest: `limit` is less than 1.
        """

    def upload(self, upload_id: int) -> UploadRow:
        """An upload; also a finished one, for as long as its finish may be repeated.

        Raises:
            NoSuchUpload
        """

    def parts(self, upload_id: int, *, after: int = 0, limit: int = -1) -> list[PartRow]:
        """Whole parts of an upload, or of the object that was made of it, by number.

        Args:
            after: only parts with a greater number.
            limit: -1: all.
        """

    def chunks_of_parts(
        self, upload_id: int, parts: Sequence[PartRow], *, first: int, limit: int
    ) -> list[ChunkRow]:
        """Chunks of these parts of an upload, in their order, from the `first` of all of them on."""

    def finished_etag(self, upload_id: int) -> str:
        """The ETag of the object that an upload became.

        Raises:
            NoSuchUpload: it is not finished, or was too long ago.
        """

    def open_uploads(
        self,
        bucket_id: int,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        after: str = "",
        after_upload: int = 0,
        limit: int = 1000,
        within: Sequence[str] | None = None,
    ) -> UploadPage:
        """One page of the multipart uploads that are not finished, by key and id; see `list_objects`.

        Args:
            after: only entries that are greater.
            after_upload: not 0: uploads of the key `after` with a greater id, too.
        """

    def upload_count(self) -> int:
        """Uploads that are not finished."""

    def upload_count_of_key(self, key_id: str) -> int:
        """Those of them that this API key began."""

    # --- garbage ----------------------------------------------------------------------------------

    def outbox(self, volume_id: int, limit: int) -> list[Garbage]:
        """Up to `limit` needles of a volume that wait for their tombstone, by id."""

    def outbox_counts(self) -> dict[int, int]:
        """How many needles of each volume wait for their tombstone; volumes without any are left out."""

    def stamp_max(self) -> int:
        """The greatest stamp that was ever committed, or given to garbage or to a sweep."""

    # --- disks, volumes, jobs, keys ---------------------------------------------------------------

    def disks(self) -> list[DiskRow]:
        """All disks, in the order in which they were added."""

    def disk(self, disk_id: str) -> DiskRow | None: ...

    def lost_objects(
        self, volume_id: int, *, in_chunks: bool, after_needle: int, limit: int
    ) -> list[LostRow]:
        """What needs a volume, by needle id: up to `limit` with a greater one than `after_needle`.

        Args:
            in_chunks: what has chunks in the volume, once for each of them; otherwise the objects that begin
                in it.
        """

    def volumes(self) -> list[VolumeRow]:
        """All volumes, by id."""

    def bucket_notes(self, disk_id: str, limit: int) -> list[BucketNote]:
        """Notes about buckets that a disk has still to write down, by bucket id.

        Up to `limit` of them, and with not much more than a mebibyte of configurations.
        """

    def bucket_configs(self, bucket_id: int) -> dict[str, bytes]:
        """The documents that say how a bucket behaves, by kind; nothing for a bucket that is not there."""

    def jobs(self) -> list[JobRow]:
        """The jobs that are not finished, oldest first."""

    def damage_records(self, limit: int) -> list[NeedleDamage]:
        """Damage that was found and not mended, by volume, needle and offset."""

    def damage_count(self) -> int: ...

    def meta(self, name: str, default: int = 0) -> int:
        """The number that `Transaction.set_meta` keeps under this name."""

    @property
    def catalog_id(self) -> int:
        """What tells this catalog from all others; 0: it has none yet, see `Transaction.begin_lineage`."""

    def accounts(self) -> list[AccountRow]:
        """All of them, the oldest first."""

    def account(self, account_id: str) -> AccountRow | None: ...

    def account_by_name(self, name: str) -> AccountRow | None: ...

    def api_key(self, key_id: str) -> ApiKeyRow | None: ...

    def api_keys(self) -> list[ApiKeyRow]:
        """All of them, the oldest first."""

    def api_keys_after(self, after: str, limit: int) -> list[ApiKeyRow]:
        """Up to `limit` of those whose ids are greater than `after`, by id."""

    def api_key_count(self) -> int: ...

    def revocations(self) -> dict[str, int]:
        """Of each key that lately lost rights: from which epoch on what it signed is valid."""

    def revocation(self, key_id: str) -> int | None:
        """The same of one key; None: it lost none."""

    def nodes(self) -> list[NodeRow]:
        """All of them, those that were removed included; the oldest first."""

    def join_tokens(self) -> list[JoinTokenRow]:
        """All of them, the oldest first."""

    def join_token(self, token_id: str) -> JoinTokenRow | None: ...

    def unproven_ids(self) -> dict[int, int]:
        """Volume id -> the last needle id that a release without proofs may have handed out there."""

    # --- searches, which any thread may call ------------------------------------------------------

    def find_objects(self, search: Search, *, after: Rank | None, limit: int, budget_s: float) -> Found:
        """Go on with a search, and return the next page as far as it is known.

        It takes about `budget_s` seconds, or less where the page is known before.  Every call gets on,
        however small the budget is.  One thread at a time may go on with a search.

        Args:
            after: in order of size or time, the page has what ranks after this.
            limit: of entries, objects and common prefixes together; in order of size or time, of objects.
        Raises:
            BadRequest: `limit` is less than 1.
            NoSuchBucket: the bucket was deleted.
        """

    # --- checks, which any thread may call, and which may take long ---------------------------------

    def check_counts(self) -> list[CountDifference]:
        """Recount what is kept incrementally, and look for needles with two owners or none.

        Returns:
            What differs, as of one moment; seconds for a million objects.
        """

    def row_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        """The needles of a volume that objects and unfinished uploads name as stored.

        Returns:
            `count` bits in whole bytes; bit i & 7 of byte i >> 3 is needle first_id + i.
        """

    def known_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        """Those, and also slots that are not filled yet, and garbage, tombstoned or not."""

    def slot_bitmap(self, volume_id: int, first_id: int, count: int) -> bytes:
        """The slots of unfinished uploads that nobody has reported as filled; the needle may be there."""

    def tombstone_horizon(self) -> int:
        """Deletions with a lesser stamp than this need no record in the volumes any more.

        Such a record hides older versions of the object from a rebuild.  It may go once every older needle
        has its tombstone: garbage in the outbox, needles that no row names and no sweep has met yet, and
        chunks of uploads that began before all count.  The stamp of garbage that was never visible says
        nothing about the age of its needle, so while there is any, the horizon is 0.
        """


class Transaction(Protocol):
    """Everything between the begin and the commit; get one from `Catalog.transaction`.

    A method takes effect as a whole or raises.  One that raises may leave traces, which the savepoint around
    it undoes.  A refusal that must leave something behind (a refused needle is garbage from then on) is
    returned, not raised.
    """

    @property
    def garbage_in(self) -> Collection[int]:
        """Volumes in which needles became garbage; perhaps one too many, after an undone request."""

    def savepoint(self) -> AbstractContextManager[None]:
        """An error that leaves the block undoes what was done in the block, and nothing else.

        Raises:
            BadRequest: the request contradicts what is in the catalog, or a number does not fit into 64 bits.
            TransactionBroken: the engine failed; the whole transaction has to end.
        """

    def purge(self) -> bool:
        """Turn one piece of what deleted buckets held into garbage; return whether there is more to do."""

    # --- buckets and objects ----------------------------------------------------------------------

    def create_bucket(self, name: str, created_ms: int, owner_id: str = "", *, region: str = "") -> BucketRow:
        """
        Args:
            owner_id: the account whose bucket it is; "": the first account there is.
            region: that it is said to be in; "": nobody said.
        Raises:
            BadBucketName, BucketExists
        """

    def delete_bucket(self, name: str, expected_id: int | None = None, *, force: bool, stamp: int) -> None:
        """Make a bucket and all in it disappear at once; its needles become garbage piece by piece (`purge`).

        Rights that API keys have on the bucket go with it: a later bucket of that name is another one.

        Args:
            expected_id: of the bucket that is meant; None: whichever has the name.
        Raises:
            NoSuchBucket: also if the bucket of that name is another one by now.
            BucketNotEmpty: it holds objects, and `force` is not set.
        """

    def set_quota(
        self,
        bucket_id: int,
        *,
        byte_count: int | EllipsisType | None = ...,
        object_count: int | EllipsisType | None = ...,
    ) -> None:
        """How much a bucket may hold from now on; None: any amount; `...`: what it was.

        A version that would make the bucket hold more of what is limited is refused in the transaction that
        would make it visible: `commit_needle` and `finish_upload` decide one after the other, each with all
        that was changed before.  A bucket that holds more than its quota keeps it, and takes what does not
        make it grow.

        Raises:
            NoSuchBucket
            BadRequest: a number that no bucket can have.
        """

    def commit_needle(self, needle: StoredNeedle) -> CommitResult:
        """Make a durable needle visible, or say why not; repeating it gets the same answer.

        The needle of a single put becomes its object's current version at once, the chunk of an upload
        when the upload is finished.  One that amends changes the attributes of the version that it names, if
        that is the current one; its ETag stays.  A needle that is refused is garbage from here on.  A version
        must have a greater stamp than the one before, and than the deletion before, and an amendment a
        greater one than the amendment before: else the answer asks for a restamp.
        """

    def resolve_needle(
        self,
        bucket_id: int,
        key: str,
        volume_id: int,
        needle_id: int,
        stamp: int,
        issued_ms: int | None = None,
    ) -> bool:
        """Was this needle of a single put committed?  If not, it never will be.

        Args:
            issued_ms: no later than when the needle's id was handed out; None: a moment ago.
        Raises:
            OutcomeUnknown: that is so long ago that the catalog may have forgotten what became of the needle.
            NoSuchVolume, BadRequest: a needle that was never handed out, or that another key or an upload
                owns: nobody may turn that into garbage by asking for this key.
        """

    def delete_objects(
        self, bucket_id: int, keys: Sequence[str], *, if_match: str | None = None, stamp: int
    ) -> list[bool]:
        """Delete objects; tell for each key whether there was one.

        The deletion gets a greater stamp than the version that it deletes, and at least `stamp`.

        Raises:
            PreconditionFailed: an object is there with another ETag than `if_match`.
        """

    # --- uploads ----------------------------------------------------------------------------------

    def begin_upload(
        self,
        bucket_id: int,
        key: str,
        content_type: str | None,
        metadata: Mapping[str, str],
        if_match: str | None,
        if_none_match: str | None,
        created_ms: int,
        expires_ms: int,
        key_id: str = "",
        *,
        style: str = "",
        attributes: bytes = b"",
        owner_id: str = "",
        initiator_id: str = "",
    ) -> int:
        """Open an upload and return its id: random, because needles on disk name it forever.

        Args:
            key_id: of the API key that begins it.
            style: as `messages.BeginUpload`; one that is not empty ends with a manifest.
            attributes: that it is begun with, encoded.
            owner_id: of the account that shall own the object.
            initiator_id: of the account of the API key.
        Raises:
            NoSuchBucket
        """

    def set_slots(
        self,
        upload_id: int,
        slots: Sequence[tuple[int, int, int, int]],
        *,
        stamp: int = 0,
        knows_sizes: bool = True,
    ) -> list[tuple[int, int]]:
        """Say which needle takes which chunk: (chunk_index, volume_id, needle_id, size).

        An index that has a slot gets the new one; the needle of the old one can never count any more.

        Args:
            knows_sizes: may whoever asks know how large the object is that the upload would replace?
        Returns:
            Those needles: (volume_id, needle_id).
        Raises:
            NoSuchUpload, NeedleVoid, NeedleExists
            QuotaExceeded: the bucket has no room for so many bytes now.
        """

    def set_stamp_of_chunk(self, upload_id: int, chunk_index: int, stamp: int) -> None:
        """A chunk got a greater stamp on its volume."""

    def touch_upload(self, upload_id: int, expires_ms: int) -> None:
        """Let an upload live until `expires_ms` at least, and no longer than its lifetime from now on.

        One that is finished or gone stays so.
        """

    def abort_upload(self, upload_id: int, stamp: int) -> None:
        """
        Raises:
            NoSuchUpload: it is gone or finished.
        """

    def expire_uploads(self, now_ms: int, stamp: int, limit: int) -> list[int]:
        """Abort some uploads whose time is over, up to `limit`, and forget as many finished ones.

        Those with many chunks are fewer: one at least, and none when there are no others.

        Returns:
            The ids of the aborted ones.
        """

    def finish_part(self, upload_id: int, part: PartRow, *, stamp: int = 0) -> PartRow:
        """All chunks of this attempt are stored: it is the part of its number now.

        The chunks of the attempt that was the part before become garbage, with `stamp`.  Safe to repeat.

        Returns:
            The part as it is kept; of a repeated call the one of the first.
        Raises:
            NoSuchUpload: aborted, expired or finished.
            UploadIncomplete: chunks are missing, left over, or do not add up.
            BadRequest: the upload has no parts, or a number is impossible.
        """

    def finish_upload(
        self, upload_id: int, chunk_count: int, object_size: int, end: UploadEnd = ...
    ) -> FinishResult:
        """Make chunks 0 to chunk_count - 1 the object's visible version; safe to repeat.

        An upload of a style ends with a manifest, which is stored by now and says the same as this call.  Of
        a multipart upload, the chunks of the parts that `end` names are the object's, in their order.  All
        other parts, and chunks that belong to none, are garbage from then on.

        Raises:
            NoSuchUpload: aborted, expired, or finished longer ago than is remembered.
            UploadIncomplete: chunks or parts are missing, left over, or do not add up to `object_size`.
            PreconditionFailed: the condition given at the begin, or at the end, is not met now.
            BadMetadata: the attributes cannot be read.
            BadRequest: the manifest that is stored says something else; nothing was changed.
        """

    def void_manifest(self, upload_id: int, stamp: int) -> None:
        """The end of this upload was refused: a rebuild must not take its manifest for an end.

        Chunks and parts stay, and the upload can be finished with another manifest.  Of a finished upload, or
        of one that is gone, nothing changes.
        """

    # --- garbage ----------------------------------------------------------------------------------

    def clear_outbox(
        self, volume_id: int, needle_ids: Sequence[int], *, now_s: float = 0.0, now_ms: int = 0
    ) -> None:
        """The tombstones of these needles are durable: they wait no more, and are remembered as tombstoned.

        That memory is bounded.  It reaches back three minutes at least, unless millions of needles are
        deleted meanwhile; `resolve_needle` knows how far.

        Args:
            now_s: of a clock that only goes forward.
            now_ms: wall clock.
        """

    def void_orphans(self, volume_id: int, needle_ids: Sequence[int], stamp: int) -> list[int]:
        """Give up needles that no row named when a sweep looked, unless something names them by now.

        Returns:
            Those that wait for their tombstone from now on.
        """

    # --- disks and volumes ------------------------------------------------------------------------

    def add_disk(self, disk_id: str, name: str, added_ms: int) -> None:
        """Make a disk known; one that is known gets the new name."""

    def set_disk_epoch(
        self, disk_id: str, before: tuple[int, int], after: tuple[int, int], *, catalog_id: int = 0
    ) -> bool:
        """A disk registers: its epoch becomes `after`, if it still is `before`; return whether it did.

        Args:
            catalog_id: the catalog that the disk will name the next time, if not this one.
        """

    def remove_disk(self, disk_id: str, *, removed_ms: int, stamp: int) -> DiskRemoval:
        """Forget a piece of a disk that is gone for good; call it until that is done.

        Objects with a needle there are deleted, with `stamp` or a greater one; uploads with a slot there are
        aborted.  A manifest is no such needle: what loses it alone stays.  Volumes, garbage, jobs, damage
        and notes of the disk are forgotten, at last the disk, and its node is removed unless it has another
        disk.  Volume ids are not used again.

        From the first piece on, the meta number `REMOVED_DISK_META` of the disk is when the removal began.
        """

    def begin_lineage(self) -> None:
        """Give this catalog a new id: if it is a copy of another one, the two are told apart from now on.

        Its disks know the old id, and are expected to name it once more.
        """

    def skip_ids(self, *, buckets_to: int, volumes: int) -> None:
        """Leave out ids: a later state of this catalog, which is lost, may have given them out.

        Args:
            buckets_to: the greatest bucket id that is left out.
            volumes: how many volume ids are left out.
        """

    def add_volume(
        self,
        volume_id: int | None,
        uuid: str,
        capacity: int,
        disk_id: str,
        *,
        state: str = "creating",
        created_ms: int = 0,
    ) -> int:
        """Make a volume known and return its id, which is never given out again.

        Args:
            volume_id: None for a new one; its own for one that exists on a disk (rebuild).
        Raises:
            BadRequest: the id or the uuid is known already, or no id is left.
        """

    def drop_unmade_volume(self, volume_id: int) -> bool:
        """Forget a volume if no disk has confirmed it, and return whether it was one.

        Its id is not used again.
        """

    def set_volume_state(self, volume_id: int, state: str) -> None:
        """
        Raises:
            NoSuchVolume, as do the methods below that change one volume.
        """

    def set_volume_created(self, volume_id: int, created_ms: int) -> None:
        """The volume itself says when it was made; that counts more than what is known here."""

    def reserve_needle_ids(self, volume_id: int, last_id: int) -> None:
        """Ids up to `last_id` may be handed out from now on; after a restart, only greater ones."""

    def set_bucket_config(self, bucket_id: int, kind: str, document: bytes) -> None:
        """Have a bucket behave as a document says from now on; empty: as if there had never been one.

        Every disk is to write it down, with what else there is to say about the bucket.

        Raises:
            NoSuchBucket: the bucket was deleted.
            BadRequest: all documents of the bucket have more than `CONFIGS_SIZE_MAX` bytes together.
        """

    def clear_bucket_notes(self, disk_id: str, notes: Sequence[BucketNote]) -> None:
        """A disk has these in a volume, durably; a note that has changed since then goes on waiting."""

    # --- accounts and API keys --------------------------------------------------------------------

    def add_account(self, row: AccountRow) -> None:
        """
        Raises:
            BadRequest: no account may have that name.
            AccountExists: another one has it.
        """

    def change_account(self, account_id: str, *, name: str, email: str | None) -> None:
        """Raises BadRequest, AccountExists as `add_account`, and NoSuchAccount."""

    def delete_account(self, account_id: str) -> None:
        """
        Raises:
            NoSuchAccount: there is none of that id.
            AccountNotEmpty: it has buckets or API keys.
        """

    def set_bucket_owner(self, bucket_id: int, account_id: str) -> None:
        """Raises NoSuchAccount."""

    def bucket_name(self, bucket_id: int) -> str | None:
        """None: there is no bucket of that id."""

    def api_key(self, key_id: str) -> ApiKeyRow:
        """Raises NoSuchApiKey."""

    def is_key_good(self, key_id: str, epoch: int, now_ms: int) -> bool:
        """Does what this API key signed at this epoch still count?"""

    def add_api_key(self, row: ApiKeyRow, *, reserve: int = 0) -> ApiKeyRow:
        """Add a key; return it as it is now, with its account and its epoch.

        Args:
            reserve: of `identities.KEYS_MAX`, how many to leave for others; less than 0: so many more.
        Raises:
            ApiKeyExists: the id is taken.
            TooManyApiKeys: see `identities.KEYS_MAX`.
            NoSuchAccount: its account does not exist.
            BadRequest: a grant is not possible.
        """

    def change_api_key(
        self, key_id: str, change: Callable[[ApiKeyRow], ApiKeyRow], *, now_ms: int
    ) -> ApiKeyRow:
        """Change a key; return it as it is now.  If it may do less than before, what it has signed is void.

        Args:
            change: makes the new row of the present one.
        Raises:
            NoSuchApiKey: there is none of that id.
            LastKeyManager: nobody could manage keys any more, or only keys that end or are confined.
            NoSuchAccount, BadRequest: as `add_api_key`.
        """

    def delete_api_key(self, key_id: str, *, now_ms: int) -> None:
        """Raises NoSuchApiKey, LastKeyManager."""

    def reseal_api_keys(
        self, key_ids: Sequence[str], again: Callable[[ApiKeyRow], tuple[bytes | None, bytes | None]]
    ) -> int:
        """Replace sealed secrets by the same secrets sealed anew; return how many keys changed.

        What the keys have signed stays valid.  A key that is gone is left out.

        Args:
            again: makes the new `sealed` and `previous_sealed` of a row.
        """

    def note_keys_used(self, used_ms: Mapping[str, int]) -> None:
        """When keys were last used, by id; for a key that is gone, nothing happens."""

    def forget_revocations(self, before_ms: int) -> None:
        """Forget what was revoked before that time: all that it concerns has expired."""

    # --- nodes ------------------------------------------------------------------------------------

    def put_node(self, row: NodeRow) -> None:
        """Note a node, in place of what was known of its key.  Raises NodeRemoved: that was for good."""

    def remove_node(self, key: str, now_ms: int) -> None:
        """Note that a node is removed; its row stays.  Raises NoSuchNode."""

    def pin_disk(self, disk_id: str, key: str, url: str, *, before: str | None) -> bool:
        """Tie a disk to the key of a node, and note where it is.

        Args:
            before: the key that it is tied to now; None: to none.
        Returns:
            Whether that was so; otherwise nothing was changed.
        """

    def set_disk_url(self, disk_id: str, url: str) -> bool:
        """Return whether there is such a disk."""

    def add_join_token(self, row: JoinTokenRow) -> None:
        """Raises BadRequest: there are too many."""

    def use_join_token(self, token_id: str) -> None:
        """Raises JoinTokenUsed: it is gone, or was for one node and has been used."""

    def remove_join_token(self, token_id: str) -> None:
        """Raises NoSuchJoinToken."""

    # --- jobs, verification, damage, meta ---------------------------------------------------------

    def add_job(self, work: str, volume_id: int, origin: str, created_ms: int) -> int:
        """Remember a job until it is finished; return its id, which is never given to another.

        A volume that has an unfinished job of that work keeps it: then its id is returned.
        """

    def remove_job(self, job_id: int) -> None:
        """A job is finished; one that is not known is finished already."""

    def set_verify_progress(self, volume_id: int, *, started_ms: int, generation: int, offset: int) -> None:
        """How far a verification is, so that a restart goes on from there; all 0: none is under way."""

    def set_verified(self, volume_id: int, started_ms: int) -> None:
        """A verification that began at `started_ms` has read all of the volume; none is under way now."""

    def set_swept(self, volume_id: int, stamp: int) -> None:
        """Every needle of the volume with a stamp up to `stamp` is named by a row, or marked as garbage.

        No older needle will appear: after a restart, clocks learn this stamp as they learn all others.
        """

    def add_damage_records(self, volume_id: int, damages: Sequence[NeedleDamage]) -> list[NeedleDamage]:
        """Remember what was found damaged in a volume, with bucket and key where a row names the needle.

        Damage that is known keeps the time when it was first found.  Of one volume a bounded number is kept.

        Returns:
            Those that were not known and are kept now, with bucket and key.
        """

    def clear_damage_records(self, volume_id: int, keep: Collection[tuple[int, int]]) -> None:
        """Forget the damage records of a volume except those in `keep`: (needle id or 0, offset).

        What a verification of the whole volume, or a compaction, has not met is not there any more.
        """

    def forget_dead_damage_records(self, volume_id: int) -> None:
        """Forget damage records of needles that nothing names any more: nobody will miss them."""

    def set_meta(self, name: str, value: int) -> None:
        """Keep a number under a name, for example a switch as 0 or 1; never the greatest stamp."""
