"""Whole runs: what a run directory holds, resuming, its settings, which split does what."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import DatasetDict
from transformers import AutoModel

from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.experiments import experiment_arguments
from tests.helpers.hub import serve_hub
from tests.helpers.tiny import EMOTIONS, tiny_config, tiny_model, tiny_processor
from trainer import BalancedCrossEntropy
from trainer.callbacks.measuring import MeasuringCallback
from trainer.errors import ExperimentError
from trainer.evaluation import figures
from trainer.evaluation.calibration import (
    calibrated_probabilities,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
)
from trainer.evaluation.decisions import describe_decisions, describe_sounds, fit_decisions
from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.prediction import answer_with, logits_of, rows_read
from trainer.evaluation.significance import describe_test
from trainer.evaluation.transcript_correction import choose_threshold, correct_rows
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cross_validation import run_folds
from trainer.experiments.run import _warn_if_text_encoder_frozen, check_run, make_trainer, run_experiment
from trainer.experiments.run_folder import LOG_FILE, load_log, load_results

FILES = {
    "results.json",
    "predictions.parquet",
    "log_history.json",
    "loss_curves.png",
    "confusion_matrix.png",
    "reliability.png",
    "risk_coverage.png",
    "label_distribution.png",
    "README.md",
    "model.safetensors",
    "config.json",
    "processor_config.json",
    "modeling_m4ser.py",
}


@pytest.fixture(scope="module")
def drawn():
    """The run's figures as matplotlib objects, by file name."""
    return {}


@pytest.fixture(scope="module")
def run(data, drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save = figures.save_figure

    def catch(figure, path):
        drawn[Path(path).name] = figure
        return save(figure, path)

    def choose(texts, processor):
        drawn["texts"] = [each.hypothesis for each in texts]
        return choose_threshold(texts, processor)

    def build(emotions):
        assert list(emotions) == list(EMOTIONS)
        return tiny_model("whisper"), tiny_processor(folder, "whisper")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", catch)
        patch.setattr("trainer.experiments.run.choose_threshold", choose)
        results = run_experiment(
            build, data, experiment_arguments(folder / "out"), description="Noise.", split={"name": "fold1"}
        )
    return folder / "out", results


def trainer_of(data, folder, row="M4SER", text_column="hypothesis", **changes):
    """The trainer of a row of the tables, with changed arguments."""
    folder.mkdir(exist_ok=True)
    model, args = tiny_model("whisper", **ABLATIONS[row]), experiment_arguments(folder, **changes)
    return make_trainer(model, tiny_processor(folder, "whisper"), data, args, text_column)


def test_run_directory(run):
    folder, results = run
    assert {path.name for path in folder.iterdir()} >= FILES
    assert load_results(folder) == json.loads(json.dumps(results))
    assert results["seed"] == 7
    assert results["split"] == {"name": "fold1"}
    assert results["versions"]["torch"]


def test_each_number_is_of_the_split_it_is_named_after(run, data):
    folder, results = run
    for split in ("validation", "test"):
        support = [data[split]["emotion"][:].count(index) for index in range(4)]
        assert [sum(row) for row in results["metrics"][split]["confusion_matrix"]] == support
    read = ("epoch", "temperature", "decisions", "threshold", "discriminator", "correction")
    read = dict.fromkeys(read, "validation") | {"domain": "train", "test": "test"}
    assert results["rows"] == {use: rows_read(data[name]["id"]) for use, name in read.items()}
    table = pd.read_parquet(folder / "predictions.parquet")
    assert table["id"].tolist() == data["test"]["id"][:]
    scores = table[[f"probability_{name}" for name in EMOTIONS]].to_numpy()
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)
    assert [EMOTIONS[index] for index in scores.argmax(-1)] == table["predicted"].tolist()
    predicted, true = ([EMOTIONS.index(name) for name in table[column]] for column in ("predicted", "emotion"))
    metrics = emotion_metrics(predicted, true, EMOTIONS)
    assert results["metrics"]["test"] == metrics
    described = describe_test(*(table[name].to_list() for name in ("emotion", "predicted", "speaker")))
    assert {name: results[name] for name in described} == described
    assert described["intervals"]["ua"]["estimate"] == pytest.approx(metrics["ua"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| WA (accuracy over all utterances) | {100 * metrics['wa']:.1f} |" in card
    assert f"| UA (mean per-class recall) | {100 * metrics['ua']:.1f} |" in card
    for name in EMOTIONS[:3]:
        assert f"| {name} | {100 * metrics[f'recall_{name}']:.1f} | {100 * metrics[f'f1_{name}']:.1f} |" in card
    assert "| sad |" not in card


def test_the_figures_show_the_run(run, data, drawn):
    _, results = run
    metrics, sizes = results["metrics"]["test"], {name: len(part) for name, part in data.items()}
    assert metrics["wa"] != metrics["ua"]
    ax = drawn["confusion_matrix.png"].axes[0]
    scores = f"WA {100 * metrics['wa']:.1f} %, UA {100 * metrics['ua']:.1f} %"
    assert ax.get_title().startswith(f"{sizes['test']} test utterances: {scores}")
    rows = zip(EMOTIONS, metrics["confusion_matrix"], strict=True)
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"{name} ({sum(row)})" for name, row in rows]
    bars = drawn["label_distribution.png"].axes[0].containers
    assert [sum(bar.get_width() for bar in split) for split in bars] == list(sizes.values())
    by_name = [list(data[split]["emotion"]).count(EMOTIONS.index("sad")) for split in sizes]
    sure, calibrated = drawn["reliability.png"].axes[0].containers
    names = [bars.get_label().partition(":")[0] for bars in (sure, calibrated)]
    assert names == ["as trained", "calibrated"]
    steps = [part.get_data().values.sum() for part in drawn["reliability.png"].axes[1].patches]
    assert steps == [sizes["test"]] * 2
    labels = [label.get_text() for label in drawn["label_distribution.png"].axes[0].get_yticklabels()]
    assert [split[labels.index("sad")].get_width() for split in bars] == by_name
    total = next(ax for ax in drawn["loss_curves.png"].axes if ax.get_title() == "Total")
    assert [len(line.get_xdata()) for line in total.get_lines()[:2]] == [4, 2]
    kept = int(results["best_checkpoint"].rpartition("-")[2])
    assert [line.get_xdata()[0] for line in total.get_lines()[2:]] == [kept]


def test_the_log_stays_with_the_run_and_is_found_in_older_ones(run, tmp_path):
    folder, _ = run
    log = load_log(folder)
    assert [entry["step"] for entry in log if "loss_generator" in entry] == [1, 2, 3, 4]
    assert {"eval_ua", "eval_loss"} <= set().union(*log)
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    (older / LOG_FILE).unlink()
    # Up to the checkpoint that is kept, the best one.
    kept = load_log(older)
    assert kept == log[: len(kept)]
    assert any("loss_generator" in entry for entry in kept)
    with pytest.raises(ExperimentError, match="has no log: neither"):
        load_log(tmp_path)


def test_the_correction_threshold_is_chosen_on_validation_and_saved(run, data, drawn):
    folder, results = run
    assert drawn["texts"] == data["validation"]["hypothesis"][:]
    model, processor = AutoModel.from_pretrained(folder).eval(), tiny_processor(folder, "whisper")
    utterances = correct_rows(model, processor, data["validation"])
    # Two steps of training correct nothing for the better.
    assert any(utterance.correction.confidences for utterance in utterances)
    assert choose_threshold(utterances, processor) == 1
    assert model.config.correction_threshold == results["model_config"]["correction_threshold"] == 1


def test_temperature_and_decisions_are_fitted_on_validation_and_saved(run, data, tmp_path):
    folder, results = run
    calibration = results["calibration"]
    temperature = calibration["temperature"]
    assert results["model_config"]["calibration_temperature"] == temperature
    model, processor = AutoModel.from_pretrained(folder), tiny_processor(folder, "whisper")
    assert model.config.calibration_temperature == temperature

    trainer = make_trainer(model.eval(), processor, data, experiment_arguments(tmp_path))
    labels = {split: np.asarray(data[split]["emotion"][:]) for split in ("validation", "test")}
    # Near its best value the likelihood is flat: logits that differ by 1e-6 move the temperature more.
    validation, test = (logits_of(answer_with(trainer, data[split])) for split in labels)
    assert fit_temperature(validation, labels["validation"]) == pytest.approx(temperature, rel=1e-3)
    assert fit_temperature(test, labels["test"]) != pytest.approx(temperature, rel=1e-2)
    assert temperature != 1
    for key, value in (("before", 1.0), ("after", temperature)):
        assert calibration["nll"][key] == pytest.approx(negative_log_likelihood(test, labels["test"], value), rel=1e-4)
    scores = pd.read_parquet(folder / "predictions.parquet")[[f"probability_{name}" for name in EMOTIONS]].to_numpy()
    np.testing.assert_allclose(scores, calibrated_probabilities(test, temperature), atol=1e-5)
    assert calibration["ece"]["after"] == pytest.approx(reliability_curve(scores, labels["test"]).error)
    assert f"| calibration_temperature | {temperature:g} |" in (folder / "README.md").read_text(encoding="utf-8")
    sounds = {split: describe_sounds(part) for split, part in data.items()}
    described = describe_decisions(model, test, sounds["test"], labels["test"])
    assert described.pop("test") == pytest.approx(results["decisions"]["test"])
    fit_decisions(model, sounds["train"], validation, sounds["validation"], labels["validation"])
    assert {name: getattr(model.config, name) for name in described} == pytest.approx(described, rel=1e-3)


@pytest.mark.parametrize(("options", "left"), [({}, 2), ({"save_only_model": True}, 4)])
def test_an_interrupted_run_goes_on_to_the_same_end(run, data, tmp_path, options, left):
    """Two steps make the first epoch; the fourth is the last. Where only weights were kept, all are made again."""
    steps, out = [], tmp_path / "out"

    def run_until(stop):
        def build(emotions):
            model = tiny_model("whisper")
            model.register_forward_hook(count)
            return model, tiny_processor(tmp_path, "whisper")

        def count(model, *_):
            steps.append(model.training)
            if sum(steps) == stop:
                raise InterruptedError

        return run_experiment(build, data, experiment_arguments(out, **options), description="", split={"name": "1"})

    with pytest.raises(InterruptedError):
        run_until(4)
    assert list(out.glob("checkpoint-*"))
    steps.clear()
    resumed = run_until(None)
    assert sum(steps) == left
    assert resumed["metrics"] == run[1]["metrics"]


def test_data_that_cannot_be_trained_on_are_named(data, tmp_path):
    one = DatasetDict({**data, "train": data["train"].filter(lambda row: row["emotion"] == 1)})
    two = DatasetDict({name: data[name] for name in ("train", "validation")})
    for wrong, message in ((one, f"one emotion, {EMOTIONS[1]}"), (two, "no test split"), (data, r"settings\.json")):
        with pytest.raises(ExperimentError, match=message):
            run_experiment(None, wrong, experiment_arguments(tmp_path), description="", split={})
        (tmp_path / "results.json").write_text("{}")  # of an unknown run


def test_other_settings_or_data_in_the_same_directory_stop_and_are_named(data, tmp_path):
    """A run that has only begun must not pass for one of other settings."""

    def build(emotions):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run_experiment(build, data, experiment_arguments(tmp_path), description="", split={"name": "fold1"})
    changed = experiment_arguments(tmp_path, learning_rate=0.5, num_train_epochs=1)
    other = DatasetDict({**data, "train": data["train"].select(range(1, len(data["train"])))})
    with pytest.raises(ExperimentError) as caught:
        run_experiment(build, other, changed, description="", split={"name": "fold2"})
    named = ("training.learning_rate 0.001 before, 0.5 now", "training.num_train_epochs 2 before, 1 now")
    for part in (*named, "data.fingerprint", "data.split", "--output_dir", str(tmp_path)):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("model", "text_column", "message"),
    [
        ({}, "hypothesis", "2 of [0-9]+ utterances have no hypothesis, first clip.*--asr_model MODEL"),
        ({"ablation": "only speech"}, "hypothesis", None),
        ({"model_options": {"modalities": "speech"}}, "hypothesis", None),
        ({"text_column": "transcript"}, "transcript", None),
    ],
)
def test_missing_text_is_named_before_an_encoder_is_loaded(data, tmp_path, model, text_column, message):
    train = data["train"].map(
        lambda row, index: {"hypothesis": None if index < 2 else row["hypothesis"]}, with_indices=True
    )
    data = DatasetDict({**data, "train": train})
    arguments = {"model": ModelArguments(**model), "training": experiment_arguments(tmp_path)}
    with pytest.raises(ExperimentError, match=message) if message else nullcontext():
        check_run(arguments, data, {}, text_column)


def test_a_finished_run_is_not_run_again_however_it_shows_itself(run, data):
    folder, results = run
    shown = experiment_arguments(folder, logging_steps=5, disable_tqdm=False, dataloader_num_workers=1)
    again = run_experiment(None, data, shown, description="", split={"name": "fold1"})
    assert again == json.loads(json.dumps(results))


def test_what_decides_a_run_is_recorded(data, tmp_path):
    model = tiny_model("whisper", correction_threshold=0.25)
    model.freeze_encoders()
    processor = tiny_processor(tmp_path, "whisper", trim_silence_db=40, keep_punctuation=True)
    results = run_experiment(
        lambda emotions: (model, processor),
        data,
        experiment_arguments(tmp_path / "out", max_steps=1, balance_classes=True),
        description="Noise.",
        split={"name": "fold1"},
        arguments={"model": ModelArguments(freeze_encoders=True, model_options='{"fusion_dropout": 0.3}')},
    )
    assert results["processor"]["trim_silence_db"] == 40
    assert results["processor"]["keep_punctuation"] is True
    assert results["arguments"]["model"] == {"freeze_encoders": True, "model_options": {"fusion_dropout": 0.3}}
    assert results["arguments"]["training"]["balance_classes"] is True
    assert {"m4ser.speech_encoder", "m4ser.text_encoder"} <= set(results["frozen_parameters"])
    assert not any(name.startswith("classifier") for name in results["frozen_parameters"])
    assert len(results["corpus_fingerprint"]) == 16
    assert results["model_config"]["correction_threshold"] == 0.25, "one that the user configures is not chosen again"
    assert "--learning_rate 0.001" in results["command"]
    assert "--freeze_encoders true" in results["command"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for line in ("| trim_silence_db | 40 |", "| freeze_encoders | True |", "| fusion_dropout | 0.1 |"):
        assert line in card


def test_each_split_does_its_own_work(data, tmp_path):
    """The best epoch is chosen on validation; training sees nothing of the test split."""
    trainer = trainer_of(data, tmp_path)
    assert trainer.train_dataset["id"][:] == data["train"]["id"][:]
    assert sorted(trainer.eval_dataset["id"]) == sorted(data["validation"]["id"])
    seconds = trainer.eval_dataset["duration"][:]
    assert seconds == sorted(seconds, reverse=True)
    watched = [call.rows for call in trainer.callback_handler.callbacks if isinstance(call, MeasuringCallback)]
    assert len(watched) == 2  # of the discriminator, and of error correction
    for rows in watched:
        assert (
            [row["hypothesis"] for row in rows] == data["validation"]["hypothesis"][:] != data["test"]["hypothesis"][:]
        )


def test_the_best_epoch_of_validation_is_tested(run, data):
    folder, results = run
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = json.loads((checkpoints[-1] / "trainer_state.json").read_text())
    assert state["best_metric"] == pytest.approx(results["metrics"]["validation"]["ua"])
    assert state["best_metric"] == max(entry["eval_ua"] for entry in state["log_history"] if "eval_ua" in entry)
    assert results["best_checkpoint"] == f"checkpoint-{state['best_global_step']}"


def test_the_seed_decides_the_initial_weights(data, tmp_path):
    started = {}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):

        def build(emotions, name=name):
            started[name] = M4SERForEmotionClassification(tiny_config("whisper")).classifier.weight
            raise InterruptedError

        with pytest.raises(InterruptedError):
            run_experiment(build, data, experiment_arguments(tmp_path / name, seed=seed), description="", split={})
    assert (started["one"] == started["again"]).all()
    assert (started["one"] != started["two"]).any()


def test_speeds_are_for_training_alone(data, tmp_path):
    changes = {"speed_perturbation": [0.9, 1.1], "balance_classes": True, "num_train_epochs": 1, "eval_strategy": "no"}
    changes |= {"load_best_model_at_end": False}
    trainer = trainer_of(data, tmp_path, **changes)
    read = []
    collate = trainer.data_collator

    def watch(rows):
        read.extend((row["id"], row.get("speed")) for row in rows)
        return collate(rows)

    trainer.data_collator = watch
    trainer.train()
    expected = sorted((name, speed) for name in data["train"]["id"] for speed in (0.9, 1.1))
    assert sorted(entry for entry in read if entry[1] is not None) == expected
    read.clear()
    trainer.evaluate()
    assert sorted(read) == sorted((name, None) for name in data["validation"]["id"])
    assert trainer_of(data, tmp_path, "only text", **changes).train_dataset is data["train"]


def test_balanced_classes_are_those_of_the_training_split(data, tmp_path):
    trained = data["train"].remove_columns("emotion")
    feature = data["train"].features["emotion"]
    trained = trained.add_column("emotion", [0] * (len(trained) - 1) + [1], feature=feature)
    skewed = DatasetDict({**data, "train": trained})
    loss = trainer_of(skewed, tmp_path, balance_classes=True).emotion_loss_func
    assert isinstance(loss, BalancedCrossEntropy)
    assert loss.weight[1] == pytest.approx(len(trained) / 2)
    assert trainer_of(skewed, tmp_path).emotion_loss_func is None


@pytest.mark.parametrize(
    ("row", "text_column", "watched"),
    [("M4SER", "hypothesis", True), ("M4SER", "transcript", False), ("w/o AED & AEC", "hypothesis", False)],
)
def test_error_correction_is_watched_where_it_is_trained(data, tmp_path, row, text_column, watched):
    trainer = trainer_of(data, tmp_path, row, text_column)
    trainer.evaluate()
    assert any("eval_correction_wer" in entry for entry in trainer.state.log_history) is watched


def test_half_precision_reads_features_that_were_computed_in_float32(data, tmp_path):
    """The rest of the model runs as it does without a cache, which is within rounding of the same."""
    losses = {}
    for cached in (False, True):
        torch.manual_seed(0)
        model = tiny_model("whisper", fusion_dropout=0.0, classifier_dropout=0.0)
        model.freeze_speech_encoder()
        args = experiment_arguments(tmp_path / f"{cached}", cache_features=cached, bf16=True, use_cpu=True)
        trainer = make_trainer(model, tiny_processor(tmp_path, "whisper"), data, args)
        if cached:
            states = trainer.data_collator.feature_cache.batch([data["train"][0]])["speech_states"]
            assert not torch.equal(states, states.bfloat16().float())
        losses[cached] = trainer.train().training_loss
    assert losses[True] == pytest.approx(losses[False], rel=0.02)


def test_the_features_of_all_splits_lie_where_they_are_wanted(data, tmp_path, capsys):
    processor, size = tiny_processor(tmp_path, "whisper"), sum(map(len, data.values()))
    for chosen, default, place in ((None, None, "out/.features"), (None, "b", "b"), ("a", "b", "a")):
        model = tiny_model("whisper")
        model.freeze_encoders()
        args = experiment_arguments(
            tmp_path / "out", cache_features=True, feature_cache_dir=chosen and str(tmp_path / chosen)
        )
        trainer = make_trainer(model, processor, data, args, features_folder=default and tmp_path / default)
        assert trainer.data_collator.feature_cache.folder.parent == tmp_path / place
        assert f"of {size} recordings in {tmp_path / place}" in capsys.readouterr().out
    assert trainer_of(data, tmp_path / "text", "only text", cache_features=True).data_collator.feature_cache is None


@pytest.mark.parametrize(
    ("freeze", "options", "told"),
    [
        ("freeze_encoders", {}, True),
        ("freeze_speech_encoder", {}, False),
        ("freeze_encoders", ABLATIONS["w/o AED & AEC"], False),
        ("freeze_encoders", {"hidden_size": 32}, False),  # a projection learns from them
    ],
)
def test_frozen_encoders_make_error_correction_useless_which_is_told(caplog, freeze, options, told):
    model = tiny_model("whisper", **options)
    getattr(model, freeze)()
    for _ in range(2):
        _warn_if_text_encoder_frozen(model)
    text = "detection and correction give nothing back to the emotion path"
    assert sum(text in record.message for record in caplog.records) == told


# ---------------------------------------------------------------------- the Hub

# Run in a process of its own, whose libraries are sent to a Hub on this machine.
PUSH = """
import sys
from datasets import load_from_disk
from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import tiny_model, tiny_processor
from trainer.experiments.run import run_experiment

folder, data = sys.argv[1:]
args = experiment_arguments(folder + "/run", push_to_hub=True, hub_model_id="flag", max_steps=1, report_to=[])
build = lambda emotions: (tiny_model("whisper"), tiny_processor(folder, "whisper"))
run_experiment(build, load_from_disk(data), args, description="Noise.", split={"name": "fold1"})
model = M4SERForEmotionClassification.from_pretrained(folder + "/run")
model.push_to_hub("method")
model.save_pretrained(folder + "/copy")
model.save_pretrained(folder + "/both", push_to_hub=True, repo_id="you/both")
model.train()
model.save_pretrained(folder + "/trained")
"""


def test_the_card_goes_with_the_model_whichever_way_it_is_pushed(data, tmp_path):
    data.save_to_disk(tmp_path / "data")
    with serve_hub({}, tmp_path / "home") as online:
        command = [sys.executable, "-c", PUSH, str(tmp_path), str(tmp_path / "data")]
        done = subprocess.run(command, env=os.environ | online, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pushed, written = tmp_path / "home" / "pushed", (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert written.count('"me/flag", trust_remote_code=True') == 3
    told = FILES - {"predictions.parquet", "log_history.json"}
    for name in ("me/flag", "me/method", "you/both"):
        place = pushed / name
        files = {path.name for path in place.iterdir()}
        assert json.loads((place / "config.json").read_text())["use_error_correction"] == (name != "me/flag")
        assert told <= files
        assert not [name for name in files if name.startswith(("checkpoint", "predictions"))]
        assert (place / "README.md").read_text(encoding="utf-8") == written.replace("me/flag", name)
        assert (place / "results.json").read_bytes() == (tmp_path / "run" / "results.json").read_bytes()
    assert (tmp_path / "copy" / "README.md").read_text(encoding="utf-8") == written
    assert not (tmp_path / "trained" / "README.md").exists(), "trained since, it is another model"


def test_what_cannot_be_pushed_is_said_first(tmp_path, data, tiny):
    with pytest.raises(ValueError, match="push_to_hub needs the name of the repository: --hub_model_id"):
        experiment_arguments(tmp_path, push_to_hub=True)
    args = experiment_arguments(tmp_path, push_to_hub=True, hub_model_id="me/m")
    folds = {name: (data, {"name": name}) for name in ("one", "two")}
    with pytest.raises(ExperimentError, match="publishes one model, these are 2 runs: choose one with --folds and"):
        run_folds(folds, CorpusArguments(), tiny, RunArguments(), args, "Noise.")
