"""Texts and lists: how long a field of a message may be, told in its type, so that decoding stops there.

These bounds keep a nonsensical message from taking memory and time.  They are wider than the bounds of the
handlers (`catalog/names.py` and others), which say more precisely what is wrong.
Lengths of texts are in characters, lists and maps in elements.

    Word      a state, a code, a method, the name of an event
    Name      a bucket, a disk, an id of a disk or volume, a key id
    Key       of an object, or a prefix of one: 1 KiB, four times
    Secret    an API key's secret, the join secret
    Token     an access or data token
    Url       where an actor listens; `LongUrl`: with a token in it
    Pem       a certificate, or a request for one; `Pems`: those of all authorities that are trusted
    ETag      of one object; `Condition`: a list of them
    MediaType a content type; `HeaderLine`: the value of another header
    Metadata  names and values that a user chose: 8 KiB, twice, and no more entries than fit in that once
    Attributes  encoded attributes of an object (`attributes.py`)
    Config    a document that says how a bucket behaves; `Configs`: those of one bucket, by kind
    Sentence  for a person
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

Word: TypeAlias = Annotated[str, Meta(max_length=128)]
Name: TypeAlias = Annotated[str, Meta(max_length=1024)]
Key: TypeAlias = Annotated[str, Meta(max_length=4 * 1024)]
Secret: TypeAlias = Annotated[str, Meta(max_length=1024)]
Token: TypeAlias = Annotated[str, Meta(max_length=32 * 1024)]
Url: TypeAlias = Annotated[str, Meta(max_length=4 * 1024)]
LongUrl: TypeAlias = Annotated[str, Meta(max_length=64 * 1024)]
Pem: TypeAlias = Annotated[str, Meta(max_length=8 * 1024)]
Pems: TypeAlias = Annotated[str, Meta(max_length=64 * 1024)]
ETag: TypeAlias = Annotated[str, Meta(max_length=256)]
Condition: TypeAlias = Annotated[str, Meta(max_length=8 * 1024)]
HeaderLine: TypeAlias = Annotated[str, Meta(max_length=1024)]
MediaType: TypeAlias = Annotated[str, Meta(max_length=4 * 1024)]
MetadataText: TypeAlias = Annotated[str, Meta(max_length=16 * 1024)]
Metadata: TypeAlias = Annotated[dict[MetadataText, MetadataText], Meta(max_length=4 * 1024)]
Attributes: TypeAlias = Annotated[bytes, Meta(max_length=16 * 1024)]
Config: TypeAlias = Annotated[bytes, Meta(max_length=64 * 1024)]
Configs: TypeAlias = Annotated[dict[Word, Config], Meta(max_length=16)]
Sentence: TypeAlias = Annotated[str, Meta(max_length=16 * 1024)]

# Lengths of lists.
Few = Meta(max_length=1024)  # what a person or a setting names; needles of one message: actors send 512
Page = Meta(max_length=2048)  # what one question asks for, and its answer; handlers allow a thousand
Batch = Meta(max_length=4096)  # events of one answer, volumes to leave out
Chunks = Meta(max_length=16 * 1024)  # of one object, in one answer
Volumes = Meta(max_length=8192)  # of one disk
Many = Meta(max_length=65_536)  # ids, jobs, disks; tombstones and notes of one command
All = Meta(max_length=1 << 20)  # what is not paged yet for clients of 0.1.0: chunks of an object, buckets
