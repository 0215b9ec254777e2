"""What every message has in common, the two answers that every request may get, and bounds.

The rules that keep releases compatible and how to add a message: see the package's `__init__`.
"""

from __future__ import annotations

import msgspec

from warehouse.transport.messages.texts import Sentence, Word

# Bounds of the fields that users choose; checked at every edge.
KEY_SIZE_MAX = 1024  # bytes of UTF-8
METADATA_SIZE_MAX = 8 * 1024  # names and values together, bytes of UTF-8
FRAME_SIZE_MAX = 8 * 1024 * 1024


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Base of everything that crosses a socket."""


class Done(Message, frozen=True, tag="done"):
    """The request took effect; there is nothing else to say."""


class Refused(Message, frozen=True, tag="refused"):
    """The request failed: a stable code (see `errors`) and a sentence for a person."""

    code: Word
    message: Sentence
    retry_after_s: float = 0.0  # when the same request may be let in; 0: not told
