"""Speech and text encoders behind one face: hidden vectors and the mask of the valid ones (Eq. 1 and Section III-B)."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperModel


def lengths_to_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """(B,) lengths -> (B, size) boolean mask, True on the first `lengths[i]` places of row i."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class PretrainedEncoder(nn.Module):
    """What the two encoders share: one wrapped transformers model that can be frozen.

    A frozen encoder stays in evaluation mode and runs without a graph, so that its features do not depend on the step.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self.frozen = False

    @property
    def hidden_size(self) -> int:
        """Size of the encoder's own vectors (d_S or d_T)."""
        return self.model.config.hidden_size

    def freeze(self) -> None:
        """Stop training this encoder."""
        self.frozen = True
        self.model.requires_grad_(False)
        self.model.eval()

    def train(self, mode: bool = True):
        return super().train(mode and not self.frozen)

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Args:
            inputs: what the encoder reads; see the subclass.
            attention_mask: 1 on valid places of `inputs`, 0 on padding.

        Returns:
            Hidden vectors (B, length, size) and their boolean mask (B, length).
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states, mask = self.encode(inputs, attention_mask)
        return self.combine(states), mask

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The subclass's part of `forward`: hidden states (B, length, size), the last layer's last, and their mask."""
        raise NotImplementedError

    def combine(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of the hidden states that `encode` gave, the vectors that go on: the last layer's."""
        return states[-1]

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs) -> "PretrainedEncoder":
        """A randomly initialised encoder."""
        return cls(AutoModel.from_config(config, **kwargs))

    @classmethod
    def from_pretrained(cls, name_or_path: str, **kwargs) -> "PretrainedEncoder":
        """A pretrained encoder from the Hub or a folder."""
        return cls(AutoModel.from_pretrained(name_or_path, **kwargs))


class FeatureStandardizer(nn.Module):
    """Brings each dimension of an encoder's vectors to mean 0 and standard deviation 1, by statistics of training data.

    They are measured once, before training (by [`trainer.M4SERTrainer`]), and saved with the model; until then the
    vectors pass unchanged.
    """

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    @property
    def measured(self) -> bool:
        """Whether there are statistics."""
        return bool((self.deviation != 1).any())

    def set_statistics(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Mean and deviation, (size,) each.

        A dimension that hardly varies is scaled as if it had a hundredth of the average deviation, lest its noise grow
        without bound.
        """
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=0.01 * deviation.mean()))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden (..., size)."""
        return (hidden - self.mean) / self.deviation


class SpeechEncoder(PretrainedEncoder):
    """What the two speech encoders share: parts of them can be frozen, and their layers can be weighed.

    Where the encoder's own configuration says `use_weighted_layer_sum`, H_S is what it is in transformers' audio
    classifiers: the sum of what enters the first layer and what leaves each, weighted by the softmax of learned
    numbers, all equal at first. Emotion is often easier to read below the last layer.
    """

    input_name: str

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self.layer_weights = None
        if model.config.use_weighted_layer_sum:
            if getattr(model.config, "layerdrop", 0) > 0:
                raise ValueError(
                    "use_weighted_layer_sum weighs every layer of the speech encoder, and layerdrop skips some: set "
                    'its layerdrop to 0, e.g. speech_options={"use_weighted_layer_sum": True, "layerdrop": 0.0}.'
                )
            # A learned part of its own: it is neither frozen with the encoder nor part of a pretrained checkpoint.
            self.layer_weights = nn.Parameter(torch.zeros(len(self.layers) + 1))

    def combine(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.layer_weights is None:
            return states[-1]
        weights = self.layer_weights.softmax(0)
        return sum(weight * state for weight, state in zip(weights, states, strict=True))

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, the lowest first."""
        raise NotImplementedError

    def freeze_feature_encoder(self) -> None:
        """Stop training the front end under the transformer layers."""
        raise NotImplementedError

    def freeze_layers(self, count: int) -> None:
        """Train of this encoder the transformer layers above the first `count` alone.

        What a corpus of few speakers would spoil in the lower layers stays as it was, and they take no backward pass.

        Raises:
            ValueError: there are no `count` layers.
        """
        if not 0 <= count <= len(self.layers):
            raise ValueError(f"Cannot freeze {count} layers of an encoder that has {len(self.layers)}.")
        self.freeze_feature_encoder()
        self.model.requires_grad_(False)
        self.layers[count:].requires_grad_(True)


class WaveformEncoder(SpeechEncoder):
    """HuBERT, wav2vec2, WavLM or data2vec-audio on 16 kHz samples (B, samples) -> (B, m, d_S), 50 frames a second.

    With layer-norm feature extractors (hubert-large style) a padded batch gives what each utterance gives alone.
    hubert-base's group norm runs over time, padding included, before any mask: its features do depend on the padding.
    So do data2vec-audio's, whose stacked positional convolutions carry what becomes of the padding into real frames.
    """

    input_name = "input_values"

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.encoder.layers

    @property
    def minimum_samples(self) -> int:
        """Samples that the convolutions need for one frame (400, i.e. 25 ms, for the public models)."""
        samples = 1
        config = self.model.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frame_lengths(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Valid frames (B,) of each row of a sample mask (B, samples); at least 1."""
        lengths = attention_mask.sum(-1).clamp(min=self.minimum_samples)
        return self.model._get_feat_extract_output_lengths(lengths).to(torch.long)

    def freeze_feature_encoder(self) -> None:
        """Stop training the convolutional front end, as is usual in fine-tuning."""
        self.model.feature_extractor.requires_grad_(False)
        self.model.feature_extractor._requires_grad = False

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        inputs = inputs.to(self.model.dtype).masked_fill(attention_mask == 0, 0)
        shortage = self.minimum_samples - inputs.shape[-1]
        if shortage > 0:
            inputs = nn.functional.pad(inputs, (0, shortage))
            attention_mask = nn.functional.pad(attention_mask, (0, shortage))
        # A clip shorter than one frame keeps the zeros after it as part of that frame.
        sample_lengths = attention_mask.sum(-1).clamp(min=self.minimum_samples)
        attention_mask = lengths_to_mask(sample_lengths, inputs.shape[-1]).to(torch.long)
        size = int(self.model._get_feat_extract_output_lengths(inputs.shape[-1]))
        output = self.model(
            inputs,
            attention_mask=attention_mask,
            mask_time_indices=self._skip_spec_augment(inputs, size),
            output_hidden_states=self.layer_weights is not None,
        )
        hidden = output.last_hidden_state
        lower = [] if self.layer_weights is None else output.hidden_states[:-1]
        return [*lower, hidden], lengths_to_mask(self.frame_lengths(attention_mask), hidden.shape[1])

    def _skip_spec_augment(self, inputs: torch.Tensor, size: int) -> torch.Tensor | None:
        """An empty SpecAugment mask for batches shorter than one masked span, on which the library would raise."""
        config = self.model.config
        masked = self.training and getattr(config, "mask_time_prob", 0) > 0
        if masked and size < config.mask_time_length:
            return torch.zeros(inputs.shape[0], size, dtype=torch.bool, device=inputs.device)
        return None


class WhisperSpeechEncoder(SpeechEncoder):
    """Whisper's encoder at the utterance's true length: log-mel frames (B, mel, T), 100 a second -> (B, ceil(T/2), d_S).

    The library's own forward insists on 30 s of frames and knows no mask. Here the position table is cut to the batch's
    length, frames past an utterance's end are zeroed before each convolution, and their keys are masked in every layer.
    """

    input_name = "input_features"

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.layers

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs) -> "WhisperSpeechEncoder":
        return cls(WhisperEncoder._from_config(config, **kwargs))

    @classmethod
    def from_pretrained(cls, name_or_path: str, **kwargs) -> "WhisperSpeechEncoder":
        return cls(AutoModel.from_pretrained(name_or_path, **kwargs).encoder)

    def frame_lengths(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Valid frames (B,) of each row of a mel-frame mask (B, T); at least 1."""
        return ((attention_mask.sum(-1) + 1) // 2).clamp(min=1).to(torch.long)

    def freeze_feature_encoder(self) -> None:
        """Stop training the two convolutions."""
        self.model.conv1.requires_grad_(False)
        self.model.conv2.requires_grad_(False)

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        encoder, config = self.model, self.model.config
        mel_mask = attention_mask[:, None, :].to(encoder.conv1.weight.dtype)
        inputs = self._spec_augment(inputs.to(mel_mask.dtype).masked_fill(mel_mask == 0, 0), attention_mask)
        hidden = nn.functional.gelu(encoder.conv1(inputs)) * mel_mask
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        size = hidden.shape[1]
        if size > config.max_source_positions:
            raise ValueError(
                f"{inputs.shape[-1]} mel frames are too long for this Whisper encoder, which takes at most "
                f"{2 * config.max_source_positions} (30 s): lower the processor's max_audio_seconds or cut the audio."
            )
        hidden = hidden + encoder.embed_positions.weight[:size]
        hidden = nn.functional.dropout(hidden, p=encoder.dropout, training=self.training)
        frame_mask = lengths_to_mask(self.frame_lengths(attention_mask), size)
        layer_mask = create_bidirectional_mask(
            config=config, inputs_embeds=hidden, attention_mask=frame_mask.to(torch.long)
        )
        states = []
        for layer in encoder.layers:
            if self.layer_weights is not None:
                states.append(hidden)
            hidden = layer(hidden, layer_mask)
        return [*states, encoder.layer_norm(hidden)], frame_mask

    def _spec_augment(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The library's SpecAugment, by the encoder's own configuration; not on batches shorter than a masked span."""
        config = self.model.config
        if not (self.training and config.apply_spec_augment) or inputs.shape[-1] < config.mask_time_length:
            return inputs
        # It is a method of the encoder-decoder, but reads `config` and `training` alone.
        return WhisperModel._mask_input_features(self.model, inputs, attention_mask)


class TextEncoder(PretrainedEncoder):
    """BERT, RoBERTa, MiniLM … on word-piece ids (B, n) -> H_T (B, n, d_T), Eq. 1.

    Eq. 1 does not read the encoder's pooler: it stays a part of the encoder, as in Table V's count, but never trains.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self.freeze_pooler()

    def freeze_pooler(self) -> None:
        """Stop training the pooler, where the encoder has one."""
        pooler = getattr(self.model, "pooler", None)
        if pooler is not None:
            pooler.requires_grad_(False)

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        hidden = self.model(input_ids=inputs, attention_mask=attention_mask).last_hidden_state
        return [hidden], attention_mask.to(torch.bool)

    @property
    def embeddings(self) -> nn.Module:
        """The encoder's own TE + PE block, which Eq. 4 uses again."""
        if not hasattr(self.model, "embeddings"):
            raise ValueError(
                f"Error correction reuses the text encoder's embeddings, and {type(self.model).__name__} has none: "
                "use a BERT-like text encoder or set use_error_correction=False."
            )
        return self.model.embeddings


def speech_encoder_class(config: PreTrainedConfig) -> type[SpeechEncoder]:
    """The wrapper for a speech encoder's configuration; ValueError for a model that is neither kind."""
    if config.model_type == "whisper":
        return WhisperSpeechEncoder
    if hasattr(config, "conv_kernel") and hasattr(config, "conv_stride"):
        return WaveformEncoder
    raise ValueError(
        f"{config.model_type!r} is no speech encoder M4SER knows: use hubert, wav2vec2, wavlm, data2vec-audio or "
        "whisper."
    )
