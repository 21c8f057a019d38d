"""What writes transcripts: an ASR model by name, an ASR pipeline or any function, for lists of waveforms."""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import numpy as np

from .decoding_m4ser import logger

#: What starts the name of a checkpoint in CTranslate2's format: it runs by the package of that name.
FASTER_WHISPER = "faster-whisper:"
#: Of a text's UTF-8 length over its compressed length: above, the text repeats itself.
COMPRESSION_RATIO_THRESHOLD = 2.4
LOGPROB_THRESHOLD = -1.0  # mean over a text's tokens; below: the text is improbable to the model itself
NO_SPEECH_THRESHOLD = 0.6  # above, and improbable: there is no speech
_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_TOKEN_COMPRESSION_RATIO_THRESHOLD = 1.35  # the same on token bytes, as `generate` measures it
_LOADING = Lock()  # threads that name a model at the same time load it once
_SAMPLING = Lock()  # there is one generator of random numbers for all threads
# CTC models read any length at once, but attention over a whole call takes its square in memory.
_CTC_SECONDS = 30
_LANGUAGE = re.compile(r"(?!faster-whisper:[^:]*$)(?P<name>.+):(?P<language>[a-z]{2,3})")


class Recognizer:
    """A function from lists of waveforms to their texts.

    Args:
        asr (`str`, `Pipeline` or `Callable`): an ASR model's name or folder, with "faster-whisper:" in front for one in
            CTranslate2's format, and behind that of a Whisper the code of the language it hears ("…:de"), guessed
            otherwise; an `automatic-speech-recognition` pipeline; or any function from the samples of one
            waveform to text, or to a dict with it under `text`, which is called one by one.
        sampling_rate (`int`, defaults to 16000): that of the waveforms, in hertz.
        device (*optional*): where a model that is given by name runs; by default where transformers puts it.

    Raises:
        ValueError: `asr` is nothing of these, or no model of this name can be loaded, or it does not know the language.
        ImportError: what runs the model that is asked for, faster-whisper or transformers, is not installed.
    """

    def __init__(self, asr: Any, sampling_rate: int = 16000, device: Any = None):
        if isinstance(asr, str):
            name, language = split_language(asr)
            if name.startswith(FASTER_WHISPER):
                asr = _FasterWhisper(name.removeprefix(FASTER_WHISPER), device, language)
            else:
                asr = _load_pipeline(name, device, language)
        if not callable(asr):
            raise ValueError(f"asr must be a model name, an ASR pipeline or a function, not {type(asr).__name__}.")
        self.asr: Any = asr
        self.sampling_rate = sampling_rate

    def __call__(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str | None] | None = None, batch_size: int = 16
    ) -> list[str]:
        """Return the texts of waveforms (samples,), in their order.

        Whispers hear batches of similar length, and alone and in parts what is longer than their 30 s. What repeats
        itself is heard again, see `fallback`. `names` are what messages call the waveforms.

        Raises:
            ValueError: what was heard is neither a text nor a dictionary with one.
        """
        names = [None] * len(waveforms) if names is None else names
        if not (_is_pipeline(self.asr) or isinstance(self.asr, _FasterWhisper)):
            return [_written(self.asr(waveform), name) for waveform, name in zip(waveforms, names, strict=True)]
        answers: dict[int, Any] = {}
        together = []
        for index in sorted(range(len(waveforms)), key=lambda index: -len(waveforms[index])):
            options = self._options(waveforms[index])
            if options is None:
                together.append(index)
            else:
                answers[index] = self._hear([waveforms[index]], 1, **options)[0]
        heard = self._hear([waveforms[index] for index in together], batch_size) if together else []
        for index, answer in zip(together, heard, strict=True):
            repeats = self._is_whisper and compression_ratio(answer["text"]) > COMPRESSION_RATIO_THRESHOLD
            # Texts of hours compress as well.
            if repeats and len(waveforms[index]) <= self.asr.feature_extractor.n_samples:
                answer = self._hear([waveforms[index]], 1, generate_kwargs=fallback())[0]
            answers[index] = answer
        return [_written(answers[index], name) for index, name in enumerate(names)]

    def _hear(self, waveforms: list[np.ndarray], batch_size: int, **options) -> list:
        if isinstance(self.asr, _FasterWhisper):
            return self.asr(waveforms, batch_size, **options)
        # Of other models, the padding of a batch would be heard too.
        batch_size = batch_size if self._is_whisper else 1
        clips = [{"raw": waveform, "sampling_rate": self.sampling_rate} for waveform in waveforms]
        samples = "generate_kwargs" in options
        with seeded_by(waveforms[0], self.asr.device) if samples else nullcontext():
            return self.asr(clips, batch_size=batch_size, **options)

    @property
    def _is_whisper(self) -> bool:
        return getattr(self.asr, "type", "") == "seq2seq_whisper"

    def _options(self, waveform: np.ndarray) -> dict[str, Any] | None:
        """Return the options that let a model hear what is longer than it reads at once; None for what is not."""
        kind, seconds = getattr(self.asr, "type", ""), len(waveform) / self.sampling_rate
        # Whoever chose parts for the pipeline has settled that.
        if _is_pipeline(self.asr) and "chunk_length_s" in self.asr._preprocess_params:
            return None
        if kind == "faster-whisper":
            return {"in_parts": True} if seconds > self.asr.seconds else None
        if kind.startswith("ctc"):
            return {"chunk_length_s": _CTC_SECONDS} if seconds > _CTC_SECONDS else None
        if not self._is_whisper or len(waveform) <= self.asr.feature_extractor.n_samples:
            return None
        if hasattr(self.asr.model.generation_config, "no_timestamps_token_id"):
            return {"return_timestamps": True, "generate_kwargs": fallback(0)}
        return {"chunk_length_s": self.asr.feature_extractor.chunk_length, "ignore_warning": True}


def compression_ratio(text: str) -> float:
    """Return the UTF-8 length of `text` over its zlib-compressed length; high for looping text, 0.0 for none."""
    raw = text.encode("utf-8")
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def fallback(first: int = 1) -> dict[str, Any]:
    """Return the arguments of Whisper's `generate` that hear anew what repeats itself or is improbable.

    That is at rising temperatures, from the `first` on, 0 for a greedy start (section 4.5 of Whisper's paper).
    """
    return {
        "temperature": _TEMPERATURES[first:],
        "compression_ratio_threshold": _TOKEN_COMPRESSION_RATIO_THRESHOLD,
        "logprob_threshold": LOGPROB_THRESHOLD,
        "no_speech_threshold": NO_SPEECH_THRESHOLD,
        "condition_on_prev_tokens": False,  # an error in one window must not steer the next
    }


@contextmanager
def seeded_by(waveform: np.ndarray, device: Any, seed: int = 0) -> Iterator[None]:
    """Let what is sampled on a torch device depend on the waveform and the seed alone.

    `generate` takes no generator of its own: the global ones are seeded here, and restored afterwards.
    """
    import torch

    with _SAMPLING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed((zlib.crc32(waveform.tobytes()) + seed) % 2**63)
        yield


def _is_pipeline(asr: Any) -> bool:
    """Return whether this is a pipeline of transformers, which need not be imported to know."""
    return hasattr(asr, "_preprocess_params") and hasattr(asr, "feature_extractor")


def split_language(asr: str) -> tuple[str, str | None]:
    """Return a recognizer's name, and the code of the language behind it, as in "openai/whisper-small:de"."""
    found = _LANGUAGE.fullmatch(asr)
    return (found["name"], found["language"]) if found else (asr, None)


def _check_language(name: str, language: str | None, known: Sequence[str]) -> None:
    """Raise where a Whisper does not know a language; `known` are the codes of those that it does, none: no Whisper."""
    if language is not None and language not in known:
        what = f"knows {known[0]} alone" if len(known) == 1 else f"knows {', '.join(sorted(known)) or 'no languages'}"
        raise ValueError(
            f"asr={name!r} {what}, not {language!r}: choose another recognizer, such as openai/whisper-small"
        )


def _load_pipeline(name: str, device: Any, language: str | None) -> Any:
    try:
        from transformers import pipeline

        from .linear_m4ser import use_onednn
    except ImportError as error:
        raise ImportError(
            f"asr={name!r} needs torch and transformers: use {FASTER_WHISPER}NAME, or a runtime that has them"
        ) from error
    try:
        # One beam, as the texts of training are written: the default of five takes twice as long.
        asr = pipeline("automatic-speech-recognition", model=name, device=device, generate_kwargs={"num_beams": 1})
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0].partition(" with any of")[0]  # classes, for pages
        raise ValueError(f"asr={name!r} is no recognizer that can be loaded: {reason}") from error
    use_onednn(asr.model)
    settings: Any = asr.model.generation_config
    languages = [each.strip("<|>") for each in getattr(settings, "lang_to_id", None) or ()]
    _check_language(name, language, languages or ["en"] * (asr.type == "seq2seq_whisper"))
    if language is not None and languages:
        asr._forward_params |= {"language": language, "task": "transcribe"}
    return asr


def load_recognizer(asr: Any, loaded: dict[str, Recognizer], sampling_rate: int, device: Any = None) -> Recognizer:
    """Return the recognizer of a name, pipeline or function; a model given by name is kept in `loaded`."""
    if isinstance(asr, Recognizer):
        return asr
    if not isinstance(asr, str):
        return Recognizer(asr, sampling_rate)
    with _LOADING:
        if asr not in loaded:
            loaded[asr] = Recognizer(asr, sampling_rate, device)
    return loaded[asr]


class _FasterWhisper:
    """A Whisper in CTranslate2's format: batches of 16 kHz clips in one pass, what is longer than 30 s by its parts."""

    type = "faster-whisper"

    def __init__(self, name: str, device: Any = None, language: str | None = None):
        try:
            from faster_whisper import BatchedInferencePipeline, WhisperModel
        except ImportError as error:
            raise ImportError(
                f"asr={FASTER_WHISPER + name!r} needs faster-whisper: pip install faster-whisper"
            ) from error
        device = getattr(device, "type", device)
        self.model = WhisperModel(name, device=device if device in ("cpu", "cuda") else "auto")
        _check_language(FASTER_WHISPER + name, language, self.model.supported_languages)
        self._language = language if self.model.model.is_multilingual else "en"
        self.batched = BatchedInferencePipeline(self.model)
        self.rate = self.model.feature_extractor.sampling_rate
        self.seconds = self.model.feature_extractor.chunk_length

    def __call__(self, waveforms: list[np.ndarray], batch_size: int, in_parts: bool = False) -> list[str]:
        options: dict[str, Any] = {"language": self._language}
        if in_parts:
            # Sampled texts, and what is conditioned on them, would differ from call to call.
            options |= {"temperature": 0.0, "condition_on_previous_text": False}
            found = (self.model.transcribe(waveform, **options)[0] for waveform in waveforms)
            return [_joined(segments) for segments in found]
        # The clips as places of one recording: the package cuts them out again and runs them side by side.
        ends = np.cumsum([len(waveform) for waveform in waveforms]) / self.rate
        starts = np.concatenate([[0.0], ends[:-1]])
        places = [{"start": start, "end": end} for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        segments, _ = self.batched.transcribe(
            np.concatenate(waveforms),
            clip_timestamps=places,
            batch_size=batch_size,
            multilingual=self._language is None,
            **options,
        )
        by_clip: list[list] = [[] for _ in waveforms]
        for segment in segments:
            by_clip[int(np.searchsorted(starts, segment.start + 1e-3, side="right")) - 1].append(segment)
        return [_joined(found) for found in by_clip]


def _joined(segments: Any) -> str:
    return " ".join(segment.text.strip() for segment in segments)


def _written(answer: Any, name: str | None) -> str:
    """Return the text of a recognizer's answer: a string, or a dictionary with one under "text"."""
    text = answer.get("text") if isinstance(answer, Mapping) else answer
    if not isinstance(text, str):
        keys = f" with the keys {sorted(map(str, answer))[:9]}" if isinstance(answer, Mapping) else ""
        raise ValueError(
            f"asr gave {type(answer).__name__}{keys} for {name or 'the audio'}: it must return the text, or a "
            'dictionary with it under "text"; put what you call into a function that does.'
        )
    if not text.strip():
        logger.warning_once(f"asr heard no words in {name or 'the audio'}: its emotion is read from the sound alone.")
    return text.strip()
