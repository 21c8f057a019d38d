"""How inputs become answers, whatever runs the model: read, recognized, classified in batches, put into words."""

import math
import numbers
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from .audio_m4ser import audio_name, decode_audio, has_sound, resample
from .decisions_m4ser import decide
from .levels_m4ser import TooLongError
from .recognition_m4ser import load_recognizer
from .rows_m4ser import read_utterance
from .sound_m4ser import describe_sound
from .timeline_m4ser import stream, timeline

LONGEST = 600.0  # seconds of an input: what is longer is no utterance, and might not fit into memory


class Answering:
    """What the pipeline of transformers and that of the ONNX runtime share; a class adds `forward` to it.

    `forward` takes a batch of the processor, and returns `logits` and `pooled` as arrays of float32, and what
    `read_corrections` reads. `model` has the `config`, and an `ood_score` as [`M4SERForEmotionClassification`] has.
    """

    model: Any
    processor: Any
    device: Any
    forward: Any

    def _sanitize_parameters(self, **options):
        stages = (
            ("asr", "channel", "on_error"),
            ("return_corrections",),
            ("top_k", "return_embedding", "return_decision"),
        )
        unknown = sorted(set(options).difference(*stages))
        if unknown:
            raise TypeError(f"{type(self).__name__} does not take {', '.join(unknown)}.")
        if options.get("asr") is not None:
            loaded = vars(self).setdefault("_recognizers", {})
            options["asr"] = load_recognizer(options["asr"], loaded, self.processor.sampling_rate, self.device)
        else:
            options.pop("asr", None)
        is_whole = isinstance(top_k := options.get("top_k"), numbers.Integral) and not isinstance(top_k, bool)
        if top_k is not None and not (is_whole and top_k >= 1):
            raise ValueError(f"top_k must be a whole number of at least 1, not {top_k!r:.40}.")
        if options.get("on_error", "raise") not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {options["on_error"]!r}.')
        # A call's None means all channels or all labels, whatever the constructor was given.
        return tuple({name: options[name] for name in stage if name in options} for stage in stages)

    def timeline(self, audio: Any, **options) -> list[dict[str, Any]]:
        """Return the emotions of a recording of any length, turn by turn.

        Args:
            audio: as an input's audio; WAV, FLAC, OGG and AIFF are read in blocks.
            segments (`str`, `PathLike` or `list`, defaults to `"silero"`): what finds the turns: `"silero"` hears where
                speech is (needs silero-vad); `"whisper"` takes the segments that `asr`, a Whisper, writes; or the turns
                themselves, as [`~segments_m4ser.read_segments`] reads them.
            channel (`int` or `"each"`, *optional*): which one to read; `"each"` finds the turns of each by itself.
            max_seconds (`float`, defaults to 15.0): longer turns are split at their quietest place.
            window, hop (`float`, *optional*): seconds of overlapping windows, which turns are cut into instead.
            progress (`bool`, defaults to `False`): whether to show a bar.
            options: of a call; `asr` writes the words of turns that come without.

        Returns:
            `list[dict]`: sorted by start, each `start` and `end` in seconds, `speaker`, `channel`, `text`, `label`,
            `scores` by label, `confidence`, `decision`, `ood_score`; and `error`, why a turn has none of these.

        Raises:
            AudioError: the recording or the segments cannot be read.
            ImportError: speech is to be found, and silero-vad is not installed.
            ValueError: no words and nothing to write them, or options that do not go together.
        """
        return timeline(self, audio, **options)

    def stream(self, blocks: Iterable[Any], **options) -> Iterator[dict[str, Any]]:
        """Yield the row of each turn as soon as it has ended: the rows of `timeline`.

        Args:
            blocks: waveforms (samples,) or (samples, channels) of any length, one after another.
            sampling_rate (`float`, defaults to 16000): theirs, in hertz.
            options: of `timeline`.
        """
        return stream(self, blocks, **options)

    def get_iterator(
        self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
    ) -> Iterator[Any]:
        """Iterate over the answers, window by window: while one is classified, threads read the next."""
        options = {name: value for name, value in preprocess_params.items() if name != "on_error"}
        skips = preprocess_params.get("on_error") == "skip"
        answer = partial(self._answer, batch_size, skips, options.get("asr"), forward_params, postprocess_params)

        def read(gets: list[Callable[[], Any]]) -> list:
            return [self.preprocess(get(), **options) for get in gets]

        if not hasattr(inputs, "__len__"):
            gets = (partial(_same, item) for item in inputs)
        else:  # the threads ask a data set for its rows, which may be decoded there
            gets = (partial(inputs.__getitem__, place) for place in range(len(inputs)))
        size = batch_size if batch_size == 1 else 8 * batch_size
        with ThreadPoolExecutor(num_workers) if num_workers else nullcontext() as threads:
            spread = threads.map if threads else map
            ahead: deque[Iterable] = deque()
            while window := list(islice(gets, size)):
                ahead.append(spread(lambda get: _attempt(read, [get], skips)[0], window))
                if len(ahead) > bool(threads):
                    yield from answer(ahead.popleft())
            for clips in ahead:
                yield from answer(clips)

    def preprocess(self, inputs: Any, asr: Any = None, channel: int | None = None) -> dict[str, Any]:
        """Read one input: its features, and its transcript, or the waveform (samples,) to recognize instead."""
        audio, text, own_channel, part = read_utterance(inputs)
        channel = channel if own_channel is None else own_channel
        config, name, rate = self.model.config, audio_name(audio), self.processor.sampling_rate
        clip = {"name": name, "text": text, "features": {}, "waveform": None}
        clip |= {"seconds": None, "has_speech": True, "sound": None}
        lacks_text = text is None and config.uses_text
        if lacks_text and asr is None:
            raise ValueError(
                "No transcript was given. Pass {'audio': …, 'text': …} or (audio, text), or let an ASR model write "
                "it: pipe(audio, asr='openai/whisper-small.en')."
            )
        if config.uses_speech or lacks_text:
            if audio is None:
                raise ValueError("This model needs audio: pass {'audio': …, 'text': …} or (audio, text).")
            label = name or "the audio"
            try:
                longest = LONGEST if part is None else math.inf
                samples, own_rate = decode_audio(audio, channel=channel, part=part, max_seconds=longest)
            except TooLongError as error:
                raise TooLongError(
                    f"{error}: name a part of it (start, end), or find its turns with timeline"
                ) from error
            clip |= {"seconds": len(samples) / own_rate, "has_speech": has_sound(samples, label)}
            waveform = resample(samples, own_rate, rate, label)
            if config.uses_speech and config.ood_threshold is not None:
                clip["sound"] = describe_sound(waveform)
            if config.uses_speech:
                clip["features"] = self.processor(audio=waveform, sampling_rate=rate, names=[name])
            if lacks_text:
                clip["waveform"] = waveform
        return clip

    def _answer(self, batch_size, skips, asr, forward_params, postprocess_params, clips: Iterable) -> Iterator[Any]:
        """Answer a window of what `preprocess` gave, or its errors: texts are written first, then all is classified."""

        def write(batch: list[dict]) -> list[dict]:
            texts = asr([clip["waveform"] for clip in batch], [clip["name"] for clip in batch], batch_size)
            return [{**clip, "text": text, "waveform": None} for clip, text in zip(batch, texts, strict=True)]

        def classify(batch: list[dict]) -> list:
            outputs = self.forward(self._collate(batch), **forward_params)
            sounds = [clip["sound"] for clip in batch]
            if sounds[0] is not None and (scores := self.model.ood_score(sounds)) is not None:
                outputs["ood_score"] = scores
            rows = [{name: column[row] for name, column in outputs.items()} for row in range(len(batch))]
            return [self.postprocess(clip | row, **postprocess_params) for clip, row in zip(batch, rows, strict=True)]

        found = list(clips)
        for function, needs in ((write, lambda clip: clip["waveform"] is not None), (classify, lambda _: True)):
            order = [place for place, clip in enumerate(found) if not isinstance(clip, Exception) and needs(clip)]
            order.sort(key=lambda place: (-(found[place]["seconds"] or 0), -len(found[place]["text"] or "")))
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                results = _attempt(function, [found[place] for place in batch], skips)
                for place, result in zip(batch, results, strict=True):
                    found[place] = result
        for answer in found:
            is_error = isinstance(answer, Exception)
            yield {"error": str(answer), "error_type": type(answer).__name__} if is_error else answer

    def _collate(self, clips: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [dict(clip["features"]) for clip in clips]
        if self.model.config.uses_text:
            rows = [{**row, **self.processor(text=clip["text"])} for row, clip in zip(rows, clips, strict=True)]
        return dict(self.processor.pad(rows))

    def read_corrections(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """Return the keys of `return_corrections` where there are any."""
        return {}

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        top_k: int | None = None,
        return_embedding: bool = False,
        return_decision: bool = False,
    ) -> list[dict] | dict[str, Any]:
        """Return the labels of one clip with their probabilities, best first, and what else was asked for."""
        config, text = self.model.config, model_outputs["text"]
        logits = model_outputs["logits"] / np.float32(config.calibration_temperature)
        if not np.isfinite(logits).all():
            raise ValueError("The model gives no numbers: its weights are not finite, or half precision overflowed.")
        powers = np.exp(logits - logits.max())
        probabilities = powers / powers.sum()
        best = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
        emotions = [{"label": config.id2label[index], "score": float(probabilities[index])} for index in best]
        answer: dict[str, Any] = self.read_corrections(model_outputs)
        if return_embedding:
            answer["embedding"] = model_outputs["pooled"].copy()
        if return_decision:
            ood_score = float(model_outputs["ood_score"]) if "ood_score" in model_outputs else None
            answer |= decide(config, probabilities, ood_score, model_outputs["has_speech"])
            answer["seconds"] = model_outputs["seconds"]
        return {"emotions": emotions, "text": text, **answer} if answer else emotions


def _same(item: Any) -> Any:
    return item


def _attempt(function: Callable[[list], list], items: list, skips: bool) -> list:
    """Apply a function to a batch; where it fails and `skips`, to each item alone, its error in place of a result."""
    try:
        return function(items)
    except Exception as error:
        if not skips:
            raise
        if len(items) == 1:
            return [error]
    return [result for item in items for result in _attempt(function, [item], skips)]
