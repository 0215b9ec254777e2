"""The ports on the command lines of a master and a volume actor."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse.actors import master, volume


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "7_400", "\u0667\u0664\u0660\u0660", "x"])
@pytest.mark.parametrize("option", ["--port", "--http-port"])
def test_a_master_takes_no_port_that_is_none(
    option: str, port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        master.main(["--data", str(tmp_path / "master"), f"{option}={port}"])
    assert caught.value.code == 2
    assert f"{option}: {port!r} is not a port: a whole number from 0 to 65535" in capsys.readouterr().err
    assert not (tmp_path / "master").exists()


def test_a_volume_actor_takes_no_port_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        volume.main(["--disk", str(tmp_path / "disk"), "--join", "join.toml", "--port", "70000"])
    assert caught.value.code == 2
    assert "'70000' is not a port" in capsys.readouterr().err
