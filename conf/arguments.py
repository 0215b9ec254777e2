"""Arguments: report wrong words of a program in one line, and as an event with --json."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from warehouse.conf.hosts import HOST_IN_WORDS, URL_IN_WORDS, parse_base_url, parse_host

NEAR = 0.75  # similarity of a word to the option that was probably meant


class Parser(argparse.ArgumentParser):
    """Accepts only whole names of options: `--port` does not abbreviate `--port-base`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        words = sys.argv[1:] if args is None else list(args)
        if (option := empty_option(words)) is not None:
            self.error(f"{option} is empty: perhaps a variable is not set?")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        message = self._plain(message)
        if "--json" in sys.argv[1:]:
            print(json.dumps({"event": "failed", "code": "wrong_usage", "message": message}), flush=True)
        self.exit(2, f"warehouse: {message} (see: {self.prog} --help)\n")

    def _plain(self, message: str) -> str:
        """Name the first unknown word, in the form of the other commands."""
        unknown = re.match(r"unrecognized arguments: (\S*)", message)
        if unknown is None:
            return message
        word = unknown[1].partition("=")[0]
        if not word.startswith("-"):
            return f"{word!r} is one word too many"
        begins = [
            name for name in self._option_string_actions if word.startswith("--") and name.startswith(word)
        ]
        near = begins or get_close_matches(word, self._option_string_actions, 1, NEAR)
        return f"there is no option {word}" + (f"; did you mean {near[0]}?" if near else "")


# Options of all programs that name a file or a folder.  Python takes an empty path for the working folder.
PATH_OPTIONS = frozenset(
    (
        *("--data", "--disk", "--join", "--config", "--profile", "--to", "--backup"),
        *("--passphrase-file", "--key-file", "--node-key", "--output"),
    )
)


def empty_option(words: Sequence[str]) -> str | None:
    """The first option that should name a file or a folder and is empty."""
    for word, following in zip(words, (*words[1:], None), strict=False):
        name, equals, value = word.partition("=")
        if name in PATH_OPTIONS and (not value if equals else following == ""):
            return name
    return None


def port(text: str) -> int:
    """A port, for `type=` of an argument.  ZeroMQ would take 70000 for 4464."""
    if re.fullmatch("[0-9]{1,5}", text) and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number from 0 to 65535")


def host(text: str) -> str:
    """A host, for `type=` of an argument."""
    try:
        return parse_host(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {HOST_IN_WORDS}") from None


def base_url(text: str) -> str:
    """The URL of a server's root, for `type=` of an argument."""
    try:
        return parse_base_url(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {URL_IN_WORDS}") from None
