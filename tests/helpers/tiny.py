"""Tiny random encoders, models, processors and ragged batches, for every test that needs some."""

import string
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    BertTokenizerFast,
    PreTrainedConfig,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification, M4SERProcessor

EMOTIONS = ("angry", "happy", "neutral", "sad")
SIZE = 24
VOCABULARY = 100
MEL_BINS = 16
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("i", "can", "believe", "it", "am", "so", "happy", "sad", "not", "the", "you", "we", "go", "home", "now")

#: Encoders that run a padded batch in one pass.
SPEECH_KINDS = ("hubert", "wav2vec2", "wavlm", "whisper")
#: Encoders that read the padding, so that they run utterances of one length at a time in evaluation mode.
EQUAL_LENGTH_KINDS = (
    "hubert-group",
    "wav2vec2-group",
    "wavlm-group",
    "hubert-batch-norm",
    "wav2vec2-adapter",
    "data2vec-audio",
    "wav2vec2-conformer",
)
TEXT_KINDS = ("bert", "roberta")


def speech_config(kind: str = "hubert", size: int = SIZE, **overrides: Any) -> PreTrainedConfig:
    """A tiny speech encoder, one of SPEECH_KINDS or EQUAL_LENGTH_KINDS; "hubert-group" is hubert-base's kind.

    Waveform encoders have the public models' strides: 400 samples for the first frame, 320 for each further one.
    """
    if kind == "whisper":
        fields = {"d_model": size, "num_mel_bins": MEL_BINS, "vocab_size": VOCABULARY}
        fields |= {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
        fields |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
        fields |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
        return AutoConfig.for_model("whisper", **{**fields, **overrides})
    family, group_norm = kind, kind.endswith("-group")
    fields = {
        **LAYERS,
        "hidden_size": size,
        "conv_dim": [8] * 7,
        "conv_bias": not group_norm,
        "feat_extract_norm": "group" if group_norm else "layer",
        "do_stable_layer_norm": not group_norm,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "layerdrop": 0.0,
        "vocab_size": 32,
    }
    if kind == "data2vec-audio":
        fields = {**fields, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}
        del fields["do_stable_layer_norm"], fields["feat_extract_norm"]
    for ending, options in {
        "-group": {},
        "-batch-norm": {"conv_pos_batch_norm": True},
        "-adapter": {"add_adapter": True, "output_hidden_size": size},
    }.items():
        if kind.endswith(ending):
            family, fields = kind.removesuffix(ending), {**fields, **options}
    return AutoConfig.for_model(family, **{**fields, **overrides})


def text_config(kind: str = "bert", size: int = SIZE, **overrides: Any) -> PreTrainedConfig:
    """A tiny text encoder, "bert" or "roberta"."""
    fields = {**LAYERS, "hidden_size": size, "vocab_size": VOCABULARY, "max_position_embeddings": 66}
    return AutoConfig.for_model(kind, **{**fields, **overrides})


def tiny_config(speech: str = "hubert", text: str = "bert", **overrides: Any) -> M4SERConfig:
    """A tiny M4SERConfig; `overrides` are its fields, `ABLATIONS` rows among them."""
    labels = dict(enumerate(EMOTIONS))
    fields = {
        "speech_config": speech_config(speech),
        "text_config": text_config(text),
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "correction_intermediate_size": 40,
        "discriminator_hidden_size": 16,
        "id2label": labels,
        "label2id": {name: index for index, name in labels.items()},
    }
    return M4SERConfig(**{**fields, **overrides})


def tiny_model(
    speech: str = "hubert", text: str = "bert", seed: int = 0, spread: bool = False, **overrides: Any
) -> M4SERForEmotionClassification:
    """A tiny model in evaluation mode, the same for the same arguments.

    Args:
        spread: give every parameter of the fusion and the heads, biases and norms too, values far from their initial
            ones: attention is then far from uniform, and nothing is zero or one by accident.
    """
    torch.manual_seed(seed)
    model = M4SERForEmotionClassification(tiny_config(speech, text, **overrides)).eval()
    if spread:
        for name, parameter in model.named_parameters():
            if "_encoder." not in name:
                norm_weight = "norm" in name and name.endswith("weight")
                torch.nn.init.normal_(parameter, mean=float(norm_weight), std=0.3)
    return model


def parameters_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of a model's parameters by name, to compare with later."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def tiny_tokenizer(folder: Path) -> BertTokenizerFast:
    """A WordPiece tokenizer over ASCII letters, digits and a few words; ids below VOCABULARY."""
    characters = string.ascii_lowercase + string.digits[:6] + "'"
    pieces = [*SPECIAL, *characters, *("##" + letter for letter in string.ascii_lowercase), *WORDS]
    pieces = list(dict.fromkeys(pieces))
    pieces += [f"[unused{i}]" for i in range(VOCABULARY - len(pieces))]
    file = Path(folder) / "vocab.txt"
    file.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return BertTokenizerFast.from_pretrained(folder, model_max_length=64)


def tiny_processor(tmp_path: Path, kind: str = "hubert", **kwargs: Any) -> M4SERProcessor:
    """A processor for `tiny_model(kind)`; `kwargs` go to M4SERProcessor."""
    if kind == "whisper":
        extractor = WhisperFeatureExtractor(feature_size=MEL_BINS)
    else:
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=kind != "hubert-group")
    return M4SERProcessor(extractor, tiny_tokenizer(tmp_path), **kwargs)


def tiny_pretrained(folder: Path, kind: str = "hubert", **overrides: Any) -> Path:
    """A folder with a tiny model and its processor, as training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(kind, spread=True, **overrides).save_pretrained(folder)
    tiny_processor(folder, kind).save_pretrained(folder)
    return folder


def ragged_batch(
    model: M4SERForEmotionClassification,
    samples: tuple[int, ...] = (4000, 2500, 5210),
    tokens: tuple[int, ...] = (5, 9, 7),
    with_labels: bool = True,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Inputs of different lengths, right-padded as the processor does, and with labels of every kind the model takes.

    Args:
        samples: at 16 kHz, of each utterance; Whisper gets one mel frame for each 160 of them.
        tokens: word pieces of each transcript, the special ones at both ends included.
        with_labels: add `labels`, `detection_labels` and `correction_labels`: one CHANGE in every transcript over
            3 tokens, two in the longest.
    """
    generator = torch.Generator().manual_seed(seed)
    config, dtype, size = model.config, model.dtype, len(samples)
    batch: dict[str, torch.Tensor] = {}
    if config.uses_speech:
        if config.speech_config.model_type == "whisper":
            lengths = [max(1, count // 160) for count in samples]
            name, shape = "input_features", (size, config.speech_config.num_mel_bins, max(lengths))
        else:
            lengths, name, shape = list(samples), "input_values", (size, max(samples))
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        mask = torch.zeros(size, max(lengths), dtype=torch.long)
        for row, length in enumerate(lengths):
            mask[row, :length] = 1
            values[row, ..., length:] = 0
        batch |= {name: values.to(dtype), "speech_attention_mask": mask}
    if config.uses_text:
        first, last, pad = (0, 2, 1) if config.text_config.model_type == "roberta" else (2, 3, 0)
        ids = torch.full((size, max(tokens)), pad)
        for row, length in enumerate(tokens):
            ids[row, 0], ids[row, length - 1] = first, last
            ids[row, 1 : length - 1] = torch.randint(5, VOCABULARY, (length - 2,), generator=generator)
        batch |= {"input_ids": ids, "text_attention_mask": (ids != pad).long()}
        if with_labels:
            batch |= edit_labels(ids, tokens, last, generator)
    if with_labels:
        batch["labels"] = torch.arange(size) % 2
    return batch


def edit_labels(
    ids: torch.Tensor, tokens: tuple[int, ...], end: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Random detection labels, and targets of one to three pieces and ⟨EOS⟩ for their CHANGE positions."""
    detection = torch.full_like(ids, -100)
    correction = torch.full((*ids.shape, 4), -100)
    for row, length in enumerate(tokens):
        inner = length - 2
        detection[row, 1 : 1 + inner] = torch.randint(0, 2, (inner,), generator=generator)
        changes = [1] * (inner > 1) + [inner] * (inner > 1 and length == max(tokens))
        for place in changes:
            detection[row, place] = 2
            pieces = int(torch.randint(1, 4, (), generator=generator))
            correction[row, place, :pieces] = torch.randint(5, VOCABULARY, (pieces,), generator=generator)
            correction[row, place, pieces] = end
    return {"detection_labels": detection, "correction_labels": correction}


def take(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Row `row` of a batch as a batch of one without padding; labels go."""
    single = {name: value[row : row + 1] for name, value in batch.items() if "label" not in name}
    for mask, names in (
        ("speech_attention_mask", ("input_values", "input_features", "speech_attention_mask")),
        ("text_attention_mask", ("input_ids", "text_attention_mask")),
    ):
        if mask in batch:
            length = int(batch[mask][row].sum())
            single |= {name: single[name][..., :length] for name in names if name in single}
    return single
