"""What holds for every audit log that a test leaves behind: whole lines of listed fields, and no secret."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from warehouse.conf.audit_files import AUDIT_NAME
from warehouse.conf.audit_lines import ACTIONS, COMMON

_LOOKS_SECRET = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.|token=|PRIVATE KEY|[Bb]earer |join_secret")


def require_no_secret_in_the_audit_log(master: Path, secrets: Iterable[str] = ()) -> int:
    """Check the files below a master's folder; return how many lines there are.

    Args:
        secrets: to look for besides those that the folders of the store hold.
    """
    known = [*secrets, *_secrets_of(master)]
    count = 0
    for path in master.glob(f"{AUDIT_NAME}*"):
        assert path.stat().st_mode & 0o077 == 0, f"others may read {path}"
        content = path.read_bytes()
        match = _LOOKS_SECRET.search(content)
        assert match is None, content[max(0, match.start() - 200) : match.end() + 20]
        for secret in known:
            assert secret.encode() not in content, f"a secret is in {path}"
        for line in content.splitlines():
            fields = json.loads(line)
            assert fields.keys() <= {*COMMON, *ACTIONS[fields["action"]]}, line
            count += 1
    return count


def _secrets_of(master: Path) -> list[str]:
    """Every secret in the profile and the join file, and every long word in the keyring."""
    found: list[str] = []
    for path in (master / "join.toml", master.parent / "profile.toml", master / "profile.toml"):
        if path.is_file():
            found += [
                str(value) for name, value in _leaves(tomllib.loads(path.read_text())) if "secret" in name
            ]
    for path in (master / "keys").glob("*.secret"):
        found.append(path.read_text().strip())
    for path in (master / "keys").glob("*.json"):
        found += re.findall(r'"([A-Za-z0-9+/=_-]{32,})"', path.read_text())
    return [secret for secret in found if len(secret) >= 16]


def _leaves(table: dict[str, object]) -> list[tuple[str, object]]:
    return [
        leaf
        for name, value in table.items()
        for leaf in (_leaves(value) if isinstance(value, dict) else [(name, value)])
    ]
