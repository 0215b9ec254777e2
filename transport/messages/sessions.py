"""Messages of clients about who they are: an API key buys an access token, a token opens a connection."""

from __future__ import annotations

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Boot, Whole
from warehouse.transport.messages.texts import Name, Pems, Secret, Token, Word


class Login(Message, frozen=True, tag="login"):
    """Buy an access token with an API key."""

    key_id: Name
    secret: Secret


class LoggedIn(Message, frozen=True, tag="logged_in"):
    token: Token
    expires_in_s: float


class Attach(Message, frozen=True, tag="attach"):
    """Present an access token: until it expires, this connection acts with its rights."""

    token: Token


class Attached(Message, frozen=True, tag="attached"):
    incarnation: Boot
    chunk_size: Whole
    expires_in_s: float
    authority: Pems = ""  # whose certificates the servers of objects show; "": not told
    next_server_key: Word = ""  # CURVE key that the master will have later; "": it announces none now
