"""What holds for every audit log that a test leaves behind: whole lines of listed fields, and no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from secret_search import forms_of, secrets_in, secrets_of
from warehouse.conf.audit_files import AUDIT_NAME
from warehouse.conf.audit_lines import ACTIONS, COMMON

_LOOKS_SECRET = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.|token=|PRIVATE KEY|[Bb]earer |join_secret")


def require_no_secret_in_the_audit_log(master: Path, secrets: Iterable[str] = ()) -> int:
    """Check the files below a master's folder; return how many lines there are.

    Args:
        secrets: to look for besides those that the folders of the store hold.
    """
    known = [*(secret.encode() for secret in secrets), *secrets_of(master).values()]
    if (profile := master.parent / "profile.toml").is_file():
        known += [secret for _, secret in secrets_in(profile)]
    forms = {form for secret in known for form in forms_of(secret)}
    count = 0
    for path in master.glob(f"{AUDIT_NAME}*"):
        assert path.stat().st_mode & 0o077 == 0, f"others may read {path}"
        content = path.read_bytes()
        match = _LOOKS_SECRET.search(content)
        assert match is None, content[max(0, match.start() - 200) : match.end() + 20]
        assert not any(form in content for form in forms), f"a secret is in {path}"
        for line in content.splitlines():
            fields = json.loads(line)
            assert fields.keys() <= {*COMMON, *ACTIONS[fields["action"]]}, line
            count += 1
    return count
