"""The parser of every command: `~` in any value that can be a path, and nowhere else."""

import os

import pytest

from data_scripts.parsers import CommandParser


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--a=~/x y"], "HOME/x y"),
        (["--a", "~/x"], "HOME/x"),
        (["--a=~"], "HOME"),
        (["--a", "x~/~y"], "x~/~y"),
        (["--a=b=~/x"], "b=~/x"),
        (["--a=~nobody-of-that-name/x"], "~nobody-of-that-name/x"),
    ],
)
def test_a_tilde_is_the_home_folder(monkeypatch, words, expected):
    monkeypatch.setenv("HOME", f"{os.sep}home")
    monkeypatch.setenv("USERPROFILE", f"{os.sep}home")
    parser = CommandParser()
    parser.add_argument("--a")
    assert parser.parse_args(words).a == expected.replace("HOME", f"{os.sep}home")
    monkeypatch.setattr("sys.argv", ["command", *words])
    assert parser.parse_args().a == expected.replace("HOME", f"{os.sep}home")


def test_a_misspelled_option_names_the_nearest(capsys):
    parser = CommandParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch_size")
    for words, message in (
        (["--modle", "x"], "there is no option --modle (did you mean --model?)"),
        (["--model=x", "--batchsize=4"], "there is no option --batchsize (did you mean --batch_size?)"),
        (["--batch", "4"], "the following arguments are required: --model"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert message in capsys.readouterr().err
