"""Finished runs on other data: the same predictions where the data are the same, others where they are not."""

import dataclasses
import json

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts.schema import load_prepared, save_prepared
from tests.helpers.grid import GRID_ROWS
from trainer.errors import ExperimentError
from trainer.experiments.run_folder import PREDICTIONS_FILE
from trainer.studies.retest import FinishedRun, finished_runs, retest_run, retest_runs


@pytest.fixture(scope="module")
def grid(finished_grid):
    return finished_grid.folder


@pytest.fixture(scope="module")
def corpus(finished_grid):
    return load_prepared(finished_grid.corpus)["train"]


def test_every_trained_run_is_found_by_its_row_and_no_probe(grid, tmp_path):
    found = [(run.row, run.name) for run in finished_runs(grid)]
    assert sorted(found) == sorted((row, f"fold2/seed{seed}") for row in GRID_ROWS[:-1] for seed in (1, 2))
    alone = finished_runs(grid / "M4SER" / "fold2" / "seed2")
    assert [(run.row, run.name) for run in alone] == [("M4SER", "seed2")]
    with pytest.raises(ExperimentError, match="corpus holds no finished run"):
        finished_runs(grid, grid / "corpus")
    (tmp_path / "linked").symlink_to(grid / "M4SER")
    assert [run.name for run in finished_runs(tmp_path)] == ["fold2/seed1", "fold2/seed2"]
    both = finished_runs(grid / "M4SER", grid / "only_text")
    assert [run.row for run in both] == ["M4SER", "M4SER", "only text", "only text"]


@pytest.mark.parametrize(
    ("folder", "rows", "text_column", "modalities", "named"),
    [
        ("M4SER", ["M4SER"], "transcript", "both", "M4SER, human text"),
        ("M4SER_human_text", ["M4SER, human text"], "transcript", "both", "M4SER, human text"),
        ("only_speech", ["only speech"], "transcript", "speech", "only speech"),
        # The ablation alone does not tell a setting from another, nor the same row of two grids.
        ("share50/generator_layers_4", ["generator_layers=4"], "hypothesis", "both", "generator_layers=4 share50"),
        ("share100/M4SER", ["M4SER"], "hypothesis", "both", "M4SER share100"),
        ("", None, "hypothesis", "both", "w/o GAN"),
    ],
)
def test_a_row_is_named_by_its_grid_or_ablation_its_folder_and_its_text(
    tmp_path, folder, rows, text_column, modalities, named
):
    run = tmp_path / folder / "fold2" / "seed1"
    run.mkdir(parents=True)
    arguments = {"model": {"ablation": "w/o GAN"}, **({"runs": {"rows": rows}} if rows else {})}
    results = {"arguments": arguments, "text_column": text_column, "model_config": {"modalities": modalities}}
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (run / "config.json").touch()
    assert [(run.row, run.name) for run in finished_runs(tmp_path)] == [(named, "fold2/seed1")]


def test_on_its_own_test_a_run_predicts_what_it_predicted(grid, corpus, tmp_path):
    for number, run in enumerate(finished_runs(grid)):
        own = pd.read_parquet(run.folder / PREDICTIONS_FILE).set_index("id").sort_index()
        tested = retest_run(run, corpus, tmp_path / str(number))
        assert len(tested) == len(corpus)
        pd.testing.assert_frame_equal(tested.loc[own.index], own[tested.columns])


def test_a_test_is_read_back_and_never_taken_for_another(grid, corpus, tmp_path):
    first, second, *_ = finished_runs(grid)
    tested = retest_run(first, corpus, tmp_path / "a")
    kept = tmp_path / "a" / "predictions.parquet"
    pd.read_parquet(kept).assign(predicted="kept").to_parquet(kept)
    assert set(retest_run(first, corpus, tmp_path / "a")["predicted"]) == {"kept"} != set(tested["predicted"])
    # Rows are known by what they say, wherever they lie.
    save_prepared(DatasetDict(train=corpus), tmp_path / "copy")
    copy = load_prepared(tmp_path / "copy")["train"]
    assert copy._fingerprint != corpus._fingerprint
    assert set(retest_run(first, copy, tmp_path / "a")["predicted"]) == {"kept"}
    moved = dataclasses.replace(first, folder=tmp_path / "moved")
    assert set(retest_run(moved, corpus, tmp_path / "a")["predicted"]) == {"kept"}
    trained_again = dataclasses.replace(first, results={**first.results, "train_seconds": 1e9})
    for run, data, options in (
        (second, corpus, {}),
        (trained_again, corpus, {}),
        (first, corpus.select(range(9)), {}),
        (first, corpus, {"text_column": "transcript"}),
        (first, corpus, {"bf16": True}),
    ):
        with pytest.raises(ExperimentError, match="belongs to a run with other settings"):
            retest_run(run, data, tmp_path / "a", **options)


def test_runs_that_would_lie_in_one_folder_stop_before_a_test(corpus, tmp_path):
    runs = [FinishedRun(tmp_path / str(n), row, "seed1", {}) for n, row in enumerate(("w/o GAN", "w o GAN", "M4SER"))]
    for one, other in (runs[:2], [runs[2]] * 2):
        with pytest.raises(ExperimentError, match=r"are both .*, seed1: test them apart"):
            retest_runs([one, dataclasses.replace(other, folder=tmp_path)], {"": corpus}, tmp_path)
    assert not list(tmp_path.iterdir())


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
