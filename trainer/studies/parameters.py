"""How many parameters each part of a model has, for Table V, read from configurations alone.

Nothing heavy is imported on top, so that a command line lists the sizes at once.
"""

from collections.abc import Mapping
from typing import Any

from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
#: Size -> fields of the HuBERT and of the BERT configuration; hubert-base and bert-base are the library's defaults.
#: "large" is hubert-large beside bert-base, the encoders that the paper's Table V counts.
ENCODER_SIZES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "tiny": ({**_TINY, "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2}, _TINY),
    "base": ({}, {}),
    "large": ({**_LARGE, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}, {}),
}
#: Group -> the modules that it consists of.
MODULE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "speech encoder": ("m4ser.speech_encoder", "m4ser.speech_projection", "m4ser.speech_standardizer"),
    "text encoder": ("m4ser.text_encoder", "m4ser.text_projection", "m4ser.text_standardizer"),
    "joint": ("m4ser.fusion.aligner", "m4ser.fusion.joint_projection"),
    "MSR": tuple(
        f"m4ser.fusion.{pair}_key" for pair in ("text_query_speech", "speech_query_token", "speech_query_text")
    ),
    "MIR": ("m4ser.fusion.generator",),
    "classifier": ("classifier",),
    "detector": ("detector",),
    "corrector": ("corrector",),
    "discriminator": ("discriminator",),
}
#: Groups that inference does without, see `M4SERForEmotionClassification.drop_auxiliary_heads`.
TRAINING_ONLY = ("detector", "corrector", "discriminator")


def count_parameters(row: str, size: str, **options: Any) -> dict[str, int]:
    """Count the parameters of a row by the groups of `MODULE_GROUPS`, frozen ones too.

    What two groups share counts in the first. Options are further fields of `M4SERConfig`; four emotions are IEMOCAP's.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification

    hubert, bert = (
        AutoConfig.for_model(kind, **fields)
        for kind, fields in zip(("hubert", "bert"), ENCODER_SIZES[size], strict=True)
    )
    fields: dict[str, Any] = {"speech_config": hubert, "text_config": bert, "num_labels": 4}
    try:
        with torch.device("meta"):
            model = M4SERForEmotionClassification(M4SERConfig(**fields | ABLATIONS[row] | options))
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
