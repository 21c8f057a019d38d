"""The ablations' table from the command to the files: what runs, what is chosen on what, and what a stop costs."""

import csv
import json
import shlex
import shutil

import pandas as pd
import pytest
from datasets import DatasetDict
from filelock import FileLock

from data_scripts.corpora.report import PreparationReport
from data_scripts.journal import JournalError
from data_scripts.schema import load_prepared, save_prepared
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import encoder_folders, experiment_arguments, tiny_options
from tests.helpers.grid import GRID_ROWS
from tests.helpers.process import run_example_here
from tests.helpers.tiny import EMOTIONS
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.protocols import divide
from trainer.experiments.run_folder import load_results
from trainer.studies.comparison import LOCK_FILE, PROBE_ROWS, GridSetup, RowSpec, TableRunner
from trainer.studies.divisions import TableInputs

FOLDERS = dict(
    zip(GRID_ROWS, ("M4SER", "only_speech", "only_text", "speech_text_concat", "linear_probe_both"), strict=True)
)


@pytest.fixture
def copied(finished_grid, tmp_path):
    """A copy of the finished grid that a test may go on with, and its command."""
    shutil.copytree(finished_grid.folder, tmp_path / "out")
    return tmp_path / "out", [*finished_grid.arguments, "--output_dir", tmp_path / "out"]


def test_every_row_runs_with_every_seed_and_a_probe_once(finished_grid):
    out = finished_grid.folder
    found = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("results.json"))
    trained = [f"{FOLDERS[row]}/fold2/seed{seed}" for row in GRID_ROWS[:-1] for seed in (1, 2)]
    assert found == sorted([*trained, "linear_probe_both/fold2/seed1"])
    full, without = (load_results(out / FOLDERS[row] / "fold2" / "seed2") for row in ("M4SER", "only text"))
    assert full["corpus_fingerprint"] == without["corpus_fingerprint"]
    assert (full["seed"], without["seed"]) == (2, 2)
    assert full["model_config"]["use_error_detection"] is True
    assert without["model_config"]["use_error_detection"] is without["model_config"]["use_error_correction"] is False


def test_the_table_is_of_the_predictions(finished_grid):
    out = finished_grid.folder
    rows = {row["row"]: row for row in json.loads((out / "ablation.json").read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == list(GRID_ROWS)
    for name, folder in FOLDERS.items():
        seeds = rows[name]["seeds"]
        assert seeds == ([1] if "probe" in name else [1, 2])
        tested = [load_results(out / folder / "fold2" / f"seed{seed}")["metrics"]["test"] for seed in seeds]
        for metric in ("wa", "ua", "weighted_f1", "macro_f1"):
            assert rows[name]["metrics"][metric]["values"] == pytest.approx([each[metric] for each in tested])
    markdown = (out / "ablation.md").read_text(encoding="utf-8")
    assert "# Ablations on manifest, 18 utterances, 3 folds of whole speakers" in markdown
    assert "W-F1, 95 % interval" in markdown
    with open(out / "ablation.csv", encoding="utf-8", newline="") as file:
        assert [line["row"] for line in csv.DictReader(file)] == list(GRID_ROWS)


def test_the_same_command_goes_on_where_it_was_stopped_and_further_rows_run_only_those(copied, capsys):
    out, arguments = copied
    stopped = out / "only_text" / "fold2" / "seed1"
    metrics = load_results(stopped)["metrics"]
    (stopped / "results.json").unlink()
    written = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    run_example_here("run_ablation.py", *arguments, "--rows", *GRID_ROWS, "M4SER, human text", "--seeds", 1)
    assert written.items() < {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}.items()
    assert load_results(stopped)["metrics"] == metrics
    assert "6 of 6 cells: M4SER_human_text/fold2/seed1: wa " in capsys.readouterr().out
    heard, read = (load_results(out / row / "fold2" / "seed1") for row in ("M4SER", "M4SER_human_text"))
    assert (heard["text_column"], read["text_column"]) == ("hypothesis", "transcript")
    assert heard["model_config"]["use_error_correction"] is True
    assert read["model_config"]["use_error_correction"] is False
    folders = (out / row / "fold2" / "seed1" for row in ("M4SER", "M4SER_human_text"))
    first, second = (pd.read_parquet(folder / "predictions.parquet")["text"] for folder in folders)
    assert (first != second).any()


def test_the_recorded_command_repeats_a_cell(finished_grid, tmp_path):
    results = load_results(finished_grid.folder / "only_text" / "fold2" / "seed2")
    script, *arguments = shlex.split(results["command"])
    run_example_here(script, *arguments, "--output_dir", tmp_path / "again")
    again = load_results(tmp_path / "again" / "only_text" / "fold2" / "seed2")
    assert again["metrics"] == results["metrics"]
    assert len(list((tmp_path / "again").rglob("results.json"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--num_train_epochs", 7], "training.num_train_epochs"),
        (["--rows", "w/o everything"], "rows: 'w/o everything' is none of: M4SER, only speech"),
        (["--model_options", '{"use_adversarial": true}'], "model_options sets use_adversarial, which the rows decide"),
        (["--ablation", "w/o GAN"], "leave --ablation 'w/o GAN' out"),
        (["--metric_for_best_model", "loss"], "metric_for_best_model must be one of wa, "),
        (["--linear_probe", "true"], "A grid has its probes as rows"),
        (["--protocol", "dialogs"], "protocol must be one of own_split, "),
    ],
)
def test_what_cannot_be_meant_stops_the_command_before_a_cell(finished_grid, capsys, changes, message):
    run_example_here("run_ablation.py", *finished_grid.arguments, *changes, status=2)
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert "cells" not in captured.out


# In this process, on a corpus in memory


def make_runner(folder, rows, **runs):
    speech, text = encoder_folders(folder)
    grid_arguments = GridArguments(**{"num_folds": 3, "folds": [1, 2], **runs})
    folds = divide(DatasetDict(train=tiny_corpus(24)), "manifest", grid_arguments)
    options = {"model_options": {"num_attention_heads": 4}}
    model = ModelArguments(speech_encoder=str(speech), text_encoder=str(text), **options)
    args = experiment_arguments(folder / "out", max_steps=1, metric_for_best_model="weighted_f1")
    inputs = TableInputs("manifest", "noise", 24, EMOTIONS, folds, "")
    return TableRunner(GridSetup(rows, CorpusArguments(), model, grid_arguments, args), inputs, folder / "out")


def scripted(monkeypatch):
    """Cells that learn nothing: validation prefers one learning rate, the test the other."""
    ran = []

    def run_cell(self, cell):
        ran.append((cell.row, cell.fold, cell.seed, cell.rate))
        _, settings = self.arguments(cell)
        value = {("a", 0.1): 0.3, ("a", 0.2): 0.6, ("b", 0.1): 0.8, ("b", 0.2): 0.4}[cell.row, settings.learning_rate]
        wobble = 0.1 if cell.fold == "fold1" else -0.1
        return {
            "metrics": {
                "validation": {"weighted_f1": value + wobble, "ua": 1 - value},
                "test": dict.fromkeys(("wa", "ua", "weighted_f1"), 1 - value),
            }
        }

    monkeypatch.setattr(TableRunner, "run_cell", run_cell)
    return ran


def test_each_row_chooses_its_learning_rate_on_validation_data_with_the_first_seed(tmp_path, monkeypatch, capsys):
    ran = scripted(monkeypatch)
    runner = make_runner(tmp_path, [RowSpec("a"), RowSpec("b")], seeds=[1, 2, 3, 3], learning_rates=[0.1, 0.2])
    assert len(list(runner.run())) == 16
    assert "16 of 16 cells: b/learning_rate_0.1/fold2/seed3: wa 20.0  ua 20.0" in capsys.readouterr().out
    assert runner.rates == {"a": 0.2, "b": 0.1}
    folds = ("fold1", "fold2")
    first = [(row, fold, 1, rate) for row in "ab" for rate in (0.1, 0.2) for fold in folds]
    later = [(row, fold, seed, rate) for seed in (2, 3) for row, rate in (("a", 0.2), ("b", 0.1)) for fold in folds]
    assert ran == first + later


def test_only_one_launch_fills_a_folder(tmp_path, monkeypatch):
    scripted(monkeypatch)
    runner = make_runner(tmp_path, [RowSpec("a")], learning_rates=[0.1])
    runner.root.mkdir()
    with FileLock(runner.root / LOCK_FILE), pytest.raises(JournalError, match="is being filled by another process"):
        next(runner.run())
    assert len(list(runner.run())) == 2


@pytest.mark.parametrize(("own", "expected"), [(None, 0.2), (1e-3, 1e-3), (1e-5, 1e-5)])
def test_a_learning_rate_scales_the_new_layers_and_leaves_the_configured_rates(tmp_path, own, expected):
    """A rate of D's own stays, even where it is that of the configuration."""
    runner = make_runner(tmp_path, [RowSpec("a")], learning_rates=[0.1, 0.2])
    rates = {"encoder_learning_rate": 2e-5, "classifier_learning_rate": 3e-5, "discriminator_learning_rate": own}
    runner.args = experiment_arguments(tmp_path / "out", max_steps=1, **rates)
    (cell, *_) = runner.cells("a", 0.2, 7)
    _, settings = runner.arguments(cell)
    found = [getattr(settings, f"{part}learning_rate") for part in ("", "discriminator_", "encoder_", "classifier_")]
    assert found == [0.2, expected, 2e-5, 3e-5]
    assert runner.args.learning_rate == 1e-3  # that of other cells is untouched


def test_a_table_counts_whole_seeds_and_before_there_is_one_what_there_is(tmp_path):
    """Probes, which are quick, on two folds."""
    runner = make_runner(tmp_path, PROBE_ROWS[1:2])
    counts = []
    for _ in runner.run():
        (found,) = runner.table_rows()
        counts.append((found.finished, found.planned, {seed: len(part) for seed, part in found.predictions.items()}))
    assert counts == [(1, 2, {7: 8}), (2, 2, {7: 16})]
    tested = [clip for data, _ in runner.folds.folds.values() for clip in data["test"]["id"]]
    assert found.predictions[7].index.tolist() == sorted(tested)
    assert set(found.predictions[7]["cluster"]) == {
        speaker for _, split in runner.folds.folds.values() for speaker in split["test"]["speakers"]
    }


# A corpus of the paper


def test_meld_in_folds_of_dialogues_tests_all_of_it_and_the_papers_numbers_only_where_asked(finished_grid, tmp_path):
    splits = load_prepared(finished_grid.corpus)
    named = splits.map(lambda row, number: {"id": f"train_dia{number // 2}_utt{number % 2}"}, with_indices=True)
    save_prepared(named, tmp_path / "meld")
    PreparationReport("meld").save(tmp_path / "meld" / "report.json")
    arguments = ["--prepared_dir", tmp_path / "meld", *tiny_options(tmp_path), "--text_column", "transcript"]
    arguments += ["--rows", "only text", "--protocol", "dialogue_folds", "--num_folds", 3]
    run_example_here("run_ablation.py", *arguments)
    report = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))
    (row,) = report["rows"]
    assert row["utterances"] == 18
    assert row["interval"]["clusters"] == 9
    assert "3 folds of whole dialogues (a stand-in corpus)" in report["heading"]
    assert "18 utterances in the layout of MELD" in report["notes"][-1]
    assert list(row["metrics"]) == ["accuracy", "weighted_f1", "ua", "macro_f1"]
    assert row["paper"] == {}
    run_example_here("run_ablation.py", *arguments, "--paper", "true")
    (row,) = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))["rows"]
    assert row["paper"] == pytest.approx({"accuracy": 0.622, "weighted_f1": 0.586})
