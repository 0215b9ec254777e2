"""Print docs/errors.md, made from the error classes: `python -m warehouse.errors`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from warehouse.errors import DataDamaged, RequestRefused, SetupError, StoreError, Unavailable

GROUPS: dict[type[StoreError], str] = {
    RequestRefused: "The caller must change something",
    Unavailable: "The same request may work later",
    DataDamaged: "Stored bytes are damaged",
    SetupError: "The operator must change something",
}
MARK = "To do: "
HEAD = """\
# Errors

<!-- Made by `python -m warehouse.errors` from errors/__init__.py; change it there. -->

Every failure that Warehouse expects has a code that never changes. It stands in the JSON of a refused HTTP
request, in the exceptions of `warehouse.errors`, in the last line of a failed command, in log lines and in
metrics. The message next to it says what was expected, what came, and where. The first level says what the
caller can do about it: a program catches `warehouse.errors.Unavailable` to try again, and
`warehouse.errors.StoreError` for everything.
"""


def explained(error: type[StoreError]) -> tuple[str, str]:
    """What an error means and what to do, from the docstring of its class; each in one line."""
    meaning, _, to_do = (inspect.getdoc(error) or "").partition(MARK)
    return " ".join(meaning.split()), " ".join(to_do.split())


def below(base: type[StoreError]) -> Iterator[type[StoreError]]:
    """All errors of ours that derive from `base`, in the order of their definition, without itself."""
    for child in base.__subclasses__():
        if child.__module__ == StoreError.__module__:  # a program may derive its own
            yield child
            yield from below(child)


def reference() -> str:
    """The page for the documentation."""
    lines = [HEAD]
    for base, title in GROUPS.items():
        meaning, to_do = explained(base)
        lines += [f"## {title}", "", f"`{base.__name__}`, `{base.code}`. {meaning} {to_do}", ""]
        lines += ["| code | class | status | meaning | what to do |", "|---|---|---|---|---|"]
        for error in below(base):
            meaning, to_do = explained(error)
            lines.append(f"| `{error.code}` | `{error.__name__}` | {error.status} | {meaning} | {to_do} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference(), end="")
