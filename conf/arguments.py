"""Arguments: what is wrong with the words of a program, in one line, and as an event for --json."""

from __future__ import annotations

import argparse
import json
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if "--json" in sys.argv[1:]:
            print(json.dumps({"event": "failed", "code": "wrong_usage", "message": message}), flush=True)
        self.exit(2, f"warehouse: {message} (see: {self.prog} --help)\n")
