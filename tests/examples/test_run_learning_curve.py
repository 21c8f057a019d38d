"""The learning curve, from the command to table and figure."""

import json

import pytest

from tests.helpers.experiments import planned_inputs, tiny_options, write_manifest
from tests.helpers.process import run_example_here
from trainer.experiments.run_folder import load_results
from trainer.inputs.feature_cache import FEATURES_FOLDER
from trainer.studies.divisions import with_training_share

LOOKS_AT_PICTURES = True


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two shares of a corpus that has to be prepared first, one fold, two steps each."""
    folder = tmp_path_factory.mktemp("curve")
    write_manifest(folder)
    arguments = ["--data_dir", folder, *tiny_options(folder), "--num_folds", 3, "--folds", 2]
    arguments += ["--freeze_speech_encoder", "true", "--cache_features", "true", "--shares", 1, 0.5]
    run_example_here("run_learning_curve.py", *arguments)
    return folder / "out", arguments


def test_each_share_is_trained_and_one_corpus_and_its_features_serve_all(finished):
    out, _ = finished
    runs = {path.parent.relative_to(out).as_posix(): load_results(path.parent) for path in out.rglob("results.json")}
    rows = ("M4SER", "speech_text_concat")
    assert {name.rsplit("/", 2)[0] for name in runs} == {f"share{k}/{row}" for k in (50, 100) for row in rows}
    trained = {name.split("/")[0]: run["split"]["train"]["utterances"] for name, run in runs.items()}
    assert trained["share50"] == pytest.approx(0.5 * trained["share100"], abs=1.5)
    assert [path.parent for path in out.rglob("report.json")] == [out / "corpus"]
    assert [path.parent for path in out.rglob(FEATURES_FOLDER)] == [out / "corpus"]


def test_the_tables_are_joined_and_drawn(finished):
    out, _ = finished
    whole, half = (json.loads((out / name / "learning_curve.json").read_text("utf-8")) for name in ("", "share50"))
    (label,) = {row["row"].partition(", ")[2] for row in whole["rows"][:2]}
    assert label.startswith("50 % (")
    assert [row["row"] for row in whole["rows"][:2]] == [f"{row['row']}, {label}" for row in half["rows"]]
    assert [row["metrics"] for row in whole["rows"][:2]] == [row["metrics"] for row in half["rows"]]
    assert len(whole["rows"]) == 4
    assert whole["heading"].startswith("# Learning curve on manifest")
    assert (out / "learning_curve.png").stat().st_size > 1000


def test_a_wrong_share_is_told_before_the_corpus_is_prepared(finished, tmp_path, capsys):
    run_example_here("run_learning_curve.py", *finished[1], "--output_dir", tmp_path, "--shares", 0.5, 2, status=2)
    assert "A share of the training data lies above 0 and at most at 1, not at 2." in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "seed"), [([], 0), (["--seed", 1], 0), (["--split_seed", 1, "--protocol", "speaker_folds"], 1)]
)
def test_the_shares_follow_the_split_seed(finished, changes, seed):
    half, whole = planned_inputs("run_learning_curve.py", *finished[1], *changes).values()
    ((data, described),) = half.folds.folds.values()
    ((expected, _),) = with_training_share(whole.folds, 0.5, seed).folds.values()
    assert described["train"]["seed"] == seed
    assert data["train"]["id"][:] == expected["train"]["id"][:]
