"""The model of an experiment, built from its command line."""

import difflib
from collections.abc import Mapping, Sequence
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
from transformers import MODEL_MAPPING, AutoConfig, PreTrainedConfig

from data_scripts.checkpoints import has_weights, is_missing_folder
from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.encoders_m4ser import speech_encoder_class
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import ModelArguments


def build_model(
    arguments: ModelArguments, emotions: Sequence[str]
) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
    """Build the model on pretrained encoders, with these classes, and its processor.

    Raises:
        ExperimentError: see `plan_model`.
    """
    _, processor = plan_model(arguments, emotions)
    try:
        model = M4SERForEmotionClassification.from_encoders_pretrained(
            arguments.speech_encoder, arguments.text_encoder, **_options(arguments, emotions)
        )
    except (OSError, ValueError) as error:
        raise ExperimentError(str(error)) from error
    _freeze(model, arguments)
    return model, processor


def plan_model(
    arguments: ModelArguments, emotions: Sequence[str]
) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
    """Return what `build_model` would, from the encoders' small files alone: the model's weights are not there.

    Raises:
        ExperimentError: an encoder is not there, is of the wrong kind or does not go with its tokenizer or feature
            extractor, or options are unknown or contradict each other or the encoder.
    """
    encoders, options = (arguments.speech_encoder, arguments.text_encoder), _options(arguments, emotions)
    try:
        config = _read_config(arguments, options)
        _check_options(arguments, config)
        _check_speech_encoder(arguments, config)
        if config.uses_text:
            _check_text_encoder(arguments, config.text_config)
        processor = M4SERProcessor.from_encoders_pretrained(*encoders, **arguments.options("processor_options"))
        with torch.device("meta"):
            model = M4SERForEmotionClassification(config)
        _freeze(model, arguments)
        _check_processor(arguments, config, processor)
        if model.corrector is not None:
            _ = model.m4ser.text_encoder.embeddings  # pyright: ignore (what corrects reads text)
    except (OSError, ValueError) as error:
        raise ExperimentError(str(error)) from error
    return model, processor


def _options(arguments: ModelArguments, emotions: Sequence[str]) -> dict[str, Any]:
    """What makes the configuration, beside the names of the encoders."""
    options = {**ABLATIONS[arguments.ablation], **arguments.options("model_options")}
    if arguments.text_column == "transcript" and arguments.transcript_noise is None:
        # Human text has no ASR errors to learn from (Table VI).
        options |= {"use_error_detection": False, "use_error_correction": False}
    return {
        "speech_options": arguments.options("speech_options"),
        "text_options": arguments.options("text_options"),
        "id2label": dict(enumerate(emotions)),
        "label2id": {name: index for index, name in enumerate(emotions)},
        **options,
    }


def _read_config(arguments: ModelArguments, options: Mapping[str, Any]) -> M4SERConfig:
    encoders = {name: getattr(arguments, name) for name in ("speech_encoder", "text_encoder")}
    for option, name in encoders.items():
        try:
            AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            reason = "there is no such folder." if is_missing_folder(name) else str(error).splitlines()[0]
            raise ExperimentError(f"--{option} {name} cannot be loaded: {reason}") from error
    try:
        return M4SERConfig.from_encoders_pretrained(**encoders, **options)
    except AttributeError as error:  # several models in one, such as CLIP
        raise ExperimentError(f"{' or '.join(encoders.values())} is no encoder of one modality: {error}") from error


def _freeze(model: M4SERForEmotionClassification, arguments: ModelArguments) -> None:
    """Stop training what the command line says."""
    if arguments.freeze_speech_layers:
        model.freeze_speech_layers(arguments.freeze_speech_layers)
    if arguments.freeze_feature_encoder:
        model.freeze_feature_encoder()
    if arguments.freeze_speech_encoder:
        model.freeze_speech_encoder()
    if arguments.freeze_encoders:
        model.freeze_encoders()


def _check_options(arguments: ModelArguments, config: M4SERConfig) -> None:
    """Raise for a field that a configuration does not have: the library takes any name without a word."""
    usual: dict[str, Any] = {
        "model_options": M4SERConfig(),
        "speech_options": type(config.speech_config)(),
        "text_options": type(config.text_config)(),
        "processor_options": SimpleNamespace(**dict.fromkeys(signature(M4SERProcessor).parameters)),
    }
    for option, fields in usual.items():
        for name in arguments.options(option):
            if not hasattr(fields, name) and name != "attn_implementation":
                alike = difflib.get_close_matches(name, vars(fields), 1)
                hint = f": did you mean {alike[0]!r}?" if alike else "."
                raise ExperimentError(f"--{option} has no field {name!r}{hint}")


def _check_speech_encoder(arguments: ModelArguments, config: M4SERConfig) -> None:
    name = arguments.speech_encoder
    try:
        speech_encoder_class(config.speech_config)
    except ValueError as error:
        raise ExperimentError(f"--speech_encoder {name}: {error}") from None
    if config.uses_speech:
        _check_weights("speech_encoder", name)


def _check_text_encoder(arguments: ModelArguments, config: PreTrainedConfig) -> None:
    name, remedy = arguments.text_encoder, "use a BERT-like one, such as google-bert/bert-base-uncased."
    reads = getattr(MODEL_MAPPING.get(type(config), None), "main_input_name", "no input_ids")
    if reads != "input_ids" or not hasattr(config, "vocab_size"):
        raise ExperimentError(f"--text_encoder {name} is a {config.model_type} model, which reads {reads}: {remedy}")
    _check_weights("text_encoder", name)


def _check_weights(option: str, name: str) -> None:
    if not has_weights(name):
        raise ExperimentError(f"--{option} {name}: its configuration is there, but none of its weights.")


def _check_processor(arguments: ModelArguments, config: M4SERConfig, processor: M4SERProcessor) -> None:
    """Raise where the feature extractor or the tokenizer is of another model than its encoder."""
    expected = speech_encoder_class(config.speech_config).input_name
    bins, wanted = getattr(processor.feature_extractor, "feature_size", 1), config.speech_config
    if processor.speech_input_name != expected or bins != getattr(wanted, "num_mel_bins", 1):
        raise ExperimentError(
            f"--speech_encoder {arguments.speech_encoder}: its feature extractor is of another kind of model than its "
            f"weights ({type(processor.feature_extractor).__name__}, {wanted.model_type})."
        )
    if not config.uses_text:
        return
    tokenizer, name = processor.tokenizer, f"--text_encoder {arguments.text_encoder}"
    ids, special = tokenizer("a")["input_ids"], set(tokenizer.all_special_ids)
    if len(tokenizer) <= len(special):
        raise ExperimentError(f"{name}: its tokenizer has no vocabulary; tokenizer.json or vocab.txt is missing there.")
    corrects = config.use_error_detection or config.use_error_correction
    if len(ids) < 2 or not {ids[0], ids[-1]} <= special or (corrects and tokenizer.sep_token_id != ids[-1]):
        raise ExperimentError(
            f"{name}: its tokenizer does not put special tokens at both ends of a text, as [CLS] and [SEP], which "
            "M4SER reads: use a BERT-like one, such as google-bert/bert-base-uncased."
        )
    if len(tokenizer) > config.text_config.vocab_size:
        raise ExperimentError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens, and the model only {config.text_config.vocab_size}: "
            "one of them is of another model."
        )
