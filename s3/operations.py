"""Operations: everything that S3 can be asked, how each is recognised, and how each stands here.  Pure

An operation is recognised by its method, by what it is about, by the sub-resource in its query (`?acl`), and
where that is not enough by a parameter or a header.  It stands in one of five ways:

    Served    somebody does it
    Missing   a configuration that nobody can set is asked for: S3's own code for one that is not there
    Empty     the same where S3 answers with a document without settings
    Nothing   a configuration that cannot be there is deleted: 204, as S3 says
    Refused   501 NotImplemented, with the name of the feature

Terraform, s3cmd and Cyberduck read every configuration on each visit, so reading one is never refused.
Source: botocore's model of S3, which a test compares with this table; the Amazon S3 API reference.
"""

from __future__ import annotations

import enum
from typing import Final

from msgspec import Struct

from warehouse.s3.failures import Failure


class About(enum.Enum):
    """What an operation is about: a path, as people write it."""

    SERVICE = "/"
    BUCKET = "/bucket"
    OBJECT = "/bucket/key"
    LAMBDA = "/WriteGetObjectResponse"  # no bucket can have this name


class Served(Struct, frozen=True):
    """Somebody does it; `note` says how it differs from S3."""

    note: str = ""


class Missing(Struct, frozen=True):
    """What is asked for is not there, in S3's own words."""

    code: str
    message: str


class Empty(Struct, frozen=True):
    """A document without settings: its outermost element, and what little it says."""

    root: str
    fields: tuple[tuple[str, str], ...] = ()


class Nothing(Struct, frozen=True):
    """There is nothing to delete, and S3 says 204."""


class Refused(Struct, frozen=True):
    """Not implemented; `feature` is what a person would call it."""

    feature: str


Standing = Served | Missing | Empty | Nothing | Refused


class Operation(Struct, frozen=True):
    """One operation of S3.

    Attributes:
        subresource: the name in the query that selects it; empty for none.
        needs: a further parameter that it cannot do without.
        needs_header: a header that makes it another operation.
        selectors: which of the parameters `versionId` and `partNumber` it takes.
        also: a deprecated name for the same request.
    """

    name: str
    method: bytes
    about: About
    subresource: str
    standing: Standing
    needs: str = ""
    needs_header: bytes = b""
    selectors: frozenset[str] = frozenset()
    also: str = ""

    def failure(self) -> Failure | None:
        """How the operation is refused whatever the request says; None if it is answered otherwise."""
        match self.standing:
            case Refused(feature):
                return Failure(
                    "NotImplemented", f"{self.name} is not implemented: {feature}.", {"Feature": feature}
                )
            case Missing(code, message):
                return Failure(code, message)
            case _:
                return None

    def address(self) -> str:
        """How a request for it looks, for people: "`GET /bucket/key?acl`"."""
        parameters = "&".join(name for name in (self.subresource, self.needs) if name)
        text = f"`{self.method.decode()} {self.about.value}{'?' * bool(parameters)}{parameters}`"
        return f"{text}, with `{self.needs_header.decode()}`" if self.needs_header else text


_VERSION: Final = frozenset({"versionId"})
_PART: Final = frozenset({"partNumber"})
_COPY_SOURCE: Final = b"x-amz-copy-source"


def _of_bucket(
    name: str, method: bytes, subresource: str, standing: Standing, *, needs: str = "", also: str = ""
) -> Operation:
    return Operation(name, method, About.BUCKET, subresource, standing, needs=needs, also=also)


def _of_object(
    name: str,
    method: bytes,
    subresource: str,
    standing: Standing,
    selectors: frozenset[str] = frozenset(),
    *,
    needs: str = "",
    needs_header: bytes = b"",
) -> Operation:
    return Operation(
        name,
        method,
        About.OBJECT,
        subresource,
        standing,
        needs=needs,
        needs_header=needs_header,
        selectors=selectors,
    )


_ONE_OWNER: Final = "the owner has FULL_CONTROL, and nobody else anything"
_ONLY_PRIVATE: Final = Served("`private`, or the list that is there already; any other is a 501")
_NO_LOCK: Final = Refused("object lock")
_NO_TABLES: Final = Refused("metadata tables")
_NO_ANNOTATIONS: Final = Refused("annotations of objects")
_NO_EXPRESS: Final = Refused("directory buckets (S3 Express)")
_NO_CONFIGURATION: Final = Missing("NoSuchConfiguration", "The specified configuration does not exist.")
_NO_METADATA_TABLE: Final = Missing(
    "MetadataConfigurationNotFound", "The metadata configuration was not found"
)
_NO_POLICY: Final = Missing("NoSuchBucketPolicy", "The bucket policy does not exist")
_UNLOCKED: Final = Missing("InvalidRequest", "Bucket is missing Object Lock Configuration")


def _numbered(subresource: str, name: str, root: str, refused: Refused) -> tuple[Operation, ...]:
    """The four operations of configurations that a bucket may have several of, each with an id."""
    return (
        _of_bucket(f"GetBucket{name}", b"GET", subresource, _NO_CONFIGURATION, needs="id"),
        _of_bucket(f"ListBucket{name}s", b"GET", subresource, Empty(root, (("IsTruncated", "false"),))),
        _of_bucket(f"PutBucket{name}", b"PUT", subresource, refused, needs="id"),
        _of_bucket(f"DeleteBucket{name}", b"DELETE", subresource, _NO_CONFIGURATION, needs="id"),
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    # --- buckets ---
    Operation("ListBuckets", b"GET", About.SERVICE, "", Served("only buckets of the key's own account")),
    _of_bucket(
        "CreateBucket",
        b"PUT",
        "",
        Served("of the owner's own bucket: 200, as in us-east-1; any LocationConstraint is kept"),
    ),
    _of_bucket("HeadBucket", b"HEAD", "", Served()),
    _of_bucket("DeleteBucket", b"DELETE", "", Served()),
    _of_bucket("GetBucketLocation", b"GET", "location", Served()),
    _of_bucket("GetBucketTagging", b"GET", "tagging", Served()),
    _of_bucket("PutBucketTagging", b"PUT", "tagging", Served()),
    _of_bucket("DeleteBucketTagging", b"DELETE", "tagging", Served()),
    # --- listings ---
    _of_bucket("ListObjects", b"GET", "", Served("NextMarker comes with every truncated page")),
    _of_bucket("ListObjectsV2", b"GET", "list-type", Served()),
    _of_bucket("ListObjectVersions", b"GET", "versions", Served("each object has one version, `null`")),
    _of_bucket("ListMultipartUploads", b"GET", "uploads", Served()),
    # --- objects ---
    _of_object("PutObject", b"PUT", "", Served("user metadata up to 8 KiB; If-None-Match also with an ETag")),
    _of_object("GetObject", b"GET", "", Served(), _VERSION | _PART),
    _of_object("HeadObject", b"HEAD", "", Served(), _VERSION | _PART),
    _of_object("DeleteObject", b"DELETE", "", Served(), _VERSION),
    _of_bucket("DeleteObjects", b"POST", "delete", Served("Content-MD5 or any checksum will do")),
    _of_object("CopyObject", b"PUT", "", Served(), needs_header=_COPY_SOURCE),
    _of_object("GetObjectAttributes", b"GET", "attributes", Served("`-N` also behind checksums"), _VERSION),
    _of_object("GetObjectTagging", b"GET", "tagging", Served(), _VERSION),
    _of_object("PutObjectTagging", b"PUT", "tagging", Served("ETag and Last-Modified stay"), _VERSION),
    _of_object("DeleteObjectTagging", b"DELETE", "tagging", Served(), _VERSION),
    _of_bucket("PostObject", b"POST", "", Served("a form with a policy, from a browser")),
    # --- multipart uploads ---
    _of_object("CreateMultipartUpload", b"POST", "uploads", Served()),
    _of_object("UploadPart", b"PUT", "uploadId", Served(), _PART, needs="partNumber"),
    _of_object(
        "UploadPartCopy",
        b"PUT",
        "uploadId",
        Served(),
        _PART,
        needs="partNumber",
        needs_header=_COPY_SOURCE,
    ),
    _of_object("ListParts", b"GET", "uploadId", Served()),
    _of_object("CompleteMultipartUpload", b"POST", "uploadId", Served()),
    _of_object("AbortMultipartUpload", b"DELETE", "uploadId", Served()),
    # --- owners and rights ---
    _of_bucket("GetBucketAcl", b"GET", "acl", Served(_ONE_OWNER)),
    _of_bucket("PutBucketAcl", b"PUT", "acl", _ONLY_PRIVATE),
    _of_object("GetObjectAcl", b"GET", "acl", Served(_ONE_OWNER), _VERSION),
    _of_object("PutObjectAcl", b"PUT", "acl", _ONLY_PRIVATE, _VERSION),
    _of_bucket("GetBucketPolicy", b"GET", "policy", _NO_POLICY),
    _of_bucket("PutBucketPolicy", b"PUT", "policy", Refused("bucket policies")),
    _of_bucket("DeleteBucketPolicy", b"DELETE", "policy", Nothing()),
    _of_bucket("GetBucketPolicyStatus", b"GET", "policyStatus", _NO_POLICY),
    _of_bucket(
        "GetPublicAccessBlock",
        b"GET",
        "publicAccessBlock",
        Missing(
            "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"
        ),
    ),
    _of_bucket("PutPublicAccessBlock", b"PUT", "publicAccessBlock", Refused("public access block")),
    _of_bucket("DeletePublicAccessBlock", b"DELETE", "publicAccessBlock", Nothing()),
    _of_bucket(
        "GetBucketOwnershipControls",
        b"GET",
        "ownershipControls",
        Missing("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"),
    ),
    _of_bucket("PutBucketOwnershipControls", b"PUT", "ownershipControls", Refused("ownership controls")),
    _of_bucket("DeleteBucketOwnershipControls", b"DELETE", "ownershipControls", Nothing()),
    _of_bucket("GetBucketCors", b"GET", "cors", Served()),
    _of_bucket("PutBucketCors", b"PUT", "cors", Served("counts within a second at every gateway")),
    _of_bucket("DeleteBucketCors", b"DELETE", "cors", Served()),
    _of_bucket("Preflight", b"OPTIONS", "", Served("by the rules of the bucket; nothing is signed")),
    _of_bucket("GetBucketAbac", b"GET", "abac", Empty("AbacStatus", (("Status", "Disabled"),))),
    _of_bucket("PutBucketAbac", b"PUT", "abac", Refused("attribute-based access control")),
    # --- versions and locks ---
    _of_bucket("GetBucketVersioning", b"GET", "versioning", Empty("VersioningConfiguration")),
    _of_bucket("PutBucketVersioning", b"PUT", "versioning", Refused("versions of objects")),
    _of_bucket(
        "GetObjectLockConfiguration",
        b"GET",
        "object-lock",
        Missing(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        ),
    ),
    _of_bucket("PutObjectLockConfiguration", b"PUT", "object-lock", _NO_LOCK),
    _of_object("GetObjectLegalHold", b"GET", "legal-hold", _UNLOCKED, _VERSION),
    _of_object("PutObjectLegalHold", b"PUT", "legal-hold", _NO_LOCK, _VERSION),
    _of_object("GetObjectRetention", b"GET", "retention", _UNLOCKED, _VERSION),
    _of_object("PutObjectRetention", b"PUT", "retention", _NO_LOCK, _VERSION),
    # --- life cycle and storage ---
    _of_bucket(
        "GetBucketLifecycleConfiguration",
        b"GET",
        "lifecycle",
        Missing("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
        also="GetBucketLifecycle",
    ),
    _of_bucket(
        "PutBucketLifecycleConfiguration",
        b"PUT",
        "lifecycle",
        Refused("lifecycle rules"),
        also="PutBucketLifecycle",
    ),
    _of_bucket("DeleteBucketLifecycle", b"DELETE", "lifecycle", Nothing()),
    _of_object(
        "RestoreObject",
        b"POST",
        "restore",
        Missing("InvalidStorageClass", "No object is archived: the storage class STANDARD is the only one."),
        _VERSION,
    ),
    _of_bucket(
        "GetBucketEncryption",
        b"GET",
        "encryption",
        Missing(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        ),
    ),
    _of_bucket("PutBucketEncryption", b"PUT", "encryption", Refused("server-side encryption")),
    _of_bucket("DeleteBucketEncryption", b"DELETE", "encryption", Nothing()),
    _of_object("UpdateObjectEncryption", b"PUT", "encryption", Refused("server-side encryption"), _VERSION),
    _of_bucket(
        "GetBucketReplication",
        b"GET",
        "replication",
        Missing("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
    ),
    _of_bucket("PutBucketReplication", b"PUT", "replication", Refused("replication to another bucket")),
    _of_bucket("DeleteBucketReplication", b"DELETE", "replication", Nothing()),
    # --- what a bucket tells others ---
    _of_bucket("GetBucketLogging", b"GET", "logging", Empty("BucketLoggingStatus")),
    _of_bucket("PutBucketLogging", b"PUT", "logging", Refused("access logs in a bucket")),
    _of_bucket(
        "GetBucketNotificationConfiguration",
        b"GET",
        "notification",
        Empty("NotificationConfiguration"),
        also="GetBucketNotification",
    ),
    _of_bucket(
        "PutBucketNotificationConfiguration",
        b"PUT",
        "notification",
        Refused("notifications"),
        also="PutBucketNotification",
    ),
    _of_bucket(
        "GetBucketWebsite",
        b"GET",
        "website",
        Missing("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    ),
    _of_bucket("PutBucketWebsite", b"PUT", "website", Refused("websites")),
    _of_bucket("DeleteBucketWebsite", b"DELETE", "website", Nothing()),
    _of_bucket("GetBucketAccelerateConfiguration", b"GET", "accelerate", Empty("AccelerateConfiguration")),
    _of_bucket("PutBucketAccelerateConfiguration", b"PUT", "accelerate", Refused("transfer acceleration")),
    _of_bucket(
        "GetBucketRequestPayment",
        b"GET",
        "requestPayment",
        Empty("RequestPaymentConfiguration", (("Payer", "BucketOwner"),)),
    ),
    _of_bucket("PutBucketRequestPayment", b"PUT", "requestPayment", Refused("requester pays")),
    *_numbered(
        "analytics",
        "AnalyticsConfiguration",
        "ListBucketAnalyticsConfigurationResult",
        Refused("analytics"),
    ),
    *_numbered(
        "metrics",
        "MetricsConfiguration",
        "ListMetricsConfigurationsResult",
        Refused("metrics of a bucket"),
    ),
    *_numbered(
        "inventory",
        "InventoryConfiguration",
        "ListInventoryConfigurationsResult",
        Refused("inventory"),
    ),
    *_numbered(
        "intelligent-tiering",
        "IntelligentTieringConfiguration",
        "ListBucketIntelligentTieringConfigurationsOutput",
        Refused("intelligent tiering"),
    ),
    # --- metadata tables and annotations ---
    _of_bucket("CreateBucketMetadataConfiguration", b"POST", "metadataConfiguration", _NO_TABLES),
    _of_bucket("GetBucketMetadataConfiguration", b"GET", "metadataConfiguration", _NO_METADATA_TABLE),
    _of_bucket("DeleteBucketMetadataConfiguration", b"DELETE", "metadataConfiguration", Nothing()),
    _of_bucket("CreateBucketMetadataTableConfiguration", b"POST", "metadataTable", _NO_TABLES),
    _of_bucket("GetBucketMetadataTableConfiguration", b"GET", "metadataTable", _NO_METADATA_TABLE),
    _of_bucket("DeleteBucketMetadataTableConfiguration", b"DELETE", "metadataTable", Nothing()),
    _of_bucket(
        "UpdateBucketMetadataAnnotationTableConfiguration", b"PUT", "metadataAnnotationTable", _NO_TABLES
    ),
    _of_bucket(
        "UpdateBucketMetadataInventoryTableConfiguration", b"PUT", "metadataInventoryTable", _NO_TABLES
    ),
    _of_bucket("UpdateBucketMetadataJournalTableConfiguration", b"PUT", "metadataJournalTable", _NO_TABLES),
    _of_object(
        "GetObjectAnnotation", b"GET", "annotation", _NO_ANNOTATIONS, _VERSION, needs="annotationName"
    ),
    _of_object("ListObjectAnnotations", b"GET", "annotation", _NO_ANNOTATIONS, _VERSION),
    _of_object(
        "PutObjectAnnotation", b"PUT", "annotation", _NO_ANNOTATIONS, _VERSION, needs="annotationName"
    ),
    _of_object(
        "DeleteObjectAnnotation", b"DELETE", "annotation", _NO_ANNOTATIONS, _VERSION, needs="annotationName"
    ),
    # --- other services behind the same interface ---
    _of_object("SelectObjectContent", b"POST", "select", Refused("queries within objects (S3 Select)")),
    _of_object(
        "GetObjectTorrent", b"GET", "torrent", Missing("NoSuchKey", "The specified key does not exist.")
    ),
    _of_object("RenameObject", b"PUT", "renameObject", Refused("renaming of objects")),
    _of_bucket("CreateSession", b"GET", "session", _NO_EXPRESS),
    Operation("ListDirectoryBuckets", b"GET", About.SERVICE, "max-directory-buckets", _NO_EXPRESS),
    Operation("WriteGetObjectResponse", b"POST", About.LAMBDA, "", Refused("object lambda")),
)

BY_NAME: Final = {operation.name: operation for operation in OPERATIONS}

# Whatever selects an operation.
SUBRESOURCES: Final = frozenset(operation.subresource for operation in OPERATIONS) - {""}

# Parameters that say more about an operation.  A client may send them without a value.
PARAMETERS: Final = frozenset(
    {
        "annotation-prefix",
        "annotationName",
        "bucket-region",
        "continuation-token",
        "delimiter",
        "encoding-type",
        "fetch-owner",
        "id",
        "key-marker",
        "marker",
        "max-annotation-results",
        "max-buckets",
        "max-keys",
        "max-parts",
        "max-uploads",
        "part-number-marker",
        "partNumber",
        "prefix",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "select-type",
        "start-after",
        "upload-id-marker",
        "version-id-marker",
        "versionId",
    }
)

_HEAD: Final = """\
| operation | request | here | how |
|---|---|---|---|"""


def table() -> str:
    """All operations for `docs/s3.md`, in the order of their names."""
    lines = [_HEAD]
    for operation in sorted(OPERATIONS, key=lambda operation: operation.name):
        stands, how = _in_words(operation.standing)
        names = f"{operation.name} ({operation.also})" if operation.also else operation.name
        lines.append(f"| {names} | {operation.address()} | {stands} | {how} |")
    return "\n".join(lines) + "\n"


def _in_words(standing: Standing) -> tuple[str, str]:
    match standing:
        case Served(note):
            return "served", note
        case Missing(code, _):
            return "not configured", f"`{code}`"
        case Empty(root, fields):
            says = ", ".join(f"`{name}` is `{value}`" for name, value in fields)
            return "not configured", f"an empty `{root}`" + (f": {says}" if says else "")
        case Nothing():
            return "not configured", "204: nothing to delete"
        case Refused(feature):
            return "refused", f"501: {feature}"


if __name__ == "__main__":
    print(table(), end="")
