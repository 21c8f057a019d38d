"""Speech recognition with Whisper through faster-whisper and CTranslate2.

An extra: `pip install 'm4ser[faster-whisper]'`. A clip is decoded greedily first. If its transcript loops
or is improbable (measured as in `data_scripts.transcribe.whisper`), it is decoded once more with beam search. Rising
temperatures are not used: CTranslate2 seeds its generator once per thread, so a sampled transcript would depend on what
was recognised before it, and a resumed run would differ.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from data_scripts.constants import SAMPLING_RATE
from data_scripts.transcribe.whisper import (
    PROMPT_TOKENS,
    ClipRecognizer,
    RecognizerError,
    loading_error,
)
from modeling_m4ser.recognition_m4ser import (
    COMPRESSION_RATIO_THRESHOLD,
    LOGPROB_THRESHOLD,
    NO_SPEECH_THRESHOLD,
    compression_ratio,
)

WINDOW_SAMPLES = 30 * SAMPLING_RATE
BEAM_SIZES = (1, 5)


class FasterWhisperRecognizer(ClipRecognizer):
    """Transcribe 16 kHz speech with a Whisper checkpoint in CTranslate2's format.

    `model` is a size that faster-whisper knows (such as "medium.en"), a Hub repository of a converted checkpoint, or a
    folder made by `ct2-transformers-converter`; the rest is as in `WhisperRecognizer`.
    """

    def __init__(
        self,
        model: str,
        device: str | None = None,
        language: str | None = None,
        max_new_tokens: int = 224,
        name: str | None = None,
    ):
        super().__init__(model, max_new_tokens, name)
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise RecognizerError(
                f"the backend faster-whisper is not installed ({error}): pip install 'm4ser[faster-whisper]'"
            ) from error
        if Path(model).is_dir() and not (Path(model) / "model.bin").is_file():
            raise RecognizerError(
                f"{str(model)!r} holds no model.bin, so it is no CTranslate2 checkpoint: convert it with "
                f"`ct2-transformers-converter --model {model} --copy_files tokenizer.json --output_dir CONVERTED`"
            )
        try:
            self.model = WhisperModel(str(model), device=device or "auto")
        except (OSError, ValueError, RuntimeError) as error:
            raise loading_error(model, error) from error
        self.max_new_tokens = min(max_new_tokens, self.model.max_length - PROMPT_TOKENS)
        self.language = language
        self._language = language and TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if self._language is not None and self._language not in self.model.supported_languages:
            known = "is English-only" if not self.model.model.is_multilingual else "does not know it"
            raise RecognizerError(f"language {language!r} does not fit {self.name}, which {known}")

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a transcript, JSON-ready."""
        return {
            "backend": "faster-whisper",
            "model": self.checkpoint,
            "dtype": self.model.model.compute_type,
            "language": self.language,
            "max_new_tokens": self.max_new_tokens,
        }

    def _decode(self, clips: list[np.ndarray]) -> Iterable[str]:
        return map(self._decode_one, clips)

    def _decode_one(self, clip: np.ndarray) -> str:
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
