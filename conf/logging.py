"""Logging: how the log lines of an actor look on standard error.

Code logs with the standard library, an event and then fields: `log.info("sealed", extra={"volume_id": 7})`.
structlog renders the lines here, for people or as one JSON object per line.

Secrets are removed in two ways.  A field whose name says that it contains a secret is blanked.  So is every
part of a text that looks like a token (in an exception of a library, in a URL with `?token=`).
This is a safety net: no code may log a secret.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog

REDACTED = "[redacted]"
_DEPTH_MAX = 6

# A field is secret when one of these words is in its name, separated by "_" or "-".
_SECRET_WORDS = frozenset(
    (
        *("secret", "secrets", "token", "tokens", "password", "passwd", "authorization"),
        *("cookie", "cookies", "signature", "credential", "credentials", "pem"),
    )
)
_SECRET_TEXT = re.compile(
    r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"  # a JWT, signed or not
    r"|(?<=[?&]token=)[^&\s\"']+"
    r"|(?<=bearer )[^\s\"',]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# name=value and name: value, as exceptions and reprs write them.
_SECRET_PAIR = re.compile(
    r"((?<![A-Za-z])(?:secret|token|password|authorization|cookie|signature|credential)s?['\"]?\s*[=:]\s*)"
    r"(b?'[^']*'|b?\"[^\"]*\"|[^\s,;&)}\]]+)",
    re.IGNORECASE,
)


def set_up_logging(
    level: str = "info",
    format: Literal["text", "json"] = "text",
    actor: str = "",
    *,
    stream: TextIO | None = None,
) -> None:
    """Send every log line of this process to standard error; a second call replaces the first."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(format, actor, is_terminal=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def _formatter(format: str, actor: str, *, is_terminal: bool) -> logging.Formatter:
    def add_actor(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if actor:
            event["actor"] = actor
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_actor,
        structlog.stdlib.ExtraAdder(),
    ]
    # Tracebacks become text before redaction, which must see them; values of local variables are left out.
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
    ]
    if format == "json":
        last.append(structlog.processors.JSONRenderer())
    else:
        last.append(structlog.dev.ConsoleRenderer(colors=is_terminal, pad_event_to=0))
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)


def redact(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The last step before rendering: no secret leaves this function."""
    return {name: _redacted_field(name, value, 0) for name, value in event.items()}


def _redacted_field(name: object, value: object, depth: int) -> object:
    if _names_a_secret(str(name)):
        return REDACTED
    return _redacted(value, depth)


def _redacted(value: object, depth: int) -> object:
    if isinstance(value, bool | int | float | None):
        return value
    if depth >= _DEPTH_MAX:
        return "..."
    if isinstance(value, Mapping):
        return {str(name): _redacted_field(name, inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(inner, depth + 1) for inner in value]
    return redact_text(value if isinstance(value, str) else _text_of(value))


def _text_of(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value) if isinstance(value, BaseException) else repr(value)


def _names_a_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(re.split(r"[_\-.\s]+", name.lower()))


def redact_text(text: str) -> str:
    """Blank every part of `text` that looks like a token, a private key, or the value of a secret."""
    return _SECRET_PAIR.sub(rf"\1{REDACTED}", _SECRET_TEXT.sub(REDACTED, text))
