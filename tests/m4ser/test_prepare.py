"""`m4ser prepare`: the command of data_scripts under its own name."""

import pytest

from data_scripts.schema import load_prepared
from m4ser.__main__ import main
from tests.helpers.layouts import make_ravdess


def test_it_prepares(tmp_path):
    words = ["--data_dir", str(make_ravdess(tmp_path / "RAVDESS")), "--output_dir", str(tmp_path / "out")]
    assert main(["prepare", "ravdess", *words]) == 0
    assert len(load_prepared(tmp_path / "out")["train"]) == 32


def test_a_wrong_option_shows_its_own_usage(capsys):
    with pytest.raises(SystemExit):
        main(["prepare", "ravdess"])
    assert capsys.readouterr().err.startswith("usage: m4ser prepare ")
