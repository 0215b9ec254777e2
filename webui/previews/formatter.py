"""The formatter: code with colours, and Markdown, as HTML, made in a process of its own.

Both are made of text that anybody may have stored, by libraries that search with regular expressions, and
some texts make these run for hours.  The process has a deadline and little memory, and the page shows plain
text when it fails.
"""

from __future__ import annotations

import json
from typing import Final

import trio
from markupsafe import Markup

from warehouse.conf.programs import module_command, module_environment

DEADLINE_S: Final = 4.0
SOURCE_MAX: Final = 256 * 1024  # characters
AT_ONCE: Final = 2  # processes

_limiter = trio.CapacityLimiter(AT_ONCE)


async def formatted(way: str, text: str, name: str = "") -> Markup | None:
    """HTML of a text; None: there is none in time, or no such language is known.

    Args:
        way: "code" or "markdown".
        name: of the file, which says the language.
    """
    head = json.dumps({"way": way, "name": name[-200:]}) + "\n"
    with trio.move_on_after(DEADLINE_S):
        async with _limiter:
            done = await trio.run_process(
                module_command("warehouse.webui.previews.formatter_process"),
                env=module_environment(),
                stdin=(head + text).encode(errors="replace"),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        return Markup(done.stdout.decode()) if done.returncode == 0 else None  # noqa: S704
    return None
