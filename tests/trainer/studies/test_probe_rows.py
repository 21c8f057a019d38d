"""Linear probes as rows: what is encoded, of which split, and what chooses the regularisation."""

from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest
from datasets import DatasetDict

from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import experiment_arguments
from trainer.errors import ExperimentError
from trainer.experiments.arguments import GridArguments, ModelArguments
from trainer.experiments.protocols import divide
from trainer.experiments.run_folder import load_results
from trainer.studies import probe_rows
from trainer.studies.probe_rows import ProbeRunner


@pytest.fixture
def make_runner(encoders, tmp_path):
    model = ModelArguments(
        speech_encoder=str(encoders[1]), text_encoder=str(encoders[3]), model_options={"num_attention_heads": 4}
    )

    def make(dataset=None, metric="ua", **runs):
        dataset = dataset or DatasetDict(train=tiny_corpus(24))
        folds = divide(dataset, "manifest", GridArguments(**runs))
        return ProbeRunner(folds, model, metric, experiment_arguments(tmp_path))

    return make


def test_a_probe_is_chosen_by_the_tables_metric_measured_kept_and_read_back(make_runner, tmp_path, monkeypatch):
    fitted = mock.Mock(wraps=probe_rows.fit_probe)
    monkeypatch.setattr(probe_rows, "fit_probe", fitted)
    runner = make_runner(metric="weighted_f1", num_folds=3, folds=[1, 2])
    data, _ = runner.folds.folds["fold2"]
    results = runner.run(("speech", "text"), "fold2", tmp_path / "probe")
    assert fitted.call_args.args[2] == "weighted_f1"
    assert pd.read_parquet(tmp_path / "probe" / "predictions.parquet")["id"].tolist() == data["test"]["id"][:]
    assert runner.run(("speech", "text"), "fold2", tmp_path / "probe") == results == load_results(tmp_path / "probe")
    # One that is not finished belongs to its division.
    (tmp_path / "probe" / "results.json").unlink()
    for changed, named in (
        ({"split_seed": 5}, "split"),
        ({"metric": "ua", "folds": [1, 2]}, 'metric "weighted_f1" before'),
    ):
        with pytest.raises(ExperimentError, match=named):
            make_runner(**{"metric": "weighted_f1", **changed}, num_folds=3).run(
                ("speech", "text"), "fold2", tmp_path / "probe"
            )
    changed = {
        "speech_options": {"layerdrop": 0.0},
        "text_options": {"num_hidden_layers": 1},
        "freeze_speech_layers": 1,
    }
    model = replace(runner.model, ablation="w/o GAN", **changed)
    plain = ProbeRunner(runner.folds, model, "weighted_f1", experiment_arguments(tmp_path))
    assert plain.model == runner.model, "the encoders as published"


def test_an_id_that_two_splits_have_is_another_utterance_in_each(make_runner):
    """A corpus' own splits may count from 0 each."""
    splits = DatasetDict({name: tiny_corpus(8, seed) for seed, name in enumerate(("train", "validation", "test"))})
    runner = make_runner(splits)
    (data, _) = runner.folds.folds["own_split"]
    features = runner.features(data, ("speech",))
    assert (features["train"] != features["test"]).any(axis=1).all()
