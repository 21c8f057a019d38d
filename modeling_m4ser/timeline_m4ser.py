"""Emotions with times: the turns of a recording, or of a stream, each answered by the pipeline."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from huggingface_hub.utils import tqdm

from .audio_m4ser import audio_duration, audio_name, soxr, stream_audio
from .decoding_m4ser import logger
from .levels_m4ser import channels_last, check_rate, check_samples, mix_channels, pick_channel
from .segments_m4ser import Segment, read_segments
from .speech_m4ser import RATE, GivenSegments, SpeechFinder, Turn, WhisperSegments, pieces

_AT_ONCE = 4  # batches of turns that wait for their answers
Blocks = Iterable[tuple[np.ndarray, float]]  # (samples, channels) and hertz


def timeline(pipe: Any, audio: Any, *, progress: bool = False, batch_size: int = 16, **options) -> list[dict[str, Any]]:
    """Return one row for each turn of a recording, sorted by start, see `SpeechTextEmotionPipeline.timeline`."""
    seconds = audio_duration(audio) if progress else None
    shown = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
    # A little more than the sum of the blocks, which is rounded: tqdm warns of a bar that is too full.
    with tqdm(total=seconds and seconds + 1e-3, bar_format=shown, disable=not progress) as bar:
        blocks = _counted(stream_audio(audio), bar)
        rows = _rows(pipe, blocks, audio_name(audio) or "the audio", _AT_ONCE * batch_size, batch_size, **options)
        return sorted(rows, key=lambda row: (row["start"], row["end"], row["channel"] or 0))


def stream(
    pipe: Any, blocks: Iterable[Any], *, sampling_rate: float = RATE, batch_size: int = 16, **options
) -> Iterator[dict[str, Any]]:
    """Yield the row of each turn as soon as it has ended, see `SpeechTextEmotionPipeline.stream`."""
    rate = check_rate(sampling_rate, "sampling_rate", "the stream")
    given = (channels_last(np.asarray(block), "the stream") for block in blocks)
    return _rows(pipe, ((block, rate) for block in given if len(block)), "the stream", 1, batch_size, **options)


def _rows(
    pipe: Any,
    blocks: Blocks,
    label: str,
    at_once: int,
    batch_size: int,
    *,
    segments: Any = "silero",
    channel: Any = None,
    max_seconds: float = 15.0,
    window: float | None = None,
    hop: float | None = None,
    asr: Any = None,
    **options,
) -> Iterator[dict[str, Any]]:
    """Check the options, and return the iterator of rows: answered when `at_once` turns wait for it."""
    limit = min(max_seconds, pipe.processor.max_audio_seconds)
    fits = limit >= 1 and 0 < (limit if window is None else window) <= limit
    if not fits or (hop is not None and (window is None or hop <= 0)):
        raise ValueError(
            "max_seconds is at least 1, window at most that and what the model reads, and hop needs a window: not "
            f"{max_seconds}, {window} and {hop}."
        )
    if asr is not None:
        options["asr"] = pipe._sanitize_parameters(asr=asr)[0]["asr"]
    recognizer = options.get("asr", pipe._preprocess_params.get("asr"))
    make_finder = _finder(segments, channel, round(limit * RATE), recognizer, pipe.model.config.uses_text)
    sizes = [None if seconds is None else max(1, round(seconds * RATE)) for seconds in (window, hop)]
    options |= {"batch_size": batch_size, "top_k": None, "return_decision": True, "on_error": "skip"}

    def answer() -> Iterator[dict[str, Any]]:
        waiting: list[tuple[int | None, Turn]] = []
        for number, turns in _listen(blocks, make_finder, channel, label):
            waiting += [(number, piece) for turn in turns for piece in pieces(turn, round(limit * RATE), *sizes)]
            if len(waiting) >= at_once:
                yield from _answer(pipe, waiting, options)
                waiting = []
        yield from _answer(pipe, waiting, options)

    return answer()


def _finder(segments: Any, channel: Any, longest: int, recognizer: Any, needs_text: bool) -> Callable[[], Any]:
    """Return what makes the finder of one channel; raise where the rows could not be answered."""
    lacks_text = needs_text and recognizer is None
    way_out = "let an ASR model write the words, asr='openai/whisper-small.en', or give segments with their words"
    if isinstance(segments, str) and segments in ("silero", "whisper"):
        if lacks_text:
            raise ValueError(f"This model reads what is said: {way_out}.")
        if segments == "silero":
            return partial(SpeechFinder, longest)
        if getattr(getattr(recognizer, "asr", None), "type", "") != "seq2seq_whisper":
            raise ValueError("segments='whisper' needs a Whisper of transformers as asr.")
        return partial(WhisperSegments, partial(_transcribe, recognizer.asr))
    found = read_segments(segments)
    if channel == "each":
        raise ValueError("channel='each' finds the turns of each channel itself: leave one of the two out.")
    if lacks_text and (silent := sum(segment.text is None for segment in found)):
        raise ValueError(f"{silent} of {len(found)} segments have no words, which this model reads: {way_out}.")
    return partial(GivenSegments, found)


def _transcribe(asr: Any, window: np.ndarray) -> list[Segment]:
    chunks = asr({"raw": window, "sampling_rate": RATE}, return_timestamps=True)["chunks"]
    end = len(window) / RATE  # Whisper leaves it open where speech is cut
    times = ((*chunk["timestamp"], chunk["text"].strip()) for chunk in chunks)
    return [Segment(start or 0.0, min(stop or end, end), None, text) for start, stop, text in times]


def _listen(
    blocks: Blocks, make_finder: Callable[[], Any], channel: Any, label: str
) -> Iterator[tuple[int | None, list[Turn]]]:
    """Yield the number of a channel and its turns that have ended, block by block."""
    finders: dict[int | None, Any] = {}
    resample: Any = None

    def push(samples: np.ndarray, last: bool) -> Iterator[tuple[int | None, list[Turn]]]:
        samples = samples if resample is None else resample(samples, last=last)
        yield from ((number, finders[number].push(own, last)) for number, own in zip(finders, samples.T, strict=True))

    for block, rate in blocks:
        check_samples(block, label)
        if not finders:
            finders = {number: make_finder() for number in (range(block.shape[1]) if channel == "each" else [channel])}
            if rate != RATE and soxr is None:
                raise ImportError(f"resampling from {rate:g} to {RATE} Hz needs soxr: pip install soxr")
            if rate != RATE:
                resample = soxr.ResampleStream(rate, RATE, len(finders), dtype="float32").resample_chunk
        yield from push(np.stack([_pick(block, number, label) for number in finders], axis=1), False)
    yield from push(np.zeros((0, len(finders)), np.float32), True)


def _pick(block: np.ndarray, number: int | None, label: str) -> np.ndarray:
    if number is not None:
        return pick_channel(block, number, label)[:, 0]
    if mix_channels(block)[1] is not None:
        logger.warning_once(f"{label}: its channels cancel each other: choose one with channel=….")
    return block.mean(axis=1, dtype=np.float32)


def _answer(pipe: Any, waiting: list[tuple[int | None, Turn]], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of turns; of those that cannot be classified, `error` says why."""
    there = [turn for _, turn in waiting if len(turn.samples)]
    clips = [{"audio": {"array": turn.samples, "sampling_rate": RATE}, "text": turn.text} for turn in there]
    answers = iter(pipe(clips, **options) if clips else [])
    for channel, turn in waiting:
        past = {"error": "the segment begins after the end of the recording"}
        answer = next(answers) if len(turn.samples) else past
        emotions = answer.get("emotions", [])
        yield {
            "start": round(turn.start / RATE, 3),
            "end": round(turn.end / RATE, 3),
            "speaker": turn.speaker,
            "channel": channel,
            "text": answer.get("text", turn.text),
            "label": emotions[0]["label"] if emotions else None,
            "scores": {emotion["label"]: emotion["score"] for emotion in emotions},
            **{name: answer.get(name) for name in ("confidence", "decision", "ood_score", "error")},
        }


def _counted(blocks: Blocks, bar: Any) -> Blocks:
    for block, rate in blocks:
        yield block, rate
        bar.update(len(block) / rate)
