"""The model of an experiment, built from its command line."""

from collections.abc import Sequence

from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import MAPPING_FIELDS, ModelArguments


def build_model(
    arguments: ModelArguments, emotions: Sequence[str]
) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
    """Build the model on pretrained encoders, with these classes, and its processor.

    Raises:
        ExperimentError: an encoder cannot be loaded, or options contradict each other or the encoder.
    """
    options, speech_options, text_options, processor_options = map(arguments.options, MAPPING_FIELDS)
    options = {**ABLATIONS[arguments.ablation], **options}
    if arguments.text_column == "transcript":
        # Human text has no ASR errors to learn from (Table VI).
        options |= {"use_error_detection": False, "use_error_correction": False}
    encoders = arguments.speech_encoder, arguments.text_encoder
    try:
        processor = M4SERProcessor.from_encoders_pretrained(*encoders, **processor_options)
        model = M4SERForEmotionClassification.from_encoders_pretrained(
            *encoders,
            speech_options=speech_options,
            text_options=text_options,
            id2label=dict(enumerate(emotions)),
            label2id={name: index for index, name in enumerate(emotions)},
            **options,
        )
        if arguments.freeze_speech_layers:
            model.freeze_speech_layers(arguments.freeze_speech_layers)
    except (OSError, ValueError) as error:
        raise ExperimentError(str(error)) from error
    if arguments.freeze_feature_encoder:
        model.freeze_feature_encoder()
    if arguments.freeze_speech_encoder:
        model.freeze_speech_encoder()
    if arguments.freeze_encoders:
        model.freeze_encoders()
    return model, processor
