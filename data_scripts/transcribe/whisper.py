"""Speech recognition with Whisper through transformers: arrays in, transcripts out.

`WhisperRecognizer` decodes greedily in batches. Each clip whose greedy transcript loops or is improbable, and each of
more than 30 s, is decoded alone by Whisper's `generate`, at rising temperatures (section 4.5 of the Whisper paper) and
with a random generator that is seeded from the clip: its transcript does not depend on its neighbors in the batch.

What is left of batch dependence is floating-point rounding (a greedy tie broken the other way): none was seen in
float32 on CPU; half precision on a GPU makes it a little likelier.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq, AutoProcessor, GenerationConfig
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE
from transformers.utils import logging as transformers_logging

from data_scripts.checkpoints import has_weights, is_missing_folder
from data_scripts.constants import SAMPLING_RATE
from data_scripts.errors import UserError
from modeling_m4ser.recognition_m4ser import (
    COMPRESSION_RATIO_THRESHOLD,
    LOGPROB_THRESHOLD,
    compression_ratio,
    fallback,
    seeded_by,
)

SILENCE_PEAK = 1e-4  # about -80 dBFS: Whisper answers digital silence with an invented "you" or "Thank you."
PROMPT_TOKENS = 4  # <|startoftranscript|> <|language|> <|task|> <|notimestamps|>


class RecognizerError(UserError):
    """A speech recogniser cannot be loaded, or cannot do what is asked of it; the message says what to change."""


def loading_error(model: str, error: Exception) -> RecognizerError:
    """Return the error for a checkpoint that does not load, with the first line of the library's explanation."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return RecognizerError(f"cannot load the speech recogniser {str(model)!r}: {reason}")


def check_whisper(model: str, language: str | None = None) -> GenerationConfig | None:
    """Raise, from a checkpoint's small files alone, where `WhisperRecognizer` could not load it, or not this language.

    Returns:
        its settings; None of an old checkpoint, which has none.

    Raises:
        RecognizerError: it is not there, lacks weights, is no Whisper, or does not know the language.
    """
    name = checkpoint_name(model)
    try:
        kind = AutoConfig.from_pretrained(str(model)).model_type
    except (OSError, ValueError) as error:
        raise loading_error(model, error) from error
    if kind != "whisper":
        raise RecognizerError(f"{str(model)!r} is not a Whisper but a {kind!r} model")
    if not has_weights(model):
        raise RecognizerError(f"cannot load the speech recogniser {str(model)!r}: its weights are not there")
    try:
        settings = GenerationConfig.from_pretrained(str(model))
    except OSError:
        return None
    language_options(settings, language, name)
    return settings


def checkpoint_name(model: str) -> str:
    """Return what a checkpoint is called: the name of its folder, or its own; what must be a folder is looked for."""
    path = Path(model)
    if is_missing_folder(model):
        raise RecognizerError(f"cannot load the speech recogniser: there is no folder {str(model)!r}")
    return path.resolve().name if path.is_dir() else str(model)


def language_options(settings: GenerationConfig, language: str | None, name: str) -> dict[str, str]:
    """Return the arguments of `generate` that fix language and task; English-only checkpoints accept neither."""
    language = language.lower() if language else None
    if getattr(settings, "is_multilingual", False):
        if language and language not in TO_LANGUAGE_CODE and language not in TO_LANGUAGE_CODE.values():
            raise RecognizerError(f"language {language!r} is unknown to Whisper; give a name or code such as 'en'")
        return {"task": "transcribe"} | ({"language": language} if language else {})
    if language not in (None, "en", "english"):
        raise RecognizerError(f"{name} is English-only; language {language!r} needs a multilingual model")
    return {}


class ClipRecognizer(ABC):
    """What the backends share: how a checkpoint is named, and that where nothing sounds there is nothing to decode."""

    def __init__(self, model: str, max_new_tokens: int, name: str | None):
        if max_new_tokens < 1:
            raise RecognizerError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        self.checkpoint = checkpoint_name(model)
        self.name = name or self.checkpoint

    def transcribe(self, batch: Sequence[np.ndarray]) -> list[str]:
        """Return the stripped transcripts of float32 mono 16 kHz clips (samples,), in order; "" without speech."""
        clips = [np.asarray(clip, dtype=np.float32) for clip in batch]
        texts = [""] * len(clips)
        audible = [i for i, clip in enumerate(clips) if clip.size and np.abs(clip).max() >= SILENCE_PEAK]
        for i, text in zip(audible, self._decode([clips[i] for i in audible]), strict=True):
            texts[i] = text
        return texts

    @abstractmethod
    def _decode(self, clips: list[np.ndarray]) -> Iterable[str]:
        """The transcripts of clips in which something sounds."""


class WhisperRecognizer(ClipRecognizer):
    """Transcribe 16 kHz speech with any Whisper checkpoint, given as repository id or folder.

    With the language None a multilingual checkpoint detects each clip's; English-only ones take no other than English.
    `max_new_tokens` is the cap on the tokens of 30 s, lowered to what the checkpoint's decoder can hold. `seed` is of
    the sampling at temperatures above 0, and `name` goes into the `asr_model` column.
    """

    def __init__(
        self,
        model: str,
        device: str | torch.device | None = None,
        language: str | None = None,
        max_new_tokens: int = 224,
        seed: int = 0,
        name: str | None = None,
    ):
        check_whisper(model, language)
        super().__init__(model, max_new_tokens, name)
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.dtype = torch.float32 if self.device.type == "cpu" else torch.float16
            self.processor = AutoProcessor.from_pretrained(str(model))
            self.model = AutoModelForSpeechSeq2Seq.from_pretrained(str(model), dtype=self.dtype)
            self.model = self.model.to(self.device).eval()
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            raise loading_error(model, error) from error
        # A default max_length beside max_new_tokens makes generate warn on every call.
        self.model.generation_config.max_length = None
        self.seed = seed
        self.window_samples = self.processor.feature_extractor.n_samples  # of 30 s
        self.max_new_tokens = min(max_new_tokens, self.model.config.max_target_positions - PROMPT_TOKENS)
        self._options = language_options(self.model.generation_config, language, self.name)
        self.language = language if self._options else None  # what decides nothing is no setting

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a transcript, JSON-ready."""
        return {
            "model": self.checkpoint,
            "dtype": str(self.dtype).removeprefix("torch."),
            "language": self.language,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.seed,
        }

    @property
    def spelling_mapping(self) -> dict[str, str]:
        """British to American spellings for Whisper's English normaliser; empty where there is no normalizer.json."""
        return getattr(self.processor.tokenizer, "english_spelling_normalizer", None) or {}

    @torch.inference_mode()
    def _decode(self, clips: list[np.ndarray]) -> Iterable[str]:
        short = [clip for clip in clips if clip.size <= self.window_samples]
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # generate warns of its own internal settings at every batch
        try:
            greedy = iter(self._decode_greedily(short) if short else ())
            texts = [next(greedy) if clip.size <= self.window_samples else None for clip in clips]
            return [self._decode_alone(clip) if text is None else text for clip, text in zip(clips, texts, strict=True)]
        finally:
            transformers_logging.set_verbosity(verbosity)

    def _decode_greedily(self, clips: list[np.ndarray]) -> list[str | None]:
        """The transcripts of clips of at most 30 s; None for one that loops or is improbable."""
        output = self.model.generate(
            **self._features(clips),
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            return_timestamps=False,
            return_dict_in_generate=True,
            output_logits=True,
            **self._options,
        )
        tokens = output.sequences[:, -len(output.logits) :]
        # Of the logits, which are as they were before suppression.
        logprobs = self.model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
        ended = tokens == self.model.generation_config.eos_token_id
        counted = ended.cumsum(-1) - ended.long() == 0  # the first end token counts, the padding after it does not
        means = torch.where(counted, logprobs, 0).sum(-1) / counted.sum(-1)
        texts = [text.strip() for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]
        return [
            text if compression_ratio(text) <= COMPRESSION_RATIO_THRESHOLD and mean >= LOGPROB_THRESHOLD else None
            for text, mean in zip(texts, means.tolist(), strict=True)
        ]

    def _decode_alone(self, clip: np.ndarray) -> str:
        """The transcript of one clip of any length, at rising temperatures; the last one's text stands."""
        is_long = clip.size > self.window_samples
        whole = {"truncation": False, "padding": "longest", "return_attention_mask": True} if is_long else {}
        with seeded_by(clip, self.device, self.seed):
            tokens = self.model.generate(
                **self._features([clip], **whole),
                **fallback(0 if is_long else 1),
                top_k=0,  # transformers' default of 50 would sample from less than Whisper's own decoder does
                num_beams=1,
                max_new_tokens=self.max_new_tokens,
                return_timestamps=is_long,
                **self._options,
            )
        return self.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()

    def _features(self, clips: list[np.ndarray], **options) -> dict[str, torch.Tensor]:
        """What `generate` takes of clips: log-mel features (B, mel, frames), by default padded to 30 s."""
        inputs = self.processor.feature_extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt", **options)
        return {
            name: value.to(self.device, self.dtype if name == "input_features" else None)
            for name, value in inputs.items()
        }
