"""Words of a program: an option that names a file or a folder names one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from warehouse.cli import main as cli
from warehouse.conf.arguments import PATH_OPTIONS, Parser, empty_option

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--data", ""], "--data"),
        (["--json", "--data="], "--data"),
        (["x", "--to", "", "--data", "d"], "--to"),
        (["--data", "."], None),
        (["--data=d", "--disk", "e", "--json"], None),
        (["--data"], None),  # which is said elsewhere
        (["", "x", "--content-type", ""], None),
        ([], None),
    ],
)
def test_an_empty_path_is_found(words: list[str], option: str | None) -> None:
    assert empty_option(words) == option


def options_for_paths(path: Path) -> set[str]:
    """The options of a module's `add_argument(..., type=Path)`, on however many lines each stands."""
    return {
        str(word.value)
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        if any(keyword.arg == "type" and ast.unparse(keyword.value) == "Path" for keyword in call.keywords)
        for word in call.args
        if isinstance(word, ast.Constant) and str(word.value).startswith("--")
    }


def test_every_option_that_takes_a_path_is_looked_at() -> None:
    rooms = ("actors", "cli", "client", "rescue")
    found = {room: set[str]().union(*map(options_for_paths, (ROOT / room).rglob("*.py"))) for room in rooms}
    assert found["actors"] == {"--data", "--disk", "--join", "--node-key", "--config"}
    assert set().union(*found.values()) <= PATH_OPTIONS


@pytest.mark.parametrize("form", [["--data", ""], ["--data="]])
@pytest.mark.parametrize("command", ["up", "status", "ls", "backup", "restore", "rebuild", "export", "bench"])
def test_no_command_takes_an_empty_path_for_the_working_folder(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, form: list[str]
) -> None:
    monkeypatch.setattr("os.execve", lambda *words: pytest.fail("it was started"))
    assert cli.main([command, *form]) == 2
    assert "--data is empty" in capfd.readouterr().err


def test_no_program_takes_an_empty_path_for_the_working_folder(capfd: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="program")
    parser.add_argument("--data", type=Path)
    for words in (["--data", ""], ["--data="]):
        with pytest.raises(SystemExit) as caught:
            parser.parse_args(words)
        assert caught.value.code == 2
        assert "--data is empty" in capfd.readouterr().err
    assert parser.parse_args(["--data", "d"]).data == Path("d")
