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
    """A failure the store expects and names.  The message says what was expected, found, and where."""

    code: ClassVar[str] = "store_error"
    status: ClassVar[int] = 500  # RFC 9110, section 15

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else self.code


class RequestRefused(StoreError):
    code = "request_refused"
    status = 400


class Unavailable(StoreError):
    code = "unavailable"
    status = 503


class DataDamaged(StoreError):
    code = "data_damaged"
    status = 500


class SetupError(StoreError):
    code = "setup_error"
    status = 500


# --- the caller must change something -------------------------------------------------------------


class BadRequest(RequestRefused):
    code = "bad_request"


class MalformedMessage(RequestRefused):
    code = "malformed_message"


class BadBucketName(RequestRefused):
    code = "bad_bucket_name"


class BadKey(RequestRefused):
    code = "bad_key"


class BadMetadata(RequestRefused):
    code = "bad_metadata"


class ChecksumMismatch(RequestRefused):
    code = "checksum_mismatch"


class LengthMismatch(RequestRefused):
    code = "length_mismatch"


class TokenMissing(RequestRefused):
    code = "token_missing"
    status = 401


class TokenInvalid(RequestRefused):
    code = "token_invalid"
    status = 401


class TokenExpired(RequestRefused):
    code = "token_expired"
    status = 401


class BadCredentials(RequestRefused):
    code = "bad_credentials"
    status = 401


class NotAuthenticated(RequestRefused):
    """The control connection has presented no valid access token (yet, or any more)."""

    code = "not_authenticated"
    status = 401


class TokenScope(RequestRefused):
    """A genuine token, used for something it was not made for."""

    code = "token_scope"
    status = 403


class PermissionDenied(RequestRefused):
    code = "permission_denied"
    status = 403


class NoSuchBucket(RequestRefused):
    code = "no_such_bucket"
    status = 404


class NoSuchObject(RequestRefused):
    code = "no_such_object"
    status = 404


class NoSuchUpload(RequestRefused):
    code = "no_such_upload"
    status = 404


class NoSuchNeedle(RequestRefused):
    """This volume never held that needle, or holds its tombstone."""

    code = "no_such_needle"
    status = 404


class NoSuchVolume(RequestRefused):
    code = "no_such_volume"
    status = 404


class NoSuchJob(RequestRefused):
    """No compaction or verification of that number, or it ended too long ago to be remembered."""

    code = "no_such_job"
    status = 404


class NoSuchRoute(RequestRefused):
    code = "no_such_route"
    status = 404


class MethodNotAllowed(RequestRefused):
    code = "method_not_allowed"
    status = 405


class MethodUnknown(RequestRefused):
    """Not a method that anything here answers, whatever it is asked of."""

    code = "method_unknown"
    status = 501


class RequestTimeout(RequestRefused):
    """The sender was slower than the limit for request headers or bodies."""

    code = "request_timeout"
    status = 408


class BucketExists(RequestRefused):
    code = "bucket_exists"
    status = 409


class DeletionRefused(RequestRefused):
    """More would be deleted than was meant, as far as anybody can tell; nothing was."""

    code = "deletion_refused"
    status = 409


class BucketNotEmpty(RequestRefused):
    code = "bucket_not_empty"
    status = 409


class NeedleExists(RequestRefused):
    code = "needle_exists"
    status = 409


class NeedleVoid(RequestRefused):
    """The needle has a tombstone, so it can never be committed any more.

    It was given up before it was committed; or, where a volume says so, it may have been committed, and then
    replaced or deleted: the master knows (`SettleNeedle`).
    """

    code = "needle_void"
    status = 409


class VolumeBusy(RequestRefused):
    """Another compaction of this volume, or another task of this compactor, is under way."""

    code = "volume_busy"
    status = 409


class UploadIncomplete(RequestRefused):
    code = "upload_incomplete"
    status = 409


class LengthRequired(RequestRefused):
    code = "length_required"
    status = 411


class PreconditionFailed(RequestRefused):
    code = "precondition_failed"
    status = 412


class BodyTooLarge(RequestRefused):
    code = "body_too_large"
    status = 413


class UnsupportedCoding(RequestRefused):
    """The body comes in a content coding, which the store would not keep: send it as it is to be stored."""

    code = "unsupported_coding"
    status = 415


class RangeNotSatisfiable(RequestRefused):
    code = "range_not_satisfiable"
    status = 416


class ExpectationFailed(RequestRefused):
    code = "expectation_failed"
    status = 417


class HeadersTooLarge(RequestRefused):
    code = "headers_too_large"
    status = 431


# --- the same request may work later, or elsewhere ------------------------------------------------


class LinkDown(Unavailable):
    code = "link_down"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
    status = 504


class Overloaded(Unavailable):
    code = "overloaded"


class StaleIncarnation(Unavailable):
    """A message meant for, or sent by, an actor that has been restarted since."""

    code = "stale_incarnation"


class VolumeOffline(Unavailable):
    code = "volume_offline"


class DiskFailed(VolumeOffline):
    """A disk that is online takes no writes: it is read-only, fsyncs failed, or no volume can be made."""

    code = "disk_failed"


class CompactorOffline(Unavailable):
    """No compactor is connected for this disk, so nothing there can be compacted or verified."""

    code = "compactor_offline"


class VolumeSealed(Unavailable):
    """The volume takes no more writes: an fsync failed, or its disk became read-only."""

    code = "volume_sealed"


class StampRefused(Unavailable):
    """A stamp from outside that no sound clock can show: believed, it could end the clock of the store."""

    code = "stamp_refused"


class ClockSkew(Unavailable):
    """A token is good by the master's clock and not by the disk's: one of the two clocks is wrong."""

    code = "clock_skew"


class CatalogBehind(Unavailable):
    """A disk has seen more than the catalog knows: nothing is written until an operator has decided."""

    code = "catalog_behind"


class DiskBehind(RequestRefused):
    """A disk has missed what the catalog saw: it is an older copy of the disk, or was rolled back."""

    code = "disk_behind"
    status = 409


class ClockSpent(Unavailable):
    """The store's logical clock is at its end: `warehouse rebuild --replace` deals stamps out anew."""

    code = "clock_spent"


class OutcomeUnknown(Unavailable):
    """The needle is on disk, but the master's answer did not come: it may or may not be committed."""

    code = "outcome_unknown"


class ObjectReplaced(Unavailable):
    """The object was replaced or deleted while it was being read; a new read finds what is there now."""

    code = "object_replaced"


class ReadFailed(Unavailable):
    """The disk answered a read with an error (EIO and the like)."""

    code = "read_failed"
    status = 500


class WriteFailed(Unavailable):
    code = "write_failed"


class LeaseExhausted(Unavailable):
    code = "lease_exhausted"


class ClusterFull(Unavailable):
    code = "cluster_full"
    status = 507


class CatalogFull(ClusterFull):
    """The disk of the catalog is nearly full: nothing new is taken, deletes and compactions go on."""

    code = "catalog_full"


class VolumeFull(Unavailable):
    code = "volume_full"
    status = 507


class NoRoomToCompact(Unavailable):
    """The copy that a compaction makes would not fit on what the disk has free."""

    code = "no_room_to_compact"
    status = 507


class DiskFull(Unavailable):
    code = "disk_full"
    status = 507


# --- bytes disagree with themselves ---------------------------------------------------------------


class NeedleCorrupt(DataDamaged):
    code = "needle_corrupt"


class NeedleTruncated(DataDamaged):
    code = "needle_truncated"


class NeedleMissing(DataDamaged):
    """The catalog names a needle that its volume does not have.  Never answered as a 404."""

    code = "needle_missing"


class ObjectInconsistent(DataDamaged):
    """What the store says of an object contradicts itself: its chunks do not add up to its size, say."""

    code = "object_inconsistent"


class VolumeUnreadable(DataDamaged):
    """The volume is on this disk, but could not be opened."""

    code = "volume_unreadable"


class SuperblockCorrupt(DataDamaged):
    code = "superblock_corrupt"


class ManifestCorrupt(DataDamaged):
    code = "manifest_corrupt"


class GenerationMismatch(DataDamaged):
    """A compacted generation does not hold what the present one holds: it is thrown away, not used."""

    code = "generation_mismatch"


class IndexCorrupt(DataDamaged):
    code = "index_corrupt"


class CatalogCorrupt(DataDamaged):
    code = "catalog_corrupt"


# --- the operator must change something -----------------------------------------------------------


class BadSetting(SetupError):
    code = "bad_setting"


class DiskInUse(SetupError):
    """Another actor holds the lock of this disk directory."""

    code = "disk_in_use"


class DiskMismatch(SetupError):
    """The directory is a copy of, or was swapped with, another disk."""

    code = "disk_mismatch"


class CatalogExists(SetupError):
    """There is a catalog where one was to be made: nothing is overwritten unasked."""

    code = "catalog_exists"


class CatalogMissing(SetupError):
    """Disks hold volumes and the catalog that knows them is gone: a new one would number others like them."""

    code = "catalog_missing"


class DisksMissing(SetupError):
    """Some disks that the store is known to have were not given: their objects would be left out."""

    code = "disks_missing"


class BackupCorrupt(SetupError):
    """The file is not a whole backup of a catalog."""

    code = "backup_corrupt"


class FormatUnsupported(SetupError):
    """Written by a release whose format this one does not read."""

    code = "format_unsupported"


class SchemaNewer(SetupError):
    code = "schema_newer"


class SecretMissing(SetupError):
    code = "secret_missing"


def _all_errors(base: type[StoreError]) -> list[type[StoreError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all_errors(child))]


BY_CODE: dict[str, type[StoreError]] = {error.code: error for error in _all_errors(StoreError)}


def from_code(code: str, message: str) -> StoreError:
    """Make the error that a peer named; a code this release does not know stays readable."""
    known = BY_CODE.get(code)
    return known(message) if known else StoreError(f"{code}: {message}")
