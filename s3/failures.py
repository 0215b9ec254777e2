"""Failures: how S3 says no.  One code, one status, and a message for people.  Pure

A `Failure` is raised for whatever a client sent that cannot be done.  `failure_of` translates what the store
itself refuses.  Each code has one status, in `STATUS_OF`; a code that does not stand there cannot be raised.

Source: the Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from warehouse import errors

STATUS_OF: Final[Mapping[str, int]] = {
    "AccessDenied": 403,
    "AccessForbidden": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BadRequest": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "IllegalLocationConstraintException": 400,
    "IncompleteBody": 400,
    "IncorrectNumberOfFilesInPostRequest": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidChunkSizeError": 400,
    "InvalidDigest": 400,
    "InvalidLocationConstraint": 400,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedPOSTRequest": 400,
    "MalformedTrailerError": 400,
    "MalformedXML": 400,
    "MaxMessageLengthExceeded": 400,
    "MaxPostPreDataLengthExceededError": 400,
    "MetadataTooLarge": 400,
    "MetadataConfigurationNotFound": 404,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "MissingSecurityHeader": 400,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "ObjectLockConfigurationNotFoundError": 404,
    "OperationAborted": 409,
    "OwnershipControlsNotFoundError": 404,
    "PreconditionFailed": 412,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestHeaderSectionTooLarge": 400,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "TooManyBuckets": 400,
    "UnexpectedContent": 400,
    "XAmzContentChecksumMismatch": 400,
    "XAmzContentSHA256Mismatch": 400,
}


class Failure(Exception):
    """A request that S3 refuses.

    `fields` are further elements of the error document, by name and in order: what was expected, what came.
    `closes` says that bytes of the request may be left over, so the connection must end after the answer.
    """

    def __init__(
        self, code: str, message: str, fields: Mapping[str, str] | None = None, *, closes: bool = False
    ) -> None:
        """
        Raises:
            KeyError: the code has no status in `STATUS_OF`; a bug.
        """
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = STATUS_OF[code]
        self.fields: Mapping[str, str] = fields or {}
        self.closes = closes

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


# What the store says, and the code by which clients of S3 know it.  The first class that fits counts, so
# special ones stand before general ones.
_CODE_OF: Final[tuple[tuple[type[errors.StoreError], str], ...]] = (
    (errors.NoSuchBucket, "NoSuchBucket"),
    (errors.NoSuchObject, "NoSuchKey"),
    (errors.NoSuchUpload, "NoSuchUpload"),
    (errors.BucketExists, "BucketAlreadyExists"),
    (errors.BucketNotEmpty, "BucketNotEmpty"),
    (errors.BadBucketName, "InvalidBucketName"),
    (errors.BadMetadata, "MetadataTooLarge"),
    (errors.BodyTooLarge, "EntityTooLarge"),
    (errors.ChecksumMismatch, "BadDigest"),
    (errors.LengthMismatch, "IncompleteBody"),
    (errors.LengthRequired, "MissingContentLength"),
    (errors.HeadersTooLarge, "RequestHeaderSectionTooLarge"),
    (errors.MethodNotAllowed, "MethodNotAllowed"),
    (errors.MethodUnknown, "MethodNotAllowed"),
    (errors.UnsupportedCoding, "NotImplemented"),
    (errors.PreconditionFailed, "PreconditionFailed"),
    (errors.RangeNotSatisfiable, "InvalidRange"),
    (errors.RequestTimeout, "RequestTimeout"),
    (errors.PermissionDenied, "AccessDenied"),
    (errors.QuotaExceeded, "AccessDenied"),  # no retryable status: waiting makes no room
    (errors.NotAuthenticated, "AccessDenied"),
    (errors.NoSuchApiKey, "InvalidAccessKeyId"),
    (errors.KeyCannotSign, "InvalidAccessKeyId"),
    (errors.SignatureMismatch, "SignatureDoesNotMatch"),
    # The key may work still, with other rights: the same request, once more, tells.
    (errors.TokenRevoked, "ServiceUnavailable"),
    (errors.BadCredentials, "SignatureDoesNotMatch"),
    (errors.UploadIncomplete, "InvalidPart"),
    (errors.Overloaded, "SlowDown"),
    (errors.Unavailable, "ServiceUnavailable"),
    (errors.DataDamaged, "InternalError"),
    (errors.SetupError, "InternalError"),
    (errors.RequestRefused, "InvalidRequest"),
)

# What is no fault of the request is told in the words of S3.  Our own name disks, folders and addresses
# behind the gateway, which help an operator and are no business of clients.
_MESSAGE_OF: Final[Mapping[str, str]] = {
    "InternalError": "We encountered an internal error. Please try again.",
    "ServiceUnavailable": "Service is unable to handle request. Please try again.",
    "SlowDown": "Please reduce your request rate.",
}


def failure_of(error: errors.StoreError) -> Failure:
    """What the store refused, as S3 says it; our own code goes along as the field `WarehouseCode`."""
    code = next((code for kind, code in _CODE_OF if isinstance(error, kind)), "InternalError")
    return Failure(code, _MESSAGE_OF.get(code, error.message), {"WarehouseCode": error.code})
