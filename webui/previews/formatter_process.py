"""The process of `formatter.py`: `python -m warehouse.webui.previews.formatter_process`.

It reads a line of JSON, {"way": "code", "name": "a.py"}, and then the text, from its standard input, and
writes HTML whose every word of the text is escaped.  Exit status 3: it knows no such language.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final
from urllib.parse import urlsplit

MEMORY_MAX: Final = 768 * 1024 * 1024
CPU_MAX_S: Final = 5
UNKNOWN: Final = 3  # exit status
SCHEMES: Final = ("http", "https", "mailto")  # of links


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX_S, CPU_MAX_S))
    head, _, source = sys.stdin.buffer.read().decode(errors="replace").partition("\n")
    said = json.loads(head)
    found = markdown(source) if said["way"] == "markdown" else code(source, said["name"])
    if found is None:
        return UNKNOWN
    sys.stdout.buffer.write(found.encode())
    return 0


def code(source: str, name: str) -> str | None:
    """Code as lines of coloured words: <span class="l">…</span> each; None: nobody knows the language."""
    from pygments.lexers import get_lexer_for_filename  # it takes a while, and the console needs it not
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return "".join(f'<span class="l">{line}\n</span>' for line in _lines(lexer.get_tokens(source)))


# Token types of Pygments, the narrow ones first, and the classes of our style sheet.
CLASSES: Final = (
    ("Comment", "t-comment"),
    ("Keyword", "t-key"),
    ("Literal.String", "t-string"),
    ("Literal.Number", "t-number"),
    ("Name.Function", "t-name"),
    ("Name.Class", "t-name"),
    ("Name.Tag", "t-key"),
    ("Name.Attribute", "t-name"),
    ("Name.Builtin", "t-name"),
    ("Name.Decorator", "t-name"),
    ("Name.Entity", "t-number"),
    ("Operator.Word", "t-key"),
    ("Generic.Inserted", "t-string"),
    ("Generic.Deleted", "t-gone"),
    ("Generic.Heading", "t-key"),
    ("Generic.Subheading", "t-key"),
)


def _class_of(kind: object) -> str:
    name = str(kind).removeprefix("Token.")
    return next((shown for word, shown in CLASSES if name == word or name.startswith(word + ".")), "")


def _lines(tokens: Iterable[tuple[object, str]]) -> Iterator[str]:
    line: list[str] = []
    for kind, text in tokens:
        shown = _class_of(kind)
        for number, part in enumerate(text.split("\n")):
            if number:
                yield "".join(line)
                line = []
            if part:
                line.append(f'<span class="{shown}">{escape(part)}</span>' if shown else escape(part))
    if line:
        yield "".join(line)


def markdown(source: str) -> str:
    """Markdown as HTML: no HTML of its own, no pictures, and links to the web and to mail alone.

    A link to a neighbour, as "../LICENSE", is its words without a link: the preview follows none.
    """
    from markdown_it import MarkdownIt

    maker = MarkdownIt("commonmark", {"html": False, "maxNesting": 40}).enable(["table", "strikethrough"])
    setattr(maker, "validateLink", is_link)  # noqa: B010 (it is a method, and meant to be replaced)
    for name, rule in (("link_open", _link), ("image", _image), ("fence", _fence)):
        maker.add_render_rule(name, rule)
    for name in ("th_open", "td_open"):
        maker.add_render_rule(name, _cell)
    return str(maker.render(source))


def _link(self: object, tokens: Any, at: int, options: object, env: object) -> str:
    wanted = str(tokens[at].attrs.get("href", ""))
    address = escape(wanted)
    if not is_web_link(wanted):
        end = next(index for index in range(at, len(tokens)) if tokens[index].type == "link_close")
        tokens[end].tag = "span"  # it is ours: links do not nest
        return f'<span title="{address}">'
    return f'<a href="{address}" rel="noopener noreferrer nofollow" target="_blank">'


def _image(self: object, tokens: Any, at: int, options: object, env: object) -> str:
    address = escape(str(tokens[at].attrs.get("src", "")))
    return f'<span class="picture" title="{address}">{escape(tokens[at].content or "picture")}</span>'


def _fence(self: object, tokens: Any, at: int, options: object, env: object) -> str:
    return f"<pre><code>{escape(tokens[at].content)}</code></pre>\n"


def _cell(self: object, tokens: Any, at: int, options: object, env: object) -> str:
    return f"<{tokens[at].tag}>"  # how it is aligned would be a style, which the console's pages forbid


def is_link(address: str) -> bool:
    """Is it something that a document may name, whether or not a link leads there?"""
    return is_web_link(address) or is_neighbour(address)


def is_web_link(address: str) -> bool:
    """Does a link of a document lead to where links may?"""
    try:
        scheme = urlsplit(address.strip()).scheme.lower()
    except ValueError:
        return False
    return scheme in SCHEMES


def is_neighbour(address: str) -> bool:
    """Does it name a place of the same document, or a file next to it?"""
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc


if __name__ == "__main__":
    sys.exit(main())
