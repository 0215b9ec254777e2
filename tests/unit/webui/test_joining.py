"""What somebody pastes on a machine: it runs in a shell, and makes a join file that is read back."""

from __future__ import annotations

import shlex
import stat
import subprocess
from pathlib import Path

from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.webui.joining import commands, join_of

PROFILE = Profile("tcp://127.0.0.1:7400", "k" * 40, "KEY", "secret", "-----BEGIN\nabc\n-----END\n")


def test_the_first_command_writes_a_join_file_for_its_owner_alone(tmp_path: Path) -> None:
    made = commands(
        join_of(PROFILE, "t0ken", host="stor-a"), role="both", folder="/d", host="b", port=1, scheme="https"
    )
    subprocess.run(["sh", "-c", made[0].text], cwd=tmp_path, check=True)
    file = tmp_path / "join.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Join.load(file) == Join("tcp://stor-a:7400", "k" * 40, token="t0ken", authority=PROFILE.authority)


def test_names_survive_the_shell_and_the_role_decides() -> None:
    join = join_of(PROFILE, "t", host="::1")
    assert join.master == "tcp://[::1]:7400"
    both = commands(join, role="both", folder="/it's here", host="2001:db8::1", port=7411, scheme="http")
    words = shlex.split(both[1].text)
    assert words[:4] == ["warehouse", "volume", "--disk", "/it's here"]
    assert words[-1] == "http://[2001:db8::1]:7411"
    only = commands(join, role="compactor", folder="/d", host="", port=1, scheme="http")
    assert [command.text.split()[1] for command in only[1:]] == ["compactor"]
    local = commands(join, role="volume", folder="/d", host="", port=1, scheme="http")
    assert len(local) == 2
    assert "--advertise" not in local[1].text
