"""M4SER in transformers' terms: the bare model, and the model with its heads for emotion classification."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from .configuration_m4ser import CUSTOM_PIPELINES, USE_PIPELINE, M4SERConfig
from .correction_m4ser import CorrectionDecoder, TranscriptCorrection, correct
from .domain_m4ser import SoundDomain, forget_unknown_domain
from .encoders_m4ser import FeatureStandardizer, SpeechEncoder, TextEncoder, make_adapters, speech_encoder_class
from .fusion_m4ser import M4SERModelOutput, ModalityDiscriminator, MultimodalFusion, average_frames, masked_mean
from .losses_m4ser import LOSSES, at_least_float32, gather_across_processes, label_contrastive_loss, token_cross_entropy
from .saving_m4ser import add_code_and_card

if TYPE_CHECKING:
    # `trust_remote_code` reads these lines without running them: it fetches every file that this one imports, and these
    # bring in the rest. `save_pretrained` then finds all files beside this one.
    from .export_m4ser import export_onnx  # noqa: F401
    from .pipeline_m4ser import SpeechTextEmotionPipeline  # noqa: F401
    from .processing_m4ser import M4SERProcessor  # noqa: F401
    from .runtime_m4ser import OnnxPipeline  # noqa: F401


class M4SERPreTrainedModel(PreTrainedModel):
    """What [`M4SERModel`] and [`M4SERForEmotionClassification`] share: configuration, loading, saving."""

    config: M4SERConfig
    config_class = M4SERConfig
    base_model_prefix = "m4ser"
    main_input_name = "input_values"
    input_modalities: ClassVar = ["audio", "text"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules: ClassVar = ["CrossModalEncoder", "HybridModalAttention", "CorrectionDecoder"]
    # The adversarial game is unstable in half precision, and D is small; distances are sums of large squares.
    _keep_in_fp32_modules_strict: ClassVar = ["discriminator", "sound_domain"]
    # Of models with a former distance: see `forget_unknown_domain`.
    _keys_to_ignore_on_load_missing, _keys_to_ignore_on_load_unexpected = ["sound_domain"], ["ood_scorer"]
    # The losses are means: `forward` has no use for the Trainer's `num_items_in_batch`.
    accepts_loss_kwargs = False

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, SpeechEncoder) and module.layer_weights is not None:
            init.zeros_(module.layer_weights)
        elif isinstance(module, FeatureStandardizer):
            init.zeros_(module.mean)
            init.ones_(module.deviation)
        elif isinstance(module, SoundDomain):
            init.zeros_(module.mean)
            init.zeros_(module.whitening)

    #: The folder that the model was loaded from, where its card tells of it: until it is trained.
    _card_folder: Path | None = None

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load a model as transformers does, see [`~PreTrainedModel.from_pretrained`]."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.config.custom_pipelines = {task: dict(spec) for task, spec in CUSTOM_PIPELINES.items()}  # all are saved
        for module in model.modules():
            # transformers makes every parameter it loads trainable.
            if isinstance(module, TextEncoder):
                module.freeze_pooler()
        if model.base_model is not model:  # a card is of a model with its heads
            source = args[0] if args else kwargs["pretrained_model_name_or_path"]
            model._card_folder = Path(source, kwargs.get("subfolder") or "")
            forget_unknown_domain(model)
        return loaded

    def train(self, mode: bool = True) -> "M4SERPreTrainedModel":
        """Change between training and evaluation. A model that is trained is another than its card tells of."""
        self._card_folder = None if mode else self._card_folder
        return super().train(mode)

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """Save the weights, the configuration and the code, see [`~PreTrainedModel.save_pretrained`].

        With its code, the folder works with `trust_remote_code=True` where this package is not installed. Where the
        model was loaded from a folder and not trained since, its card, results, figures and processor go along.
        """
        super().save_pretrained(save_directory, *args, **kwargs)
        if not kwargs.get("push_to_hub"):  # or it was done before the upload
            add_code_and_card(Path(save_directory), self._card_folder)

    def _upload_modified_files(self, working_dir: str, repo_id: str, *args, **kwargs) -> Any:
        # The last step of both ways to the Hub, which have just written a card that is a form to fill in.
        add_code_and_card(Path(working_dir), self._card_folder, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    @property
    def _encoders(self) -> tuple[Any, Any]:
        """The speech and the text encoder, each None where it is no input."""
        return self.base_model.speech_encoder, self.base_model.text_encoder

    def get_input_embeddings(self) -> nn.Module:
        """Return the text encoder's token embedding, or the speech encoder's front end where there is no text."""
        speech_encoder, text_encoder = self._encoders
        return (text_encoder or speech_encoder).model.get_input_embeddings()

    def freeze_feature_encoder(self) -> None:
        """Stop training the front end of the speech encoder, i.e. its convolutions."""
        if (encoder := self._encoders[0]) is not None:
            encoder.freeze_feature_encoder()

    def freeze_speech_layers(self, count: int) -> None:
        """Stop training the speech encoder, but for its transformer layers above the lowest `count`."""
        if (encoder := self._encoders[0]) is not None:
            encoder.freeze_layers(count)

    def freeze_speech_encoder(self) -> None:
        """Stop training the speech encoder; the weights of `use_weighted_layer_sum` go on learning."""
        if (encoder := self._encoders[0]) is not None:
            encoder.freeze()

    def freeze_encoders(self) -> None:
        """Stop training both encoders: only the fusion and the heads learn."""
        for encoder in self._encoders:
            if encoder is not None:
                encoder.freeze()


class M4SERModel(M4SERPreTrainedModel):
    """The bare model, Eq. 1 and 8-17: two encoders, a standardizer and a projection to d for each, and the fusion.

    The encoder of a modality that is no input is None, and a model of one modality has no fusion. A standardizer or
    projection that is not needed is an `nn.Identity`.
    """

    def __init__(self, config: M4SERConfig):
        super().__init__(config)
        self.speech_encoder: SpeechEncoder | None = None
        self.text_encoder: TextEncoder | None = None
        if config.uses_speech:
            self.speech_encoder = speech_encoder_class(config.speech_config).from_config(config.speech_config)
        self.speech_projection, self.speech_standardizer = make_adapters(self.speech_encoder, config)
        if config.uses_text:
            self.text_encoder = TextEncoder.from_config(config.text_config)
        self.text_projection, self.text_standardizer = make_adapters(self.text_encoder, config)
        self.fusion = MultimodalFusion(config) if config.modalities == "speech_text" else None
        self.post_init()

    def standardizers(self) -> dict[str, FeatureStandardizer]:
        """Return the standardizers that exist, under "speech" and "text"; none without `standardize_features`."""
        modules = {"speech": self.speech_standardizer, "text": self.text_standardizer}
        return {name: module for name, module in modules.items() if isinstance(module, FeatureStandardizer)}

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        speech_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        text_attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        return_dict: bool | None = None,
        speech_states: torch.Tensor | None = None,
    ) -> M4SERModelOutput | tuple:
        """Encode and fuse a batch of utterances.

        Args:
            input_values (`torch.Tensor` of shape `(B, samples)`, *optional*): 16 kHz samples, for waveform encoders.
            speech_attention_mask (`torch.Tensor` of shape `(B, samples)` or `(B, T)`, *optional*): 1 on valid places.
                Without it all are valid.
            input_ids (`torch.Tensor` of shape `(B, n)`, *optional*): word pieces of the ASR transcript.
            text_attention_mask (`torch.Tensor` of shape `(B, n)`, *optional*): 1 on valid word pieces. Without it all
                are valid.
            input_features (`torch.Tensor` of shape `(B, mel, T)`, *optional*): log-mel frames, for Whisper's encoder.
            return_dict (`bool`, *optional*): whether to return an [`M4SERModelOutput`] or a tuple.
            speech_states (`torch.Tensor` of shape `(B, layers, m, d_S)`, *optional*): what the speech encoder's
                `encode` gave earlier, in the place of its input. `speech_attention_mask` is then `(B, m)`.

        Returns:
            [`M4SERModelOutput`] or `tuple`.

        Raises:
            ValueError: an input that the configuration needs is missing.
        """
        if self.speech_encoder is None:
            hidden, mask = self.encode_text(input_ids, text_attention_mask)
            output = M4SERModelOutput(pooled=masked_mean(hidden, mask), text_hidden=hidden, frame_mask=mask)
        else:
            hidden, mask = self.encode_speech(input_values, input_features, speech_attention_mask, speech_states)
            if self.fusion is None:
                output = M4SERModelOutput(pooled=masked_mean(hidden, mask), speech_hidden=hidden, frame_mask=mask)
            else:
                output = self.fusion(hidden, mask, *self.encode_text(input_ids, text_attention_mask))
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def encode_speech(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        speech_attention_mask: torch.Tensor | None,
        speech_states: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute H_S (B, m, d), standardized, projected, its frames pooled, and its mask, from inputs of `forward`."""
        if self.speech_encoder is None:
            raise ValueError("This M4SER model has no speech encoder (modalities='text').")
        name = self.speech_encoder.input_name
        inputs = {"input_values": input_values, "input_features": input_features}[name]
        if speech_states is not None:
            hidden, mask = self.speech_encoder.combine_states(speech_states, speech_attention_mask)
        elif inputs is None:
            raise ValueError(
                f"This M4SER model needs `{name}` (its speech encoder is a {self.config.speech_config.model_type})."
            )
        else:
            if speech_attention_mask is None:
                shape = inputs.shape[0], inputs.shape[-1]
                speech_attention_mask = torch.ones(shape, dtype=torch.long, device=inputs.device)
            hidden, mask = self.speech_encoder(inputs, speech_attention_mask)
        adapted = self.speech_projection(self.speech_standardizer(hidden))
        return average_frames(adapted, mask, self.config.frame_pooling)

    def encode_text(
        self, input_ids: torch.Tensor | None, text_attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute H_T (B, n, d), standardized and projected, and its boolean mask (B, n), from inputs of `forward`."""
        if self.text_encoder is None:
            raise ValueError("This M4SER model has no text encoder (modalities='speech').")
        if input_ids is None:
            raise ValueError(f"This M4SER model needs `input_ids`, word pieces. In a pipeline, {USE_PIPELINE}")
        if text_attention_mask is None:
            text_attention_mask = torch.ones_like(input_ids)
        hidden, mask = self.text_encoder(input_ids, text_attention_mask)
        return self.text_projection(self.text_standardizer(hidden)), mask


@dataclass
class M4SEROutput(ModelOutput):
    """Output of [`M4SERForEmotionClassification`]: its losses and scores, then the fields of [`M4SERModelOutput`].

    Args:
        loss (`torch.Tensor` of shape `()`): Eq. 22 over the labels that were given, without its adversarial part.
        logits (`torch.Tensor` of shape `(B, e)`): emotion scores before the softmax, Eq. 18.
        emotion_loss (`torch.Tensor` of shape `()`): L_ER, Eq. 19.
        detection_loss (`torch.Tensor` of shape `()`): L_AED, Eq. 3.
        correction_loss (`torch.Tensor` of shape `()`): L_AEC, Eq. 7.
        contrastive_loss (`torch.Tensor` of shape `()`): L_LCL, Eq. 21.
        detection_logits (`torch.Tensor` of shape `(B, n, 3)`): KEEP / DELETE / CHANGE scores, Eq. 2; only with
            `detection_labels`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    emotion_loss: torch.Tensor | None = None
    detection_loss: torch.Tensor | None = None
    correction_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    detection_logits: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    speech_hidden: torch.Tensor | None = None
    text_hidden: torch.Tensor | None = None
    speech_specific: torch.Tensor | None = None
    text_specific: torch.Tensor | None = None
    joint_hidden: torch.Tensor | None = None
    invariant: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None


class M4SERForEmotionClassification(M4SERPreTrainedModel):
    """M4SER: emotion recognition (Eq. 18-19) with error detection, error correction and contrastive learning.

    It also holds the modality discriminator, which [`trainer.M4SERTrainer`] trains against the rest. Without labels
    only the emotion branch runs: detection, correction and the discriminator cost nothing.
    """

    def __init__(self, config: M4SERConfig):
        super().__init__(config)
        size = config.hidden_size
        self.m4ser = M4SERModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(size, config.num_labels)  # pyright: ignore[reportArgumentType]
        self.detector = nn.Linear(size, 3) if config.use_error_detection else None
        self.corrector = CorrectionDecoder(config) if config.use_error_correction else None
        self.discriminator = ModalityDiscriminator(config) if config.use_adversarial else None
        self.sound_domain = None if config.ood_threshold is None else SoundDomain()
        self.post_init()

    @classmethod
    def from_encoders_pretrained(
        cls,
        speech_encoder: str,
        text_encoder: str,
        config: M4SERConfig | None = None,
        speech_options: dict | None = None,
        text_options: dict | None = None,
        **kwargs,
    ) -> "M4SERForEmotionClassification":
        """Build a model from pretrained encoders, with a new fusion and new heads.

        Args:
            speech_encoder (`str`): Hub name or folder of a hubert, wav2vec2, wavlm, data2vec-audio or whisper model.
            text_encoder (`str`): Hub name or folder of a BERT-like model.
            config (`M4SERConfig`, *optional*): configuration whose encoder parts are replaced. Without it the
                configuration is made from `kwargs`.
            speech_options (`dict`, *optional*): fields to change in the speech encoder's own configuration, e.g.
                dropout or SpecAugment: `{"apply_spec_augment": True, "mask_time_prob": 0.1}`.
            text_options (`dict`, *optional*): the same for the text encoder.
            kwargs: fields of [`M4SERConfig`], e.g. `num_labels`, `id2label`, `hidden_size`.

        Returns:
            `M4SERForEmotionClassification` in evaluation mode, with float32 weights.
        """
        config = M4SERConfig.from_encoders_pretrained(
            speech_encoder, text_encoder, config, speech_options, text_options, **kwargs
        )
        model = cls(config)
        if config.uses_speech:
            model.m4ser.speech_encoder = speech_encoder_class(config.speech_config).from_pretrained(
                speech_encoder, config=config.speech_config, dtype=torch.float32
            )
        if config.uses_text:
            model.m4ser.text_encoder = TextEncoder.from_pretrained(
                text_encoder, config=config.text_config, dtype=torch.float32
            )
        return model.eval()

    def drop_auxiliary_heads(self) -> "M4SERForEmotionClassification":
        """Remove detection, correction and the discriminator, which inference does not use, for a smaller upload."""
        self.detector = self.corrector = self.discriminator = None
        self.config.use_error_detection = self.config.use_error_correction = self.config.use_adversarial = False
        return self

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        speech_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        text_attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        detection_labels: torch.Tensor | None = None,
        correction_labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
        attention_mask: None = None,
        speech_states: torch.Tensor | None = None,
    ) -> M4SEROutput | tuple:
        """Classify a batch of utterances, and compute the losses whose labels are given.

        Args:
            input_values (`torch.Tensor`, *optional*): as in [`M4SERModel.forward`].
            speech_attention_mask (`torch.Tensor`, *optional*): as in [`M4SERModel.forward`].
            input_ids (`torch.Tensor`, *optional*): as in [`M4SERModel.forward`].
            text_attention_mask (`torch.Tensor`, *optional*): as in [`M4SERModel.forward`].
            input_features (`torch.Tensor`, *optional*): as in [`M4SERModel.forward`].
            speech_states (`torch.Tensor`, *optional*): as in [`M4SERModel.forward`].
            labels (`torch.Tensor` of shape `(B,)`, *optional*): emotions.
            detection_labels (`torch.Tensor` of shape `(B, n)`, *optional*): KEEP 0 / DELETE 1 / CHANGE 2, and -100 on
                special tokens and padding.
            correction_labels (`torch.Tensor` of shape `(B, n, c)`, *optional*): at each place to rewrite the target
                ids, which end with `[SEP]`; -100 elsewhere.
            return_dict (`bool`, *optional*): whether to return an [`M4SEROutput`] or a tuple.
            attention_mask: refused; pipelines of other tasks give it.

        Returns:
            [`M4SEROutput`] or `tuple`.

        Raises:
            ValueError: an input that the configuration needs is missing, or `attention_mask` is given.
        """
        if attention_mask is not None:
            raise ValueError(f"Masks are speech_attention_mask and text_attention_mask. In a pipeline, {USE_PIPELINE}")
        features = self.m4ser(
            input_values=input_values,
            speech_attention_mask=speech_attention_mask,
            input_ids=input_ids,
            text_attention_mask=text_attention_mask,
            input_features=input_features,
            return_dict=True,
            speech_states=speech_states,
        )
        logits = self.classifier(self.dropout(features.pooled))
        losses, detection_logits, config = {}, None, self.config
        if labels is not None:
            losses["emotion"] = nn.functional.cross_entropy(at_least_float32(logits), labels)
            if config.use_contrastive:
                options = config.temperature, config.contrastive_include_self, config.contrastive_reduction
                pooled, classes = features.pooled, labels
                if self.training:
                    pooled, classes = gather_across_processes(pooled), gather_across_processes(classes)
                losses["contrastive"] = label_contrastive_loss(pooled, classes, *options)
        if detection_labels is not None and self.detector is not None:
            detection_logits = self.detector(features.text_hidden)
            losses["detection"] = token_cross_entropy(detection_logits, detection_labels)
        if correction_labels is not None and input_ids is not None and self.corrector and self.m4ser.text_encoder:
            mask = torch.ones_like(input_ids) if text_attention_mask is None else text_attention_mask
            losses["correction"] = self.corrector.loss(
                correction_labels, input_ids, features.text_hidden, mask.bool(), self.m4ser.text_encoder
            )
        output = M4SEROutput(
            loss=self.combine_losses(**losses),
            logits=logits,
            detection_logits=detection_logits,
            **{f"{name}_loss": value for name, value in losses.items()},
            **features,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def ood_score(self, sounds: ArrayLike) -> np.ndarray | None:
        """Return how far sounds (B, 48), see `describe_sound`, lie from the training data, (B,); None: not known."""
        return self.sound_domain and self.sound_domain(sounds)

    def combine_losses(self, **losses: torch.Tensor | None) -> torch.Tensor | None:
        """Add up the losses that are given, as Eq. 22 weighs them: L_ER + α (β L_AED + L_AEC) + γ L_G + λ L_LCL.

        Args:
            losses (`torch.Tensor`, *optional*): by their names in `losses_m4ser.LOSSES`; `adversarial` is L_G.

        Returns:
            `torch.Tensor` of shape `()`, or None where no loss is given.
        """
        if unknown := losses.keys() - LOSSES.keys():
            raise TypeError(f"Eq. 22 has no loss {', '.join(unknown)}; its losses: {', '.join(LOSSES)}.")
        terms = [
            math.prod(getattr(self.config, field) for field in loss.weights) * value
            for name, loss in LOSSES.items()
            if (value := losses.get(name)) is not None
        ]
        return sum(terms[1:], terms[0]) if terms else None

    @torch.no_grad()
    def correct_transcripts(
        self,
        input_ids: torch.Tensor,
        text_attention_mask: torch.Tensor | None = None,
        max_new_tokens: int = 16,
        threshold: float | None = None,
    ) -> list[TranscriptCorrection]:
        """Detect and correct the errors of ASR transcripts (Eq. 2 and 4-6, greedy).

        Args:
            input_ids (`torch.Tensor` of shape `(B, n)`): word pieces, with a special token at both ends.
            text_attention_mask (`torch.Tensor` of shape `(B, n)`, *optional*): 1 on valid word pieces. Without it all
                are valid.
            max_new_tokens (`int`, defaults to 16): the most pieces that replace one place (in the ablation "w/o AED",
                the whole transcript).
            threshold (`float`, *optional*): edits of less confidence are not made; by default `correction_threshold`.

        Returns:
            `list[TranscriptCorrection]`: one for each row. Without a correction decoder, a CHANGE leaves its piece.

        Raises:
            ValueError: the model has neither error detection nor correction, e.g. after `drop_auxiliary_heads`.
        """
        encoder = self.m4ser.text_encoder
        if encoder is None or (self.detector is None and self.corrector is None):
            raise ValueError(
                "This model has no error detection or correction modules (they were dropped or never configured): load "
                "a checkpoint saved before `drop_auxiliary_heads()`."
            )
        was_training = self.training
        self.eval()
        try:
            hidden, mask = self.m4ser.encode_text(input_ids, text_attention_mask)
            found = correct(self.detector, self.corrector, encoder, input_ids, hidden, mask, max_new_tokens)
        finally:
            self.train(was_training)
        return [each.at(self.config.correction_threshold if threshold is None else threshold) for each in found]
