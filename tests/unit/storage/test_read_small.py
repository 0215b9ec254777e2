"""Small files that an operator names: whatever they are, reading ends, and takes little."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from warehouse.conf import files
from warehouse.conf.files import read_small
from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.conf.settings import load_settings
from warehouse.errors import BadSetting

SIZE_MAX = 1000


@pytest.mark.parametrize("size", [0, 1, SIZE_MAX])
def test_a_file_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    (tmp_path / "f").chmod(0o640)
    content, found = read_small(tmp_path / "f", SIZE_MAX)
    assert (content, found.st_mode & 0o777) == (b"x" * size, 0o640)


def test_a_pipe_is_read_to_its_end_however_slowly_it_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        time.sleep(0.05)  # nobody has opened it yet
        with pipe.open("wb", buffering=0) as file:
            for letter in b"abc":
                file.write(bytes((letter,)))
                time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_small(pipe, SIZE_MAX)[0] == b"abc"
    writer.join()


def test_what_has_no_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * (SIZE_MAX + 1))
    for path in (tmp_path / "long", Path("/dev/zero")):
        with pytest.raises(OSError, match="it has more than"):
            read_small(path, SIZE_MAX)
    with pytest.raises(IsADirectoryError):
        read_small(tmp_path, SIZE_MAX)


def test_a_pipe_that_nobody_fills_is_not_waited_for_forever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(TimeoutError):
        read_small(pipe, SIZE_MAX, wait_s=0.05)
    holder = os.open(pipe, os.O_RDWR)  # a writer that never ends
    os.write(holder, b"something")
    with pytest.raises(TimeoutError):
        read_small(pipe, SIZE_MAX, wait_s=0.05)
    os.close(holder)


@pytest.mark.parametrize("read", [Profile.load, Join.load, load_settings])
def test_whatever_is_named_as_profile_join_or_settings_file_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: object
) -> None:
    monkeypatch.setattr(files.read_small, "__kwdefaults__", {"wait_s": 0.05})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nested").write_text("a = " + "[" * 50_000)
    (tmp_path / "number").write_text("a = " + "9" * 10_000)
    (tmp_path / "text").write_bytes("a = 1".encode("utf-16"))
    (tmp_path / "loop").symlink_to("loop")
    for path in (
        *(tmp_path / name for name in ("pipe", "nested", "number", "text", "loop", "missing")),
        Path("/dev/zero"),
        tmp_path,
    ):
        if path.is_file():
            path.chmod(0o600)
        with pytest.raises(BadSetting) as caught:
            read(path)  # type: ignore[operator]
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 1000
