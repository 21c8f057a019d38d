"""Experiments on cached features of a frozen speech encoder: the same results, and where the cache lies."""

import pandas as pd
import pytest
import torch

from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import tiny_model, tiny_processor
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.run import _warn_if_text_encoder_frozen, make_trainer, run_experiment


def test_a_run_with_cached_features_is_the_run_without_them(data, tmp_path, capsys):
    """The same results, predictions, settings and card."""

    def build(emotions):
        model = tiny_model("whisper")
        model.freeze_speech_encoder()
        return model, tiny_processor(tmp_path, "whisper")

    results = {}
    for cached in (False, True):
        args = experiment_arguments(tmp_path / f"run{cached}", cache_features=cached)
        results[cached] = run_experiment(build, data, args, description="Noise.", split={"name": "x"})
    assert results[True]["metrics"] == results[False]["metrics"]
    tables = [pd.read_parquet(tmp_path / f"run{cached}" / "predictions.parquet") for cached in (False, True)]
    pd.testing.assert_frame_equal(*tables, atol=1e-5)
    size = sum(len(part) for part in data.values())
    assert f"of {size} recordings in {tmp_path / 'runTrue' / '.features'}" in capsys.readouterr().out
    # Asked for again without the cache, the run is finished.
    args = experiment_arguments(tmp_path / "runTrue")
    again = run_experiment(build, data, args, description="Noise.", split={"name": "x"})
    assert again["arguments"]["training"]["cache_features"] is True


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


def test_the_features_lie_where_they_are_wanted(data, tmp_path):
    processor = tiny_processor(tmp_path, "whisper")
    for chosen, default, place in ((None, None, "out/.features"), (None, "b", "b"), ("a", "b", "a")):
        model = tiny_model("whisper")
        model.freeze_encoders()
        args = experiment_arguments(
            tmp_path / "out", cache_features=True, feature_cache_dir=chosen and str(tmp_path / chosen)
        )
        trainer = make_trainer(model, processor, data, args, features_folder=default and tmp_path / default)
        assert trainer.data_collator.feature_cache.folder.parent == tmp_path / place
    text = tiny_model("whisper", **ABLATIONS["only text"])
    trainer = make_trainer(text, processor, data, experiment_arguments(tmp_path / "text", cache_features=True))
    assert trainer.data_collator.feature_cache is None


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
