"""From (waveform, transcript) pairs to the model's tensors."""

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from .preparation_m4ser import Preparation

_INNER_APOSTROPHE = re.compile(r"(?<=\w) ' (?=\w)")


class M4SERProcessor(Preparation, ProcessorMixin):
    """A speech encoder's feature extractor and a text encoder's tokenizer in one object.

    Args:
        feature_extractor (`Wav2Vec2FeatureExtractor` or `WhisperFeatureExtractor`): the speech encoder's.
        tokenizer (`PreTrainedTokenizerBase`): the text encoder's; it must put a special token at both ends.
        lowercase (`bool`, defaults to `True`): as in [`normalize_text`]; saved with the processor.
        keep_punctuation (`bool`, defaults to `False`): as in [`normalize_text`]; saved with the processor.
        max_audio_seconds (`float`, defaults to 30.0): longer audio is cut to so many seconds, with a warning. Whisper's
            encoder takes at most 30.
        max_text_length (`int`, *optional*): word pieces to keep of a transcript, special tokens included; by default as
            many as the tokenizer allows, at most 512.
        trim_silence_db (`float`, *optional*): cut the silence before and after the speech, i.e. what lies more than so
            many dB under the loudest 10 ms: about 40 for studio recordings, less in noise. By default the audio stays
            whole.
        target_dbfs (`float`, *optional*): scale every utterance, after trimming, to this root mean square in dBFS, e.g.
            -25. By default its loudness stays. Feature extractors with `do_normalize` (hubert-large's) do much the same
            by themselves.

    Raises:
        ValueError: `trim_silence_db` is not positive, or `target_dbfs` is over 0.
    """

    _auto_class = "AutoProcessor"

    feature_extractor: Any
    tokenizer: Any

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        lowercase: bool = True,
        keep_punctuation: bool = False,
        max_audio_seconds: float = 30.0,
        max_text_length: int | None = None,
        trim_silence_db: float | None = None,
        target_dbfs: float | None = None,
    ):
        super().__init__(feature_extractor, tokenizer)
        self.lowercase = lowercase
        self.keep_punctuation = keep_punctuation
        self.max_audio_seconds = max_audio_seconds
        self.max_text_length = max_text_length or min(tokenizer.model_max_length, 512)
        if trim_silence_db is not None and trim_silence_db <= 0:
            raise ValueError(f"trim_silence_db must be positive (dB under the loudest 10 ms), not {trim_silence_db}.")
        if target_dbfs is not None and target_dbfs > 0:
            raise ValueError(f"target_dbfs must be 0 or less (dB relative to full scale), not {target_dbfs}.")
        self.trim_silence_db = trim_silence_db
        self.target_dbfs = target_dbfs

    @classmethod
    def from_encoders_pretrained(cls, speech_encoder: str, text_encoder: str, **kwargs) -> Self:
        """Build the processor of a model that [`M4SERForEmotionClassification.from_encoders_pretrained`] builds."""
        from transformers import AutoFeatureExtractor, AutoTokenizer

        return cls(
            AutoFeatureExtractor.from_pretrained(speech_encoder), AutoTokenizer.from_pretrained(text_encoder), **kwargs
        )

    @property
    def sampling_rate(self) -> int:
        """`int`: rate in hertz that audio must have."""
        return self.feature_extractor.sampling_rate

    @property
    def speech_input_name(self) -> str:
        """`str`: `input_values` (samples) or `input_features` (log-mel frames)."""
        return self.feature_extractor.model_input_names[0]

    @property
    def model_input_names(self) -> list[str]:
        """`list[str]`: names of the tensors that `__call__` returns."""
        return [self.speech_input_name, "speech_attention_mask", "input_ids", "text_attention_mask"]

    def encode_transcript(self, text: str) -> list[int]:
        """Turn a text into the ids of its word pieces, normalized, without special tokens, cut as `__call__` does."""
        # Never by the tokenizer's own truncation: that is a state of it, which another thread may change.
        ids = self.tokenizer(self.normalize_text(text), add_special_tokens=False, truncation=False, verbose=False)
        return ids["input_ids"][: self.max_text_length - 2]

    def decode_transcript(self, ids: list[int]) -> str:
        """Turn word-piece ids back into text, without special tokens and with `don ' t` joined to `don't`."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text if self.keep_punctuation else _INNER_APOSTROPHE.sub("'", text)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        audio: Any = None,
        text: Any = None,
        sampling_rate: int | None = None,
        names: Sequence[str | None] | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Turn utterances into the model's tensors.

        Audio or text that is cut to its limit is warned of once.

        Args:
            audio: one mono waveform (samples,) or a list of them; None for a text-only model.
            text (`str` or `list[str]`, *optional*): transcripts; None for a speech-only model.
            sampling_rate (`int`, *optional*): rate of `audio` in hertz; it must be `self.sampling_rate`.
            names (`list[str]`, *optional*): what warnings call the audios, e.g. their paths; None is for one without a
                name.
            kwargs: refused.

        Returns:
            `BatchFeature`: PyTorch tensors under `model_input_names`, padded on the right to the longest of the batch.

        Raises:
            ValueError: neither input, a wrong or missing sampling rate, different numbers of audios, texts or names, or
                an audio that is not one-dimensional.
            TypeError: unknown arguments.
        """
        if kwargs:
            raise TypeError(f"M4SERProcessor does not take {', '.join(sorted(kwargs))}.")
        if audio is None and text is None:
            raise ValueError("M4SERProcessor needs `audio`, `text` or both.")
        columns = []
        if audio is not None:
            if sampling_rate != self.sampling_rate:
                raise ValueError(
                    f"Pass sampling_rate=… with the audio: it is at {sampling_rate} Hz, this model wants "
                    f"{self.sampling_rate} Hz; modeling_m4ser.load_audio(audio, source_rate=…) resamples it."
                )
            waveforms = _as_batch(audio)
            names = [None] * len(waveforms) if names is None else list(names)
            if len(names) != len(waveforms):
                raise ValueError(f"M4SERProcessor got {len(waveforms)} audio clips but {len(names)} names.")
            columns.append([self._speech_features(*each) for each in zip(waveforms, names, strict=True)])
        if text is not None:
            single = isinstance(text, (str, bytes)) or not hasattr(text, "__iter__")
            columns.append([self._text_features(item) for item in ([text] if single else text)])
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"M4SERProcessor got {len(columns[0])} audio clips but {len(columns[1])} texts.")
        rows = [{name: value for part in parts for name, value in part.items()} for parts in zip(*columns, strict=True)]
        return self.pad(rows)

    def pad(self, rows: list[dict[str, torch.Tensor]]) -> BatchFeature:
        """Join batches, as `__call__` returns them, along their first axis, and pad their last axis on the right."""
        if not rows:
            raise ValueError("M4SERProcessor got an empty list.")
        batch = {}
        for name in rows[0]:
            value = self.tokenizer.pad_token_id if name == "input_ids" else 0
            longest = max(row[name].shape[-1] for row in rows)
            padded = [
                torch.nn.functional.pad(row[name], (0, longest - row[name].shape[-1]), value=value) for row in rows
            ]
            batch[name] = torch.cat(padded)
        return BatchFeature(batch)

    def _speech_features(self, waveform: np.ndarray, audio_name: str | None) -> dict[str, torch.Tensor]:
        """Return the features of one utterance alone: no other utterance of the batch can change them."""
        name, shortest = self.speech_input_name, 0
        if name == "input_features":
            # The spectrogram reflects half a window at both ends, and drops its last frame: audio shorter than a window
            # has too little to reflect, and audio shorter than a hop would leave no frame.
            shortest = max(self.feature_extractor.n_fft, self.feature_extractor.hop_length)
        waveform, rate = self.prepare_waveform(waveform, audio_name, shortest), self.sampling_rate
        options = {"padding": False, "truncation": False, "sampling_rate": rate, "return_tensors": "np"}
        features = self.feature_extractor(waveform, **options)
        values = torch.from_numpy(np.asarray(features[name], dtype=np.float32))
        return {name: values, "speech_attention_mask": torch.ones(1, values.shape[-1], dtype=torch.long)}

    def _text_features(self, text: Any) -> dict[str, torch.Tensor]:
        if not isinstance(text, str):
            raise ValueError(f"A transcript must be a string, not {type(text).__name__} ({text!r}).")
        normal = self.normalize_text(text)
        ids = self.tokenizer(normal, truncation=False, verbose=False)["input_ids"]
        input_ids = torch.tensor([self.cut_ids(ids, normal)])
        return {"input_ids": input_ids, "text_attention_mask": torch.ones_like(input_ids)}


def _as_batch(audio: Any) -> list:
    """Return waveforms as a list, of one for a single waveform."""
    if isinstance(audio, (np.ndarray, torch.Tensor)):
        return [audio] if audio.ndim == 1 else list(audio)
    audio = list(audio)
    return [audio] if audio and np.isscalar(audio[0]) else audio
