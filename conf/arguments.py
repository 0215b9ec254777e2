"""Arguments: what is wrong with the words of a program, in one line, and as an event for --json."""

from __future__ import annotations

import argparse
import json
import sys
from typing import NoReturn

from conf.hosts import HOST_IN_WORDS, URL_IN_WORDS, parse_base_url, parse_host


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if "--json" in sys.argv[1:]:
            print(json.dumps({"event": "failed", "code": "wrong_usage", "message": message}), flush=True)
        self.exit(2, f"warehouse: {message} (see: {self.prog} --help)\n")


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
