"""`m4ser transcribe`: the command of data_scripts under its own name."""

import pytest
from datasets import DatasetDict

from data_scripts.schema import load_prepared, save_prepared
from m4ser.__main__ import main
from tests.helpers.corpus import tiny_corpus


def test_it_fills_hypotheses(tmp_path):
    save_prepared(DatasetDict(train=tiny_corpus(1)), tmp_path)
    (tmp_path / "heard.csv").write_text("id,hypothesis\nclip00,i am here\n")
    words = ["--prepared_dir", str(tmp_path), "--hypotheses", str(tmp_path / "heard.csv"), "--asr_model", "by hand"]
    assert main(["transcribe", *words]) == 0
    assert load_prepared(tmp_path)["train"]["hypothesis"][:] == ["i am here"]


def test_a_wrong_option_shows_its_own_usage(capsys):
    with pytest.raises(SystemExit):
        main(["transcribe"])
    assert capsys.readouterr().err.startswith("usage: m4ser transcribe ")
