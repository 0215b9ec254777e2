"""Profiles by name, and the profile that variables describe."""

from pathlib import Path

import pytest

from warehouse.conf.named_profiles import (
    current_name,
    named_or_path,
    profile_names,
    profile_path,
    remove_profile,
    use_profile,
)
from warehouse.conf.profile import Profile, find_profile, load_profile, profile_of_environment
from warehouse.errors import BadSetting, SecretMissing

SERVER_KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
VARIABLES = {
    "WAREHOUSE_ENDPOINT": "tcp://127.0.0.1:7400",
    "WAREHOUSE_SERVER_KEY": SERVER_KEY,
    "WAREHOUSE_KEY_ID": "WHA",
    "WAREHOUSE_SECRET": "canary-secret",
}
PROFILE = Profile(master="tcp://127.0.0.1:7400", server_key=SERVER_KEY, key_id="WHA", secret="canary-secret")


def find(home, explicit=None, **environ):
    return find_profile(explicit, environ=environ, working_directory=home / "here", home=home)


def test_a_name_comes_before_a_file_and_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PROFILE.save(profile_path("work", tmp_path))
    for name in ("work", "other", "work.toml"):
        (tmp_path / name).touch()
    assert find(tmp_path, Path("work")) == profile_path("work", tmp_path)
    assert find(tmp_path, WAREHOUSE_PROFILE="work") == profile_path("work", tmp_path)
    for word in ("other", "work.toml", f"{tmp_path}/work", "sub/none"):
        assert named_or_path(Path(word), tmp_path) == Path(word)
    with pytest.raises(SecretMissing, match="profiles: work"):
        find(tmp_path, Path("wrok"))


def test_the_chosen_profile_is_used_where_none_is_named(tmp_path):
    own = tmp_path / ".config" / "warehouse" / "profile.toml"
    for path in (own, profile_path("work", tmp_path)):
        PROFILE.save(path)
    assert find(tmp_path) == own
    use_profile("work", tmp_path)
    assert (current_name(tmp_path), find(tmp_path)) == ("work", profile_path("work", tmp_path))
    local = tmp_path / "here" / "warehouse-data" / "profile.toml"
    PROFILE.save(local)
    assert find(tmp_path) == local
    local.unlink()
    remove_profile("work", tmp_path)
    assert (current_name(tmp_path), find(tmp_path), profile_names(tmp_path)) == (None, own, [])
    for act in (use_profile, remove_profile):
        with pytest.raises(SecretMissing, match="no profile 'work'"):
            act("work", tmp_path)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a.toml", "ä", "a" * 65, "a b", "-x"])
def test_a_name_that_could_be_a_path_or_an_option_is_refused(tmp_path, name):
    with pytest.raises(BadSetting, match="a profile's name has"):
        profile_path(name, tmp_path)


def test_variables_stand_for_a_profile(tmp_path, monkeypatch):
    assert profile_of_environment({}) is None
    assert profile_of_environment(VARIABLES) == PROFILE
    (tmp_path / "ca.pem").write_text("certificates")
    for text, seen in ((str(tmp_path / "ca.pem"), "certificates"), ("-----BEGIN X", "-----BEGIN X")):
        assert profile_of_environment({**VARIABLES, "WAREHOUSE_AUTHORITY": text}).authority == seen
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WAREHOUSE_PROFILE", raising=False)
    assert load_profile() == PROFILE
    PROFILE.save(tmp_path / "named.toml")
    assert load_profile(tmp_path / "named.toml").path == tmp_path / "named.toml"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"WAREHOUSE_SECRET": ""}, SecretMissing, "not WAREHOUSE_SECRET"),
        ({"WAREHOUSE_SERVER_KEY": "x"}, BadSetting, "server_key"),
        ({"WAREHOUSE_ENDPOINT": "127.0.0.1:7400"}, BadSetting, "tcp://host:port"),
        ({"WAREHOUSE_PROFILE": "work"}, BadSetting, "both say which store"),
        ({"WAREHOUSE_AUTHORITY": "/none/ca.pem"}, BadSetting, "No such file"),
    ],
)
def test_wrong_variables_are_named_and_no_secret_is_told(change, kind, message):
    with pytest.raises(kind, match=message) as caught:
        profile_of_environment({**VARIABLES, **change})
    assert "canary" not in str(caught.value)


def test_who_needs_a_file_never_reaches_another_store_than_the_variables_say(tmp_path):
    PROFILE.save(tmp_path / ".config" / "warehouse" / "profile.toml")
    with pytest.raises(BadSetting, match="needs a profile in a file"):
        find(tmp_path, **VARIABLES)
