"""Profiles and join files: readable by their owner alone, found in a fixed order, never quoted in errors."""

import dataclasses
import os
import stat
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.conf.join import Join
from warehouse.conf.profile import Profile, find_profile, load_profile
from warehouse.conf.secret_file import read_secret_file, write_secret_file
from warehouse.errors import BadSetting, SecretMissing, SetupError

SERVER_KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
PROFILE = Profile(master="tcp://127.0.0.1:7400", server_key=SERVER_KEY, key_id="WHA", secret="canary-secret")
JOIN = Join(master="tcp://[::1]:7400", server_key=SERVER_KEY, secret="canary-secret")


@pytest.mark.parametrize("value", [PROFILE, JOIN], ids=["profile", "join"])
def test_what_is_saved_is_loaded(tmp_path, value):
    path = tmp_path / "new folder" / "file.toml"
    value.save(path)
    assert type(value).load(path) == value


@pytest.mark.parametrize("value", [PROFILE, JOIN], ids=["profile", "join"])
def test_a_file_is_read_again_later_and_a_pipe_is_not(tmp_path, value):
    """Nobody would write to the pipe a second time, and a reader would wait for that."""
    path, pipe = tmp_path / "file.toml", tmp_path / "pipe"
    value.save(path)
    assert type(value).load(path).path == path
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    loaded = type(value).load(pipe)
    writer.join()
    assert loaded == value
    assert loaded.path is None


@pytest.mark.parametrize("value", [PROFILE, JOIN], ids=["profile", "join"])
def test_only_the_owner_may_read_it_also_when_it_replaces_an_open_one(tmp_path, value):
    path = tmp_path / "file.toml"
    path.write_text("old")
    path.chmod(0o666)
    old_mask = os.umask(0)
    try:
        value.save(path)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file.toml"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "profile.toml"
    PROFILE.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    PROFILE.save(path)  # it says so already: nothing is written
    with pytest.raises(SetupError, match="cannot write"):
        dataclasses.replace(PROFILE, secret="another").save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["profile.toml"]


def test_a_secret_is_not_in_a_repr():
    assert "canary" not in repr(PROFILE)
    assert "canary" not in repr(JOIN)


@settings(max_examples=50, deadline=None)
@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("secret") / "file.toml"
    write_secret_file(path, {"secret": value}, comment="a test")
    assert read_secret_file(path, ["secret"], what="test file") == {"secret": value}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"master": "127.0.0.1:7400"}, r"master is '127\.0\.0\.1:7400', not of the form tcp://host:port"),
        ({"master": "http://127.0.0.1:7400"}, "tcp://host:port"),
        ({"master": "tcp://127.0.0.1:65536"}, "tcp://host:port"),
        ({"master": "tcp://127.0.0.1:0"}, "tcp://host:port"),
        ({"server_key": "short"}, "server_key is not a CURVE key"),
        ({"secret": ""}, "lacks the text 'secret'"),
        ({"key_id": ""}, "lacks the text 'key_id'"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path, change, expected):
    values = {"master": PROFILE.master, "server_key": SERVER_KEY, "key_id": "WHA", "secret": "canary-secret"}
    path = tmp_path / "profile.toml"
    write_secret_file(path, {**values, **change}, comment="a test")
    with pytest.raises(BadSetting, match=expected) as caught:
        Profile.load(path)
    assert str(path) in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b'secret = "canary-secret', b"secret = canary-secret", b"\xff canary-secret"]
)
def test_a_damaged_profile_is_named_and_its_secret_is_not(tmp_path, content):
    path = tmp_path / "profile.toml"
    path.write_bytes(content)
    with pytest.raises(BadSetting, match="not a TOML file") as caught:
        Profile.load(path)
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadSetting, match="No such file"):
        Join.load(tmp_path / "join.toml")


# --- which one ------------------------------------------------------------------------------------


def places(tmp_path):
    here, home = tmp_path / "here", tmp_path / "home"
    local, own = here / "warehouse-data/profile.toml", home / ".config/warehouse/profile.toml"
    for path in (local, own):
        path.parent.mkdir(parents=True)
    return here, home, local, own


def test_profiles_are_looked_up_in_order(tmp_path):
    here, home, local, own = places(tmp_path)
    named, variable = tmp_path / "named.toml", tmp_path / "variable.toml"
    environ = {"WAREHOUSE_PROFILE": str(variable)}
    for path in (local, own):
        path.touch()
    assert find_profile(named, environ=environ, working_directory=here, home=home) == named
    assert find_profile(environ=environ, working_directory=here, home=home) == variable
    assert find_profile(environ={}, working_directory=here, home=home) == local
    local.unlink()
    assert find_profile(environ={"WAREHOUSE_PROFILE": ""}, working_directory=here, home=home) == own


def test_without_a_profile_the_error_says_where_it_looked_and_what_to_do(tmp_path):
    here, home, local, own = places(tmp_path)
    with pytest.raises(SecretMissing, match="warehouse up") as caught:
        find_profile(environ={}, working_directory=here, home=home)
    assert str(local) in str(caught.value)
    assert str(own) in str(caught.value)


def test_load_profile_takes_a_path(tmp_path):
    PROFILE.save(tmp_path / "profile.toml")
    assert load_profile(tmp_path / "profile.toml") == PROFILE


@pytest.mark.parametrize("value", [PROFILE, JOIN], ids=["profile", "join"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_secret_that_others_may_use_is_refused_with_the_remedy(tmp_path, value, mode):
    path = tmp_path / "a file.toml"
    value.save(path)
    path.chmod(mode)
    with pytest.raises(BadSetting, match=f"mode {mode:o}.*chmod 600 '{path}'") as caught:
        type(value).load(path)
    assert "canary" not in caught.value.message
    for mode in (0o600, 0o400):
        path.chmod(mode)
        assert type(value).load(path) == value


@pytest.mark.parametrize(("mode", "is_read"), [(0o440, True), (0o640, True), (0o660, False), (0o644, False)])
def test_a_secret_that_root_has_put_there_for_our_group_is_read(tmp_path, monkeypatch, mode, is_read):
    path = tmp_path / "join.toml"
    JOIN.save(path)
    path.chmod(mode)
    look = os.fstat

    def as_of_root(descriptor):
        found = list(look(descriptor))
        found[stat.ST_UID] = 0
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", as_of_root)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if is_read:
        assert Join.load(path) == JOIN
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(BadSetting, match="others may use"):
        Join.load(path)


@pytest.mark.parametrize("value", [PROFILE, JOIN], ids=["profile", "join"])
def test_a_secret_of_another_user_is_refused_with_the_remedy(tmp_path, monkeypatch, value):
    path = tmp_path / "a file.toml"
    value.save(path)
    owner = path.stat().st_uid
    if owner == 0:
        owner = 12345
        os.chown(path, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert type(value).load(path) == value, "root uses what it names"
    monkeypatch.setattr(os, "geteuid", lambda: 777)
    with pytest.raises(BadSetting, match=rf"belongs to another user.*chown 777 '{path}'") as caught:
        type(value).load(path)
    assert "canary" not in caught.value.message
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert type(value).load(path) == value


def test_a_profile_that_somebody_else_left_where_we_are_is_not_used(tmp_path, monkeypatch):
    found = tmp_path / "warehouse-data" / "profile.toml"
    PROFILE.save(found)
    assert find_profile(environ={}, working_directory=tmp_path, home=tmp_path) == found
    monkeypatch.setattr(os, "geteuid", lambda: found.stat().st_uid + 1)
    if found.stat().st_uid == 0:
        assert find_profile(environ={}, working_directory=tmp_path, home=tmp_path) == found, "root's is"
        os.chown(found, 12345, -1)
    with pytest.raises(BadSetting, match=r"belongs to another user.*chown"):
        find_profile(environ={}, working_directory=tmp_path, home=tmp_path)
    assert find_profile(found, environ={}) == found, "a named one is"
