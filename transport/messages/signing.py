"""Messages of S3 gateways: they show what a client has signed, and never see a secret.

A gateway is a node.  With each API key that it meets, it shows the master a signature of that key.  The
master checks it, and tells what later signatures are checked with: a signing key of one day and region.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Boot
from warehouse.transport.messages.texts import Name, Pems, Token, Url, Word

SIGNED_TEXT_MAX = 32 * 1024  # bytes; of SigV4 it has some 200, of SigV2 headers, of a form its policy

SignedText = Annotated[bytes, Meta(max_length=SIGNED_TEXT_MAX)]
SigningKey = Annotated[bytes, Meta(max_length=64)]


class RegisterGateway(Message, frozen=True, tag="register_gateway"):
    """The first words of a gateway on each connection; its CURVE key is that of a node."""

    name: Name
    incarnation: Boot
    url: Url = ""  # where clients of S3 reach it; "": it does not say


class GatewayWelcome(Message, frozen=True, tag="gateway_welcome"):
    incarnation: Boot  # the master's
    authority: Pems = ""  # whose certificates the servers of objects show; "": none
    next_server_key: Word = ""  # CURVE key that the master will have later; "": it announces none now


class CheckSignature(Message, frozen=True, tag="check_signature"):
    """Is this a signature of that API key?"""

    key_id: Name
    scheme: Word  # "v4", or "v2"
    string_to_sign: SignedText
    signature: Word  # v4: 64 hex digits; v2: base64
    date: Word = ""  # v4: of the scope, such as 20261130
    region: Name = ""  # v4: of the scope


class FindCors(Message, frozen=True, tag="find_cors"):
    """Which pages of which origins may use a bucket?  Browsers ask before they sign anything."""

    bucket: Name


class SignatureChecked(Message, frozen=True, tag="signature_checked"):
    """It is.  The token acts with the rights of the key, as that of a login does."""

    token: Token
    expires_in_s: float
    account_id: Name
    signing_key: SigningKey = b""  # v4: 32 bytes, for this date and region; v2: none, each one is shown
