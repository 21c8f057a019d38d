"""The model of a command line: what is built, what is frozen, and what cannot be."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer, WhisperFeatureExtractor

from tests.helpers.tiny import EMOTIONS, MEL_BINS
from trainer.errors import ExperimentError
from trainer.experiments.arguments import ModelArguments
from trainer.experiments.model import build_model, plan_model


def trainable(arguments, **changes):
    model, _ = build_model(replace(arguments, **changes), EMOTIONS)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_convolutions_are_frozen_by_default(tiny):
    convolutions = {"m4ser.speech_encoder.model.conv1.weight", "m4ser.speech_encoder.model.conv2.weight"}
    assert not convolutions & trainable(tiny)
    assert convolutions <= trainable(tiny, freeze_feature_encoder=False)
    assert any("speech_encoder.model.layers" in name for name in trainable(tiny))


def test_lower_layers_or_whole_encoders_can_be_frozen(tiny):
    upper = trainable(tiny, freeze_speech_layers=1)
    assert any(".layers.1." in name for name in upper)
    below = ("layers.0.", "conv1.", "conv2.")
    prefixes = tuple(f"m4ser.speech_encoder.model.{part}" for part in below)
    assert not any(name.startswith(prefixes) for name in upper)
    assert not any("_encoder.model" in name for name in trainable(tiny, freeze_encoders=True))


def test_the_speech_encoder_alone_can_be_frozen(tiny):
    whole, left = trainable(tiny, freeze_feature_encoder=False), trainable(tiny, freeze_speech_encoder=True)
    assert whole - left == {name for name in whole if name.startswith("m4ser.speech_encoder.model.")} != set()
    weighted = {"speech_options": {"use_weighted_layer_sum": True}}
    assert "m4ser.speech_encoder.layer_weights" in trainable(tiny, freeze_speech_encoder=True, **weighted)
    text = {"ablation": "only text"}
    assert trainable(tiny, freeze_speech_encoder=True, **text) == trainable(tiny, **text)


def test_options_arrive(tiny):
    arguments = replace(
        tiny,
        model_options={"num_attention_heads": 4, "temperature": 0.5},
        ablation="w/o GAN",
        speech_options={"encoder_layers": 1},
        text_options='{"num_hidden_layers": 1}',
        processor_options={"trim_silence_db": 30},
    )
    model, processor = build_model(arguments, EMOTIONS)
    assert model.config.temperature == 0.5
    assert model.discriminator is None
    assert len(model.m4ser.speech_encoder.layers) == 1
    assert model.config.text_config.num_hidden_layers == 1
    assert processor.trim_silence_db == 30
    assert [model.config.id2label[index] for index in range(4)] == list(EMOTIONS)


def test_labels_are_numbered_as_given_and_human_text_has_no_errors_to_learn_from(tiny):
    names = ["sad", "angry", "neutral"]
    model, _ = build_model(replace(tiny, text_column="transcript"), names)
    assert model.config.id2label == dict(enumerate(names))
    assert model.config.label2id == {"sad": 0, "angry": 1, "neutral": 2}
    assert model.classifier.out_features == 3
    assert (model.detector, model.corrector) == (None, None)
    model, _ = build_model(replace(tiny, text_column="transcript", transcript_noise=0.2), names)
    assert None not in (model.detector, model.corrector)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ablation": "w/o everything"}, "w/o MIR"),
        ({"text_column": "subtitle"}, "hypothesis"),
        ({"model_options": "{fusion: concat"}, "JSON"),
        *(({"transcript_noise": rate}, "word error rate between 0 and 1.*leave it out") for rate in (0, 1, 20)),
    ],
)
def test_wrong_model_arguments(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        ModelArguments(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ablation": "w/o MIR", "model_options": {"use_adversarial": True}}, "use_adversarial=False"),
        ({"processor_options": {"target_dbfs": 3}}, "target_dbfs must be 0 or less"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(tiny, changes, message):
    options = {**tiny.model_options, **changes.pop("model_options", {})}
    with pytest.raises(ExperimentError, match=message):
        build_model(replace(tiny, **changes, model_options=options), EMOTIONS)


def test_what_reads_for_another_encoder_is_named_before_the_weights_are_loaded(tiny, tmp_path):
    """Other mel bands, and more tokens than there are vectors for."""
    speech, text = (
        shutil.copytree(part, tmp_path / Path(part).name) for part in (tiny.speech_encoder, tiny.text_encoder)
    )
    plan_model(replace(tiny, speech_encoder=str(speech), text_encoder=str(text)), EMOTIONS)
    WhisperFeatureExtractor(feature_size=2 * MEL_BINS).save_pretrained(speech)
    with pytest.raises(ExperimentError, match="its feature extractor is of another kind of model than its weights"):
        plan_model(replace(tiny, speech_encoder=str(speech)), EMOTIONS)
    tokenizer = AutoTokenizer.from_pretrained(text)
    tokenizer.add_tokens([f"word{number}" for number in range(100)])
    tokenizer.save_pretrained(text)
    with pytest.raises(ExperimentError, match=r"its tokenizer has \d+ tokens, and the model only 100"):
        plan_model(replace(tiny, text_encoder=str(text)), EMOTIONS)
