"""conf/arguments.py: what is wrong with the words of a program that is started for a command."""

from __future__ import annotations

import pytest

from warehouse.conf.arguments import Parser


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "7500"], "there is no option --port; did you mean --port-base?"),
        (["--port=7500"], "there is no option --port; did you mean --port-base?"),
        (["--portbase", "7500"], "there is no option --portbase; did you mean --port-base?"),
        (["--to", "x"], "there is no option --to (see: warehouse up --help)"),
        (["-d"], "there is no option -d (see: warehouse up --help)"),
        (["extra"], "'extra' is one word too many"),
        ([""], "'' is one word too many"),
        (["--port-base", "x"], "invalid int value: 'x'"),
    ],
)
def test_a_word_that_is_not_known_is_named_and_no_option_is_guessed(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser(prog="warehouse up")
    parser.add_argument("--port-base", type=int)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
