"""XML in: the documents that clients send, from bytes to values.  Pure

expat parses.  This module refuses what is dangerous before anything is done: a DOCTYPE (and with it every
entity), nesting deeper than 20, documents longer than their operation ever needs, any encoding but UTF-8.
Elements are known by their local names, with S3's namespace, another one or none, because clients differ;
unknown elements are ignored, as S3 does it.  An element that may come once must not come twice.

A list of many elements (parts, keys to delete) is read as it goes by: each one becomes a value and is
dropped.

Whatever cannot be read is MalformedXML.  A document that can be read but asks for the impossible has the code
that S3 has for it: InvalidPartOrder, InvalidTag.

Source: the Amazon S3 API reference; Bray et al., "Extensible Markup Language (XML) 1.0", fifth edition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from xml.parsers import expat

from msgspec import Struct

from warehouse.s3.checksums import Sent, algorithm_named, digest_of
from warehouse.s3.cors import RULES_MAX, CorsRule, check_rules
from warehouse.s3.etags import unquoted
from warehouse.s3.failures import Failure
from warehouse.s3.ranges import part_number
from warehouse.s3.tags import BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, Tags, check_tags

DEPTH_MAX: Final = 20
ELEMENT_COUNT_MAX: Final = 1000  # in memory at once; an element takes fifty times its bytes
TEXT_PIECE_SIZE: Final = 64 * 1024  # so that the longest text comes in few pieces
NAMESPACE_SIZE_MAX: Final = 256  # characters; the parser repeats it with each name that is in it
# Documents in bytes: S3 takes this much, or less.
SMALL_SIZE_MAX: Final = 64 * 1024
DELETE_SIZE_MAX: Final = 2 * 1024 * 1024
COMPLETE_SIZE_MAX: Final = 4 * 1024 * 1024
DELETE_COUNT_MAX: Final = 1000

_TAG: Final = frozenset(("Key", "Value"))
_KEY: Final = frozenset(("Key", "VersionId", "ETag", "LastModifiedTime", "Size"))
_PART: Final = frozenset(("PartNumber", "ETag"))
_CORS_LISTS: Final = ("AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader")
_CHECKSUM: Final = "Checksum"  # an element's name begins with it and ends with the algorithm
_SEPARATOR: Final = "\x1f"  # between a namespace and a local name; no name can hold it
_find_declaration: Final = re.compile(rb"""\A\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"']*)["']""").match
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00<", b"<\x00")


class Element:
    """An element with its text or its children.  Attributes are not kept: no document needs them.

    Text between children is dropped, and at the latest with the next child: to add up the blanks between
    10,000 parts would copy what is there 10,000 times.
    """

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def child(self, name: str) -> Element | None:
        """The child of this name.

        Raises:
            Failure: there are several.
        """
        found = [child for child in self.children if child.name == name]
        if len(found) > 1:
            raise malformed(f"{name} must come once in {self.name}, and came {len(found)} times")
        return found[0] if found else None

    def optional(self, name: str) -> str | None:
        """The text of the child of this name; None: there is none."""
        child = self.child(name)
        return None if child is None else child.only_text()

    def only_text(self) -> str:
        """
        Raises:
            Failure: there are elements in it.
        """
        if self.children:
            raise malformed(f"{self.name} holds text, and no elements")
        return self.text

    def texts(self, known: frozenset[str]) -> dict[str, str]:
        """The texts of the children of these names, which come once; in one pass, for rows."""
        found: dict[str, str] = {}
        for child in self.children:
            if child.name in known:
                if child.name in found:
                    raise malformed(f"{child.name} must come once in {self.name}, and came twice")
                found[child.name] = child.only_text()
        return found


def _required(texts: Mapping[str, str], name: str) -> str:
    text = texts.get(name)
    if text is None:
        raise malformed(f"the element {name} is missing")
    return text


OnElement = Callable[[Element], None]


class _Parser:
    """One document.  `on_row` gets the elements of one name right below the root, the tree all others."""

    def __init__(self, row_name: str | None, on_row: OnElement | None) -> None:
        self._row_name = row_name
        self._on_row = on_row
        self._open: list[Element] = []
        self._count = self._count_before_row = 0
        self.root: Element | None = None

    def parse(self, document: bytes) -> Element:
        parser = expat.ParserCreate("utf-8", _SEPARATOR)
        parser.buffer_text = True
        parser.buffer_size = TEXT_PIECE_SIZE
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartNamespaceDeclHandler = self._check_namespace
        try:
            parser.Parse(document, True)
        except (expat.ExpatError, ValueError) as error:
            raise malformed(f"it cannot be parsed: {error}") from None
        finally:
            # Each handler refers to this object, which the parser would keep alive until the next collection.
            parser.StartElementHandler = parser.EndElementHandler = None
            parser.CharacterDataHandler = parser.StartDoctypeDeclHandler = None
            parser.StartNamespaceDeclHandler = None
        assert self.root is not None  # expat refuses a document without an element
        return self.root

    def _start(self, name: str, _attributes: Mapping[str, str]) -> None:
        if len(self._open) >= DEPTH_MAX:
            raise malformed(f"elements are nested deeper than {DEPTH_MAX}")
        if self._open:
            self._open[-1].text = ""
        if len(self._open) == 1:
            self._count_before_row = self._count
        self._count += 1
        if self._count > ELEMENT_COUNT_MAX:
            raise malformed(f"it has more than {ELEMENT_COUNT_MAX} elements")
        self._open.append(Element(name.rpartition(_SEPARATOR)[2]))

    def _end(self, _name: str) -> None:
        element = self._open.pop()
        if not self._open:
            self.root = element
        elif len(self._open) == 1 and element.name == self._row_name and self._on_row is not None:
            self._on_row(element)
            self._count = self._count_before_row
        else:
            self._open[-1].children.append(element)

    def _characters(self, text: str) -> None:
        self._open[-1].text += text

    def _refuse_doctype(self, *_declaration: object) -> None:
        raise malformed("it has a DOCTYPE")

    def _check_namespace(self, _prefix: str | None, uri: str | None) -> None:
        if uri is not None and len(uri) > NAMESPACE_SIZE_MAX:
            raise malformed(f"a namespace has {len(uri)} characters, and may have {NAMESPACE_SIZE_MAX}")


def parse(
    document: bytes,
    root: str,
    size_max: int = SMALL_SIZE_MAX,
    row_name: str | None = None,
    on_row: OnElement | None = None,
) -> Element:
    """Read a document whose outermost element is `root`.

    Args:
        size_max: in bytes.
        row_name: elements of this name, right below the root, go to `on_row` and do not stay in the tree.
    Raises:
        Failure: MalformedXML.
    """
    if len(document) > size_max:
        raise malformed(f"it has {len(document)} bytes, at most {size_max} are allowed")
    _require_utf8(document)
    found = _Parser(row_name, on_row).parse(document)
    if found.name != root:
        raise malformed(f"its outermost element is {found.name[:100]}, not {root}")
    return found


def is_empty(document: bytes, root: str) -> bool:
    """Whether a document of the kind `root` configures nothing."""
    return not parse(document, root).children


def malformed(why: str) -> Failure:
    return Failure(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema: " + why,
    )


def _require_utf8(document: bytes) -> None:
    """expat is told to read UTF-8, whatever the document says; one that says otherwise is refused."""
    if document.startswith(_UTF16):
        raise malformed("it is not UTF-8")
    declared = _find_declaration(document.removeprefix(b"\xef\xbb\xbf")[:1024])
    if declared is not None and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise malformed(f"it is declared as {ascii(declared[1])[2:-1]}, not as UTF-8")


# --- buckets ------------------------------------------------------------------------------------------


class BucketConfiguration(Struct, frozen=True):
    """What a CreateBucket asks for; an empty body asks for nothing."""

    location: str | None = None
    tags: Tags = ()


def read_bucket_configuration(document: bytes) -> BucketConfiguration:
    """
    Raises:
        Failure: MalformedXML; InvalidTag; NotImplemented for a directory bucket.
    """
    if not document.strip():
        return BucketConfiguration()
    root = parse(document, "CreateBucketConfiguration")
    for name in ("Location", "Bucket"):
        if root.child(name) is not None:
            raise Failure("NotImplemented", f"Directory buckets ({name}) are not implemented.")
    tags = root.child("Tags")
    return BucketConfiguration(
        location=(root.optional("LocationConstraint") or "").strip() or None,
        tags=() if tags is None else check_tags(_tags_of(tags), BUCKET_TAGS_MAX),
    )


class Versioning(Struct, frozen=True):
    status: str | None  # Enabled, Suspended; None: nothing is said
    with_mfa_delete: bool


def read_versioning(document: bytes) -> Versioning:
    root = parse(document, "VersioningConfiguration")
    status, mfa_delete = root.optional("Status"), root.optional("MfaDelete")
    if status not in (None, "Enabled", "Suspended"):
        raise malformed(f"Status is Enabled or Suspended, not {status[:100]}")
    if mfa_delete not in (None, "Enabled", "Disabled"):
        raise malformed(f"MfaDelete is Enabled or Disabled, not {mfa_delete[:100]}")
    return Versioning(status, mfa_delete == "Enabled")


# --- tags ---------------------------------------------------------------------------------------------


def read_tagging(document: bytes, count_max: int = OBJECT_TAGS_MAX) -> Tags:
    """
    Raises:
        Failure: MalformedXML; InvalidTag where the document can be read, but not its tags.
    """
    tag_set = parse(document, "Tagging").child("TagSet")
    if tag_set is None:
        raise malformed("Tagging needs the element TagSet")
    return check_tags(_tags_of(tag_set), count_max)


def _tags_of(tag_set: Element) -> Tags:
    return tuple(
        (_required(texts, "Key"), _required(texts, "Value"))
        for texts in (tag.texts(_TAG) for tag in tag_set.children if tag.name == "Tag")
    )


# --- CORS ---------------------------------------------------------------------------------------------


def read_cors(document: bytes) -> tuple[CorsRule, ...]:
    """
    Raises:
        Failure: MalformedXML, also without a rule, with too many, or with one without an origin or a method;
            InvalidRequest for what a rule may not say.
    """
    rules: list[CorsRule] = []

    def add(element: Element) -> None:
        if len(rules) >= RULES_MAX:
            raise malformed(f"there are more than {RULES_MAX} rules")
        rules.append(_cors_rule(element))

    parse(document, "CORSConfiguration", SMALL_SIZE_MAX, "CORSRule", add)
    if not rules:
        raise malformed("CORSConfiguration needs the element CORSRule")
    return check_rules(rules)


def _cors_rule(element: Element) -> CorsRule:
    lists: dict[str, list[str]] = {name: [] for name in _CORS_LISTS}
    for child in element.children:
        if child.name in lists:
            lists[child.name].append(child.only_text())
    origins, methods, allowed, exposed = (tuple(lists[name]) for name in _CORS_LISTS)
    if not origins or not methods:
        raise malformed("CORSRule needs the elements AllowedOrigin and AllowedMethod")
    max_age = element.optional("MaxAgeSeconds")
    if max_age is not None and not (max_age.isascii() and max_age.isdigit() and len(max_age) <= 9):
        raise malformed(f"MaxAgeSeconds is a number, not {max_age[:100]}")
    return CorsRule(
        origins, methods, allowed, exposed, None if max_age is None else int(max_age), element.optional("ID")
    )


# --- access control lists -------------------------------------------------------------------------------


def read_grants(document: bytes) -> frozenset[tuple[str, str]]:
    """Who gets what by an access control list: the id of an account, and the permission.

    A grantee that is no account, but a group or an address, has the id "".

    Raises:
        Failure: MalformedXML.
    """
    grants = parse(document, "AccessControlPolicy").child("AccessControlList")
    if grants is None:
        raise malformed("AccessControlPolicy needs the element AccessControlList")
    return frozenset(_grant(element) for element in grants.children if element.name == "Grant")


def _grant(element: Element) -> tuple[str, str]:
    grantee, permission = element.child("Grantee"), element.optional("Permission")
    if grantee is None or permission is None:
        raise malformed("Grant needs the elements Grantee and Permission")
    return grantee.optional("ID") or "", permission


# --- deletions ----------------------------------------------------------------------------------------


class DeleteKey(Struct, frozen=True):
    """One key to delete, with its conditions as they were written."""

    key: str  # of any length: what is wrong with it concerns this key alone
    version_id: str | None = None
    etag: str | None = None
    modified: str | None = None  # a date
    size: str | None = None


class Delete(Struct, frozen=True):
    keys: tuple[DeleteKey, ...]
    is_quiet: bool


def read_delete(document: bytes) -> Delete:
    """
    Raises:
        Failure: MalformedXML; also without a key, and with more than 1,000.
    """
    keys: list[DeleteKey] = []

    def add(element: Element) -> None:
        if len(keys) >= DELETE_COUNT_MAX:
            raise malformed(f"more than {DELETE_COUNT_MAX} keys")
        keys.append(_key_to_delete(element))

    root = parse(document, "Delete", DELETE_SIZE_MAX, "Object", add)
    if not keys:
        raise malformed("no key to delete")
    return Delete(tuple(keys), _bool(root, "Quiet"))


def _key_to_delete(element: Element) -> DeleteKey:
    texts = element.texts(_KEY)
    key = _required(texts, "Key")
    if not key:
        raise malformed("a key to delete is empty")
    return DeleteKey(
        key,
        texts.get("VersionId") or None,
        texts.get("ETag") or None,
        texts.get("LastModifiedTime") or None,
        texts.get("Size") or None,
    )


def _bool(element: Element, name: str) -> bool:
    text = (element.optional(name) or "false").strip().lower()
    if text not in ("true", "false"):
        raise malformed(f"{name} is true or false, not {text[:100]}")
    return text == "true"


# --- uploads ------------------------------------------------------------------------------------------


class CompletedPart(Struct, frozen=True):
    number: int
    etag: str  # as the store has it
    checksum: Sent | None = None


def read_complete(document: bytes) -> tuple[CompletedPart, ...]:
    """The parts of an upload that become the object, in order.

    Raises:
        Failure: MalformedXML, also without a part; InvalidPartOrder; InvalidArgument for a number that no
            part can have; BadDigest, InvalidRequest and NotImplemented for a checksum.
    """
    parts: list[CompletedPart] = []

    def add(element: Element) -> None:
        part = _completed_part(element)
        if parts and part.number == parts[-1].number:  # sent again, and listed each time: the last one counts
            parts.pop()
        if parts and part.number < parts[-1].number:
            raise Failure(
                "InvalidPartOrder",
                "The list of parts was not in ascending order. The parts list must be specified in order by"
                f" part number: {part.number} comes after {parts[-1].number}.",
            )
        parts.append(part)

    parse(document, "CompleteMultipartUpload", COMPLETE_SIZE_MAX, "Part", add)
    if not parts:
        raise malformed("no part is listed")
    return tuple(parts)


def _completed_part(element: Element) -> CompletedPart:
    texts = element.texts(_PART)
    number = _required(texts, "PartNumber").strip()
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise malformed(f"PartNumber is a number, not {number[:100]}")
    return CompletedPart(part_number(number), unquoted(_required(texts, "ETag")), _checksum_of(element))


def _checksum_of(part: Element) -> Sent | None:
    if len(part.children) == 2:  # number and ETag
        return None
    found = [child for child in part.children if child.name.startswith(_CHECKSUM)]
    if len(found) > 1:
        raise malformed("a part has several checksums")
    if not found:
        return None
    algorithm = algorithm_named(found[0].name.removeprefix(_CHECKSUM))
    return Sent(algorithm, digest_of(algorithm, found[0].only_text().strip().encode()))
