"""Several runs of one protocol: summaries, and the probes beside them."""

import copy
import itertools
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from datasets import DatasetDict, load_dataset

from data_scripts.constants import SPLITS
from data_scripts.errors import CorpusError
from data_scripts.schema import load_prepared, save_prepared
from data_scripts.splits import speaker_folds
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import EMOTIONS
from trainer.errors import ExperimentError
from trainer.evaluation.linear_probe import FrozenFeatures
from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.prediction import rows_read
from trainer.evaluation.significance import bootstrap_interval, describe_test
from trainer.evaluation.summary import SUMMARY_METRICS, pool, summarize
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cross_validation import (
    _measure_probes,
    _probed_models,
    _uncertainty,
    audit_folds,
    closing_lines,
    format_summary,
    run_folds,
)
from trainer.experiments.model import build_model
from trainer.experiments.protocols import own_split
from trainer.experiments.run_folder import load_results


def test_the_probe_is_of_the_published_encoder_and_of_a_changed_one_too(tiny):
    changed = replace(tiny, speech_options={"encoder_layers": 3}, freeze_speech_layers=3)
    layers = {
        key: len(build_model(arguments, EMOTIONS)[0].m4ser.speech_encoder.layers)
        for key, arguments in _probed_models(changed).items()
    }
    assert layers == {"linear_probe": 2, "linear_probe_own_encoder": 3}
    assert list(_probed_models(tiny)) == ["linear_probe"]


def test_an_id_is_one_utterance_in_folds_alone(tiny, data, tmp_path, monkeypatch):
    """The splits of a corpus may number theirs anew: the probe must not read a trained clip for a tested one."""
    shared_of, fitted = [], SimpleNamespace(metrics={"test": {}}, regularisation=1.0, rows={})
    monkeypatch.setattr(FrozenFeatures, "of", lambda self, data, shared: shared_of.append(shared))
    monkeypatch.setattr("trainer.experiments.cross_validation.fit_probe", lambda *_: fitted)
    for names in (["own_split"], ["fold1", "fold2"]):
        _measure_probes(dict.fromkeys(names, (data, {})), tiny, tmp_path)
    assert shared_of == [False, True, True]


@pytest.fixture(scope="module")
def folds_run(tiny, tmp_path_factory):
    """Two folds with two seeds, one step each, in this process; human text, so that the column matters."""
    out = tmp_path_factory.mktemp("folds") / "out"
    model = replace(tiny, text_column="transcript")
    runs = RunArguments(folds=[1, 3], split_seed=4, seeds=[5, 6], linear_probe=True)
    corpus = DatasetDict(train=tiny_corpus(24))
    chosen = runs.choose(speaker_folds(corpus, 3, runs.split_seed), corpus)
    args = experiment_arguments(out, max_steps=1)
    return out, chosen, (model, runs, args), run_folds(chosen, CorpusArguments(), model, runs, args, "Noise.")


def test_every_fold_is_run_with_every_seed(folds_run):
    out, chosen, _, summary = folds_run
    assert (summary["runs"], summary["folds"], summary["seeds"]) == (4, ["fold1", "fold3"], [5, 6])
    results = {(name, seed): load_results(out / name / f"seed{seed}") for name in chosen for seed in (5, 6)}
    for (name, seed), run in results.items():
        assert run["seed"] == seed
        assert run["split"]["name"] == name
        assert run["split"]["seed"] == 4
        assert run["text_column"] == "transcript"
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
        assert described["intervals"][key] == asdict(bootstrap_interval(labels, predicted, key, speakers))
    assert described["breakdown"]["sex"]["male"]["utterances"] == sum(str(name)[-1] == "0" for name in speakers)


def test_the_summary_shows_probes_and_intervals():
    runs = [{"metrics": {"test": dict.fromkeys(SUMMARY_METRICS, value)}} for value in (0.25, 0.75)]
    shown = {"runs": 2, "test": summarize(runs)}
    probes = {"linear_probe": summarize(runs), "linear_probe_own_encoder": summarize(runs[:1])}
    _, probe, changed = format_summary({**shown, **probes}).splitlines()
    assert "2 folds: wa 50.0 ± 35.4" in probe
    assert "changed as in M4SER, 1 folds: wa 25.0" in changed
    labels, predicted = np.random.default_rng(0).integers(0, 2, (2, 100))
    speakers = ["a", "b", "c", "d"] * 25

    def last_line(*test):
        return format_summary({**shown, **describe_test(*test)}).splitlines()[-1]

    wa = bootstrap_interval(labels, predicted, "wa", speakers)
    interval = f"95 % interval over 4 speakers: wa {100 * wa.low:.1f} to {100 * wa.high:.1f}  ua "
    assert last_line(labels, predicted, speakers).startswith(interval)
    assert last_line(labels, predicted, [None] * 100).startswith("95 % interval over 100 utterances: wa ")
    assert last_line(labels, predicted, ["a", "b"] * 50).startswith("no 95 % interval: 2 speakers")
    assert last_line(labels, labels, speakers) == "no 95 % interval: all draws of the 4 speakers are alike"


def test_the_probe_is_measured_on_every_fold_once_and_again_on_other_data(folds_run, capsys):
    out, chosen, (model, runs, args), summary = folds_run
    kept = {name: json.loads((out / name / "linear_probe.json").read_text()) for name in chosen}
    uses = {"fit": "train", "regularisation": "validation", "test": "test"}
    for name, (data, _) in chosen.items():
        assert kept[name]["rows"] == {use: rows_read(data[split]["id"]) for use, split in uses.items()}
    assert summary["linear_probe"]["ua"]["values"] == [kept[name]["metrics"]["ua"] for name in chosen]
    for name in chosen:
        kept[name]["metrics"]["ua"] = 7  # what is kept is not measured again
        (out / name / "linear_probe.json").write_text(json.dumps(kept[name]))
    again = run_folds(chosen, CorpusArguments(), model, runs, args, "Noise.")
    assert again["linear_probe"]["ua"]["values"] == [7, 7]
    told = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert [line for line in told if "seed" in line] == [f"{name} seed {seed}" for name in chosen for seed in (5, 6)]
    assert {"M4SER, 4 runs", "all folds pooled", "linear probe, 2 folds", "Results"} <= set(told)
    # Other labels in the same folder, with a seed that was not run on the earlier ones.
    turned = {name: (relabelled(data), split) for name, (data, split) in chosen.items()}
    other, args = replace(runs, seeds=None), copy.copy(args)
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
    ("matrices", "low", "probe", "warnings"),
    [
        ([[[9, 1], [1, 9]]] * 2, 0.51, 0.8, []),
        ([[[9, 1], [1, 9]]] * 2, None, 0.95, ["UA 90.0 is below the linear probe (95.0)"]),
        ([[[5, 5], [5, 5]]] * 2, None, None, ["UA 50.0 of 2 classes is chance (50.0)"]),
        ([[[10, 0], [10, 0]]] * 2, None, None, ["UA 50.0 of 2 classes is chance", "predicts one class only: sad"]),
        ([[[10, 0], [10, 0]], [[9, 1], [0, 10]]], None, None, ["predicts one class only in 1 of 2 runs: sad"]),
        ([[[9, 1], [1, 9]]] * 2, 0.5, None, ["UA 90.0 of 2 classes is chance (50.0)"]),  # as far as one can tell
    ],
)
def test_a_training_ends_with_what_is_wrong_and_what_comes_next(tmp_path, matrices, low, probe, warnings):
    runs = []
    for matrix in matrices:
        labels, predicted = zip(*[(t, p) for t in (0, 1) for p in (0, 1) for _ in range(matrix[t][p])], strict=True)
        metrics = emotion_metrics(predicted, labels, ["sad", "glad"])
        arguments = {"corpus": {"asr_model": "some/whisper"}}
        runs.append({"emotions": ["sad", "glad"], "metrics": {"test": metrics}, "arguments": arguments})
    summary = {"test": summarize(runs), "intervals": {"ua": {"low": low}}}
    if probe is not None:
        summary["linear_probe"] = summarize([{"metrics": {"test": dict.fromkeys(SUMMARY_METRICS, probe)}}])
    *found, results, use, report = closing_lines(summary, runs, tmp_path, tmp_path / "fold1" / "seed1")
    assert len(found) == len(warnings)
    assert all(f"Warning: {warning}" in line for warning, line in zip(warnings, found, strict=True))
    assert results == f"Results: {tmp_path / 'summary.json'}"
    assert f"m4ser predict RECORDINGS --model {tmp_path / 'fold1' / 'seed1'} " in use
    assert use.endswith(" --asr some/whisper")
    assert report.endswith(f"--runs {tmp_path}")


def test_a_run_of_other_settings_stops_before_any_is_run(folds_run):
    out, chosen, (model, runs, args), _ = folds_run
    later = {**chosen, "fold9": chosen["fold1"]}
    other = copy.copy(args)
    other.learning_rate = 0.5
    for changed, named in (
        ((replace(model, ablation="w/o GAN"), runs, args), r"model\.ablation"),
        ((model, replace(runs, split_seed=3), args), r"runs\.split_seed"),
        ((model, runs, other), r"training\.learning_rate"),
    ):
        with pytest.raises(ExperimentError, match=named):
            run_folds(dict(reversed(later.items())), CorpusArguments(), *changed, "Noise.")
    assert not (out / "fold9").exists()


def test_leaks_are_told_and_refused_where_that_is_asked(tmp_path, capsys):
    """Before anything is run; but where a protocol divides the speakers so, they are no leak."""
    leaking, args = DatasetDict(dict.fromkeys(SPLITS, tiny_corpus(8))), experiment_arguments(tmp_path / "out")
    folds, strict = {"own_split": (leaking, {})}, CorpusArguments(strict=True)
    audit_folds(folds, CorpusArguments(), tmp_path, tell=True)
    assert "warning: own_split: 3 speakers are in more than one split" in capsys.readouterr().err
    with pytest.raises(CorpusError, match="the splits leak: 3 speakers"):
        run_folds(folds, strict, ModelArguments(), RunArguments(), args, "Noise.")
    assert not (tmp_path / "out").exists()
    assert audit_folds({"fold1": (leaking, {})}, strict, tmp_path, tell=True)["fold1"].accepted
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_all_runs_on_a_prepared_corpus_share_its_features(tiny, tmp_path, capsys):
    """They lie in its folder, which holds the same corpus as before."""
    corpus, other = tiny_corpus(24), tiny_corpus(6, seed=1)
    save_prepared(DatasetDict(train=corpus, validation=other, test=other), tmp_path / "corpus")
    data = load_prepared(tmp_path / "corpus")
    arguments = CorpusArguments(prepared_dir=str(tmp_path / "corpus"))
    model = replace(tiny, freeze_speech_encoder=True)
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
