"""Several runs of one protocol: summaries, the probes beside them, and a whole command on a manifest."""

import contextlib
import copy
import dataclasses
import io
import itertools
import json
import shlex

import numpy as np
import pandas as pd
import pytest
from datasets import DatasetDict, load_dataset

from data_scripts.schema import load_prepared, save_prepared
from data_scripts.splits import speaker_folds
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import encoder_folders, experiment_arguments, write_manifest
from tests.helpers.process import run_example, run_example_here
from tests.helpers.tiny import EMOTIONS
from trainer.errors import ExperimentError
from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.significance import bootstrap_interval, describe_test
from trainer.evaluation.summary import SUMMARY_METRICS, pool, summarize
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cross_validation import (
    _probed_models,
    _uncertainty,
    closing_lines,
    format_summary,
    run_folds,
)
from trainer.experiments.model import build_model
from trainer.experiments.protocols import own_split
from trainer.experiments.run_folder import load_results


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One fold with two seeds from a manifest, by the command, and the arguments it was given."""
    folder = tmp_path_factory.mktemp("custom")
    write_manifest(folder)
    speech, text = encoder_folders(folder)
    arguments = [
        *("--data_dir", folder, "--speech_encoder", speech, "--text_encoder", text, "--output_dir", folder / "out"),
        *("--num_folds", 3, "--folds", 2, "--seeds", 1, 2, "--num_train_epochs", 1, "--linear_probe"),
        *("--model_options", '{"num_attention_heads": 4}'),
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_example_here("run_custom.py", *arguments)
    return folder / "out", arguments, printed.getvalue()


def test_run_custom_on_a_manifest(finished):
    out, _, printed = finished
    assert "M4SER, 2 runs" in printed
    assert "linear probe, 1 folds" in printed
    assert "encoder changed" not in printed
    assert (out / "corpus" / "report.json").is_file()
    assert (out / "summary.json").is_file()
    first, second = (load_results(out / "fold2" / f"seed{seed}") for seed in (1, 2))
    assert first["seed"] == 1
    assert second["seed"] == 2
    speakers = {name: set(first["split"][name]["speakers"]) for name in ("train", "validation", "test")}
    assert not speakers["train"] & speakers["test"]
    assert not speakers["validation"] & speakers["test"]
    assert first["best_checkpoint"] is not None


def test_the_same_command_again_keeps_what_is_finished(finished, capsys):
    out, arguments, printed = finished
    written = (out / "fold2" / "seed1" / "results.json").stat().st_mtime_ns
    run_example_here("run_custom.py", *arguments)
    assert capsys.readouterr().out.splitlines()[-8:] == printed.splitlines()[-8:]
    assert (out / "fold2" / "seed1" / "results.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_the_recorded_command_repeats_the_run(finished, tmp_path):
    """Every argument is in it, those of a YAML file too."""
    out, _, _ = finished
    results = load_results(out / "fold2" / "seed2")
    script, *arguments = shlex.split(results["command"])
    assert script == "run_custom.py"
    arguments[arguments.index("--output_dir") + 1] = str(tmp_path / "again")
    done = run_example(script, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_results(tmp_path / "again" / "fold2" / "seed2")["metrics"] == results["metrics"]


def test_the_probe_is_of_the_published_encoder_and_of_a_changed_one_too(tmp_path):
    speech, text = map(str, encoder_folders(tmp_path))
    options = {"speech_encoder": speech, "text_encoder": text, "model_options": {"num_attention_heads": 4}}
    changed = ModelArguments(**options, speech_options={"encoder_layers": 1}, freeze_speech_layers=1)
    layers = {
        key: len(build_model(arguments, EMOTIONS)[0].m4ser.speech_encoder.layers)
        for key, arguments in _probed_models(changed).items()
    }
    assert layers == {"linear_probe": 2, "linear_probe_own_encoder": 1}
    assert list(_probed_models(ModelArguments(**options))) == ["linear_probe"]
    runs = [{"metrics": {"test": dict.fromkeys(SUMMARY_METRICS, value)}} for value in (0.25, 0.75)]
    summary = {
        "runs": 2,
        "test": summarize(runs),
        "linear_probe": summarize(runs),
        "linear_probe_own_encoder": summarize(runs[:1]),
    }
    lines = format_summary(summary).splitlines()
    assert len(lines) == 3
    assert "2 folds: wa 50.0 ± 35.4" in lines[1]
    assert "changed" in lines[2]
    assert "25.0" in lines[2]


@pytest.fixture(scope="module")
def folds_run(tmp_path_factory):
    """Two folds with two seeds, one step each, in this process; human text, so that the column matters."""
    folder = tmp_path_factory.mktemp("folds")
    speech, text = encoder_folders(folder)
    model = ModelArguments(
        speech_encoder=str(speech),
        text_encoder=str(text),
        model_options={"num_attention_heads": 4},
        text_column="transcript",
    )
    runs = RunArguments(folds=[1, 3], split_seed=4, seeds=[5, 6], linear_probe=True)
    corpus = DatasetDict(train=tiny_corpus(24))
    chosen = runs.choose(speaker_folds(corpus, 3, runs.split_seed), corpus)
    args = experiment_arguments(folder / "out", max_steps=1)
    return (
        folder / "out",
        chosen,
        (model, runs, args),
        run_folds(chosen, CorpusArguments(), model, runs, args, "Noise."),
    )


def test_every_fold_is_run_with_every_seed(folds_run):
    out, chosen, _, summary = folds_run
    assert (summary["runs"], summary["folds"], summary["seeds"]) == (4, ["fold1", "fold3"], [5, 6])
    results = {(name, seed): load_results(out / name / f"seed{seed}") for name in chosen for seed in (5, 6)}
    for (name, seed), run in results.items():
        assert run["seed"] == seed
        assert run["split"]["name"] == name
        assert run["split"]["seed"] == 4
        assert run["description"] == f"Noise. Fold: {name}."
        predictions = pd.read_parquet(out / name / f"seed{seed}" / "predictions.parquet")
        assert predictions["text"].tolist() == chosen[name][0]["test"]["transcript"][:]
    values = [results[name, seed]["metrics"]["test"]["ua"] for seed in (5, 6) for name in chosen]
    assert sorted(summary["test"]["ua"]["values"]) == pytest.approx(sorted(values))
    pooled = [pool([results[name, seed] for name in chosen])["ua"] for seed in (5, 6)]
    assert summary["pooled"]["ua"]["values"] == pytest.approx(pooled)


def test_all_folds_and_seeds_together_have_intervals_over_their_speakers(folds_run, tmp_path):
    out, chosen, _, summary = folds_run
    assert summary["intervals"]["method"]["no_interval"].startswith("2 speakers")
    for key in ("wa", "ua"):
        assert summary["intervals"][key]["estimate"] == pytest.approx(summary["pooled"][key]["mean"])
    written = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert written["intervals"] == json.loads(json.dumps(summary["intervals"]))
    assert written["breakdown"] == summary["breakdown"]
    assert set(written["breakdown"]["speaker"]) == {chosen[name][0]["test"]["speaker"][0] for name in chosen}
    # The same predictions by more speakers, one of them unknown.
    tables = {seed: [] for seed in (5, 6)}
    for seed, name in itertools.product(tables, chosen):
        table = pd.read_parquet(out / name / f"seed{seed}" / "predictions.parquet")
        table["speaker"] = [f"{name}{row % 3}" if row else None for row in range(len(table))]
        tables[seed].append(table)
        (tmp_path / name / f"seed{seed}").mkdir(parents=True)
        table.to_parquet(tmp_path / name / f"seed{seed}" / "predictions.parquet")
    joined = [pd.concat(parts) for parts in tables.values()]
    labels, predicted = joined[0]["emotion"].tolist(), [table["predicted"].tolist() for table in joined]
    speakers = [speaker if isinstance(speaker, str) else None for speaker in joined[0]["speaker"]]
    sexes = {"0": "male", "1": "female", "2": None}
    described = _uncertainty(tmp_path, chosen, [5, 6], lambda speaker: sexes[speaker[-1]])
    assert described["intervals"]["ua"]["low"] is not None
    assert described["intervals"]["ua"]["clusters"] == 3 + 3 + 2
    for key in SUMMARY_METRICS:
        assert described["intervals"][key] == dataclasses.asdict(bootstrap_interval(labels, predicted, key, speakers))
    assert described["breakdown"]["sex"]["male"]["utterances"] == sum(str(name)[-1] == "0" for name in speakers)


def test_the_intervals_are_shown():
    runs = [{"metrics": {"test": dict.fromkeys(SUMMARY_METRICS, 0.5)}}]
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 2, (2, 100))
    speakers = ["a", "b", "c", "d"] * 25

    def last_line(*test):
        return format_summary({"runs": 1, "test": summarize(runs), **describe_test(*test)}).splitlines()[-1]

    wa = bootstrap_interval(labels, predicted, "wa", speakers)
    shown = last_line(labels, predicted, speakers)
    assert shown.startswith(f"95 % interval over 4 speakers: wa {100 * wa.low:.1f} to {100 * wa.high:.1f}  ua ")
    assert last_line(labels, predicted, [None] * 100).startswith("95 % interval over 100 utterances: wa ")
    assert last_line(labels, predicted, ["a", "b"] * 50).startswith("no 95 % interval: 2 speakers")
    assert last_line(labels, labels, speakers) == "no 95 % interval: all draws of the 4 speakers are alike"


def test_the_probe_is_measured_on_every_fold_once_and_again_with_other_settings(folds_run):
    out, chosen, (model, runs, args), summary = folds_run
    kept = {name: json.loads((out / name / "linear_probe.json").read_text()) for name in chosen}
    assert summary["linear_probe"]["ua"]["values"] == [kept[name]["metrics"]["ua"] for name in chosen]
    for name in chosen:
        kept[name]["metrics"]["ua"] = 0.3125  # what is kept is not measured again
        (out / name / "linear_probe.json").write_text(json.dumps(kept[name]))
    assert run_folds(chosen, CorpusArguments(), model, runs, args, "Noise.")["linear_probe"]["ua"]["mean"] == 0.3125
    for name in chosen:
        kept[name]["settings"]["fingerprint"] = "of other data"
        (out / name / "linear_probe.json").write_text(json.dumps(kept[name]))
    again = run_folds(chosen, CorpusArguments(), model, runs, args, "Noise.")
    assert again["linear_probe"]["ua"]["values"] == summary["linear_probe"]["ua"]["values"]
    # Other labels in the same folder, with a seed that was not run on the earlier ones.
    for name in chosen:
        kept[name] = json.loads((out / name / "linear_probe.json").read_text())
        kept[name]["metrics"]["ua"] = 7
        (out / name / "linear_probe.json").write_text(json.dumps(kept[name]))
    turned = {name: (relabelled(data), split) for name, (data, split) in chosen.items()}
    other, args = dataclasses.replace(runs, seeds=None), copy.copy(args)
    args.seed = 99
    found = run_folds(turned, CorpusArguments(), model, other, args, "Noise.")
    assert 7 not in found["linear_probe"]["ua"]["values"]
    assert (found["seeds"], found["runs"]) == ([99], 2), "without seeds, that of the training arguments"
    other.seeds = [99, 99]
    again = run_folds(turned, CorpusArguments(), model, other, args, "Noise.")
    assert (again["seeds"], again["runs"]) == ([99], 2), "a seed that is named twice counts once"


def relabelled(data):
    """The same recordings with other emotions."""
    return DatasetDict(
        {name: part.map(lambda row: {"emotion": (row["emotion"] + 1) % 4}) for name, part in data.items()}
    )


@pytest.mark.parametrize(
    ("matrices", "probe", "warnings"),
    [
        ([[[9, 1], [1, 9]]] * 2, 0.8, []),
        ([[[9, 1], [1, 9]]] * 2, 0.95, ["UA 90.0 is below the linear probe (95.0)"]),
        ([[[5, 5], [5, 5]]] * 2, None, ["UA 50.0 of 2 classes is chance (50.0)"]),
        ([[[10, 0], [10, 0]]] * 2, None, ["UA 50.0 of 2 classes is chance", "predicts one class only: sad"]),
        ([[[10, 0], [10, 0]], [[9, 1], [0, 10]]], None, ["predicts one class only in 1 of 2 runs: sad"]),
    ],
)
def test_a_training_ends_with_what_is_wrong_and_what_comes_next(tmp_path, matrices, probe, warnings):
    runs = []
    for matrix in matrices:
        labels, predicted = zip(*[(t, p) for t in (0, 1) for p in (0, 1) for _ in range(matrix[t][p])], strict=True)
        runs.append(
            {"emotions": ["sad", "glad"], "metrics": {"test": emotion_metrics(predicted, labels, ["sad", "glad"])}}
        )
    summary = {"test": summarize(runs)}
    if probe is not None:
        summary["linear_probe"] = summarize([{"metrics": {"test": dict.fromkeys(SUMMARY_METRICS, probe)}}])
    *found, results, use, report = closing_lines(summary, runs, tmp_path, tmp_path / "fold1" / "seed1")
    assert len(found) == len(warnings)
    assert all(f"Warning: {warning}" in line for warning, line in zip(warnings, found, strict=True))
    assert results == f"Results: {tmp_path / 'summary.json'}"
    assert f'model="{tmp_path / "fold1" / "seed1"}"' in use
    assert report.endswith(f"--runs {tmp_path}")


def test_a_run_of_other_settings_stops_before_any_is_run(folds_run):
    out, chosen, (model, runs, args), _ = folds_run
    later = {**chosen, "fold9": chosen["fold1"]}
    other = copy.copy(args)
    other.learning_rate = 0.5
    for changed, named in (
        ((dataclasses.replace(model, ablation="w/o GAN"), runs, args), r"model\.ablation"),
        ((model, dataclasses.replace(runs, split_seed=3), args), r"runs\.split_seed"),
        ((model, runs, other), r"training\.learning_rate"),
    ):
        with pytest.raises(ExperimentError, match=named):
            run_folds(dict(reversed(later.items())), CorpusArguments(), *changed, "Noise.")
    assert not (out / "fold9").exists()


@pytest.mark.slow
def test_all_runs_on_a_prepared_corpus_share_its_features(tmp_path, capsys):
    """They lie in its folder, which holds the same corpus as before."""
    corpus, other = tiny_corpus(24), tiny_corpus(6, seed=1)
    save_prepared(DatasetDict(train=corpus, validation=other, test=other), tmp_path / "corpus")
    speech, text = encoder_folders(tmp_path)
    data = load_prepared(tmp_path / "corpus")
    arguments = CorpusArguments(prepared_dir=str(tmp_path / "corpus"))
    model = ModelArguments(
        speech_encoder=str(speech),
        text_encoder=str(text),
        model_options={"num_attention_heads": 4},
        freeze_speech_encoder=True,
    )
    runs, folds = RunArguments(seeds=[1, 2]), own_split(data, RunArguments())
    args = experiment_arguments(tmp_path / "out", num_train_epochs=1, cache_features=True)
    run_folds(folds, arguments, model, runs, args, "Noise.")
    assert capsys.readouterr().out.count("caching ") == 1
    model.ablation = "w/o MIR"
    args = experiment_arguments(tmp_path / "other", num_train_epochs=1, cache_features=True)
    run_folds(folds, arguments, model, runs, args, "Noise.")
    assert "caching " not in capsys.readouterr().out
    assert not list(tmp_path.glob("o*/**/.features"))
    assert len(list((tmp_path / "corpus" / ".features").iterdir())) == 1
    again = load_dataset(str(tmp_path / "corpus"), cache_dir=str(tmp_path / "cache"))
    assert {name: part["id"][:] for name, part in again.items()} == {name: part["id"][:] for name, part in data.items()}
