"""Errors: every failure that Warehouse expects, with a code that never changes.

All rooms raise these, so that one failure has one name in code, on the wire, in logs and in metrics.
Anything raised that is not a `StoreError` is a bug.  This room knows nothing of sockets, files or
HTTP beyond the number a status has; translating happens at the edges, with the tables below.

The first level says what the caller can do about it:

    RequestRefused   the caller must change something
    Unavailable      the same request may work later, or elsewhere
    DataDamaged      bytes disagree with themselves: repair, do not retry here
    SetupError       the operator must change something before an actor can start
"""

from __future__ import annotations

from typing import ClassVar


class StoreError(Exception):
    """A failure that the store expects and names.  Its message says what was expected, what came, and
    where."""

    code: ClassVar[str] = "store_error"
    status: ClassVar[int] = 500  # RFC 9110, section 15

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else self.code


class RequestRefused(StoreError):
    """The caller must change something.

    To do: Read the message: it names the part of the request that was refused.
    """

    code = "request_refused"
    status = 400


class Unavailable(StoreError):
    """The same request may work later, or elsewhere.

    To do: Try again, with a growing pause; the library and the command line do so on their own.
    """

    code = "unavailable"
    status = 503


class DataDamaged(StoreError):
    """Stored bytes disagree with themselves.

    To do: Do not retry: look at `warehouse status`, then restore the object from another source.
    """

    code = "data_damaged"
    status = 500


class SetupError(StoreError):
    """The operator must change something before an actor can start.

    To do: Read the message: it names the file, the setting or the folder.
    """

    code = "setup_error"
    status = 500


# --- the caller must change something -------------------------------------------------------------


class BadRequest(RequestRefused):
    """A field of the request has a value that the store does not take.

    To do: Correct the field that the message names.
    """

    code = "bad_request"


class MalformedMessage(RequestRefused):
    """A message on a control connection cannot be decoded.

    To do: Use a client of the same release; anything else on that port is not ours.
    """

    code = "malformed_message"


class BadBucketName(RequestRefused):
    """The name is not one that a bucket may have.

    To do: Use 1 to 63 of a-z, 0-9, '.', '-' and '_', with a letter or digit first and last, and no IP
    address.
    """

    code = "bad_bucket_name"


class BadKey(RequestRefused):
    """The key is not one that an object may have.

    To do: Use 1 to 1,024 bytes of UTF-8.
    """

    code = "bad_key"


class BadMetadata(RequestRefused):
    """The user metadata is too long, or has names or values that a header cannot hold.

    To do: Shorten it, or encode what is not plain text.
    """

    code = "bad_metadata"


class ChecksumMismatch(RequestRefused):
    """The body does not have the checksum that the request names.

    To do: Send it again: bytes changed on the way, or the checksum is of something else.
    """

    code = "checksum_mismatch"


class LengthMismatch(RequestRefused):
    """The body is longer or shorter than the request said.

    To do: Send exactly the length that was announced.
    """

    code = "length_mismatch"


class TlsRequired(RequestRefused):
    """The request came in the clear to a port that speaks TLS.

    To do: Write https:// instead of http://, and have the client trust the store's authority.
    """

    code = "tls_required"


class TokenMissing(RequestRefused):
    """The request carries no data token.

    To do: Get a token, or a presigned URL, from the master first.
    """

    code = "token_missing"
    status = 401


class TokenInvalid(RequestRefused):
    """The token is not one that this store signed, or it was changed.

    To do: Get a new token; check that the URL was copied whole.
    """

    code = "token_invalid"
    status = 401


class TokenExpired(RequestRefused):
    """The token was good once; its time is over.

    To do: Get a new token or a new presigned URL.
    """

    code = "token_expired"
    status = 401


class TokenRevoked(RequestRefused):
    """The token was good once; the API key that it was made for has lost rights since, or is gone.

    To do: Get a new token or a new presigned URL; the master says whether the key may still have one.
    """

    code = "token_revoked"
    status = 401


class TokenUsed(RequestRefused):
    """A URL that works once was used already, or the server that counts its uses was restarted.

    To do: Ask whoever made the URL for a new one.
    """

    code = "token_used"
    status = 410


class BadCredentials(RequestRefused):
    """There is no such API key, it is disabled, or its secret is wrong; or an actor has the join file of
    another store.

    To do: Check the profile (`--profile`, `WAREHOUSE_PROFILE`), or the actor's `--join`.
    """

    code = "bad_credentials"
    status = 401


class NotAuthenticated(RequestRefused):
    """The control connection has presented no valid access token yet, or its token has expired.

    To do: Log in again; the library does so on its own.
    """

    code = "not_authenticated"
    status = 401


class JoinTokenInvalid(RequestRefused):
    """The join token is none of this store: it is misspelled, was removed, or is another store's.

    To do: Make one with `warehouse join-token create`, and put it into the join file.
    """

    code = "join_token_invalid"
    status = 401


class JoinTokenExpired(RequestRefused):
    """The join token was good until a moment that has passed.

    To do: Make another one with `warehouse join-token create`.
    """

    code = "join_token_expired"
    status = 401


class JoinTokenUsed(RequestRefused):
    """The join token was for one node, which has joined with it.

    To do: Make another one with `warehouse join-token create`; `--reusable` makes one for many nodes.
    """

    code = "join_token_used"
    status = 401


class JoinTokenRole(RequestRefused):
    """The join token, or the node, is for the other kind of actor.

    To do: Make a token with `warehouse join-token create --role both`, and join with it.
    """

    code = "join_token_role"
    status = 403


class NodeUnknown(RequestRefused):
    """The key of this volume actor or compactor is not that of a node of the store.

    To do: Make a token with `warehouse join-token create --output join.toml` and start the actor with that
    join file.
    """

    code = "node_unknown"
    status = 401


class NodeRemoved(RequestRefused):
    """An operator has removed this node: its key never comes back.

    To do: If the machine is to join again, delete `node.key` in its disk folder, and start it with a token
    that was made after the removal.
    """

    code = "node_removed"
    status = 403


class DiskPinned(RequestRefused):
    """The disk belongs to the key of another node.

    To do: Start the actor with the `node.key` that the disk joined with. If that key is lost or was stolen,
    remove its node (`warehouse nodes rm`), then join with a new token.
    """

    code = "disk_pinned"
    status = 403


class DiskUrlChanged(RequestRefused):
    """The disk says to be at another host than before, which would send all its clients there.

    To do: If that is right, run `warehouse disks confirm DISK URL`; the disk comes online by itself.
    """

    code = "disk_url_changed"
    status = 409


class DiskOnline(RequestRefused):
    """The disk or its compactor is online, or was a moment ago, so it is not gone.

    To do: Stop both for good first, and ask again after 15 s.
    """

    code = "disk_online"
    status = 409


class NotPromised(RequestRefused):
    """A disk tells of a needle that the master has promised to nobody.

    To do: Find out who runs the disk that `warehouse status` names: its actor is not ours, or its key was
    stolen.
    """

    code = "not_promised"
    status = 403


class NoSuchDisk(RequestRefused):
    """There is no disk of that name or id.

    To do: See `warehouse disks ls`.
    """

    code = "no_such_disk"
    status = 404


class NoSuchNode(RequestRefused):
    """There is no node of that name or key.

    To do: See `warehouse nodes ls`.
    """

    code = "no_such_node"
    status = 404


class NoSuchJoinToken(RequestRefused):
    """There is no join token of that id.

    To do: See `warehouse join-token ls`.
    """

    code = "no_such_join_token"
    status = 404


class TokenScope(RequestRefused):
    """A genuine token was used for something that it was not made for.

    To do: Ask for a token for this needle, bucket or method.
    """

    code = "token_scope"
    status = 403


class PermissionDenied(RequestRefused):
    """The API key does not have the right that this request needs.

    To do: Use another key, or have an operator grant the right.
    """

    code = "permission_denied"
    status = 403


class NoSuchBucket(RequestRefused):
    """There is no bucket of that name.

    To do: Make it with `warehouse mb`, or correct the name.
    """

    code = "no_such_bucket"
    status = 404


class NoSuchAccount(RequestRefused):
    """There is no account of that id or name.

    To do: See `warehouse accounts ls`.
    """

    code = "no_such_account"
    status = 404


class AccountExists(RequestRefused):
    """Another account has that name.

    To do: Choose another name.
    """

    code = "account_exists"
    status = 409


class AccountNotEmpty(RequestRefused):
    """The account still has buckets or API keys.

    To do: Delete them, or give them to another account.
    """

    code = "account_not_empty"
    status = 409


class NoSuchApiKey(RequestRefused):
    """There is no API key of that id.

    To do: See `warehouse keys ls`.
    """

    code = "no_such_api_key"
    status = 404


class KeyCannotSign(RequestRefused):
    """The store has only a hash of this API key's secret, so it cannot check what the key has signed.

    To do: Rotate the key with `warehouse keys rotate`; a release before 0.2 made it.
    """

    code = "key_cannot_sign"
    status = 403


class SignatureMismatch(RequestRefused):
    """The signature of a request is not one of the API key that it names.

    To do: Compare what was signed with what came: the secret, the host, the path, the headers that a proxy
    may have changed.
    """

    code = "signature_mismatch"
    status = 403


class ApiKeyExists(RequestRefused):
    """Another API key has that id.

    To do: Import it under another id, or remove the other one.
    """

    code = "api_key_exists"
    status = 409


class TooManyApiKeys(RequestRefused):
    """The store has as many API keys as it can keep, with those revoked within the latest days.

    To do: Delete keys that nobody needs, and wait: a deleted key is remembered for eight days, because
    of what it signed. Give a key to each program, and not to each run of it.
    """

    code = "too_many_api_keys"
    status = 409


class BadApiKey(RequestRefused):
    """An id or a secret that somebody wants to import cannot be that of an API key.

    To do: Choose an id of 3 to 128 letters, digits, '.', '_' and '-', and a random secret of 16 to 256
    printable characters without spaces.
    """

    code = "bad_api_key"


class NoSuchPreset(RequestRefused):
    """There is no set of permissions of that name.

    To do: Use a preset that the message names.
    """

    code = "no_such_preset"


class GrantNamesNothing(RequestRefused):
    """A grant is for a bucket that does not exist.

    To do: Create the bucket first, or grant a beginning of names on purpose, such as `team-*`.
    """

    code = "grant_names_nothing"


class GrantContradicts(RequestRefused):
    """Grants contradict each other, or what the API key may do at all.

    To do: Name each place once, and no permission that the key shall not have.
    """

    code = "grant_contradicts"


class GrantExceeds(PermissionDenied):
    """Somebody wanted to give an API key more than they have, or to change a key that has more.

    To do: Give less, or have somebody do it whose key has all of that.
    """

    code = "grant_exceeds"


class ExpiryPassed(RequestRefused):
    """The time at which an API key shall expire has passed.

    To do: Name a time to come, or disable the key.
    """

    code = "expiry_passed"


class LastKeyManager(RequestRefused):
    """Nobody could manage all keys any more after this: it removes, ends or confines the last key that can.

    To do: Make another key first that may manage keys, without expiry, grants or limits.
    """

    code = "last_key_manager"
    status = 409


class NoSuchObject(RequestRefused):
    """There is no object of that key in the bucket.

    To do: Look with `warehouse ls`; it may have been deleted.
    """

    code = "no_such_object"
    status = 404


class NoSuchUpload(RequestRefused):
    """There is no upload of that number: it was finished or given up, or it expired.

    To do: Start the upload again.
    """

    code = "no_such_upload"
    status = 404


class NoSuchNeedle(RequestRefused):
    """This volume never held that needle, or holds its tombstone.

    To do: Ask the master where the object is now; the library does so on its own.
    """

    code = "no_such_needle"
    status = 404


class NoSuchVolume(RequestRefused):
    """The disk holds no volume of that number.

    To do: List them with `warehouse volumes`.
    """

    code = "no_such_volume"
    status = 404


class NoSuchJob(RequestRefused):
    """There is no compaction or verification of that number, or the store has forgotten it since it
    ended.

    To do: `warehouse volumes` shows the jobs that run.
    """

    code = "no_such_job"
    status = 404


class NoSuchRoute(RequestRefused):
    """The path is not one that this port answers.

    To do: See docs/http.md for the paths.
    """

    code = "no_such_route"
    status = 404


class MethodNotAllowed(RequestRefused):
    """The path is known, but does not take this method.

    To do: Use a method of the `Allow` header.
    """

    code = "method_not_allowed"
    status = 405


class MethodUnknown(RequestRefused):
    """No path here takes this method.

    To do: Use GET, HEAD, PUT, POST or OPTIONS.
    """

    code = "method_unknown"
    status = 501


class RequestTimeout(RequestRefused):
    """The sender was slower than the limit for request headers or bodies.

    To do: Send again, faster; docs/settings.md has the limits, `http.header_s` and
    `http.body_rate_min`.
    """

    code = "request_timeout"
    status = 408


class BucketExists(RequestRefused):
    """There is a bucket of that name.

    To do: Use it, or choose another name.
    """

    code = "bucket_exists"
    status = 409


class DeletionRefused(RequestRefused):
    """The request would delete more than the caller seems to mean; nothing was deleted.

    To do: Use the option that the message names: `--yes`, `--allow-empty-source`, or a larger
    `--max-delete`.
    """

    code = "deletion_refused"
    status = 409


class BucketNotEmpty(RequestRefused):
    """The bucket still holds objects.

    To do: Delete them first, or use `warehouse rb --force`.
    """

    code = "bucket_not_empty"
    status = 409


class NeedleExists(RequestRefused):
    """The needle id is taken by other bytes.

    To do: Take a new needle id; the library does so on its own.
    """

    code = "needle_exists"
    status = 409


class NeedleVoid(RequestRefused):
    """The needle has a tombstone, so it can never be committed any more.

    It was given up before it was committed; or, where a volume says so, it may have been committed, and then
    replaced or deleted: the master knows (`ResolveNeedle`).

    To do: Put the object again; the library asks the master first what became of it.
    """

    code = "needle_void"
    status = 409


class VolumeBusy(RequestRefused):
    """Another compaction or verification of this volume, or another job of its disk, is running.

    To do: Wait until it ends; `warehouse volumes` shows it.
    """

    code = "volume_busy"
    status = 409


class UploadIncomplete(RequestRefused):
    """The upload cannot be finished: chunks are missing.

    To do: Send the missing chunks, then finish again.
    """

    code = "upload_incomplete"
    status = 409


class LengthRequired(RequestRefused):
    """The request has a body without a `Content-Length`.

    To do: Send the length.
    """

    code = "length_required"
    status = 411


class PreconditionFailed(RequestRefused):
    """The condition of the request (`if_match`, `if_none_match`) does not hold.

    To do: Read the object, decide again, and try with its present ETag.
    """

    code = "precondition_failed"
    status = 412


class BodyTooLarge(RequestRefused):
    """The body is larger than one request, or this token, may bring.

    To do: Upload it in chunks (`upload` in the library, `warehouse cp`).
    """

    code = "body_too_large"
    status = 413


class UnsupportedCoding(RequestRefused):
    """The body comes in a content coding that the store would not keep.

    To do: Send the bytes as they are to be stored.
    """

    code = "unsupported_coding"
    status = 415


class RangeNotSatisfiable(RequestRefused):
    """The range begins after the end of the object.

    To do: Ask for a range within its size.
    """

    code = "range_not_satisfiable"
    status = 416


class ExpectationFailed(RequestRefused):
    """The request has an `Expect` header other than `100-continue`.

    To do: Leave it out.
    """

    code = "expectation_failed"
    status = 417


class QuotaExceeded(RequestRefused):
    """The object would take its bucket beyond the quota.  Keys that may list the bucket are told what is used
    and what is allowed.

    To do: Delete objects of the bucket, or have its quota raised (`warehouse quota`).
    """

    code = "quota_exceeded"
    status = 507


class HeadersTooLarge(RequestRefused):
    """The request's head is longer than this port takes.

    To do: Send fewer or shorter headers.
    """

    code = "headers_too_large"
    status = 431


# --- the same request may work later, or elsewhere ------------------------------------------------


class LinkDown(Unavailable):
    """The control connection to the master is down.

    To do: Check that the master runs and that its address in the profile is right; the client connects
    again on its own.
    """

    code = "link_down"


class CertificateRefused(LinkDown):
    """The server at this address shows a certificate that its client does not trust.  Nothing was sent to it.

    To do: If the certificate is your own, name its authority in `tls.authority`; otherwise somebody else may
    be answering at this address.
    """

    code = "certificate_refused"


class DeadlineExceeded(Unavailable):
    """The answer did not come in time.

    To do: Try again; raise the timeout if the store is merely busy.
    """

    code = "deadline_exceeded"
    status = 504


class Overloaded(Unavailable):
    """The actor has as much to do as it takes.

    To do: Try again after a pause.
    """

    code = "overloaded"


class Busy(Overloaded):
    """The API key asks for more than its limits allow; nothing was done.

    To do: Wait for `retry_after_s` (over HTTP: Retry-After) seconds; the library and the command line do so
    on their own. Ask for less at once, or have the key's limits raised.
    """

    code = "busy"
    status = 429
    retry_after_s: float = 1.0  # when the same request may be let in

    def __init__(self, message: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StaleIncarnation(Unavailable):
    """The message was meant for, or sent by, an actor that has restarted since.

    To do: Try again; the library does so on its own.
    """

    code = "stale_incarnation"


class VolumeOffline(Unavailable):
    """The disk that holds the volume is not connected to the master.

    To do: Start its volume actor, or bring its machine back: `warehouse status`.
    """

    code = "volume_offline"


class DiskFailed(VolumeOffline):
    """A disk that is online takes no writes: it is read-only, an fsync failed, or no volume can be made
    there.

    To do: Look at the disk and at the log of its volume actor, then restart the actor.
    """

    code = "disk_failed"


class CompactorOffline(Unavailable):
    """No compactor is connected for this disk, so nothing there can be compacted or verified.

    To do: Start it: `warehouse compactor --disk DIR --join FILE`.
    """

    code = "compactor_offline"


class VolumeSealed(Unavailable):
    """The volume takes no more writes: an fsync failed, or its disk became read-only.

    To do: Nothing: writes go to other volumes. A restart of its actor opens it again if the disk is
    sound.
    """

    code = "volume_sealed"


class StampRefused(Unavailable):
    """A stamp from outside is one that no sound clock can show; believing it could end the store's
    clock.

    To do: Set the clock of the machine that the message names.
    """

    code = "stamp_refused"


class ClockSkew(Unavailable):
    """The token is good by the master's clock and not by the disk's: one of the two clocks is wrong.

    To do: Set both clocks (NTP).
    """

    code = "clock_skew"


class MasterUnreachable(Unavailable):
    """A volume actor has not heard from its master for so long that keys may have been revoked of which it
    does not know, so it honours no token (`http.unheard_s`).

    To do: Start the master, or mend the connection to it.
    """

    code = "master_unreachable"


class CatalogBehind(Unavailable):
    """A disk has seen more than the catalog knows, so nothing is written until an operator has decided.

    To do: Follow docs/rescue.md, section An older catalog.
    """

    code = "catalog_behind"


class DiskBehind(RequestRefused):
    """A disk has missed what the catalog saw: it is an older copy, or was rolled back.

    To do: Follow docs/rescue.md; bring the right disk back.
    """

    code = "disk_behind"
    status = 409


class ClockSpent(Unavailable):
    """The store's logical clock is at its end.

    To do: Run `warehouse rebuild --replace`: it deals new stamps out.
    """

    code = "clock_spent"


class OutcomeUnknown(Unavailable):
    """The needle is on disk, but the master's answer did not come: it may or may not be committed.

    To do: Read the object to see, or put it again.
    """

    code = "outcome_unknown"


class ObjectReplaced(Unavailable):
    """The object was replaced or deleted while it was being read.

    To do: Read again: a new read finds what is there now.
    """

    code = "object_replaced"


class ReadFailed(Unavailable):
    """The disk answered a read with an error (EIO and the like).

    To do: Look at the disk (`dmesg`, SMART); verify the volume.
    """

    code = "read_failed"
    status = 500


class WriteFailed(Unavailable):
    """The disk answered a write with an error; nothing was acknowledged.

    To do: Try again: the next write goes to another volume. Look at the disk.
    """

    code = "write_failed"


class LeaseExhausted(Unavailable):
    """The lease has no needle id or no room left for this put.

    To do: Ask for a new lease; the library does so on its own.
    """

    code = "lease_exhausted"


class ClusterFull(Unavailable):
    """No online disk has room for this object.

    To do: Delete objects, add a disk, or free space on the disks; compaction then returns room within a
    minute. Reads and deletes go on.
    """

    code = "cluster_full"
    status = 507


class CatalogFull(ClusterFull):
    """The disk of the catalog is nearly full: the store takes nothing new; deletes and compactions go
    on.

    To do: Free space on the master's disk.
    """

    code = "catalog_full"


class VolumeFull(Unavailable):
    """The volume has no room for this needle.

    To do: Nothing: the next lease names another volume.
    """

    code = "volume_full"
    status = 507


class VolumeFormatOld(Unavailable):
    """The volume was made by an older release, and cannot hold what this object carries.

    To do: Nothing: the next lease names another volume. A compaction makes the volume new.
    """

    code = "volume_format_old"
    status = 507


class NoRoomToCompact(Unavailable):
    """The copy that a compaction makes would not fit on what the disk has free.

    To do: Free space on that disk; the compaction is retried on its own.
    """

    code = "no_room_to_compact"
    status = 507


class DiskFull(Unavailable):
    """The file system is full.

    To do: Free space on the disk that the message names.
    """

    code = "disk_full"
    status = 507


# --- bytes disagree with themselves ---------------------------------------------------------------


class NeedleCorrupt(DataDamaged):
    """The bytes of a needle do not have its checksum.

    To do: See `warehouse status`; restore the object and check the disk.
    """

    code = "needle_corrupt"


class NeedleTruncated(DataDamaged):
    """The file ends before the needle does.

    To do: After a power cut recovery cuts such a tail off; elsewhere it is damage: restore the object.
    """

    code = "needle_truncated"


class NeedleMissing(DataDamaged):
    """The catalog names a needle that its volume does not have.  Never answered as a 404.

    To do: See `warehouse status`; restore the object from another source.
    """

    code = "needle_missing"


class ObjectInconsistent(DataDamaged):
    """What the store says of an object contradicts itself: its chunks do not add up to its size, say.

    To do: Run `warehouse verify --all` and report it.
    """

    code = "object_inconsistent"


class VolumeUnreadable(DataDamaged):
    """The volume is on this disk, but it could not be opened.

    To do: Read the message of `warehouse status`; docs/rescue.md, section A damaged disk,
    says how to go on with a copy.
    """

    code = "volume_unreadable"


class SuperblockCorrupt(DataDamaged):
    """The data file that a volume's manifest names is missing, or its superblock is of another volume or
    generation.

    To do: Read the message: bring a file back that was moved, or the volume's folder from a copy of its disk.
    """

    code = "superblock_corrupt"


class ManifestCorrupt(DataDamaged):
    """The manifest, which names a volume's generation, is damaged or missing, and the superblocks do not say
    which data file is the current one; or the folder has the number of another volume.

    To do: Read the message: move a folder back that was moved or renamed, or bring the volume's folder from
    a copy of its disk.
    """

    code = "manifest_corrupt"


class GenerationMismatch(DataDamaged):
    """A compacted generation does not hold what the present one holds; the store throws it away.

    To do: Nothing: the present generation goes on. Verify the volume.
    """

    code = "generation_mismatch"


class IndexCorrupt(DataDamaged):
    """The index of a volume is damaged.

    To do: Nothing: the volume actor makes it again from the data when it starts.
    """

    code = "index_corrupt"


class CatalogCorrupt(DataDamaged):
    """The file of the catalog is damaged.

    To do: Restore a backup (`warehouse restore`), or rebuild it from the volumes (`warehouse rebuild`).
    """

    code = "catalog_corrupt"


class SealBroken(DataDamaged):
    """A sealed secret does not open: its bytes were changed, or it was sealed for something else.

    To do: Make a new secret with `warehouse keys rotate`, and find out who writes to the catalog.
    """

    code = "seal_broken"


class SealUnknown(SealBroken):
    """A secret was sealed with a key that the keyring does not have.

    To do: Bring the `keys/` folder that belongs to this catalog back from a backup. Without it, make a new
    secret with `warehouse keys rotate`.
    """

    code = "seal_unknown"


# --- the operator must change something -----------------------------------------------------------


class BadSetting(SetupError):
    """A setting has a value that it cannot have.

    To do: Correct it in the file, variable or flag that the message names; see docs/settings.md.
    """

    code = "bad_setting"


class CertificateBad(SetupError):
    """A certificate, or its key, cannot be used by this server.

    To do: The message says what is wrong. Name other files in `tls.certificate` and `tls.key`, or remove both
    settings: then the store makes certificates of its own.
    """

    code = "certificate_bad"


class ListenerInsecure(SetupError):
    """A port that other machines can reach would speak plain HTTP.

    To do: Leave `tls.mode` at `auto`. If something else encrypts (a VPN, a proxy), start with `--insecure`.
    """

    code = "listener_insecure"


class DiskInUse(SetupError):
    """Another process holds the lock of this folder.

    To do: Stop the other actor first; two must never share a disk.
    """

    code = "disk_in_use"


class DiskMismatch(SetupError):
    """The folder is a copy of another disk, or was swapped with one.

    To do: Mount the right disk, or say `--adopt` if the original is gone for good.
    """

    code = "disk_mismatch"


class CatalogExists(SetupError):
    """There is a catalog where one was to be made.

    To do: Say `--replace` to move it aside.
    """

    code = "catalog_exists"


class CatalogMissing(SetupError):
    """Disks hold volumes, and the catalog that knows them is gone.

    To do: Run `warehouse rebuild` or `warehouse restore` before the master starts.
    """

    code = "catalog_missing"


class DisksMissing(SetupError):
    """Some disks that the store is known to have were not given; their objects would be left out.

    To do: Name them with `--disk`, or say `--partial`.
    """

    code = "disks_missing"


class BackupCorrupt(SetupError):
    """The file is not a whole backup of a catalog.

    To do: Use another backup.
    """

    code = "backup_corrupt"


class BackupKeyWrong(SetupError):
    """This passphrase or key does not open the backup.

    To do: Use the passphrase or key that the backup was made with. If it is the right one, the beginning of
    the backup is damaged: use another backup.
    """

    code = "backup_key_wrong"


class FormatUnsupported(SetupError):
    """The file was written by a release whose format this one does not read.

    To do: Use that release, or a newer one.
    """

    code = "format_unsupported"


class SchemaNewer(SetupError):
    """The catalog was written by a newer release.

    To do: Use that release: an older one must not write here.
    """

    code = "schema_newer"


class SecretMissing(SetupError):
    """A client has no profile, or a key that the store signs or checks with is missing or unusable.

    To do: For a client, name a profile with `--profile` or `WAREHOUSE_PROFILE`. For a store, bring its
    `keys/` folder back from a backup.
    """

    code = "secret_missing"


def _all_errors(base: type[StoreError]) -> list[type[StoreError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all_errors(child))]


BY_CODE: dict[str, type[StoreError]] = {error.code: error for error in _all_errors(StoreError)}


def from_code(code: str, message: str, retry_after_s: float = 0.0) -> StoreError:
    """Make the error that a peer named; a code this release does not know stays readable.

    Args:
        retry_after_s: see `Busy`; 0: not told.
    """
    known = BY_CODE.get(code)
    if known is Busy:
        # A peer that says nonsense must not have us wait for a day.
        return Busy(message, retry_after_s=min(max(retry_after_s, 0.0), 3600.0) or 1.0)
    return known(message) if known else StoreError(f"{code}: {message}")
