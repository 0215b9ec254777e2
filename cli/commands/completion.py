"""The command for shells: completion."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from warehouse.cli.app import STORE, app
from warehouse.cli.completing import SCRIPTS, offers
from warehouse.cli.output.objects import tell
from warehouse.cli.usage import UsageError


@app.command(group=STORE, usage="Usage: warehouse completion [OPTIONS] SHELL")
async def completion(
    shell: Literal["bash", "zsh", "fish", "words"],
    /,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    json: Annotated[bool, Parameter(help="Print one JSON object per line.")] = False,
) -> int:
    """Print a script that completes commands, options, buckets and keys in a shell.

    For example:

        source <(warehouse completion bash)                       # in ~/.bashrc
        source <(warehouse completion zsh)                        # in ~/.zshrc, after compinit
        warehouse completion fish > ~/.config/fish/completions/warehouse.fish

    Parameters
    ----------
    shell
        bash, zsh or fish; or `words -- WORD...`, which prints what the last word may become.
    """
    if shell != "words":
        if words:
            raise UsageError(f"{words[0]!r} is one word too many")
        tell(json, SCRIPTS[shell].rstrip("\n"), shell=shell, script=SCRIPTS[shell])
        return 0
    for word in await offers(app, words):
        tell(json, word, word=word)
    return 0
