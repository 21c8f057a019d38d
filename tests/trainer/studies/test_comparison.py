"""The ablations' table from the command to the files: what runs, what is chosen on what, and what a stop costs."""

import csv
import json
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from datasets import DatasetDict

from tests.helpers import ROOT
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import encoder_folders, experiment_arguments, write_manifest
from tests.helpers.layouts import MELD_FOLDERS, meld_row, write_meld_csv, write_mp4
from tests.helpers.process import run_example_here
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.protocols import divide
from trainer.experiments.run import load_results
from trainer.studies.comparison import PROBE_ROWS, Comparison, Row
from trainer.studies.grid import JOURNAL_FILE, Grid

ROWS = ("M4SER", "w/o AED & AEC", "linear probe, both")
CONCAT = {"model_options": {"num_attention_heads": 4}}


def arguments_for(folder, speech, text):
    return [
        *("--data_dir", folder, "--speech_encoder", speech, "--text_encoder", text, "--output_dir", folder / "out"),
        *("--num_folds", 3, "--max_steps", 2, "--per_device_train_batch_size", 4, "--rows", *ROWS),
        *("--model_options", '{"num_attention_heads": 4}', "--metric_for_best_model", "weighted_f1"),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three rows, one fold, two seeds, two steps each."""
    folder = tmp_path_factory.mktemp("grid")
    write_manifest(folder)
    arguments = [*arguments_for(folder, *encoder_folders(folder)), "--folds", 2, "--seeds", 1, 2]
    run_example_here("run_ablation.py", *arguments)
    return folder / "out", arguments


def test_every_row_runs_with_every_seed_and_a_probe_once(finished):
    out, _ = finished
    found = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("results.json"))
    trained = [f"{row}/fold2/seed{seed}" for row in ("M4SER", "w_o_AED_AEC") for seed in (1, 2)]
    assert found == sorted([*trained, "linear_probe_both/fold2/seed1"])
    full, without = (load_results(out / row / "fold2" / "seed2") for row in ("M4SER", "w_o_AED_AEC"))
    assert full["corpus_fingerprint"] == without["corpus_fingerprint"]
    assert (full["seed"], without["seed"]) == (2, 2)
    assert full["model_config"]["use_error_detection"] is True
    assert without["model_config"]["use_error_detection"] is without["model_config"]["use_error_correction"] is False


def test_the_table_is_of_the_predictions(finished):
    out, _ = finished
    rows = {row["row"]: row for row in json.loads((out / "ablation.json").read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == list(ROWS)
    for name, folder in zip(ROWS, ("M4SER", "w_o_AED_AEC", "linear_probe_both"), strict=True):
        seeds = rows[name]["seeds"]
        assert seeds == ([1] if "probe" in name else [1, 2])
        tested = [load_results(out / folder / "fold2" / f"seed{seed}")["metrics"]["test"] for seed in seeds]
        for metric in ("wa", "ua", "weighted_f1", "macro_f1"):
            assert rows[name]["metrics"][metric]["values"] == pytest.approx([each[metric] for each in tested])
    markdown = (out / "ablation.md").read_text(encoding="utf-8")
    assert "# Ablations on manifest, 18 utterances, 3 folds of whole speakers" in markdown
    assert "W-F1, 95 % interval" in markdown
    with open(out / "ablation.csv", encoding="utf-8", newline="") as file:
        assert [line["row"] for line in csv.DictReader(file)] == list(ROWS)


def test_the_same_command_again_runs_nothing_and_more_seeds_run_only_those(finished, capsys):
    out, arguments = finished
    written = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    journal = (out / JOURNAL_FILE).read_text()
    run_example_here("run_ablation.py", *arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("results.json")} == written
    assert (out / JOURNAL_FILE).read_text() == journal
    printed = capsys.readouterr().out
    assert "6 utterances are tested (3 folds of whole speakers)" in printed
    assert "from a difference of 51.1 points of accuracy on" in printed  # 2.80 × √(0.2 / 6)
    assert "5 of 5 cells" in printed
    assert "  linear probe, both  1/1  " in printed


def test_the_recorded_command_repeats_a_cell(finished, tmp_path):
    out, _ = finished
    results = load_results(out / "w_o_AED_AEC" / "fold2" / "seed2")
    script, *arguments = shlex.split(results["command"])
    arguments[arguments.index("--output_dir") + 1] = str(tmp_path / "again")
    run_example_here(script, *arguments)
    again = load_results(tmp_path / "again" / "w_o_AED_AEC" / "fold2" / "seed2")
    assert again["metrics"] == results["metrics"]
    assert len(list((tmp_path / "again").rglob("results.json"))) == 1


def test_human_text_is_read_where_its_row_is_named(finished):
    out, arguments = finished
    rows = ["--rows", "M4SER", "M4SER, human text", "--seeds", 1]
    run_example_here("run_ablation.py", *arguments, *rows)
    heard, read = (load_results(out / row / "fold2" / "seed1") for row in ("M4SER", "M4SER_human_text"))
    assert (heard["text_column"], read["text_column"]) == ("hypothesis", "transcript")
    assert heard["model_config"]["use_error_correction"] is True
    assert read["model_config"]["use_error_correction"] is False
    folders = (out / row / "fold2" / "seed1" for row in ("M4SER", "M4SER_human_text"))
    first, second = (pd.read_parquet(folder / "predictions.parquet")["text"] for folder in folders)
    assert (first != second).any()


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
def test_what_cannot_be_meant_stops_the_command_before_a_cell(finished, capsys, changes, message):
    _, arguments = finished
    run_example_here("run_ablation.py", *arguments, *changes, status=2)
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert "cells" not in captured.out


# In this process, on a corpus in memory


def make_comparison(folder, rows, **runs):
    speech, text = encoder_folders(folder)
    grid_arguments = GridArguments(**{"num_folds": 3, "folds": [1, 2], **runs})
    division = divide(DatasetDict(train=tiny_corpus(24)), "manifest", grid_arguments)
    model = ModelArguments(speech_encoder=str(speech), text_encoder=str(text), **CONCAT)
    args = experiment_arguments(folder / "out", max_steps=1)
    return Comparison(rows, division, CorpusArguments(), model, grid_arguments, args, "Noise.")


class Scripted:
    """Cells that learn nothing: validation prefers one learning rate, the test the other."""

    def __init__(self, comparison):
        self.comparison, self.ran = comparison, []

    def __call__(self, cell, folder):
        self.ran.append(cell)
        _, settings = self.comparison._sections(cell, folder)
        value = {("a", 0.1): 0.3, ("a", 0.2): 0.6, ("b", 0.1): 0.8, ("b", 0.2): 0.4}[cell.row, settings.learning_rate]
        wobble = 0.1 if cell.fold == "fold1" else -0.1
        return {"metrics": {"validation": {"ua": value + wobble}, "test": {"wa": 1 - value, "ua": 1 - value}}}


def test_each_row_chooses_its_learning_rate_on_validation_data_with_the_first_seed(tmp_path):
    rows = [Row("a"), Row("b")]
    comparison = make_comparison(tmp_path, rows, seeds=[1, 2, 3], learning_rates=[0.1, 0.2])
    scripted = Scripted(comparison)
    with Grid(tmp_path / "out", scripted, ["wa"]) as grid:
        comparison.run(grid)
        assert "16 of 16 cells" in grid.table({})
    assert comparison.rates == {"a": 0.2, "b": 0.1}
    runs = [(cell.row, cell.fold, cell.seed, cell.arguments["learning_rate"]) for cell in scripted.ran]
    folds = ("fold1", "fold2")
    first = [(row, fold, 1, rate) for row in "ab" for rate in (0.1, 0.2) for fold in folds]
    later = [(row, fold, seed, rate) for seed in (2, 3) for row, rate in (("a", 0.2), ("b", 0.1)) for fold in folds]
    assert runs == first + later


def test_a_learning_rate_scales_the_new_layers_and_leaves_the_configured_rates(tmp_path):
    comparison = make_comparison(tmp_path, [Row("a")], learning_rates=[0.1, 0.2])
    base = comparison.args
    (cell, *_) = comparison.cells(Row("a"), 0.2, 7)
    _, settings = comparison._sections(cell, tmp_path)
    assert (settings.learning_rate, settings.discriminator_learning_rate) == (0.2, 0.2)
    assert base.learning_rate == base.discriminator_learning_rate == 1e-3  # those of other cells are untouched
    base.discriminator_learning_rate, base.encoder_learning_rate, base.classifier_learning_rate = 1e-5, 2e-5, 3e-5
    _, settings = comparison._sections(cell, tmp_path)
    rates = [getattr(settings, f"{part}learning_rate") for part in ("", "discriminator_", "encoder_", "classifier_")]
    assert rates == [0.2, 1e-5, 2e-5, 3e-5]


def test_a_table_counts_whole_seeds_and_before_there_is_one_what_there_is(tmp_path):
    """Probes, which are quick, on two folds."""
    (row,) = PROBE_ROWS[1:2]
    comparison = make_comparison(tmp_path, [row])
    counts = []

    def after_cell(grid):
        (found,) = comparison.table_rows(grid)
        counts.append((found.finished, found.planned, {seed: len(part) for seed, part in found.predictions.items()}))

    with Grid(tmp_path / "out", comparison.run_cell, ["wa"], after_cell) as grid:
        comparison.run(grid)
        (found,) = comparison.table_rows(grid)
    assert counts == [(1, 2, {7: 8}), (2, 2, {7: 16})]
    tested = [clip for data, _ in comparison.division.folds.values() for clip in data["test"]["id"]]
    assert found.predictions[7].index.tolist() == sorted(tested)
    assert set(found.predictions[7]["cluster"]) == {"speaker0", "speaker1", "speaker2"} - {
        *load_results(tmp_path / "out" / "linear_probe_text" / "fold1" / "seed7")["split"]["train"]["speakers"]
    } | {*load_results(tmp_path / "out" / "linear_probe_text" / "fold2" / "seed7")["split"]["test"]["speakers"]}


def test_probes_read_frozen_features_that_are_encoded_once(tmp_path, monkeypatch):
    comparison = make_comparison(tmp_path, PROBE_ROWS)
    encoded = []
    encode = Comparison._encode
    monkeypatch.setattr(
        Comparison,
        "_encode",
        lambda self, kind, model, processor, part: (
            encoded.extend((kind, clip) for clip in part["id"]) or encode(self, kind, model, processor, part)
        ),
    )
    with Grid(tmp_path / "out", comparison.run_cell, ["wa"]) as grid:
        comparison.run(grid)
    assert sorted(encoded) == sorted((kind, f"clip{n:02d}") for kind in ("speech", "text") for n in range(24))
    data, _ = comparison.division.folds["fold1"]
    both = comparison._frozen(data, ("speech", "text"))["test"]
    speech, text = (comparison._frozen(data, (kind,))["test"] for kind in ("speech", "text"))
    assert both.shape == (len(data["test"]), 3 * 24)
    assert (both == np.hstack([speech, text])).all()
    for name in ("speech", "text", "both"):
        folder = tmp_path / "out" / f"linear_probe_{name}" / "fold1" / "seed7"
        results, predictions = load_results(folder), pd.read_parquet(folder / "predictions.parquet")
        assert predictions["id"].tolist() == data["test"]["id"][:]
        right = (predictions["emotion"] == predictions["predicted"]).mean()
        assert results["metrics"]["test"]["wa"] == pytest.approx(right)
    with pytest.raises(ExperimentError, match="split"):
        make_comparison(tmp_path, PROBE_ROWS, split_seed=5, folds=[1])


# MELD, and a real kill


def make_dialogues(root):
    """MELD.Raw with three dialogues of two utterances in every split."""
    for number, (split, folder) in enumerate(MELD_FOLDERS.items()):
        pairs = [(dialogue, utterance) for dialogue in range(3) for utterance in range(2)]
        rows = [meld_row(d, u, ("neutral", "joy")[u], f"Words {d} of {split}.", f"{split}{d}") for d, u in pairs]
        write_meld_csv(root / f"{split}_sent_emo.csv", rows)
        for d, u in pairs:
            write_mp4(root / folder / f"dia{d}_utt{u}.mp4", 0.4, seed=100 * number + 10 * d + u)
    return root


def test_meld_in_folds_of_dialogues_tests_all_of_it(tmp_path):
    speech, text = encoder_folders(tmp_path)
    run_example_here(
        *("run_ablation.py", "--corpus", "meld", "--data_dir", make_dialogues(tmp_path / "MELD.Raw")),
        *("--output_dir", tmp_path / "out", "--speech_encoder", speech, "--text_encoder", text),
        *("--text_column", "transcript", "--protocol", "dialogue_folds", "--num_folds", 3, "--max_steps", 1),
        *("--rows", "linear probe, text", "--emotions", "neutral", "joy"),
    )
    report = json.loads((tmp_path / "out" / "ablation.json").read_text(encoding="utf-8"))
    (row,) = report["rows"]
    assert row["utterances"] == 18
    assert row["interval"]["clusters"] == 9
    assert "(a stand-in corpus)" in report["heading"]
    assert "3 folds of whole dialogues" in report["heading"]
    assert "18 utterances in the layout of MELD, which has 13708" in report["notes"][-1]
    assert list(row["metrics"]) == ["accuracy", "weighted_f1", "ua", "macro_f1"]


@pytest.mark.slow
def test_a_killed_launch_goes_on_at_the_cell(tmp_path):
    write_manifest(tmp_path)
    options = [*arguments_for(tmp_path, *encoder_folders(tmp_path)), "--folds", 2, "--seeds", 1, 2]
    command = [sys.executable, ROOT / "examples" / "run_ablation.py", "--use_cpu", "--disable_tqdm", "true", *options]
    out, command = tmp_path / "out", list(map(str, command))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first, second = (out / row / "fold2" / "seed1" for row in ("M4SER", "w_o_AED_AEC"))
    deadline = time.monotonic() + 240
    while not (second / "settings.json").is_file():  # the second cell has started
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (second / "results.json").is_file()
    written = (first / "results.json").stat().st_mtime_ns
    run_example_here("run_ablation.py", *options)
    assert (first / "results.json").stat().st_mtime_ns == written
    assert len(list(out.rglob("results.json"))) == 5
    unbroken = tmp_path / "unbroken"
    options[options.index("--output_dir") + 1] = unbroken
    run_example_here("run_ablation.py", *options)
    for path in out.rglob("results.json"):
        same = load_results(unbroken / path.parent.relative_to(out))
        assert load_results(path.parent)["metrics"] == same["metrics"], path
