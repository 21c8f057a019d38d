"""Finished runs on a prepared folder, from the command to the table: what each option changes."""

import functools
import json
import shutil

import pytest
import torch

from data_scripts.corpora.report import PreparationReport
from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.process import call_example


def retest(runs, corpus, out, *options):
    """Run the script, and return its table, and what each run was tested with."""
    tested = ["--runs", *runs, "--prepared_dir", corpus, "--split", "train"]
    call_example("retest.py", *tested, "--output_dir", out, *options)
    table = json.loads((out / "retest.json").read_text(encoding="utf-8"))
    return table, [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.rglob("tested.json"))]


@pytest.fixture(scope="module")
def runs(finished_grid):
    return finished_grid.folder / "M4SER", finished_grid.folder / "speech_text_concat"


def test_the_table_is_of_all_runs_and_utterances(runs, finished_grid, tmp_path, capsys):
    table, tested = retest(runs, finished_grid.corpus, tmp_path)
    assert (tmp_path / "retest.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert table["heading"] == "# M4SER, speech_text_concat tested on 18 utterances, split train of corpus"
    assert [(row["row"], row["finished"]) for row in table["rows"]] == [("M4SER", 2), ("speech & text + concat", 2)]
    assert (table["metric"], len(tested)) == ("weighted_f1", 4)
    assert {(each["text_column"], each["bf16"]) for each in tested} == {("hypothesis", False)}
    assert table["rows"][0]["interval"]["clusters"] == 3  # speakers
    kept = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("predictions.parquet"))
    assert kept == [f"{run.name}/fold2/seed{seed}" for run in runs for seed in (1, 2)]


def test_options_arrive(runs, finished_grid, tmp_path, monkeypatch):
    """In the model: batches of four, in half precision."""
    seen = []
    real = M4SERForEmotionClassification.forward

    def forward(self, *args, **kwargs):
        seen.append((len(kwargs["input_ids"]), torch.is_autocast_enabled("cpu")))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(M4SERForEmotionClassification, "forward", functools.wraps(real)(forward))
    options = ["--metric", "ua", "--bf16", "--batch_size", 4, "--feature_cache_dir", tmp_path / "cache"]
    table, _ = retest(runs[:1], finished_grid.corpus, tmp_path / "out", *options)
    assert seen == [(size, True) for size in (4, 4, 4, 4, 2)] * 2
    assert table["rows"][0]["interval"]["estimate"] == pytest.approx(table["rows"][0]["metrics"]["ua"]["mean"])
    assert any((tmp_path / "cache").iterdir())


def test_a_corpus_of_the_papers_name_has_its_clusters_and_its_numbers_where_asked(runs, finished_grid, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(finished_grid.corpus, corpus)
    PreparationReport("meld").save(corpus / "report.json")
    for asked, numbers in (([], [False, False]), (["--paper"], [True, True])):
        table, _ = retest(runs, corpus, tmp_path / "out", *asked)
        assert table["heading"].endswith("(a stand-in corpus)")
        assert [bool(row["paper"]) for row in table["rows"]] == numbers
        assert table["rows"][0]["interval"]["clusters"] == 18  # dialogues, of which these ids tell none
