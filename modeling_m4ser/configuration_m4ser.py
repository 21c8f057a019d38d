"""Configuration of M4SER: encoders, hyperparameters (Table I) and the switches of the ablations (Table IV)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .losses_m4ser import LOSSES

AUTO_MAP = {
    "AutoConfig": "configuration_m4ser.M4SERConfig",
    "AutoModel": "modeling_m4ser.M4SERForEmotionClassification",
    "AutoModelForAudioClassification": "modeling_m4ser.M4SERForEmotionClassification",
}
PIPELINE_TASK = "speech-text-emotion-recognition"
_PIPELINE = {
    "impl": "pipeline_m4ser.SpeechTextEmotionPipeline",
    "pt": ["AutoModelForAudioClassification"],
    "type": "multimodal",
}
#: Under the Hub's name for the task, too: transformers' own pipeline has no place for the transcript.
CUSTOM_PIPELINES = {PIPELINE_TASK: _PIPELINE, "audio-classification": _PIPELINE}
USE_PIPELINE = (
    f"M4SER reads a recording and its transcript: use pipeline({PIPELINE_TASK!r}, model=…, trust_remote_code=True)."
)


@strict
class M4SERConfig(PreTrainedConfig):
    r"""Configuration of [`M4SERModel`] and [`M4SERForEmotionClassification`].

    The defaults are the paper's recipe A: hubert-base-ls960 and bert-base-uncased, d = 768, Table I's weights.

    Args:
        speech_config (`PreTrainedConfig` or `dict`, *optional*): speech encoder: hubert (default), wav2vec2, wavlm,
            data2vec-audio or whisper (only its encoder is used).
        text_config (`PreTrainedConfig` or `dict`, *optional*): text encoder; bert by default.
        hidden_size (`int`, *optional*): d, by default the text encoder's size (the speech encoder's where there is no
            text). A linear layer projects the vectors of an encoder of another size to d.
        num_attention_heads (`int`, defaults to 12): heads h of every cross-attention and of the correction decoder. d
            must be a multiple of it where the model has one of them.
        intermediate_size (`int`, *optional*): inner size of a cross-modal encoder's feed-forward part, by default 4 d.
        hidden_act (`str`, defaults to `"gelu"`): activation of that part.
        standardize_features (`bool`, defaults to `False`): whether to bring each dimension of the encoders' vectors to
            mean 0 and standard deviation 1, by statistics measured on the training data before training: a few
            dimensions of a pretrained encoder are a hundred times larger than the rest.
        frame_pooling (`int`, defaults to 1): how many consecutive frames of H_S, of 20 ms each, are averaged to one
            before they meet the text; 4 make the fusion four times cheaper.
        fusion_dropout (`float`, defaults to 0.1): dropout inside the fusion and the correction decoder.
        classifier_dropout (`float`, defaults to 0.5): dropout on H_ST^(ap), Table I.
        text_alignment (`"interpolate"` or `"attention"`, defaults to `"interpolate"`): how n token vectors become m
            frame vectors for H_S ∥ H_T in Eq. 11.
        generator_layers (`int`, defaults to 1): layers of the MIR generator G (Eq. 12-15); each starts from what the
            one before returned, the first from H_ST. Table V's count fits four.
        gate_prelu (`bool`, defaults to `False`): whether a PReLU stands between the convolution and the sigmoid of Eq.
            15, as the paper's prose says of its "Conv1d".
        correction_intermediate_size (`int`, defaults to 2048): inner size of the decoder's feed-forward part.
        tie_correction_output (`bool`, defaults to `False`): whether the text encoder's token embedding is also the
            correction decoder's output layer. Table V counts a separate one.
        discriminator_hidden_size (`int`, defaults to 256): inner size of the modality discriminator.
        discriminator_objective (`"modality"` or `"paper"`, defaults to `"modality"`): whether D maximises L_D alone or,
            as Algorithm 1 prints, L_D + L_G (Eq. 20), which has no upper bound.
        adversarial_reduction (`"sum"` or `"mean"`, defaults to `"sum"`): what γ weighs in Eq. 22: L_G summed over the
            frames of each utterance and averaged over utterances, or its mean over the frames of the batch. With the
            mean, γ = 0.01 leaves the generator too little of the gradient to keep up with D.
        contrastive_reduction (`"mean"` or `"sum"`, defaults to `"mean"`): of L_LCL (Eq. 21) over the anchors.
        auxiliary_weight (`float`, defaults to 0.1): α of Eq. 22.
        detection_weight (`float`, defaults to 3.0): β of Eq. 22.
        adversarial_weight (`float`, defaults to 0.01): γ of Eq. 22.
        contrastive_weight (`float`, defaults to 0.1): λ of Eq. 22.
        temperature (`float`, defaults to 0.07): τ of Eq. 21.
        contrastive_include_self (`bool`, defaults to `False`): whether A(i) of Eq. 21 holds the anchor i itself, as the
            paper's "all samples" says.
        modalities (`"speech_text"`, `"speech"` or `"text"`, defaults to `"speech_text"`): inputs of the model, Table IV
            A.
        fusion (`"m4ser"` or `"concat"`, defaults to `"m4ser"`): the paper's fusion module, or concatenation and one
            linear layer.
        use_modality_specific (`bool`, defaults to `True`): whether there is H_S^(spe) and H_T^(spe), Table IV B.
        use_modality_invariant (`bool`, defaults to `True`): whether there is H_ST^(inv), Table IV B.
        use_error_detection (`bool`, defaults to `True`): whether ASR errors are detected, Table IV C.
        use_error_correction (`bool`, defaults to `True`): whether ASR errors are corrected, Table IV C.
        use_adversarial (`bool`, defaults to `True`): whether there is a modality discriminator, Table IV D.
        use_contrastive (`bool`, defaults to `True`): whether the contrastive loss is part of Eq. 22, Table IV D.
        initializer_range (`float`, defaults to 0.02): standard deviation of the new layers' initial weights.
        calibration_temperature (`float`, defaults to 1.0): what the pipeline divides the logits by before the softmax.
            An experiment fits it on its validation data. The model's own `logits` are left alone.
        correction_threshold (`float`, defaults to 0.0): edits of a transcript that the model is less sure of are not
            made, see [`~correction_m4ser.TranscriptCorrection`]; 1 or more changes nothing.
        reject_below (`float`, defaults to 0.0): below this confidence an answer is "uncertain", see
            [`~decisions_m4ser.decide`]. An experiment fits it, and the next two, on its validation data.
        conformal_quantile (`float`, *optional*): the labels of a set are those whose probability is at least 1 minus
            this.
        ood_threshold (`float`, *optional*): where a sound lies beyond this distance from the training data an answer is
            "uncertain". The model has what measures it, [`~domain_m4ser.SoundDomain`], where this is given.
        id2label (`dict[int, str]` or `list[str]`, *optional*): the names of the classes, from number 0; LABEL_0 … by
            default. `label2id`, {name: number}, follows from it, and names the classes where it is given alone.

    Raises:
        ValueError: switches contradict each other, or numbers and names of the classes; the message names what to
            change.
    """

    model_type = "m4ser"
    sub_configs: ClassVar[Any] = {"speech_config": AutoConfig, "text_config": AutoConfig}
    # `Trainer.predict` gathers the logits alone.
    keys_to_ignore_at_inference: ClassVar = [
        *(f"{name}_loss" for name in LOSSES),
        "detection_logits",
        "pooled",
        "speech_hidden",
        "text_hidden",
        "speech_specific",
        "text_specific",
        "joint_hidden",
        "invariant",
        "frame_mask",
    ]

    if TYPE_CHECKING:
        # `__post_init__` fills these four in: whoever reads a configuration never finds None.
        speech_config: Any = None
        text_config: Any = None
        hidden_size: int = 0
        intermediate_size: int = 0
    else:
        speech_config: dict | PreTrainedConfig | None = None
        text_config: dict | PreTrainedConfig | None = None
        hidden_size: int | None = None
        intermediate_size: int | None = None
    num_attention_heads: int = 12
    hidden_act: str = "gelu"
    standardize_features: bool = False
    frame_pooling: int = 1
    fusion_dropout: float | int = 0.1
    classifier_dropout: float | int = 0.5
    text_alignment: Literal["interpolate", "attention"] = "interpolate"
    generator_layers: int = 1
    gate_prelu: bool = False
    correction_intermediate_size: int = 2048
    tie_correction_output: bool = False
    discriminator_hidden_size: int = 256
    discriminator_objective: Literal["modality", "paper"] = "modality"
    adversarial_reduction: Literal["sum", "mean"] = "sum"
    contrastive_reduction: Literal["mean", "sum"] = "mean"
    auxiliary_weight: float | int = 0.1
    detection_weight: float | int = 3.0
    adversarial_weight: float | int = 0.01
    contrastive_weight: float | int = 0.1
    temperature: float | int = 0.07
    contrastive_include_self: bool = False
    modalities: Literal["speech_text", "speech", "text"] = "speech_text"
    fusion: Literal["m4ser", "concat"] = "m4ser"
    use_modality_specific: bool = True
    use_modality_invariant: bool = True
    use_error_detection: bool = True
    use_error_correction: bool = True
    use_adversarial: bool = True
    use_contrastive: bool = True
    initializer_range: float = 0.02
    calibration_temperature: float | int = 1.0
    correction_threshold: float | int = 0.0
    reject_below: float | int = 0.0
    conformal_quantile: float | int | None = None
    ood_threshold: float | int | None = None

    def __post_init__(self, **kwargs):
        self.speech_config = _as_config(self.speech_config, "hubert")
        self.text_config = _as_config(self.text_config, "bert")
        if self.hidden_size is None:
            self.hidden_size = (self.text_config if self.uses_text else self.speech_config).hidden_size
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        if self.label2id is not None:
            given = self.label2id
            is_dict = isinstance(given, dict)
            names = _numbered({number: name for name, number in given.items()} if is_dict else given)
            if self.id2label is None:
                self.id2label = names
            # Other names are left from a model whose classes were renamed.
            elif names != self.id2label and set(names.values()) == set(self.id2label.values()):
                raise ValueError(f"id2label={self.id2label} and label2id={given} differ: leave label2id out.")
        kwargs.setdefault("auto_map", dict(AUTO_MAP))
        kwargs["custom_pipelines"] = {task: dict(spec) for task, spec in CUSTOM_PIPELINES.items()}
        super().__post_init__(**kwargs)
        self._check_switches()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; the names of the classes may come in any usual form, and are checked."""
        if name == "id2label" and value is not None:
            value = _class_names(value)
            super().__setattr__("label2id", {label: number for number, label in value.items()})
        super().__setattr__(name, value)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load a configuration, see [`~PreTrainedConfig.from_pretrained`]."""
        names_no_task = kwargs.get("_from_pipeline", "") is None
        loaded = super().from_pretrained(*args, **kwargs)
        if names_no_task:  # a pipeline that is not told its task takes the only one, of two it takes none
            config = loaded[0] if isinstance(loaded, tuple) else loaded
            config.custom_pipelines = {PIPELINE_TASK: dict(_PIPELINE)}
        return loaded

    @classmethod
    def from_encoders_pretrained(
        cls,
        speech_encoder: str,
        text_encoder: str,
        config: "M4SERConfig | None" = None,
        speech_options: dict | None = None,
        text_options: dict | None = None,
        **kwargs,
    ) -> "M4SERConfig":
        """Return the configuration of what [`M4SERForEmotionClassification.from_encoders_pretrained`] builds."""
        encoders = {
            "speech_config": AutoConfig.from_pretrained(speech_encoder, **(speech_options or {})),
            "text_config": AutoConfig.from_pretrained(text_encoder, **(text_options or {})),
        }
        return cls(**{**(config.to_dict() if config else {}), **encoders, **kwargs})

    @property
    def uses_speech(self) -> bool:
        """`bool`: whether speech is an input."""
        return self.modalities != "text"

    @property
    def uses_text(self) -> bool:
        """`bool`: whether the transcript is an input."""
        return self.modalities != "speech"

    def _check_switches(self) -> None:
        specific, invariant = self.use_modality_specific, self.use_modality_invariant
        aligner_attends = self.modalities == "speech_text" and self.text_alignment == "attention"
        attends = specific or invariant or self.use_error_correction or aligner_attends
        problems = {
            f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}": (
                attends and self.hidden_size % self.num_attention_heads
            ),
            f"modalities={self.modalities!r} leaves nothing to fuse: set fusion='concat'": (
                self.modalities != "speech_text" and self.fusion != "concat"
            ),
            "fusion='concat' has no modality-specific or -invariant representations: set use_modality_specific=False "
            "and use_modality_invariant=False": self.fusion == "concat" and (specific or invariant),
            "use_modality_specific=False and use_modality_invariant=False leave the fusion empty: set "
            "fusion='concat'": self.fusion == "m4ser" and not (specific or invariant),
            "use_adversarial=True needs the modality-invariant representation: set use_adversarial=False or "
            "use_modality_invariant=True": self.use_adversarial and not invariant,
            "modalities='speech' has no transcript to detect or correct errors in: set use_error_detection=False and "
            "use_error_correction=False": (
                not self.uses_text and (self.use_error_detection or self.use_error_correction)
            ),
            "generator_layers and frame_pooling must be at least 1": min(self.generator_layers, self.frame_pooling) < 1,
            "temperature and calibration_temperature must be positive": (
                not (self.temperature > 0 and self.calibration_temperature > 0)
            ),
            "correction_threshold must be 0 or more": not self.correction_threshold >= 0,
        }
        if found := [problem for problem, is_there in problems.items() if is_there]:
            raise ValueError("Impossible M4SERConfig: " + "; ".join(found) + ".")


def _numbered(names: Any) -> dict[int, Any]:
    """Return {number: name} in order, of such a dictionary or of names in order; nothing where numbers are none."""
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    try:
        return dict(sorted((int(number), name) for number, name in pairs))
    except (TypeError, ValueError):
        return {}


def _class_names(id2label: Any) -> dict[int, str]:
    """Return {number: name} of the classes; ValueError where they are not numbered from 0 or share a name."""
    names = {} if isinstance(id2label, str) else _numbered(id2label)
    different = {name.strip() for name in names.values() if isinstance(name, str) and name.strip()}
    if not names or list(names) != list(range(len(id2label))) or len(different) != len(names):
        raise ValueError(
            f"id2label={id2label} must number the classes 0, 1, 2 … and give each a name of its own: pass the list of "
            "names, e.g. id2label=['angry', 'happy', 'sad'], and number the labels of the data in the same way."
        )
    return names


def _as_config(config: dict | PreTrainedConfig | None, default_model_type: str) -> PreTrainedConfig:
    """Return an encoder's configuration as an object of its own class."""
    if isinstance(config, PreTrainedConfig):
        return config
    config = dict(config or {})
    model_type = config.pop("model_type", default_model_type)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"Unknown encoder model_type {model_type!r} in M4SERConfig; transformers does not know it.")
    return CONFIG_MAPPING[model_type](**config)
