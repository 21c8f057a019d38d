"""How many parameters each part of a model has, for Table V; nothing is downloaded, and no weight is made.

This file imports nothing heavy, so that a command line can list the sizes before it loads a model library.
"""

from collections.abc import Mapping
from typing import Any

from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS

_BASE: dict[str, Any] = {}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
#: Size -> fields of the HuBERT and of the BERT configuration; hubert-base and bert-base are the library's defaults.
#: "large" is hubert-large beside bert-base, the encoders that the paper's Table V counts.
ENCODER_SIZES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "tiny": ({**_TINY, "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2}, _TINY),
    "base": (_BASE, _BASE),
    "large": ({**_LARGE, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}, _BASE),
}
#: Group -> the modules that it consists of.
MODULE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "speech encoder": ("m4ser.speech_encoder", "m4ser.speech_projection", "m4ser.speech_standardizer"),
    "text encoder": ("m4ser.text_encoder", "m4ser.text_projection", "m4ser.text_standardizer"),
    "joint": ("m4ser.fusion.aligner", "m4ser.fusion.joint_projection"),
    "MSR": (
        "m4ser.fusion.text_query_speech_key",
        "m4ser.fusion.speech_query_token_key",
        "m4ser.fusion.speech_query_text_key",
    ),
    "MIR": ("m4ser.fusion.generator",),
    "classifier": ("classifier",),
    "detector": ("detector",),
    "corrector": ("corrector",),
    "discriminator": ("discriminator",),
}
#: Groups that inference does without, see `M4SERForEmotionClassification.drop_auxiliary_heads`.
TRAINING_ONLY = ("detector", "corrector", "discriminator")


def count_parameters(row: str, size: str, num_labels: int = 4, **options: Any) -> dict[str, int]:
    """Count the parameters of a model by the groups of `MODULE_GROUPS`, those that are frozen too.

    Args:
        row: of `ABLATIONS`.
        size: of `ENCODER_SIZES`.
        num_labels: emotions; four of IEMOCAP.
        options: further fields of [`modeling_m4ser.M4SERConfig`], e.g. `generator_layers`.

    Returns:
        Group -> parameters; 0 where the row leaves it out. What two groups share counts in the first.

    Raises:
        ExperimentError: the options contradict each other, or are none.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification

    speech, text = ENCODER_SIZES[size]
    encoders = {
        "speech_config": AutoConfig.for_model("hubert", **speech),
        "text_config": AutoConfig.for_model("bert", **text),
    }
    try:
        fields: dict[str, Any] = {**encoders, "num_labels": num_labels, **ABLATIONS[row], **options}
        config = M4SERConfig(**fields)
        with torch.device("meta"):
            model = M4SERForEmotionClassification(config)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ExperimentError(str(error)) from error
    groups = {f"{module}.": group for group, modules in MODULE_GROUPS.items() for module in modules}
    counts = dict.fromkeys(MODULE_GROUPS, 0)
    for name, parameter in model.named_parameters():
        (group,) = (group for prefix, group in groups.items() if name.startswith(prefix))
        counts[group] += parameter.numel()
    return counts


def inference_parameters(counts: Mapping[str, int]) -> int:
    """Return how many of what `count_parameters` counted inference needs."""
    return sum(count for group, count in counts.items() if group not in TRAINING_ONLY)
