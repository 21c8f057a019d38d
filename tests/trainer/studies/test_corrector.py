"""Detection and correction alone: a run from a table to its results."""

import json
import shutil
from unittest import mock

import pytest
from huggingface_hub import HfApi
from transformers import AutoModel

from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from tests.helpers import ROOT
from tests.helpers.process import run_example_here
from trainer import ExperimentArguments
from trainer.evaluation.prediction import rows_read
from trainer.evaluation.transcript_correction import measure_correction
from trainer.experiments.cli import parse_arguments
from trainer.studies import corrector
from trainer.studies.corrector import format_table, run_correction
from trainer.studies.text_pairs import CorrectionArguments, divide_pairs, read_pairs

CONFIG = ROOT / "examples" / "configs" / "correction.yaml"


def test_a_run(pairs_table, encoders, tmp_path, capsys):
    options = ["--pairs", pairs_table, "--output_dir", tmp_path, *encoders[2:], "--held_out_sources", "podcasts"]
    options += ["--num_train_epochs", 1, "--compare_decoding", "true", "--split_seed", 1]
    run_example_here("run_correction.py", *options)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert (tmp_path / "correction.md").read_text(encoding="utf-8") in printed
    assert printed.count("podcasts (never trained on) | 20 |") == 1
    assert results["metrics"]["held_out"]["groups"].keys() == {"podcasts"}
    assert results["metrics"]["test"]["groups"].keys() <= {"books", "calls"}
    assert results["name"] == "pairs.csv"
    assert results["decoding"]["utterances"] == results["pairs"]["test"] > 0
    model = M4SERForEmotionClassification.from_pretrained(tmp_path)
    assert model.config.correction_threshold == results["threshold"]
    assert not model.config.uses_speech
    held_out = [row for row in read_pairs(CorrectionArguments(pairs=str(pairs_table))) if row["source"] == "podcasts"]
    measured = measure_correction(model, M4SERProcessor.from_pretrained(tmp_path), held_out, group_column="source")
    assert measured["wer_after"] == pytest.approx(results["metrics"]["held_out"]["wer_after"])
    # Finished: read, not trained again; other settings are refused.
    before = (tmp_path / "results.json").stat().st_mtime_ns
    run_example_here("run_correction.py", *options)
    assert (tmp_path / "results.json").stat().st_mtime_ns == before
    run_example_here("run_correction.py", *options, "--learning_rate", 0.1, status=2)
    assert "belongs to a run with other settings" in capsys.readouterr().err


def test_new_heads_come_of_the_seed_and_the_encoder_is_the_pretrained_one(pairs_table, encoders, tmp_path, capsys):
    """With a learning rate of 0 the saved weights are those that training started from."""
    pairs = tmp_path / "pairs.csv"
    shutil.copyfile(pairs_table, pairs)
    started = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        options = ["--pairs", pairs, "--output_dir", tmp_path / name, *encoders[2:], "--seed", seed]
        run_example_here("run_correction.py", *options, "--max_steps", 1, "--learning_rate", 0)
        started[name] = M4SERForEmotionClassification.from_pretrained(tmp_path / name).state_dict()
    new = [key for key in started["first"] if key.startswith("detector.") and started["first"][key].any()]
    assert new
    assert all(started["first"][key].equal(started["again"][key]) for key in new)
    assert not any(started["first"][key].equal(started["other"][key]) for key in new)
    published = AutoModel.from_pretrained(encoders[3]).state_dict()
    found = {key.partition("text_encoder.model.")[2]: value for key, value in started["other"].items()}
    shared = published.keys() & found.keys()
    assert len(shared) > 10
    assert all(found[key].equal(published[key]) for key in shared)
    # A folder belongs to its pairs, whatever their file is called.
    renamed = [*options[:1], shutil.copyfile(pairs, tmp_path / "renamed.csv"), *options[2:]]
    run_example_here("run_correction.py", *renamed, "--max_steps", 1, "--learning_rate", 0)
    whole = pairs.read_text(encoding="utf-8")
    for change in (("am", "was", 1), ("podcasts", "films")):  # a text, and what a source is called
        pairs.write_text(whole.replace(*change), encoding="utf-8")
        run_example_here("run_correction.py", *options, "--max_steps", 1, "--learning_rate", 0, status=2)
        assert "belongs to a run with other settings: pairs" in capsys.readouterr().err


def test_each_part_serves_its_own_purpose(pairs_table, encoders, tmp_path, monkeypatch):
    """The numbers would look better, and nothing else would tell, if the test were used for any choice."""
    seen = []
    for name in ("M4SERTrainer", "choose_threshold", "compare_decoding"):
        seen.append(mock.Mock(wraps=getattr(corrector, name)))
        monkeypatch.setattr(corrector, name, seen[-1])
    options = ["--pairs", pairs_table, "--output_dir", tmp_path, *encoders[2:], "--held_out_sources", "podcasts"]
    options += ["--compare_decoding", "true", "--use_cpu", "--max_steps", 1, "--per_device_eval_batch_size", 3]
    arguments, args = parse_arguments((CorrectionArguments, ExperimentArguments), list(map(str, options)), CONFIG)
    results = run_correction(arguments, args)
    assert (args.load_best_model_at_end, args.metric_for_best_model, args.greater_is_better) == (True, "loss", False)
    parts = divide_pairs(read_pairs(arguments), arguments)
    trained, (chosen, _), (_, _, decoded) = seen[0].call_args.kwargs, seen[1].call_args.args, seen[2].call_args.args
    assert trained["train_dataset"]["id"][:] == [row["id"] for row in parts["train"]]
    assert trained["eval_dataset"]["id"][:] == [row["id"] for row in parts["validation"]]
    # The pairs of this table are normalised as they stand.
    assert [each.hypothesis for each in chosen] == [row["hypothesis"] for row in parts["validation"]]
    assert decoded == [row["hypothesis"] for row in parts["test"]]
    assert seen[2].call_args.kwargs == {"batch_size": 3}
    uses = {"epoch": "validation", "threshold": "validation", "test": "test", "held_out": "held_out"}
    assert results["rows"] == {use: rows_read(row["id"] for row in parts[name]) for use, name in uses.items()}


def test_what_is_pushed_is_finished(pairs_table, encoders, tmp_path, monkeypatch):
    pushed = tmp_path / "pushed"

    def push_to_hub(model, repository, **_):
        assert repository == "me/corrector"
        model.save_pretrained(pushed)

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: mock.Mock(repo_id="me/corrector"))
    monkeypatch.setattr(M4SERForEmotionClassification, "push_to_hub", push_to_hub)
    options = ["--pairs", pairs_table, "--output_dir", tmp_path / "run", *encoders[2:], "--max_steps", 1]
    run_example_here("run_correction.py", *options, "--push_to_hub", "true", "--hub_model_id", "corrector")
    files = {path.name for path in pushed.iterdir()}
    assert {"README.md", "correction.md", "results.json", "model.safetensors", "tokenizer.json"} <= files
    assert json.loads((pushed / "config.json").read_text(encoding="utf-8"))["use_error_correction"]


def test_the_table_shows_what_is_undefined():
    detection = {kind: {"f1": None if kind == "delete" else 0.5} for kind in ("keep", "delete", "change")}
    found = {
        **{"utterances": 3, "wer_before": 0.2, "wer_after": 0.15, "edit_rate": 0.05, "detection": detection},
        "wer_change": {"estimate": -0.05, "low": -0.1, "high": 0.01},
    }
    results = {"name": "pairs.csv", "seed": 7, "pairs": {"train": 80, "validation": 9}, "threshold": 0.85}
    text = format_table({**results, "metrics": {"test": {**found, "groups": {"calls": found}}}})
    assert text.startswith("**pairs.csv**: trained on 80 pairs of ASR and human text, seed 7; 9 validate.")
    assert "confidence of 0.85" in text
    assert "| calls (test) | 3 | 20.00 | 15.00 | -5.00 (-10.00 to +1.00) | 5.00 % | 0.50 | - | 0.50 |" in text
    assert "parallel" not in text
