"""Finished runs on other data: the same predictions where the data are the same, others where they are not."""

import dataclasses
import json
import runpy
import shutil
from pathlib import Path

import pandas as pd
import pytest

from data_scripts.files import folder_name
from data_scripts.schema import load_prepared
from tests.helpers import ROOT
from tests.helpers.experiments import tiny_grid
from trainer.errors import ExperimentError
from trainer.experiments.run import PREDICTIONS_FILE
from trainer.studies.retest import finished_runs, retest_run, table_rows


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two rows and a probe, one fold, two seeds, two steps each."""
    rows = ("M4SER", "speech & text + concat", "linear probe, text")
    return tiny_grid(tmp_path_factory.mktemp("grid"), "--seeds", 1, 2, "--rows", *rows)


@pytest.fixture(scope="module")
def corpus(grid):
    return load_prepared(grid / "corpus")["train"]


def test_every_trained_run_is_found_by_its_row_and_no_probe(grid):
    found = [(run.row, run.name) for run in finished_runs(grid)]
    rows = ("M4SER", "speech & text + concat")
    assert sorted(found) == sorted((row, f"fold2/seed{seed}") for row in rows for seed in (1, 2))
    alone = finished_runs(grid / "M4SER" / "fold2" / "seed2")
    assert [(run.row, run.name) for run in alone] == [("M4SER", "seed2")]
    with pytest.raises(ExperimentError, match="holds no finished run"):
        finished_runs(grid / "corpus")


@pytest.mark.parametrize(("row", "named"), [("M4SER", "M4SER, human text"), ("only speech", "only speech")])
def test_a_model_of_human_text_is_a_row_of_its_own(grid, tmp_path, row, named):
    for number, name in enumerate(("M4SER", folder_name(row)), 1):
        run = f"fold2/seed{number}"
        shutil.copytree(grid / "M4SER" / run, tmp_path / "grid" / name / run)
    results = tmp_path / "grid" / folder_name(row) / "fold2" / "seed2" / "results.json"
    content = json.loads(results.read_text(encoding="utf-8"))
    content["text_column"] = "transcript"
    content["arguments"]["runs"]["rows"] = [row]
    content["model_config"]["modalities"] = "speech" if row == "only speech" else "both"
    results.write_text(json.dumps(content), encoding="utf-8")
    assert [run.row for run in finished_runs(tmp_path / "grid")] == ["M4SER", named]


def test_rows_are_what_their_grid_calls_them(grid, tmp_path):
    """The ablation alone does not tell a setting from another, nor the same row of two grids."""
    for place, row in (("share50", "generator_layers=4"), ("share100", "M4SER"), ("", "M4SER, human text")):
        folder = tmp_path / place / folder_name(row) / "fold2" / "seed1"
        shutil.copytree(grid / "M4SER" / "fold2" / "seed1", folder)
        content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        content["arguments"]["runs"]["rows"] = [row]
        content["text_column"] = "transcript" if row.endswith("human text") else "hypothesis"
        (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")
    found = {run.row for run in finished_runs(tmp_path)}
    assert found == {"generator_layers=4 share50", "M4SER share100", "M4SER, human text"}
    assert {run.row for run in finished_runs(tmp_path / "share100")} == {"M4SER"}


def test_a_run_of_no_grid_is_named_by_its_ablation(grid, tmp_path):
    shutil.copytree(grid / "M4SER" / "fold2" / "seed1", tmp_path / "fold2" / "seed1")
    results = tmp_path / "fold2" / "seed1" / "results.json"
    content = json.loads(results.read_text(encoding="utf-8"))
    content["arguments"]["model"]["ablation"] = "w/o GAN"
    del content["arguments"]["runs"]
    results.write_text(json.dumps(content), encoding="utf-8")
    assert [(run.row, run.name) for run in finished_runs(tmp_path)] == [("w/o GAN", "fold2/seed1")]


def test_two_runs_of_one_name_make_no_row(grid, tmp_path):
    run = finished_runs(grid)[0]
    table = retest_run(run, load_prepared(grid / "corpus")["train"], tmp_path)
    with pytest.raises(ExperimentError, match=r"seed1 and elsewhere are both M4SER, fold2/seed1"):
        table_rows({run: table, dataclasses.replace(run, folder=Path("elsewhere")): table}, lambda name, _: name)


def test_on_its_own_test_a_run_predicts_what_it_predicted(grid, corpus, tmp_path):
    for number, run in enumerate(finished_runs(grid)):
        own = pd.read_parquet(run.folder / PREDICTIONS_FILE).set_index("id").sort_index()
        tested = retest_run(run, corpus, tmp_path / str(number))
        assert len(tested) == len(corpus)
        pd.testing.assert_frame_equal(tested.loc[own.index], own[tested.columns])


def test_cached_features_and_small_batches_change_nothing(grid, corpus, tmp_path):
    run = finished_runs(grid)[0]
    plain = retest_run(run, corpus, tmp_path / "plain")
    other = retest_run(run, corpus, tmp_path / "other", batch_size=3, feature_cache_dir=tmp_path / "cache")
    pd.testing.assert_frame_equal(plain, other)
    assert list((tmp_path / "cache").rglob("states.f32"))


def test_half_precision_needs_no_accelerator(grid, corpus, tmp_path):
    run = finished_runs(grid)[0]
    plain, half = (retest_run(run, corpus, tmp_path / f"{bf16}", bf16=bf16) for bf16 in (False, True))
    assert (plain["predicted"] == half["predicted"]).mean() > 0.7


def test_it_reads_the_text_column_that_is_asked_for(grid, corpus, tmp_path):
    run = finished_runs(grid)[0]
    words = corpus.map(lambda row: {"transcript": "word " * 40})
    heard = retest_run(run, words, tmp_path / "hypothesis")
    pd.testing.assert_frame_equal(heard, retest_run(run, corpus, tmp_path / "same"))
    read = retest_run(run, words.remove_columns("hypothesis"), tmp_path / "transcript", text_column="transcript")
    assert len(read) == len(corpus)


def test_a_test_is_read_back_and_never_taken_for_another(grid, corpus, tmp_path):
    first, second, *_ = finished_runs(grid)
    tested = retest_run(first, corpus, tmp_path / "a")
    kept = tmp_path / "a" / "predictions.parquet"
    pd.read_parquet(kept).assign(predicted="kept").to_parquet(kept)
    assert set(retest_run(first, corpus, tmp_path / "a")["predicted"]) == {"kept"} != set(tested["predicted"])
    moved = dataclasses.replace(first, folder=tmp_path / "moved")
    assert set(retest_run(moved, corpus, tmp_path / "a")["predicted"]) == {"kept"}
    trained_anew = dataclasses.replace(first, results={**first.results, "train_seconds": 1e9})
    for run, data, options in (
        (second, corpus, {}),
        (trained_anew, corpus, {}),
        (first, corpus.select(range(9)), {}),
        (first, corpus, {"text_column": "transcript"}),
    ):
        with pytest.raises(ExperimentError, match="holds a test of another model, data or settings"):
            retest_run(run, data, tmp_path / "a", **options)


def test_classes_are_matched_by_name(grid, corpus, tmp_path):
    run = finished_runs(grid)[0]
    names = corpus.features["emotion"].names
    turned = corpus.cast_column("emotion", corpus.features["emotion"].__class__(names=names[::-1]))
    turned = turned.map(lambda row: {"emotion": len(names) - 1 - row["emotion"]})
    pd.testing.assert_frame_equal(
        retest_run(run, turned, tmp_path / "turned"), retest_run(run, corpus, tmp_path / "plain")
    )
    foreign = corpus.cast_column("emotion", corpus.features["emotion"].__class__(names=["bored", *names[1:]]))
    with pytest.raises(ExperimentError, match=r"but not bored: prepare the data with --label_map"):
        retest_run(run, foreign, tmp_path / "foreign")


def test_rows_of_the_table_hold_each_run_and_their_clusters(grid, corpus, tmp_path):
    tables = {run: retest_run(run, corpus, tmp_path / str(n)) for n, run in enumerate(finished_runs(grid))}
    rows = table_rows(tables, lambda identity, speaker: f"{identity} of {speaker}")
    assert [row.name for row in rows] == ["M4SER", "speech & text + concat"]
    assert all(list(row.predictions) == ["fold2/seed1", "fold2/seed2"] for row in rows)
    first = next(iter(rows[0].predictions.values()))
    assert first["cluster"].iloc[0] == f"{first.index[0]} of {first['speaker'].iloc[0]}"


def test_the_script_writes_the_table(grid, tmp_path, capsys):
    script = runpy.run_path(str(ROOT / "examples" / "retest.py"))
    arguments = ["--runs", grid, "--dataset", grid / "corpus", "--split", "train", "--output_dir", tmp_path / "again"]
    script["main"](script["parse_arguments"](list(map(str, arguments))))
    table = (tmp_path / "again" / "retest.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    assert "18 utterances, split train of corpus" in table
    assert "| speech & text + concat | 2/2 |" in table


def test_the_script_refuses_two_runs_of_one_name_before_it_tests(grid, tmp_path):
    script = runpy.run_path(str(ROOT / "examples" / "retest.py"))
    for place in ("runs", "runs/M4SER"):
        shutil.copytree(grid / "M4SER" / "fold2" / "seed1", tmp_path / place / "fold2" / "seed1")
    arguments = ["--runs", tmp_path / "runs", "--dataset", grid / "corpus", "--split", "train"]
    with pytest.raises(ExperimentError, match="are both M4SER, fold2/seed1: test them apart"):
        script["main"](script["parse_arguments"](list(map(str, [*arguments, "--output_dir", tmp_path / "again"]))))
    assert not list(tmp_path.rglob("tested.json"))
