"""Trained models against recognition errors: each condition's texts reach the models that read, and those alone."""

import functools
import json
import runpy

import pandas as pd
import pytest

from data_scripts.errors import CorpusError
from data_scripts.schema import load_prepared
from data_scripts.transcribe.dataset import word_error_rates
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from tests.helpers import ROOT
from tests.helpers.experiments import tiny_grid
from trainer.errors import ExperimentError

SCRIPT = runpy.run_path(str(ROOT / "examples" / "run_robustness.py"))
ROWS = ("speech & text + concat", "only text", "only speech")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Three rows, one fold, one seed, one step each."""
    return tiny_grid(tmp_path_factory.mktemp("grid"), "--rows", *ROWS, steps=1)


def run_script(grid, out, *arguments):
    words = ["--runs", grid, "--dataset", grid / "corpus", "--split", "train", "--output_dir", out, *arguments]
    SCRIPT["main"](SCRIPT["parse_arguments"](list(map(str, words))))


def texts_of(inputs, processor):
    return sorted(processor.tokenizer.batch_decode(inputs, skip_special_tokens=True))


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
    records = {record["condition"]: record for record in content["conditions"]}
    assert [record["kind"] for record in records.values()].count("recogniser") == 2
    processor = M4SERProcessor.from_pretrained(next(grid.rglob("only_text/**/config.json")).parent)
    seen = [texts_of(ids, processor) for kind, ids in read if kind == "text"]
    assert len(seen) == len(records) == 4
    assert sorted(corpus["transcript"]) in seen
    assert sorted(corpus["hypothesis"]) in seen
    assert ["we go home"] * len(corpus) in seen
    assert len({tuple(texts) for texts in seen}) == 4

    rates = word_error_rates(load_prepared(grid / "corpus"))["train"]
    (own,) = (record for name, record in records.items() if name not in ("human text", "noise 50 %", "home"))
    assert (own["wer"], own["with_error"]) == (rates["wer"], rates["with_error"])
    assert records["human text"]["wer"] == 0
    assert records["noise 50 %"]["wer"] == pytest.approx(0.5, abs=0.1)
    assert len({record["rows"]["only speech"]["estimate"] for record in records.values()}) == 1
    assert list(records["home"]["rows"]) == list(ROWS)

    # Again: everything is read back, nothing is predicted.
    before = (out / "robustness.json").read_bytes()
    read.clear()
    run_script(grid, out, "--wer", 0, 0.5, "--hypotheses", f"home={tmp_path / 'home.csv'}")
    assert not read
    assert (out / "robustness.json").read_bytes() == before
    with pytest.raises(ExperimentError, match="holds a test of another model, data or settings"):
        run_script(grid, out, "--wer", 0.5, "--seed", 1)


def test_the_options_of_testing_arrive(grid, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "cache"
    run_script(grid, out, "--rows", ROWS[0], "--wer", 0, "--bf16", "--feature_cache_dir", cache)
    tested = [json.loads(path.read_text(encoding="utf-8")) for path in out.rglob("tested.json")]
    assert [each["bf16"] for each in tested] == [True, True]
    assert any(cache.iterdir())


def test_rows_and_files_that_are_not_there_are_told(grid, tmp_path, capsys):
    with pytest.raises(ExperimentError, match="no finished run is of w/o GAN; there are only speech, only text"):
        run_script(grid, tmp_path, "--rows", "w/o GAN")
    for wrong in (["home"], ["a=b", "a=c"], ["home="]):
        with pytest.raises(CorpusError, match="takes NAME=FILE"):
            run_script(grid, tmp_path, "--hypotheses", *wrong)
    (tmp_path / "pairs.csv").write_text("hypothesis,text\na,b\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="needs the columns hypothesis and reference; it has hypothesis, text"):
        run_script(grid, tmp_path, "--pairs", tmp_path / "pairs.csv")
    assert "no finished run of: M4SER, w/o AED & AEC" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        SCRIPT["parse_arguments"](["--runs", "r", "--dataset", "d", "--output_dir", "o", "--wer", "30"])


def test_pairs_are_those_of_the_table_or_of_the_train_split(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("hypothesis,reference\nwe go,we go home\n,nothing heard\n", encoding="utf-8")
    assert SCRIPT["read_pairs"](str(path), {}, "x") == [("we go", "we go home"), ("", "nothing heard")]
    train = {"hypothesis": ["a", None, "c"], "transcript": ["A", "B", None]}
    test = {"hypothesis": ["heard"], "transcript": ["said"]}
    assert SCRIPT["read_pairs"](None, {"train": train, "test": test}, "x") == [("a", "A")]
    with pytest.raises(CorpusError, match="x has no train split to fit the noise model on: give --pairs"):
        SCRIPT["read_pairs"](None, {"test": train}, "x")
