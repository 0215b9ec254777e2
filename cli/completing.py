"""Completing: what may stand in place of the word that somebody is typing.

Commands, options and profiles are known here; buckets and keys are asked for, within two seconds.  Whatever
goes wrong, there is nothing to offer: a shell at its prompt has no place for messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import trio
from cyclopts import App

from warehouse.cli.app import innermost, option_names
from warehouse.cli.copying.places import SCHEME
from warehouse.client.store import connect
from warehouse.conf.named_profiles import profile_names
from warehouse.errors import StoreError

OFFERED_MAX = 200  # a terminal shows no more of use
PATIENCE_S = 2.0


async def offers(app: App, words: Sequence[str]) -> list[str]:
    """What the last of these words may become; the words are those after `warehouse`."""
    *before, last = words or [""]
    command, count = innermost(app, before)
    inner = [name for name in command if not name.startswith("-")]
    if inner and count == len(before):
        return sorted(name for name in inner if name.startswith(last))
    if before and before[-1] == "--profile":
        return [name for name in profile_names() if name.startswith(last)]
    if last.startswith("-"):
        return [name for name in option_names(command) if name.startswith(last)]
    if last.startswith(SCHEME):
        return await _places(last, before)
    return [SCHEME] if last and SCHEME.startswith(last) else []


async def _places(word: str, before: Sequence[str]) -> list[str]:
    bucket, slash, key = word.removeprefix(SCHEME).partition("/")
    try:
        with trio.move_on_after(PATIENCE_S):
            async with connect(_profile_of(before), timeout_s=PATIENCE_S) as store:
                if not slash:
                    names = [info.name for info in await store.buckets()]
                    return [f"{SCHEME}{name}/" for name in names if name.startswith(bucket)][:OFFERED_MAX]
                page = await store.bucket(bucket).list_page(key, "/", limit=OFFERED_MAX)
                keys = sorted([*page.prefixes, *(info.key for info in page.objects)])
                return [f"{SCHEME}{bucket}/{one}" for one in keys if one.isprintable()]
    except (StoreError, OSError):
        pass
    return []


def _profile_of(words: Sequence[str]) -> Path | None:
    """The profile that the words before name; None: the one that is found automatically."""
    for option, value in pairwise(words):
        if option == "--profile":
            return Path(value)
        if option == "--data":
            return Path(value) / "profile.toml"
    return None


# --- what a shell runs ----------------------------------------------------------------------------

BASH = r"""# warehouse: completion for bash
_warehouse() {
    local line="${COMP_LINE:0:COMP_POINT}" words word before=""
    read -a words <<< "$line"  # without -r: a backslash quotes, as at the prompt
    [[ $line == *[[:space:]] ]] && words+=("")
    local current="${words[${#words[@]}-1]}"
    # For bash a colon begins a new word, and only what follows it is replaced.
    [[ $current == *:* && $COMP_WORDBREAKS == *:* ]] && before="${current%"${current##*:}"}"
    COMPREPLY=()
    while IFS= read -r word; do
        word="${word#"$before"}"
        COMPREPLY+=("$(printf %q "$word")")
        [[ $word == */ ]] && compopt -o nospace
    done < <(command "${words[0]}" completion words -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _warehouse warehouse
"""

ZSH = r"""#compdef warehouse
# warehouse: completion for zsh
_warehouse() {
    local -a found
    found=("${(@f)$(command ${words[1]} completion words -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -S '' -- "${found[@]}"
    else
        _files
    fi
}
compdef _warehouse warehouse
"""

FISH = r"""# warehouse: completion for fish
function __warehouse_offers
    set -l words (commandline -opc)
    command $words[1] completion words -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c warehouse -a '(__warehouse_offers)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
