"""Speech recognition with Whisper through faster-whisper and CTranslate2.

An extra: `pip install 'm4ser[faster-whisper]'`. A clip is decoded greedily first. If its transcript loops
or is improbable (measured as in `data_scripts.transcribe.whisper`), it is decoded once more with beam search. Rising
temperatures are not used: CTranslate2 seeds its generator once per thread, so a sampled transcript would depend on what
was recognised before it, and a resumed run would differ.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from data_scripts.constants import SAMPLING_RATE
from data_scripts.transcribe.whisper import (
    COMPRESSION_RATIO_THRESHOLD,
    LOGPROB_THRESHOLD,
    NO_SPEECH_THRESHOLD,
    PROMPT_TOKENS,
    RecognizerError,
    check_clips,
    check_source,
    compression_ratio,
    is_audible,
    loading_error,
)

WINDOW_SAMPLES = 30 * SAMPLING_RATE
BEAM_SIZES = (1, 5)


class FasterWhisperRecognizer:
    """Transcribe 16 kHz speech with a Whisper checkpoint in CTranslate2's format.

    Args:
        model: a size that faster-whisper knows (such as "medium.en"), a Hub repository of a converted checkpoint, or a
            folder made by `ct2-transformers-converter`.
        device: "cpu", "cuda", or by default whichever there is.
        language: e.g. "en" or "english"; multilingual checkpoints only (None: detected per clip).
        max_new_tokens: cap on the tokens of a 30 s window, lowered to what the checkpoint's decoder can hold.
        name: what goes into the `asr_model` column; by default `model` as given (the last part, for a folder).

    Raises:
        RecognizerError: faster-whisper is not installed, the checkpoint cannot be loaded, or `language` does not
            fit it.
    """

    def __init__(
        self,
        model: str,
        device: str | None = None,
        language: str | None = None,
        max_new_tokens: int = 224,
        name: str | None = None,
    ):
        path = check_source(model, max_new_tokens)
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise RecognizerError(
                f"the backend faster-whisper is not installed ({error}): pip install 'm4ser[faster-whisper]'"
            ) from error
        if path.is_dir() and not (path / "model.bin").is_file():
            raise RecognizerError(
                f"{str(model)!r} holds no model.bin, so it is no CTranslate2 checkpoint: convert it with "
                f"`ct2-transformers-converter --model {model} --copy_files tokenizer.json --output_dir CONVERTED`"
            )
        try:
            self.model = WhisperModel(str(model), device=device or "auto")
        except (OSError, ValueError, RuntimeError) as error:
            raise loading_error(model, error) from error
        self.checkpoint = path.resolve().name if path.is_dir() else str(model)
        self.name = name or self.checkpoint
        self.max_new_tokens = min(max_new_tokens, self.model.max_length - PROMPT_TOKENS)
        self.language = language
        self._language = self._language_code(language)

    def _language_code(self, language: str | None) -> str | None:
        """Whisper's code of a language given by name or code."""
        if language is None:
            return None
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if code not in self.model.supported_languages:
            known = "is English-only" if not self.model.model.is_multilingual else "does not know it"
            raise RecognizerError(f"language {language!r} does not fit {self.name}, which {known}")
        return code

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a transcript, JSON-ready: equal settings give equal transcripts."""
        return {
            "backend": "faster-whisper",
            "model": self.checkpoint,
            "dtype": self.model.model.compute_type,
            "language": self.language,
            "max_new_tokens": self.max_new_tokens,
        }

    def transcribe(self, batch: Sequence[np.ndarray]) -> list[str]:
        """Transcribe clips, one after the other.

        Args:
            batch: float32 arrays of shape (samples,), mono, 16 kHz, of any lengths.

        Returns:
            One stripped transcript per clip, in order; "" where there is no speech (an empty or silent clip).
        """
        return [self._transcribe(clip) for clip in check_clips(batch)]

    def _transcribe(self, clip: np.ndarray) -> str:
        if not is_audible(clip):
            return ""
        text = ""
        for beam_size in BEAM_SIZES:
            found, _ = self.model.transcribe(
                clip,
                language=self._language,
                beam_size=beam_size,
                temperature=0.0,
                log_prob_threshold=LOGPROB_THRESHOLD,
                no_speech_threshold=NO_SPEECH_THRESHOLD,
                condition_on_previous_text=False,  # an error in one window must not steer the next
                without_timestamps=clip.size <= WINDOW_SAMPLES,  # longer clips are cut where the time stamps say
                max_new_tokens=self.max_new_tokens,
            )
            segments = list(found)
            text = " ".join(" ".join(segment.text for segment in segments).split())
            improbable = any(segment.avg_logprob < LOGPROB_THRESHOLD for segment in segments)
            if not improbable and compression_ratio(text) <= COMPRESSION_RATIO_THRESHOLD:
                break
        return text
