"""Settings: later sources win, and what is wrong is named with its place and what is allowed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.conf.setting_types import (
    MIB,
    Choice,
    Count,
    Folder,
    Seconds,
    parse_seconds,
    parse_size,
    size_text,
    toml_string,
)
from warehouse.conf.settings import Settings, describe, load_settings, reference, sample_file
from warehouse.errors import BadSetting

PROJECT = Path(__file__).resolve().parents[3]


def load(tmp_path, text="", *, environ=None, flags=None):
    path = tmp_path / "warehouse.toml"
    path.write_text(text)
    return load_settings(path, environ=environ or {}, flags=flags)


def test_without_any_source_the_defaults_stand():
    assert load_settings(environ={}) == Settings()
    assert Settings().store.chunk_size == 80 * MIB
    assert Settings().cluster.host == "127.0.0.1", "nothing is opened to the network unless told to"
    assert Settings().store.durability == "fsync"


def test_a_later_source_wins(tmp_path):
    text = '[store]\nchunk_size = "1MiB"\nlease_s = 30\nvolume_size = "1GiB"\n'
    environ = {"WAREHOUSE_STORE_LEASE_S": "40", "WAREHOUSE_STORE_VOLUME_SIZE": "2GiB"}
    flags = {"store.volume_size": "3GiB", "store.chunk_size": None}
    store = load(tmp_path, text, environ=environ, flags=flags).store
    assert (store.chunk_size, store.lease_s, store.volume_size) == (MIB, 40.0, 3 * 1024 * MIB)


def test_every_setting_can_be_set_in_the_file_and_in_the_environment(tmp_path):
    for setting in describe():
        text = f"[{setting.section}]\n{setting.key} = {setting.default_text}\n"
        assert load(tmp_path, text) == Settings(), setting.name
        value = tomllib.loads(f"value = {setting.default_text}")["value"]
        environ = {setting.variable: ",".join(value) if isinstance(value, list) else str(value)}
        assert load_settings(environ=environ) == Settings(), setting.name


def test_every_field_has_a_default_that_is_allowed():
    assert {setting.name.partition(".")[0] for setting in describe()} == {
        "cluster",
        "store",
        "compaction",
        "verification",
        "http",
        "tls",
        "monitoring",
        "audit",
        "console",
        "s3",
        "log",
    }
    for setting in describe():
        assert setting.type.read(setting.default) == setting.default, setting.name
        assert setting.description, setting.name


def test_the_environment_can_name_the_file(tmp_path):
    path = tmp_path / "named.toml"
    path.write_text("[cluster]\nvolumes = 3\n")
    assert load_settings(environ={"WAREHOUSE_CONFIG": str(path)}).cluster.volumes == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[store]\nchunk_size = '80 parsecs'",
            r"warehouse\.toml: store\.chunk_size is '80 parsecs'; allowed is a size",
        ),
        ("[store]\nchunk_size = -1", r"store\.chunk_size is -1"),
        ("[store]\nchunk_size = true", r"store\.chunk_size is True"),
        ("[store]\nchunk_size = '1GiB'", r"from 4KiB to 256MiB"),
        ("[store]\ndurability = 'sometimes'", r"'sometimes'; allowed is \"fsync\" or \"os\""),
        ("[store]\nchunk_sise = 1", r"unknown setting store\.chunk_sise; did you mean chunk_size\?"),
        ("[store]\nqqq = 1", r"unknown setting store\.qqq; there are chunk_size, volume_size"),
        ("[sotre]\nchunk_size = 1", r"unknown section \[sotre\]; did you mean store\?"),
        ("store = 1", r"store is a section"),
        ("chunk_size = 1", r"unknown section \[chunk_size\]"),
        ("[store", r"not a TOML file"),
        ("[cluster]\nport_base = 65530", r"from 1024 to 65335"),
        ("[cluster]\nport_base = 7400.0", r"whole number"),
        ("[cluster]\nhost = 'http://a'", r"a host name, an IPv4 address, or an IPv6 address"),
        ("[http]\ncors_origins = ['https://a/path']", r"cors_origins"),
        ("[http]\ncors_origins = 7", r"a list"),
        ("[http]\nidle_s = nan", r"idle_s is nan"),
        ("[tls]\nmode = 'maybe'", r"\"auto\" or \"on\" or \"off\""),
        ("[tls]\ncertificate = 'c.pem'", r"tls\.certificate and tls\.key belong together"),
        ("[tls]\nkey = 7", r"tls\.key is 7"),
        ("[monitoring]\nhost = 'http://a'", r"or an empty text"),
        ("[http]\nidle_s = 'soon'", r"seconds"),
        ("[store]\nvolume_size = '100MiB'", r"volume_size .* must be at least twice store\.chunk_size"),
    ],
)
def test_a_wrong_file_is_named_with_its_place_and_what_is_allowed(tmp_path, text, expected):
    with pytest.raises(BadSetting, match=expected) as caught:
        load(tmp_path, text)
    assert "warehouse.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadSetting, match=r"absent\.toml: No such file"):
        load_settings(tmp_path / "absent.toml", environ={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSetting, match=r"binary\.toml is not a TOML file"):
        load_settings(tmp_path / "binary.toml", environ={})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WAREHOUSE_LOG_LEVEL", "loud", "the variable WAREHOUSE_LOG_LEVEL is 'loud'; allowed is \"debug\""),
        ("WAREHOUSE_STORE_CHUNKSIZE", "1", "did you mean WAREHOUSE_STORE_CHUNK_SIZE"),
        ("WAREHOUSE_STROE_CHUNK_SIZE", "1", "did you mean WAREHOUSE_STORE_CHUNK_SIZE"),
        ("WAREHOUSE_CLUSTER_VOLUMES", "two", "a whole number from 1 to 64"),
        ("WAREHOUSE_CLUSTER_VOLUMES", "", "a whole number from 1 to 64"),
    ],
)
def test_a_wrong_variable_is_named(variable, value, expected):
    with pytest.raises(BadSetting, match=expected):
        load_settings(environ={variable: value})


def test_variables_that_are_no_settings_are_left_alone():
    environ = {"WAREHOUSE_PROFILE": "x", "WAREHOUSE_TEST_SEED": "7", "HOME": "/root"}
    assert load_settings(environ=environ) == Settings()


def test_a_wrong_flag_is_named():
    with pytest.raises(BadSetting, match=r"cluster\.volumes on the command line is 0"):
        load_settings(environ={}, flags={"cluster.volumes": 0})


def test_lists_in_variables_have_commas_between():
    environ = {"WAREHOUSE_HTTP_CORS_ORIGINS": "https://a.example, http://localhost:8000,"}
    assert load_settings(environ=environ).http.cors_origins == ("https://a.example", "http://localhost:8000")


# --- kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        ("4096", 4096),
        ("80MiB", 80 * MIB),
        ("80 mib", 80 * MIB),
        ("1.5KiB", 1536),
        ("1MB", 10**6),
        ("1.5GB", 1_500_000_000),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1", "1e3", "1..5MiB", "1.5", "0.1B", "1 PiB", "٣MiB", "1MiB\0", None, 1.5, -1, True, []],
)
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.integers(0, 2**50))
def test_a_written_size_is_read_back(size):
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(1, 1.0), (0.5, 0.5), ("90", 90.0), ("15m", 900.0), ("250 ms", 0.25), ("1d", 86400.0)],
)
def test_times_are_read(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "-1s", "1y", "inf", "nan", float("inf"), float("nan"), -1, None, False]
)
def test_other_times_are_refused(text):
    with pytest.raises(ValueError):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Count(1, 10), 11),
        (Count(1, 10), 0),
        (Count(1, 10), True),
        (Count(1, 10), "1.0"),
        (Seconds(1, 10), 10.5),
        (Choice("a", "b"), "A"),
        (Choice("a", "b"), ["a"]),
    ],
)
def test_bounds_are_kept(kind, value):
    with pytest.raises(ValueError):
        kind.read(value)


@pytest.mark.parametrize("value", ["", "a\0b", 7, None, []])
def test_a_folder_is_a_path(value):
    assert Folder().read("~").is_absolute()
    assert Folder().read("data") == Path("data")
    with pytest.raises(ValueError):
        Folder().read(value)


@given(st.text())
def test_a_toml_string_says_the_same_when_read_back(text):
    assert tomllib.loads(f"value = {toml_string(text)}")["value"] == text


def test_a_lone_surrogate_is_refused_and_not_written():
    with pytest.raises(ValueError, match="surrogate"):
        toml_string("a\ud800")


# --- documentation --------------------------------------------------------------------------------


def test_the_sample_file_is_the_defaults_whether_commented_or_not(tmp_path):
    assert load(tmp_path, sample_file()) == Settings()
    lines = [
        line[1:] if line.startswith("#") and line[1:2].isalpha() else line
        for line in sample_file().splitlines()
    ]
    assert sum("=" in line and not line.startswith("#") for line in lines) == len(describe())
    assert load(tmp_path, "\n".join(lines)) == Settings()


def test_the_documentation_in_the_repository_is_current():
    assert (PROJECT / "docs/settings.md").read_text() == reference(), (
        "python -m conf reference > docs/settings.md"
    )
    sample = (PROJECT / "docs/warehouse.sample.toml").read_text()
    assert sample == sample_file(), "python -m conf sample > docs/warehouse.sample.toml"


def test_the_documentation_names_every_setting():
    for setting in describe():
        row = next(line for line in reference().splitlines() if f"`{setting.variable}`" in line)
        for part in (f"`{setting.key}`", setting.default_text, setting.type.allowed, setting.description):
            assert part in row
        assert row.count(" | ") == 4


def test_the_pages_can_be_printed():
    run = [sys.executable, "-m", "warehouse.conf"]
    printed = subprocess.run([*run, "sample"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert printed.stdout == sample_file()
    wrong = subprocess.run([*run, "poem"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("usage:")
