"""Wrong usage: what is wrong with the words of a command, and what was probably meant.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from warehouse.errors import StoreError


class UsageError(StoreError):
    """The words of a command make no sense."""

    code = "wrong_usage"


class UnknownOption(UsageError):
    """A word looks like an option, but is none; `main` knows which options there are."""

    def __init__(self, option: str, advice: str = "") -> None:
        super().__init__(f"there is no option {option}{advice}")
        self.option = option


# Commands of other programs, and our commands for the same purpose.
_MEANT = {
    **dict.fromkeys(("put", "get", "upload", "download", "copy"), "cp"),
    **dict.fromkeys(("move", "rename", "ren"), "mv"),
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
    **dict.fromkeys(("login", "config", "configure", "alias", "profiles"), "profile"),
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


# Options of other programs, and ours for the same purpose, where a command has them.
_MEANT_OPTIONS = {
    **dict.fromkeys(("--dryrun", "-n", "--simulate"), "--dry-run"),
    **dict.fromkeys(("-R", "--recurse"), "--recursive"),
    **dict.fromkeys(("-f", "--assume-yes", "--force"), "--yes"),
    **dict.fromkeys(("--size", "--min-size", "--minsize"), "--larger"),
    **dict.fromkeys(("--max-size", "--maxsize"), "--smaller"),
    **dict.fromkeys(("--mtime", "--newer-than"), "--newer"),
    "--older-than": "--older",
    **dict.fromkeys(("--max-depth", "-L", "-d"), "--depth"),
    **dict.fromkeys(("-S", "-t", "--order"), "--sort"),
    **dict.fromkeys(("--mime-type", "--mime"), "--content-type"),
    **dict.fromkeys(("--interval", "--delay"), "--every"),
}


def near_option(unknown: str, options: Sequence[str]) -> str:
    """The end of a message about an option that does not exist: the nearest that does, or ""."""
    word = unknown.partition("=")[0]
    meant = _MEANT_OPTIONS.get(word)
    if meant not in options:
        long = [option for option in options if option.startswith("--")]
        begun = [option for option in long if len(word) > 3 and option.startswith(word)]
        meant = next(iter(begun or get_close_matches(word, long, 1)), None)
    return f"; did you mean {meant}?" if meant else ""
