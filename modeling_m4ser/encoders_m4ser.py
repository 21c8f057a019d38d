"""Speech and text encoders with one interface: hidden vectors and the mask of the valid ones (Eq. 1, Section III-B)."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperModel

from .configuration_m4ser import M4SERConfig


def lengths_to_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Return a boolean mask (B, size), True on the first `lengths[i]` places of row i; lengths are (B,)."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class PretrainedEncoder(nn.Module):
    """A transformers model that can be frozen: what the speech and the text encoder share.

    A frozen encoder stays in evaluation mode and builds no graph: its features are the same at every step.
    """

    # One of many classes, and each subclass knows which attributes it reads.
    model: Any

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self.frozen = False

    @property
    def hidden_size(self) -> int:
        """`int`: size of the encoder's own vectors, d_S or d_T."""
        return self.model.config.hidden_size

    def freeze(self) -> None:
        """Stop training this encoder."""
        self.frozen = True
        self.model.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True):
        """Set training mode, as in PyTorch; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a batch, whose mask is 1 on valid places: vectors (B, length, size) and their boolean mask."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states, mask = self.encode(inputs, attention_mask)
        return self.combine(states), mask

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the layers' hidden states (B, length, size), the last one last, and their mask (B, length)."""
        raise NotImplementedError

    def combine(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the encoder's vectors, made of the hidden states that `encode` returned: the last layer's."""
        return states[-1]

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs) -> Self:
        """Build an encoder with random weights."""
        return cls(AutoModel.from_config(config, **kwargs))

    @classmethod
    def from_pretrained(cls, name_or_path: str, **kwargs) -> Self:
        """Load a pretrained encoder from the Hub or a folder."""
        return cls(AutoModel.from_pretrained(name_or_path, **kwargs))


class FeatureStandardizer(nn.Module):
    """Brings each dimension of an encoder's vectors to mean 0 and standard deviation 1, once it has their statistics.

    [`trainer.M4SERTrainer`] measures them on the training data, and they are saved with the model.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    @property
    def measured(self) -> bool:
        """`bool`: whether there are statistics."""
        return bool((self.deviation != 1).any())

    def set_statistics(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Set mean and standard deviation (size,) of each dimension."""
        self.mean.copy_(mean)
        # The noise of a dimension that hardly varies would grow too large.
        self.deviation.copy_(deviation.clamp(min=0.01 * deviation.mean()))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Standardize vectors (…, size)."""
        return (hidden - self.mean) / self.deviation


def make_adapters(encoder: PretrainedEncoder | None, config: M4SERConfig) -> tuple[nn.Module, nn.Module]:
    """Return the projection to d and the standardizer of an encoder's vectors, each an identity where not needed."""
    projection, standardizer = nn.Identity(), nn.Identity()
    if encoder is not None and encoder.hidden_size != config.hidden_size:
        projection = nn.Linear(encoder.hidden_size, config.hidden_size)
    if encoder is not None and config.standardize_features:
        standardizer = FeatureStandardizer(encoder.hidden_size)
    return projection, standardizer


class SpeechEncoder(PretrainedEncoder):
    """What the two speech encoders share: parts of them can be frozen, and their layers can be weighted.

    With `use_weighted_layer_sum` in the encoder's own configuration, H_S is what transformers' audio classifiers use:
    the sum of what enters the first layer and what each layer returns, weighted by the softmax of learned numbers.
    """

    input_name: str
    front_end: tuple[str, ...]

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self.layer_weights: nn.Parameter | None = None
        if model.config.use_weighted_layer_sum:
            if getattr(model.config, "layerdrop", 0) > 0:
                raise ValueError(
                    "use_weighted_layer_sum weighs every layer of the speech encoder, and layerdrop skips some: set "
                    'its layerdrop to 0, e.g. speech_options={"use_weighted_layer_sum": True, "layerdrop": 0.0}.'
                )
            # They are not part of a pretrained checkpoint, so that they learn over frozen layers too.
            self.layer_weights = nn.Parameter(torch.zeros(len(self.layers) + 1))

    def frame_lengths(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return how many frames (B,) of each row are valid, at least 1, for a mask of the encoder's input."""
        raise NotImplementedError

    def combine(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the weighted sum of the hidden states, or the last of them where there are no weights."""
        if self.layer_weights is None:
            return states[-1]
        weights = self.layer_weights.softmax(0)
        weighted = [weight * state for weight, state in zip(weights, states, strict=True)]
        return sum(weighted[1:], weighted[0])

    def combine_states(
        self, states: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `forward` returned when `encode` gave these states (B, layers, m, d_S): they are computed once.

        There is one layer without `use_weighted_layer_sum`. Without a mask (B, m) all frames are valid.
        """
        layers = 1 if self.layer_weights is None else len(self.layer_weights)
        if states.ndim != 4 or states.shape[1] != layers or states.shape[-1] != self.hidden_size:
            raise ValueError(
                f"speech_states of this model must have the shape (B, {layers}, m, {self.hidden_size}), not "
                f"{tuple(states.shape)}."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(states[:, 0, :, 0])
        return self.combine(states.to(self.model.dtype).unbind(1)), attention_mask.to(torch.bool)

    @property
    def layers(self) -> nn.ModuleList:
        """`nn.ModuleList`: the transformer layers, the lowest first."""
        return getattr(self.model, "encoder", self.model).layers

    def freeze_feature_encoder(self) -> None:
        """Stop training the convolutions under the transformer layers."""
        for name in self.front_end:
            getattr(self.model, name).requires_grad_(False)

    def freeze_layers(self, count: int) -> None:
        """Stop training everything but the transformer layers above the first `count`."""
        if not 0 <= count <= len(self.layers):
            raise ValueError(f"Cannot freeze {count} layers of an encoder that has {len(self.layers)}.")
        self.freeze_feature_encoder()
        self.model.requires_grad_(False)
        self.layers[count:].requires_grad_(True)


class WaveformEncoder(SpeechEncoder):
    """HuBERT, wav2vec2, WavLM or data2vec-audio: 16 kHz samples (B, samples) -> (B, m, d_S), 50 frames a second.

    In evaluation mode, which frozen encoders never leave, a batch gives what each utterance gives alone: encoders that
    read the padding (`needs_equal_lengths`) encode utterances of one length at a time. In training mode such an encoder
    sees the padded batch, whose utterances are of similar length.
    """

    input_name = "input_values"
    front_end = ("feature_extractor",)

    @property
    def needs_equal_lengths(self) -> bool:
        """`bool`: whether the padding after an utterance would change its vectors.

        A group norm over time (hubert-base, wav2vec2-base, WavLM-base), stacked positional convolutions
        (data2vec-audio), the convolutions of an adapter or of Conformer layers, and a batch norm before the positional
        convolution carry values from the padding into real frames; a layer norm reads one frame at a time.
        """
        config = self.model.config
        by_frame = config.model_type in ("hubert", "wav2vec2", "wavlm") and config.feat_extract_norm == "layer"
        reads_padding = getattr(config, "add_adapter", False) or getattr(config, "conv_pos_batch_norm", False)
        return not by_frame or reads_padding

    @property
    def minimum_samples(self) -> int:
        """`int`: samples that the convolutions need for one frame: 400, i.e. 25 ms, in the public models."""
        samples = 1
        config = self.model.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frame_lengths(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return how many frames (B,) of each row are valid, at least 1, for a sample mask (B, samples)."""
        lengths = attention_mask.sum(-1).clamp(min=self.minimum_samples)
        return self.model._get_feat_extract_output_lengths(lengths).to(torch.long)

    def freeze_feature_encoder(self) -> None:
        """Stop training the convolutions, which transformers would make part of the graph nevertheless."""
        super().freeze_feature_encoder()
        self.model.feature_extractor._requires_grad = False

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the layers' hidden states (B, m, d_S), or the last one alone, and the frame mask (B, m)."""
        inputs = inputs.to(self.model.dtype).masked_fill(attention_mask == 0, 0)
        shortage = self.minimum_samples - inputs.shape[-1]
        if shortage > 0:
            inputs = nn.functional.pad(inputs, (0, shortage))
            attention_mask = nn.functional.pad(attention_mask, (0, shortage))
        # The frame of a clip shorter than one frame includes the zeros after it.
        lengths = attention_mask.sum(-1).clamp(min=self.minimum_samples)
        # An exported graph has no loop over lengths: whoever runs it gives it rows of one length.
        by_length = self.needs_equal_lengths and not (self.training or torch.compiler.is_exporting())
        states = self._encode_by_length(inputs, lengths) if by_length else self._encode_padded(inputs, lengths)
        return states, lengths_to_mask(self.frame_lengths(attention_mask), states[-1].shape[1])

    def _encode_padded(self, inputs: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        """Return the hidden states of a padded batch in one pass; `lengths` (B,) are its valid samples."""
        config, masked = self.model.config, None
        # SpecAugment masks the frames that an adapter has not joined yet.
        options = {"add_adapter": False} if getattr(config, "add_adapter", False) else {}
        if self.training and getattr(config, "mask_time_prob", 0) > 0:
            frames = int(self.model._get_feat_extract_output_lengths(inputs.shape[-1], **options))
            if frames < config.mask_time_length:
                # transformers' SpecAugment raises on a batch shorter than one masked span: mask nothing.
                masked = torch.zeros(inputs.shape[0], frames, dtype=torch.bool, device=inputs.device)
        output = self.model(
            inputs,
            attention_mask=lengths_to_mask(lengths, inputs.shape[-1]).to(torch.long),
            mask_time_indices=masked,
            output_hidden_states=self.layer_weights is not None,
        )
        lower = [] if self.layer_weights is None else output.hidden_states[:-1]
        return [*lower, output.last_hidden_state]

    def _encode_by_length(self, inputs: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        """Return the hidden states of a padded batch, its rows encoded without padding; 0 after a row's last frame."""
        states: list[torch.Tensor] = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1)
            encoded = self._encode_padded(inputs[rows, :length], lengths[rows])
            if not states:
                frames = int(self.model._get_feat_extract_output_lengths(inputs.shape[-1]))
                states = [state.new_zeros(len(inputs), frames, state.shape[-1]) for state in encoded]
            for state, part in zip(states, encoded, strict=True):
                state[rows, : part.shape[1]] = part
        return states


class WhisperSpeechEncoder(SpeechEncoder):
    """Whisper's encoder at the utterance's true length: log-mel frames (B, mel, T) -> (B, ceil(T/2), d_S).

    transformers' own forward wants 30 s of mel frames, 100 a second, and knows no mask. This one cuts the position
    table to the batch's length, zeroes frames after an utterance's end before each convolution, and masks their keys.
    """

    input_name = "input_features"
    front_end = ("conv1", "conv2")

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs) -> Self:
        """Build an encoder with random weights."""
        return cls(WhisperEncoder._from_config(config, **kwargs))

    @classmethod
    def from_pretrained(cls, name_or_path: str, **kwargs) -> Self:
        """Load the encoder of a pretrained Whisper from the Hub or a folder."""
        return cls(AutoModel.from_pretrained(name_or_path, **kwargs).encoder)

    def frame_lengths(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return how many frames (B,) of each row are valid, at least 1, for a mel-frame mask (B, T)."""
        return ((attention_mask.sum(-1) + 1) // 2).clamp(min=1).to(torch.long)

    def encode(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the layers' hidden states (B, m, d_S), or the last one alone, and the frame mask (B, m)."""
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
        """Apply transformers' SpecAugment, by the encoder's own configuration, unless the batch is too short for it."""
        config = self.model.config
        if not (self.training and config.apply_spec_augment) or inputs.shape[-1] < config.mask_time_length:
            return inputs
        # This method of the encoder-decoder reads nothing but `config` and `training`.
        mask_features: Any = WhisperModel._mask_input_features
        return mask_features(self.model, inputs, attention_mask)


class TextEncoder(PretrainedEncoder):
    """BERT, RoBERTa, MiniLM …: word-piece ids (B, n) -> H_T (B, n, d_T), Eq. 1.

    Nothing reads the encoder's pooler. It stays, as Table V counts it, but it does not train.
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
        """Return H_T (B, n, d_T) in a list of one, and its mask (B, n)."""
        # Models that can also decode would keep a cache, and warn that checkpointing of activations forbids it.
        options = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        hidden = self.model(input_ids=inputs, attention_mask=attention_mask, **options).last_hidden_state
        return [hidden], attention_mask.to(torch.bool)

    @property
    def embeddings(self) -> nn.Module:
        """The encoder's own TE + PE block, which Eq. 4 reuses."""
        if not hasattr(self.model, "embeddings"):
            raise ValueError(
                f"Error correction reuses the text encoder's embeddings, and {type(self.model).__name__} has none: "
                "use a BERT-like text encoder or set use_error_correction=False."
            )
        return self.model.embeddings


def speech_encoder_class(config: PreTrainedConfig) -> type[SpeechEncoder]:
    """Return the wrapper class for a speech encoder of this configuration."""
    if config.model_type == "whisper":
        return WhisperSpeechEncoder
    if hasattr(config, "conv_kernel") and hasattr(config, "conv_stride"):
        return WaveformEncoder
    raise ValueError(
        f"{config.model_type!r} is no speech encoder M4SER knows: use hubert, wav2vec2, wavlm, data2vec-audio or "
        "whisper."
    )
