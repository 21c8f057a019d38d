"""The configuration: defaults, refused contradictions, and ablations that build with every shipped encoder."""

import ast
import re

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification
from tests.helpers.tiny import EMOTIONS, speech_config, text_config, tiny_config
from trainer.experiments.ablations import ABLATIONS


@pytest.mark.parametrize(
    ("switches", "named"),
    [
        ({"modalities": "speech"}, ["modalities", "fusion"]),
        ({"modalities": "text"}, ["modalities", "fusion"]),
        ({"fusion": "concat"}, ["fusion", "use_modality_specific", "use_modality_invariant"]),
        ({"use_modality_invariant": False}, ["use_adversarial", "use_modality_invariant"]),
        (
            {"use_modality_specific": False, "use_modality_invariant": False, "use_adversarial": False},
            ["use_modality_specific", "use_modality_invariant", "fusion"],
        ),
        ({**ABLATIONS["only speech"], "use_error_detection": True}, ["modalities", "use_error_detection"]),
        ({**ABLATIONS["only speech"], "use_error_correction": True}, ["modalities", "use_error_correction"]),
        ({**ABLATIONS["speech & text + concat"], "use_adversarial": True}, ["use_adversarial"]),
        ({"hidden_size": 25}, ["hidden_size", "num_attention_heads"]),
        ({"temperature": 0}, ["temperature"]),
        ({"calibration_temperature": 0.0}, ["calibration_temperature"]),
        ({"calibration_temperature": -1}, ["calibration_temperature"]),
        ({"calibration_temperature": float("nan")}, ["calibration_temperature"]),
        ({"correction_threshold": -0.1}, ["correction_threshold"]),
        ({"correction_threshold": float("nan")}, ["correction_threshold"]),
    ],
)
def test_impossible_combinations_name_their_switches(switches, named):
    with pytest.raises(ValueError, match=r"^Impossible M4SERConfig: ") as error:
        tiny_config(**switches)
    assert all(switch in str(error.value) for switch in named), str(error.value)


@pytest.mark.parametrize(
    "fields",
    [{"fusion": "sum"}, {"modalities": "video"}, {"discriminator_objective": "other"}, {"temperature": "cold"}],
)
def test_wrong_values_are_refused(fields):
    with pytest.raises(Exception, match=next(iter(fields))):
        tiny_config(**fields)


@pytest.mark.parametrize(
    ("kind", "speech", "text"), [("hubert", 768, 768), ("hubert", 1024, 768), ("whisper", 384, 384)]
)
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_builds_at_the_sizes_of_every_shipped_encoder(name, kind, speech, text):
    encoders = {"speech_config": speech_config(kind, speech), "text_config": text_config(size=text)}
    with torch.device("meta"):
        model = M4SERForEmotionClassification(M4SERConfig(**encoders, **ABLATIONS[name]))
    own = text if model.config.uses_text else speech
    assert model.config.hidden_size == model.classifier.in_features == own
    for attention in (m for m in model.modules() if isinstance(m, torch.nn.MultiheadAttention)):
        assert (attention.num_heads, attention.embed_dim) == (12, own)


def test_heads_must_divide_the_size_only_where_something_attends():
    nothing = {**ABLATIONS["speech & text + concat"], "hidden_size": 25}
    assert tiny_config(**nothing).hidden_size == 25
    for attends in (
        {"text_alignment": "attention"},
        {"use_error_correction": True},
        {"fusion": "m4ser", "use_modality_specific": True},
        {"fusion": "m4ser", "use_modality_invariant": True},
    ):
        with pytest.raises(ValueError, match="hidden_size=25 is not a multiple of num_attention_heads=4"):
            tiny_config(**{**nothing, **attends})
    alone = {**ABLATIONS["only text"], "hidden_size": 25, "text_alignment": "attention"}
    assert tiny_config(**alone).hidden_size == 25, "a model of one modality has nothing to align"


CLASSES = {0: "angry", 1: "sad"}


@pytest.mark.parametrize(
    "labels",
    [
        *({"id2label": names} for names in (CLASSES, {"1": "sad", "0": "angry"}, ["angry", "sad"], ("angry", "sad"))),
        {"id2label": np.array(["angry", "sad"]), "label2id": None},
        {"id2label": None, "label2id": {"sad": 1, "angry": "0"}},
        {"id2label": None, "label2id": {"sad": 1, "angry": 0}, "num_labels": 2},
        {"id2label": None, "label2id": ["angry", "sad"]},
        {"id2label": CLASSES, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
    ],
)
def test_classes_are_named_in_any_usual_form(labels):
    config = tiny_config(**{"label2id": None, **labels})
    renamed = tiny_config()
    renamed.id2label = config.id2label if labels["id2label"] is None else labels["id2label"]
    for each in (config, M4SERConfig.from_dict(config.to_dict()), renamed):
        assert list(each.id2label.items()) == list(CLASSES.items())
        assert each.label2id == {"angry": 0, "sad": 1}
        assert each.num_labels == 2


@pytest.mark.parametrize(
    "names",
    [
        *(
            {1: "angry", 2: "sad"},
            {0: "angry", 2: "sad"},
            {-1: "angry", 0: "sad"},
            {"angry": 0, "sad": 1},
            {},
            [],
            "as",
        ),
        *(["sad", "sad"], ["sad", "sad "], ["sad", ""], [0, 1], ["sad", None], {0: "angry", "0": "sad"}),
    ],
)
def test_classes_without_a_number_or_a_name_of_their_own_are_refused(names):
    config = tiny_config()
    message = rf"^id2label={re.escape(str(names))} must number the classes 0, 1, 2 … and give each a name of its own"
    with pytest.raises(ValueError, match=message):
        tiny_config(id2label=names, label2id=None)
    with pytest.raises(ValueError, match=message):
        config.id2label = names
    assert config.id2label == dict(enumerate(EMOTIONS))


def test_numbers_and_names_of_the_classes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"label2id=\{'angry': 1, 'sad': 0\} differ: leave label2id out"):
        tiny_config(id2label=CLASSES, label2id={"angry": 1, "sad": 0})
    with pytest.raises(ValueError, match="must number the classes 0"):
        tiny_config(id2label=None, label2id={"angry": 1, "sad": 2})


def test_defaults_are_recipe_a_and_table_i():
    config = M4SERConfig()
    assert (config.speech_config.model_type, config.text_config.model_type) == ("hubert", "bert")
    base = config.speech_config
    assert (base.hidden_size, base.num_hidden_layers, base.feat_extract_norm) == (768, 12, "group")
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (768, 12)
    assert (config.hidden_size, config.intermediate_size) == (768, 4 * 768)
    stated = re.findall(r"^ +(\w+) \(.*, defaults to `?(.*?)`?\):", M4SERConfig.__doc__, re.MULTILINE)
    assert len(stated) == 33
    assert {name: getattr(config, name) for name, _ in stated} == {n: ast.literal_eval(value) for n, value in stated}


def test_encoder_configurations_come_as_objects_or_dicts():
    given = AutoConfig.for_model("wavlm", hidden_size=32, num_attention_heads=2)
    config = M4SERConfig(speech_config=given, text_config={"model_type": "roberta", "hidden_size": 36})
    assert config.speech_config is given
    assert (config.text_config.model_type, config.hidden_size, config.intermediate_size) == ("roberta", 36, 144)
    again = M4SERConfig.from_dict(config.to_dict())
    assert again.speech_config.to_dict() == given.to_dict()
    assert again.hidden_size == 36
