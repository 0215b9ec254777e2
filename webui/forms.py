"""Forms: what people send is admitted here, with bounds, before a page uses it."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.errors import BadRequest

TEXT_MAX = 4096  # characters


def text(form: Mapping[str, str], name: str, *, least: int = 0, most: int = TEXT_MAX, label: str = "") -> str:
    """A field, without spaces around it.

    Raises:
        BadRequest: it is missing, too short or too long.
    """
    value = form.get(name, "").strip()
    shown = label or name.replace("_", " ").capitalize()
    if len(value) < least:
        raise BadRequest(f"{shown} is missing")
    if len(value) > most:
        raise BadRequest(f"{shown} has {len(value)} characters; allowed are {most}")
    return value


def number(form: Mapping[str, str], name: str, *, least: int, most: int, default: int | None = None) -> int:
    """A whole number.

    Raises:
        BadRequest: it is none, or out of bounds.
    """
    value = form.get(name, "").strip()
    if not value and default is not None:
        return default
    shown = name.replace("_", " ").capitalize()
    try:
        found = int(value)
    except ValueError:
        raise BadRequest(f"{shown} is {value[:50]!r}; it is to be a whole number") from None
    if not least <= found <= most:
        raise BadRequest(f"{shown} is {found}; allowed is {least} to {most}")
    return found


def choice(form: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str = "") -> str:
    """One of a few words.

    Raises:
        BadRequest: another word.
    """
    value = form.get(name, "") or default
    if value not in allowed:
        raise BadRequest(f"{name} is {value[:50]!r}; allowed is one of {', '.join(allowed)}")
    return value


def is_checked(form: Mapping[str, str], name: str) -> bool:
    return form.get(name, "") in ("on", "true", "1", "yes")
