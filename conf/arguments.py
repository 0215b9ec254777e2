"""Arguments: what is wrong with the words of a program, in one line, and as an event for --json."""

from __future__ import annotations

import argparse
import json
import re
import sys
from difflib import get_close_matches
from typing import Any, NoReturn

from conf.hosts import HOST_IN_WORDS, URL_IN_WORDS, parse_base_url, parse_host

NEAR = 0.75  # how like an option a word must be to have been meant for it


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names: `--port` is no short form of `--port-base`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        message = self._plain(message)
        if "--json" in sys.argv[1:]:
            print(json.dumps({"event": "failed", "code": "wrong_usage", "message": message}), flush=True)
        self.exit(2, f"warehouse: {message} (see: {self.prog} --help)\n")

    def _plain(self, message: str) -> str:
        """The first word that is not known, in the words of the other commands."""
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
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
