"""Numbers: what an integer in a message may be, told in its type, so that decoding refuses the others.

Integers in Python have no bound, those of SQLite have one, and a negative size or a second of the year
300,000 makes sense nowhere.  So no message type says `int`: it says what kind of number it means.  Decoding
refuses booleans and floats for every one of them.

A stamp is the one number whose bounds depend on the time: `storage/format/stamp.py` checks it where the stamp
is used.

    Whole    0 to 2^63 - 1: counts, sizes, offsets, milliseconds, ids of rows
    Id32     0 to 2^32 - 1: volume ids, needle ids, generations, CRCs
    Signed   -2^63 to 2^63 - 1: where a handler says more precisely what is wrong
    Offset   as Whole, or -1 for "not there"
    Stamp    0 to 2^64 - 1: see above
    Boot     0 to 2^64 - 1: incarnations, which are compared and never counted with
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

WHOLE_MAX = (1 << 63) - 1
ID32_MAX = (1 << 32) - 1

Whole: TypeAlias = Annotated[int, Meta(ge=0, le=WHOLE_MAX)]
Id32: TypeAlias = Annotated[int, Meta(ge=0, le=ID32_MAX)]
Signed: TypeAlias = Annotated[int, Meta(ge=-(1 << 63), le=WHOLE_MAX)]
Offset: TypeAlias = Annotated[int, Meta(ge=-1, le=WHOLE_MAX)]
Stamp: TypeAlias = Annotated[int, Meta(ge=0)]
Boot: TypeAlias = Annotated[int, Meta(ge=0)]
