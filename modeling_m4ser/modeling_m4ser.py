"""M4SER in transformers' terms: the bare model, and the model with its heads for emotion classification."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_m4ser import M4SERConfig
from .correction_m4ser import CorrectionDecoder, TranscriptCorrection, collect_corrections, places_to_rewrite
from .edits_m4ser import IGNORE_INDEX
from .encoders_m4ser import FeatureStandardizer, PretrainedEncoder, SpeechEncoder, TextEncoder, speech_encoder_class
from .fusion_m4ser import CrossModalEncoder, InvariantGenerator, ModalityDiscriminator, TextAligner, masked_mean
from .losses_m4ser import at_least_float32, gather_across_processes, label_contrastive_loss

if TYPE_CHECKING:
    # Never executed, but read by `trust_remote_code`, which fetches the files a model names: with these two it fetches
    # all of them, and `save_pretrained` finds them to copy wherever the model was loaded from.
    from .pipeline_m4ser import SpeechTextEmotionPipeline  # noqa: F401
    from .processing_m4ser import M4SERProcessor  # noqa: F401


@dataclass
class M4SERModelOutput(ModelOutput):
    """
    Output of [`M4SERModel`]; what the configuration leaves out is None.

    Args:
        pooled: H_ST^(ap) (B, d), Eq. 17.
        speech_hidden: H_S (B, m, d). text_hidden: H_T (B, n, d).
        speech_specific: H_S^(spe) (B, m, d), Eq. 9. text_specific: H_T^(spe) (B, m, d), Eq. 10.
        joint_hidden: H_ST (B, m, d). invariant: H_ST^(inv) (B, m, d), Eq. 12.
        frame_mask: (B, m), True on valid frames.
    """

    pooled: torch.FloatTensor | None = None
    speech_hidden: torch.FloatTensor | None = None
    text_hidden: torch.FloatTensor | None = None
    speech_specific: torch.FloatTensor | None = None
    text_specific: torch.FloatTensor | None = None
    joint_hidden: torch.FloatTensor | None = None
    invariant: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None


@dataclass
class M4SEROutput(ModelOutput):
    """
    Output of [`M4SERForEmotionClassification`].

    Args:
        loss: Eq. 22 without its adversarial part, of whichever labels were given; each part follows by name.
        logits: emotion scores before the softmax (B, e), Eq. 18.
        emotion_loss: L_ER, Eq. 19. detection_loss: L_AED, Eq. 3. correction_loss: L_AEC, Eq. 7.
        contrastive_loss: L_LCL, Eq. 21.
        detection_logits: KEEP / DELETE / CHANGE scores (B, n, 3), Eq. 2; only with `detection_labels`.

    The remaining fields are [`M4SERModelOutput`]'s.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    emotion_loss: torch.FloatTensor | None = None
    detection_loss: torch.FloatTensor | None = None
    correction_loss: torch.FloatTensor | None = None
    contrastive_loss: torch.FloatTensor | None = None
    detection_logits: torch.FloatTensor | None = None
    pooled: torch.FloatTensor | None = None
    speech_hidden: torch.FloatTensor | None = None
    text_hidden: torch.FloatTensor | None = None
    speech_specific: torch.FloatTensor | None = None
    text_specific: torch.FloatTensor | None = None
    joint_hidden: torch.FloatTensor | None = None
    invariant: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None


class M4SERPreTrainedModel(PreTrainedModel):
    """What [`M4SERModel`] and [`M4SERForEmotionClassification`] share: configuration, loading, saving."""

    config_class = M4SERConfig
    base_model_prefix = "m4ser"
    main_input_name = "input_values"
    input_modalities = ("audio", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["CrossModalEncoder", "HybridModalAttention", "CorrectionDecoder"]
    # D is small, and the adversarial game is not stable in half precision.
    _keep_in_fp32_modules_strict = ["discriminator"]
    # Losses are means, weighted by the Trainer itself: `forward` wants no `num_items_in_batch`.
    accepts_loss_kwargs = False

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, SpeechEncoder) and module.layer_weights is not None:
            init.zeros_(module.layer_weights)
        elif isinstance(module, FeatureStandardizer):
            init.zeros_(module.mean)
            init.ones_(module.deviation)

    def save_pretrained(self, save_directory, **kwargs):
        """
        Saves weights, configuration and the model's code, so that the folder (or the repository it is pushed to) works
        with `trust_remote_code=True` where this package is not installed.
        """
        super().save_pretrained(save_directory, **kwargs)
        for module in sorted(Path(__file__).parent.glob("*_m4ser.py")):
            shutil.copyfile(module, Path(save_directory) / module.name)


class M4SERModel(M4SERPreTrainedModel):
    """The two encoders and the multimodal fusion module: (S, T) -> H_ST^(ap), Eq. 1 and 8-17."""

    def __init__(self, config: M4SERConfig):
        super().__init__(config)
        size = config.hidden_size
        self.speech_encoder = self.text_encoder = self.speech_projection = self.text_projection = None
        self.speech_standardizer = self.text_standardizer = None
        if config.uses_speech:
            self.speech_encoder = speech_encoder_class(config.speech_config).from_config(config.speech_config)
            self.speech_projection = _projection(self.speech_encoder, size)
            if config.standardize_features:
                self.speech_standardizer = FeatureStandardizer(self.speech_encoder.hidden_size)
        if config.uses_text:
            self.text_encoder = TextEncoder.from_config(config.text_config)
            self.text_projection = _projection(self.text_encoder, size)
            if config.standardize_features:
                self.text_standardizer = FeatureStandardizer(self.text_encoder.hidden_size)

        self.aligner = self.joint_projection = None
        if config.modalities == "speech_text" and (config.use_modality_invariant or config.fusion == "concat"):
            self.aligner = TextAligner(config)
            self.joint_projection = nn.Linear(2 * size, size)
        self.text_query_speech_key = self.speech_query_token_key = self.speech_query_text_key = self.generator = None
        if config.use_modality_specific:
            self.text_query_speech_key = CrossModalEncoder(config)
            self.speech_query_token_key = CrossModalEncoder(config)
            self.speech_query_text_key = CrossModalEncoder(config)
        if config.use_modality_invariant:
            self.generator = InvariantGenerator(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's token embedding; the speech encoder's front end where there is no text."""
        encoder = self.text_encoder or self.speech_encoder
        return encoder.model.get_input_embeddings()

    def forward(
        self,
        input_values: torch.FloatTensor | None = None,
        speech_attention_mask: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        text_attention_mask: torch.Tensor | None = None,
        input_features: torch.FloatTensor | None = None,
        return_dict: bool | None = None,
    ) -> M4SERModelOutput | tuple:
        """
        Args:
            input_values: 16 kHz samples (B, samples), for waveform encoders.
            input_features: log-mel frames (B, mel, T), for Whisper's encoder.
            speech_attention_mask: (B, samples) or (B, T), 1 on valid places; everything is valid without it.
            input_ids: word pieces of the ASR transcript (B, n). text_attention_mask: (B, n).

        Raises:
            ValueError: an input that the configuration needs is missing.
        """
        speech_hidden = text_hidden = speech_mask = text_mask = None
        if self.speech_encoder is not None:
            speech_hidden, speech_mask = self.encode_speech(input_values, input_features, speech_attention_mask)
        if self.text_encoder is not None:
            text_hidden, text_mask = self.encode_text(input_ids, text_attention_mask)
        output = self.fuse(speech_hidden, speech_mask, text_hidden, text_mask)
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def encode_speech(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        speech_attention_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """H_S (B, m, d) and its frame mask (B, m)."""
        name = self.speech_encoder.input_name
        inputs = {"input_values": input_values, "input_features": input_features}[name]
        if inputs is None:
            raise ValueError(
                f"This M4SER model needs `{name}` (its speech encoder is a {self.config.speech_config.model_type})."
            )
        if speech_attention_mask is None:
            speech_attention_mask = torch.ones(
                inputs.shape[0], inputs.shape[-1], dtype=torch.long, device=inputs.device
            )
        hidden, mask = self.speech_encoder(inputs, speech_attention_mask)
        if self.speech_standardizer is not None:
            hidden = self.speech_standardizer(hidden)
        return (self.speech_projection(hidden) if self.speech_projection is not None else hidden), mask

    def encode_text(
        self, input_ids: torch.Tensor | None, text_attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """H_T (B, n, d) and its mask (B, n)."""
        if input_ids is None:
            raise ValueError("This M4SER model needs `input_ids`, the word pieces of the transcript.")
        if text_attention_mask is None:
            text_attention_mask = torch.ones_like(input_ids)
        hidden, mask = self.text_encoder(input_ids, text_attention_mask)
        if self.text_standardizer is not None:
            hidden = self.text_standardizer(hidden)
        return (self.text_projection(hidden) if self.text_projection is not None else hidden), mask

    def fuse(
        self,
        speech: torch.Tensor | None,
        frame_mask: torch.Tensor | None,
        text: torch.Tensor | None,
        text_mask: torch.Tensor | None,
    ) -> M4SERModelOutput:
        """Eq. 8-17 on encoded inputs: H_S (B, m, d) with (B, m), H_T (B, n, d) with (B, n)."""
        if speech is None or text is None:
            hidden, mask = (text, text_mask) if speech is None else (speech, frame_mask)
            return M4SERModelOutput(
                pooled=masked_mean(hidden, mask), speech_hidden=speech, text_hidden=text, frame_mask=mask
            )
        speech_specific = text_specific = joint = invariant = aligned = None
        if self.text_query_speech_key is not None:
            token_level = self.text_query_speech_key(text, speech, frame_mask)
            speech_specific = self.speech_query_token_key(speech, token_level, text_mask)
            text_specific = self.speech_query_text_key(speech, text, text_mask)
        if self.joint_projection is not None:
            aligned = self.aligner(text, text_mask, speech, frame_mask)
            joint = self.joint_projection(torch.cat([speech, aligned], dim=-1))
        if self.generator is not None:
            # "w/o MSR" has no cross-modal blocks: the encoders' own, untouched representations stand in for theirs.
            invariant = self.generator(
                speech if speech_specific is None else speech_specific,
                aligned if text_specific is None else text_specific,
                joint,
                frame_mask,
            )
        fused = [part for part in (speech_specific, text_specific, invariant) if part is not None] or [joint]
        # The mean over the 3m frames of Eq. 16-17 is the mean of the parts' means: they have the same valid frames.
        pooled = sum(masked_mean(part, frame_mask) for part in fused) / len(fused)
        return M4SERModelOutput(
            pooled=pooled,
            speech_hidden=speech,
            text_hidden=text,
            speech_specific=speech if speech_specific is None else speech_specific,
            text_specific=aligned if text_specific is None else text_specific,
            joint_hidden=joint,
            invariant=invariant,
            frame_mask=frame_mask,
        )

    def freeze_feature_encoder(self) -> None:
        """Stop training the speech encoder's convolutional front end."""
        if self.speech_encoder is not None:
            self.speech_encoder.freeze_feature_encoder()

    def freeze_speech_layers(self, count: int) -> None:
        """Of the speech encoder, train the layers above the first `count` alone."""
        if self.speech_encoder is not None:
            self.speech_encoder.freeze_layers(count)

    def freeze_encoders(self) -> None:
        """Stop training both encoders: the fusion and the heads alone learn."""
        for encoder in (self.speech_encoder, self.text_encoder):
            if encoder is not None:
                encoder.freeze()


class M4SERForEmotionClassification(M4SERPreTrainedModel):
    """
    M4SER: emotion recognition (Eq. 18-19) with error detection, error correction, contrastive learning, and the
    modality discriminator that [`trainer.M4SERTrainer`] trains against it.

    Without labels it runs the emotion branch alone: detection, correction and the discriminator cost nothing.
    """

    def __init__(self, config: M4SERConfig):
        super().__init__(config)
        size = config.hidden_size
        self.m4ser = M4SERModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(size, config.num_labels)
        self.detector = nn.Linear(size, 3) if config.use_error_detection else None
        self.corrector = CorrectionDecoder(config) if config.use_error_correction else None
        self.discriminator = ModalityDiscriminator(config) if config.use_adversarial else None
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
        """
        Pretrained encoders under a new fusion and new heads.

        Args:
            speech_encoder: Hub name or folder of a hubert, wav2vec2, wavlm, data2vec-audio or whisper model.
            text_encoder: Hub name or folder of a BERT-like model.
            config: a ready configuration, whose encoder parts are replaced; built from `kwargs` otherwise.
            speech_options, text_options: fields of the encoders' own configurations to change, e.g. dropout or
                SpecAugment: `{"apply_spec_augment": True, "mask_time_prob": 0.1}`.
            kwargs: fields of [`M4SERConfig`], e.g. `num_labels`, `id2label`, `hidden_size`.
        """
        encoder_configs = {
            "speech_config": AutoConfig.from_pretrained(speech_encoder, **(speech_options or {})),
            "text_config": AutoConfig.from_pretrained(text_encoder, **(text_options or {})),
        }
        if config is None:
            config = M4SERConfig(**encoder_configs, **kwargs)
        else:
            config = M4SERConfig(**{**config.to_dict(), **encoder_configs, **kwargs})
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

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's token embedding."""
        return self.m4ser.get_input_embeddings()

    def freeze_feature_encoder(self) -> None:
        """Stop training the speech encoder's convolutional front end."""
        self.m4ser.freeze_feature_encoder()

    def freeze_speech_layers(self, count: int) -> None:
        """Of the speech encoder, train the layers above the first `count` alone; ValueError if it has fewer."""
        self.m4ser.freeze_speech_layers(count)

    def freeze_encoders(self) -> None:
        """Stop training both encoders: the fusion and the heads alone learn."""
        self.m4ser.freeze_encoders()

    def drop_auxiliary_heads(self) -> "M4SERForEmotionClassification":
        """Remove detection, correction and the discriminator, which inference does not use, for a smaller upload."""
        self.detector = self.corrector = self.discriminator = None
        self.config.use_error_detection = self.config.use_error_correction = self.config.use_adversarial = False
        return self

    def forward(
        self,
        input_values: torch.FloatTensor | None = None,
        speech_attention_mask: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        text_attention_mask: torch.Tensor | None = None,
        input_features: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        detection_labels: torch.LongTensor | None = None,
        correction_labels: torch.LongTensor | None = None,
        return_dict: bool | None = None,
    ) -> M4SEROutput | tuple:
        """
        Args:
            input_values, speech_attention_mask, input_ids, text_attention_mask, input_features:
                as in [`M4SERModel.forward`].
            labels: emotions (B,).
            detection_labels: (B, n), KEEP 0 / DELETE 1 / CHANGE 2, -100 on special tokens and padding.
            correction_labels: (B, n, c), target ids ending with `[SEP]` at each place to rewrite, -100 elsewhere.
        """
        if text_attention_mask is None and input_ids is not None:
            text_attention_mask = torch.ones_like(input_ids)
        features = self.m4ser(
            input_values=input_values,
            speech_attention_mask=speech_attention_mask,
            input_ids=input_ids,
            text_attention_mask=text_attention_mask,
            input_features=input_features,
            return_dict=True,
        )
        logits = self.classifier(self.dropout(features.pooled))
        emotion_loss = contrastive_loss = detection_logits = detection_loss = correction_loss = None
        if labels is not None:
            emotion_loss = nn.functional.cross_entropy(at_least_float32(logits), labels)
            if self.config.use_contrastive:
                contrastive_loss = self._contrastive_loss(features.pooled, labels)
        if detection_labels is not None and self.detector is not None:
            detection_logits = self.detector(features.text_hidden)
            detection_loss = _token_mean_cross_entropy(detection_logits, detection_labels)
        if correction_labels is not None and self.corrector is not None:
            correction_loss = self.corrector.loss(
                correction_labels,
                input_ids,
                features.text_hidden,
                text_attention_mask.to(torch.bool),
                self.m4ser.text_encoder,
            )
        output = M4SEROutput(
            loss=self.combine_losses(emotion_loss, detection_loss, correction_loss, contrastive_loss),
            logits=logits,
            emotion_loss=emotion_loss,
            detection_loss=detection_loss,
            correction_loss=correction_loss,
            contrastive_loss=contrastive_loss,
            detection_logits=detection_logits,
            **features,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def combine_losses(
        self,
        emotion: torch.Tensor | None = None,
        detection: torch.Tensor | None = None,
        correction: torch.Tensor | None = None,
        contrastive: torch.Tensor | None = None,
        adversarial: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Eq. 22 of whichever losses are given: L_ER + α (β L_AED + L_AEC) + γ L_G + λ L_LCL; None of none."""
        config = self.config
        weighted = (
            (1.0, emotion),
            (config.auxiliary_weight * config.detection_weight, detection),
            (config.auxiliary_weight, correction),
            (config.contrastive_weight, contrastive),
            (config.adversarial_weight, adversarial),
        )
        terms = [weight * loss for weight, loss in weighted if loss is not None]
        return sum(terms) if terms else None

    @torch.no_grad()
    def correct_transcripts(
        self, input_ids: torch.Tensor, text_attention_mask: torch.Tensor | None = None, max_new_tokens: int = 16
    ) -> list[TranscriptCorrection]:
        """
        Detect and correct the errors of ASR transcripts (Eq. 2 and 4-6, greedy).

        Args:
            input_ids: (B, n) with special tokens at both ends. text_attention_mask: (B, n).
            max_new_tokens: longest replacement of one place (of the whole transcript in the ablation "w/o AED").

        Returns:
            One [`TranscriptCorrection`] for each row. A model without a correction decoder leaves a place it would
            rewrite as it is.

        Raises:
            ValueError: the model has neither error detection nor correction, e.g. after `drop_auxiliary_heads`.
        """
        if self.detector is None and self.corrector is None:
            raise ValueError(
                "This model has no error detection or correction modules (they were dropped or never configured): load "
                "a checkpoint saved before `drop_auxiliary_heads()`."
            )
        if text_attention_mask is None:
            text_attention_mask = torch.ones_like(input_ids)
        was_training = self.training
        self.eval()
        try:
            hidden, mask = self.m4ser.encode_text(input_ids, text_attention_mask)
            rows, labels = places_to_rewrite(None if self.detector is None else self.detector(hidden), mask)
            if self.corrector is None:
                generated = [[int(input_ids[utterance, place])] for utterance, place in rows.tolist()]
            else:
                generated = self.corrector.generate(
                    rows, input_ids, hidden, mask, self.m4ser.text_encoder, max_new_tokens
                )
        finally:
            self.train(was_training)
        return collect_corrections(rows, generated, labels, input_ids, mask)

    def _contrastive_loss(self, pooled: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.training:
            pooled, labels = gather_across_processes(pooled), gather_across_processes(labels)
        return label_contrastive_loss(pooled, labels, self.config.temperature, self.config.contrastive_include_self)


def _projection(encoder: PretrainedEncoder, size: int) -> nn.Linear | None:
    """A linear layer to d, only where the encoder's size differs."""
    return None if encoder.hidden_size == size else nn.Linear(encoder.hidden_size, size)


def _token_mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """L_AED, Eq. 3, as the mean over labelled tokens; a zero with a graph where there is none."""
    total = nn.functional.cross_entropy(
        at_least_float32(logits.flatten(0, 1)), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


__all__ = ["M4SERForEmotionClassification", "M4SERModel", "M4SERModelOutput", "M4SEROutput", "M4SERPreTrainedModel"]
