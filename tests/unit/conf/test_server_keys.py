"""The master's keys in a profile or join file: one, or the present and the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse.conf.join import Join
from warehouse.conf.profile import Profile
from warehouse.conf.server_keys import (
    ServerKeys,
    are_server_keys,
    join_server_keys,
    read_server_keys,
    write_server_keys,
)
from warehouse.errors import BadSetting

A, B = "a" * 40, "b" * 40


def profile(server_key: str = A) -> Profile:
    return Profile("tcp://h:1", server_key, "WHK", 's"ecret\\', "-----BEGIN\nCERT-----\n")


@pytest.mark.parametrize("text", [A, f"{A} {B}"])
def test_one_key_or_two_are_read_by_all(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.toml"
    profile(text).save(path)
    assert read_server_keys(path) == text
    assert Profile.load(path) == profile(text)
    assert Profile.load(path).path == path


@pytest.mark.parametrize(
    "text", ["", "a" * 39, "a" * 41, f"{A}  {B}", f"{A} {B} {A}", f"{A}\n", f" {A}", f"{A} "]
)
def test_anything_else_is_no_key(tmp_path: Path, text: str) -> None:
    assert not are_server_keys(text)
    path = tmp_path / "p.toml"
    profile(text).save(path)
    with pytest.raises(BadSetting):
        Profile.load(path)


def test_the_next_key_is_left_out_when_there_is_none() -> None:
    assert join_server_keys(A, B) == f"{A} {B}"
    assert join_server_keys(A, "") == join_server_keys(A, A) == A


def test_what_a_master_announces_is_kept_until_it_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    profile().save(path)
    keys = ServerKeys(A, path)
    assert not keys.take(A, "")
    assert keys.take(A, B)
    assert keys.write()
    assert not keys.take(A, B)
    assert not keys.take(A, "")  # the keyring switches before the socket does
    assert keys.reader is not None
    assert keys.reader() == f"{A} {B}".encode()
    assert keys.take(B, "")
    assert keys.write()
    assert keys.reader() == B.encode()


def test_an_announcement_that_is_no_key_changes_nothing() -> None:
    keys = ServerKeys(A, None)
    with pytest.raises(BadSetting):
        keys.take(A, "no key")
    assert keys.take(A, B)
    assert not keys.take(A, B)


def test_without_a_file_there_is_nothing_to_read_and_nothing_to_write() -> None:
    keys = ServerKeys(A, None)
    assert keys.reader is None
    assert keys.take(A, B)
    assert not keys.write()


def test_only_the_keys_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    profile().save(path)
    comment = path.read_text().splitlines()[0]
    assert write_server_keys(path, f"{A} {B}")
    assert Profile.load(path) == profile(f"{A} {B}")
    assert path.read_text().splitlines()[0] == comment
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_ino
    assert not write_server_keys(path, f"{A} {B}")
    assert path.stat().st_ino == before
    join = tmp_path / "join.toml"
    Join("tcp://h:1", A, "s" * 20).save(join)
    assert write_server_keys(join, B)
    assert Join.load(join) == Join("tcp://h:1", B, "s" * 20)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, kept = tmp_path / "p.toml", tmp_path / "elsewhere.toml"
    profile().save(kept)
    path.symlink_to(kept)
    assert write_server_keys(path, B)
    assert path.is_symlink()
    assert Profile.load(kept) == profile(B)


@pytest.mark.parametrize(
    "content", ["", "server_key = 5\n", f'server_key = "{A}"\nother = 5\n', "server_key = [\n"]
)
def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.toml"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(BadSetting):
        write_server_keys(path, B)
    assert path.read_text() == content
    with pytest.raises(BadSetting):
        write_server_keys(tmp_path / "none", B)
