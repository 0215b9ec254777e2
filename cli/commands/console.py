"""Commands about the console: start it alone, or open it."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import STORE, app, become
from warehouse.conf.console_codes import Codes, console_folder, find_place
from warehouse.conf.profile import find_profile


@app.command(group=STORE, help_flags=(), version_flags=())
def console(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
) -> None:
    """Start the console alone, or with --open print a link that signs you in.

    `warehouse up` starts it with the store. `warehouse console --open [--profile FILE]` prints a link that
    signs in once with the key of the profile, within five minutes, and opens it where there is a browser.
    """
    if "--open" in words and not {"--help", "-h"} & {*words}:
        _open([word for word in words if word != "--open"])
        return
    rest = [word for word in words if word != "--open"]  # with --help
    become("warehouse.webui", (), *rest, title="warehouse console")


def _open(words: list[str]) -> None:
    named = None
    for position, word in enumerate(words):
        if word == "--profile" and position + 1 < len(words):
            named = Path(words[position + 1])
        elif word.startswith("--profile="):
            named = Path(word.partition("=")[2])
    profile = find_profile(named)
    folder = console_folder(profile)
    place = find_place(folder)
    link = f"{place.rstrip('/')}/sign-in?code={Codes(folder).make(profile)}"
    print(link, flush=True)
    if "--json" not in words and "--print" not in words:
        webbrowser.open(link)
