"""Wrong usage: what is wrong with the words of a command, and what was probably meant.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from warehouse.errors import StoreError


class UsageError(StoreError):
    """The words of a command make no sense."""

    code = "wrong_usage"


# Commands of other programs, and our commands for the same purpose.
_MEANT = {
    **dict.fromkeys(("put", "get", "upload", "download", "copy"), "cp"),
    **dict.fromkeys(("mv", "move", "rename"), "cp, and then rm"),
    **dict.fromkeys(("list", "dir"), "ls"),
    **dict.fromkeys(("search", "grep", "where"), "find"),
    **dict.fromkeys(("more", "less", "get-object"), "cat"),
    **dict.fromkeys(("delete", "del", "remove"), "rm"),
    **dict.fromkeys(("mkdir", "create", "make-bucket"), "mb"),
    **dict.fromkeys(("rmdir", "delete-bucket", "remove-bucket"), "rb"),
    **dict.fromkeys(("start", "serve", "server", "run"), "up"),
    **dict.fromkeys(("info", "head-object"), "stat"),
    **dict.fromkeys(("check", "fsck", "scrub"), "verify"),
    **dict.fromkeys(("events", "log", "logs"), "watch"),
    **dict.fromkeys(("share", "url", "sign"), "presign"),
    **dict.fromkeys(("mirror", "rsync"), "sync"),
    "help": "--help",
    **dict.fromkeys(("version", "-v", "-V"), "--version"),
}


def unknown_command(word: str, commands: Sequence[str], group: str = "") -> str:
    """Explain a first word that is not a command, or a word after a group of commands (`nodes`)."""
    is_option = word.startswith("-")
    near = [] if is_option else get_close_matches(word, commands, 1)
    meant = (_MEANT.get(word) if not group else None) or next(iter(near), None)
    hint = f"; did you mean {meant}?" if meant else ""
    if is_option:
        return f"there is no option {word} in front of the command: options follow it{hint}"
    return f"there is no command {f'{group} {word}'.strip()!r}{hint}"
