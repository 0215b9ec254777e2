"""Forms: an object that a browser sends, by a form that somebody else has signed.

The fields say whose form it is (`admission.py` asks the master) and carry the policy: what the one who has
signed lets others do in their name.  Fields that mean headers become headers, and from then on the object is
stored as if it had come by PUT.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlencode

from msgspec.structs import replace

from warehouse.gateway.ask import XML, Answer, Ask, Handler, Headers
from warehouse.gateway.journal import record_of
from warehouse.gateway.objects import Objects
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.failures import Failure
from warehouse.s3.features import check_headers
from warehouse.s3.form import Form
from warehouse.s3.names import object_url
from warehouse.s3.post_policy import Fields, policy_of, success_of
from warehouse.s3.target import KEY_SIZE_MAX, Target

_CONDITIONS = (b"if-match", b"if-none-match")  # the only headers of the request that count for the object


class Forms:
    """
    Args:
        is_tls: clients reach this gateway by https.
    """

    def __init__(self, objects: Objects, *, is_tls: bool) -> None:
        self._objects = objects
        self._scheme = "https" if is_tls else "http"

    def handlers(self) -> Mapping[str, Handler]:
        return {"PostObject": self.post}

    async def post(self, ask: Ask) -> Answer:
        """
        Raises:
            Failure: the form is not as its policy wants it, or asks for what is not there.
        """
        body = ask.form
        assert body is not None
        fields, bucket = body.form.fields, ask.target.bucket
        key = _key_of(fields)
        policy = policy_of(fields["policy"].encode())
        policy.check(fields, bucket, time.time())
        body.limit(policy)
        headers = {**_headers_of(body.form), **_conditions_of(ask.headers)}
        check_headers(headers)
        target = Target(bucket, key, ask.target.is_virtual)
        record_of(ask.exchange).key = key
        stored = await self._objects.put(replace(ask, target=target, headers=headers))
        return self._answer(ask, key, stored.headers)

    def _answer(self, ask: Ask, key: str, headers: Headers) -> Answer:
        """What the browser hears, which may be where it goes next."""
        bucket = ask.target.bucket
        etag = dict(headers)[b"ETag"].decode().strip('"')
        assert ask.form is not None
        success = success_of(ask.form.form.fields, bucket, key, etag)
        if success.location is not None:
            return Answer(success.status, (*headers, (b"Location", success.location.encode())))
        location = self._location_of(ask, key)
        headers = (*headers, (b"Location", location.encode()))
        if not success.has_document:
            return Answer(success.status, headers)
        document = xml_out.post_response(location, bucket, key, etag)
        return Answer(success.status, (*XML, *headers), document)

    def _location_of(self, ask: Ask, key: str) -> str:
        origin = f"{self._scheme}://{ask.headers.get(b'host', b'').decode('latin-1')}"
        return object_url(origin, ask.target.bucket, key, ask.target.is_virtual)


def _key_of(fields: Fields) -> str:
    """
    Raises:
        Failure: InvalidArgument: the form names no key.  KeyTooLongError.
    """
    key = fields.get("key")
    if not key:
        why = "must contain a field named 'key'" if key is None else "needs a key of at least one character"
        raise Failure(
            "InvalidArgument",
            f"Bucket POST {why}.  If it is specified, please check the order of the fields.",
            {"ArgumentName": "key", "ArgumentValue": ""},
        )
    size = len(key.encode())
    if size > KEY_SIZE_MAX:
        raise Failure(
            "KeyTooLongError",
            "Your key is too long",
            {"Size": str(size), "MaxSizeAllowed": str(KEY_SIZE_MAX)},
        )
    return key


def _headers_of(form: Form) -> dict[bytes, bytes]:
    """The fields as headers of a PUT; tags come as a document in a form, and as a query in a header.

    Raises:
        Failure: InvalidArgument, MalformedXML, InvalidTag.
    """
    headers = form.headers()
    document = form.fields.get("tagging")
    if document is not None:
        headers[b"x-amz-tagging"] = urlencode(xml_in.read_tagging(document.encode())).encode()
    return headers


def _conditions_of(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: headers[name] for name in _CONDITIONS if name in headers}
