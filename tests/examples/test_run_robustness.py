"""Trained models against recognition errors: each condition's texts reach the models that read, and those alone."""

import functools
import json
import shutil

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.files import folder_name
from data_scripts.schema import load_prepared, save_prepared
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from tests.helpers.process import call_example
from trainer.errors import ExperimentError

ROWS = ("speech & text + concat", "only text", "only speech")
FOLDERS = {row: folder_name(row) for row in ROWS}


@pytest.fixture(scope="module")
def grid(finished_grid, tmp_path_factory):
    """Three rows, with one seed each."""
    folder = tmp_path_factory.mktemp("robustness")
    for row in FOLDERS.values():
        shutil.copytree(finished_grid.folder / row / "fold2" / "seed1", folder / row / "fold2" / "seed1")
    shutil.copytree(finished_grid.corpus, folder / "corpus")
    return folder


def run_script(grid, out, *arguments):
    tested = ["--runs", grid, "--prepared_dir", grid / "corpus", "--split", "train"]
    call_example("run_robustness.py", *tested, "--output_dir", out, *arguments)


def test_each_condition_s_texts_reach_the_models_that_read(grid, tmp_path, monkeypatch):
    read = []
    forward = M4SERForEmotionClassification.forward

    @functools.wraps(forward)
    def spy(self, *args, **kwargs):
        read.append((self.config.modalities, kwargs.get("input_ids")))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(M4SERForEmotionClassification, "forward", spy)
    corpus = load_prepared(grid / "corpus")["train"]
    # Ids of another split are other utterances.
    texts = {"train": "we go home", "test": "so late"}
    parts = [pd.DataFrame({"split": s, "id": corpus["id"][:], "hypothesis": text}) for s, text in texts.items()]
    pd.concat(parts).to_csv(tmp_path / "home.csv", index=False)
    out = tmp_path / "out"
    run_script(grid, out, "--wer", 0, 0.5, "--hypotheses", f"home={tmp_path / 'home.csv'}")
    assert [kind for kind, ids in read].count("speech") == 1
    assert all((ids is None) == (kind == "speech") for kind, ids in read)
    content = json.loads((out / "robustness.json").read_text(encoding="utf-8"))
    assert content["heading"].endswith(f"errors: {len(corpus)} utterances, split train of corpus")
    assert content["figures"] == ["robustness.png"]
    conditions = list(dict.fromkeys(record["row"].removeprefix(f"{ROWS[0]}, ") for record in content["rows"][::3]))
    assert set(conditions) >= {"human text", "noise 50 %", "home"}
    tokenizer = M4SERProcessor.from_pretrained(next(grid.rglob("only_text/**/config.json")).parent).tokenizer
    seen = [sorted(tokenizer.batch_decode(ids, skip_special_tokens=True)) for kind, ids in read if kind == "text"]
    assert len(seen) == len(conditions) == 4
    assert sorted(corpus["transcript"]) in seen
    assert sorted(corpus["hypothesis"]) in seen
    assert ["we go home"] * len(corpus) in seen
    assert len({tuple(texts) for texts in seen}) == 4
    records = {record["row"]: record for record in content["rows"]}
    assert len({records[f"only speech, {name}"]["interval"]["estimate"] for name in conditions}) == 1
    with pytest.raises(ExperimentError, match="belongs to a run with other settings"):
        run_script(grid, out, "--wer", 0.5, "--seed", 1)


def test_the_noise_is_fitted_on_other_utterances_than_the_tested_ones(grid, tmp_path):
    """On the train split or a table; clusters and notes are the corpus'."""
    corpus = load_prepared(grid / "corpus")["train"]
    save_prepared(DatasetDict(train=corpus.select(range(6)), test=corpus.select(range(6, 18))), tmp_path / "corpus")
    PreparationReport("meld").save(tmp_path / "corpus" / "report.json")
    (tmp_path / "pairs.csv").write_text("hypothesis,reference\nwe go,we go home\n", encoding="utf-8")
    words = sum(len(text.split()) for text in corpus["transcript"][:6])
    for options, number in (([], words), (["--pairs", tmp_path / "pairs.csv"], 3)):
        out = tmp_path / f"out{number}"
        run_script(tmp_path, out, "--runs", grid, "--split", "test", "--rows", ROWS[2], "--wer", 0, *options)
        content = json.loads((out / "robustness.json").read_text(encoding="utf-8"))
        assert any(f"fitted on {number} words" in note for note in content["notes"])
        assert content["rows"][0]["interval"]["clusters"] == content["rows"][0]["utterances"] == 12
        assert content["heading"].endswith("(a stand-in corpus)")


def test_options_that_cannot_be_meant(grid, tmp_path):
    for wrong in (["home"], ["a=b", "a=c"], ["home="]):
        with pytest.raises(CorpusError, match="takes NAME=FILE"):
            run_script(grid, tmp_path, "--hypotheses", *wrong)
    with pytest.raises(SystemExit):
        run_script(grid, tmp_path, "--wer", 30)
