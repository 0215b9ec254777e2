"""docs/code-map.md lists every module with its first line: `python tests/unit/test_code_map.py > docs/code-map.md`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [
    *(
        "warehouse",
        "errors",
        "s3",
        "conf",
        "storage",
        "auth",
        "transport",
        "catalog",
        "rescue",
        "actors",
        "client",
        "cli",
        "gateway",
        "webui",
    ),
    *("bench", "tests/kits", "tests/doubles"),
]
HEAD = """\
# Code map

<!-- Made by `python tests/unit/test_code_map.py` from the first lines of the modules; change them there. -->

Every module with the first line of its docstring, room by room, from the bottom up. [architecture.md](architecture.md)
says how they work together.
"""


def first_line(path: Path) -> str:
    """The first line of the module's docstring, without its last full stop."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].removesuffix(".")


def modules(room: str) -> list[Path]:
    """All modules of a room that say something; the files of a folder before its folders."""
    paths = [
        path
        for path in (ROOT / room).rglob("*.py")
        if "node_modules" not in path.parts and not any(part.is_symlink() for part in path.parents)
    ]
    return sorted(paths, key=lambda path: (str(path.parent), path.name != "__init__.py", path.name))


def code_map() -> str:
    lines = [HEAD]
    for room in ROOMS:
        lines += [f"## {room}/", ""]
        for path in modules(room):
            lines.append(f"- `{path.relative_to(ROOT)}`: {first_line(path)}")
        lines.append("")
    return "\n".join(lines)


def test_the_map_in_the_repository_is_current() -> None:
    page = (ROOT / "docs/code-map.md").read_text()
    assert page == code_map(), "python tests/unit/test_code_map.py > docs/code-map.md"


def test_every_module_opens_with_a_line_that_says_what_it_is() -> None:
    silent = [str(path.relative_to(ROOT)) for room in ROOMS for path in modules(room) if not first_line(path)]
    assert silent == []


if __name__ == "__main__":
    print(code_map(), end="")
