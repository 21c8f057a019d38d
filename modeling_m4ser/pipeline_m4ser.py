"""`pipeline("speech-text-emotion-recognition")`: emotions of (audio, transcript) pairs."""

import numbers
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import torch
from transformers import Pipeline

from .audio_m4ser import audio_name, decode_audio, load_audio
from .decisions_m4ser import decide
from .levels_m4ser import silence_reason
from .recognition_m4ser import load_recognizer
from .rows_m4ser import read_collection, read_utterance
from .timeline_m4ser import stream, timeline
from .words_m4ser import correct_words


class SpeechTextEmotionPipeline(Pipeline):
    """Emotion of an utterance from its audio and its (ASR) transcript.

    ```python
    pipe = pipeline("speech-text-emotion-recognition", model=folder_or_repo, trust_remote_code=True)
    pipe({"audio": "a.wav", "text": "I can't believe it"})  # -> [{"label": "happy", "score": 0.91}, …]
    ```

    An input is a dict with `audio` and `text`, or the other names that training takes (a row of a dataset works); a
    tuple `(audio, text)`; or audio alone where `asr` is given. Inputs come in a list, a tuple of rows, a data frame, a
    table, a column or a dict of columns, and are answered by a list; or in a generator or a dataset, whose answers are
    iterated over. Audio is a path, a URL, bytes, an open file, or an array with its rate: `{"array": …,
    "sampling_rate": …}` or `(rate, array)`; it may have any number of channels. A dict may name the `channel` to read,
    and the part of the recording: its `start` and `end`, or `offset` and `duration`, in seconds or as their names say
    (`start_ms`, `end_sample`). None and NaN are values that are not there.

    The constructor and the call take the same options:

    Args:
        top_k (`int`, *optional*): how many labels to return, best first; all of them by default.
        asr (`str`, `Pipeline` or `Callable`, *optional*): what writes the transcript where an input has none: an ASR
            model's name or folder ("faster-whisper:NAME" for one of that package), an `automatic-speech-recognition`
            pipeline, or any function from 16 kHz samples to text, or to a dict with it under `text`. Longer than 30 s
            is heard in parts.
        channel (`int`, *optional*): which channel of the audio to read, counted from 0, unless the input names one; by
            default the mean of all.
        batch_size (`int`, defaults to 1): how many inputs are classified and recognized at once. Answers are those of
            single calls; they come in windows of eight batches, whose inputs are sorted by length.
        num_workers (`int`, defaults to 0): how many threads read and decode, one window ahead of the model.
        on_error (`str`, defaults to `"raise"`): `"skip"` answers `{"error": message, "error_type": class name}` in the
            place of an input that cannot be read, recognized or classified.
        return_corrections (`bool`, *optional*): whether to return what error detection and correction say about the
            transcript: `corrections`, a list of words that change, each `{"start", "end", "text", "replacement",
            "confidence"}` with places in the given text in characters, and the `corrected_text`. Only edits of the
            model's `correction_threshold` count.
        return_embedding (`bool`, *optional*): whether to return the `embedding`, the pooled features, float32 (d,).
        return_decision (`bool`, *optional*): whether to return what [`~decisions_m4ser.decide`] says (`decision`,
            `confidence`, `labels`, `ood_score`), and the length of the audio in `seconds`, None without.

    With any of the last three, the answer is a dict of these keys, the `emotions` and the `text` that was read.
    """

    model: Any
    processor: Any

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

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

    def __call__(self, inputs: Any, **kwargs) -> Any:
        """Classify one input, or a collection of inputs, see the class."""
        collection = read_collection(inputs)
        inputs = inputs if collection is None else collection
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

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

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """Answer one input as a list of one."""
        return next(self.get_iterator([inputs], 0, 1, preprocess_params, forward_params, postprocess_params))

    def get_iterator(
        self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
    ) -> Iterator[Any]:
        """Iterate over the answers, window by window: while one is classified, threads read the next."""
        options = {name: value for name, value in preprocess_params.items() if name != "on_error"}
        skips = preprocess_params.get("on_error") == "skip"
        answer = partial(self._answer, batch_size, skips, options.get("asr"), forward_params, postprocess_params)

        def read(gets: list[Callable[[], Any]]) -> list:
            return [self.preprocess(get(), **options) for get in gets]

        if isinstance(inputs, torch.utils.data.IterableDataset) or not hasattr(inputs, "__len__"):
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
        clip |= {"seconds": None, "has_speech": True}
        lacks_text = text is None and config.uses_text
        if lacks_text and asr is None:
            raise ValueError(
                "No transcript was given. Pass {'audio': …, 'text': …} or (audio, text), or let an ASR model write "
                "it: pipe(audio, asr='openai/whisper-small.en')."
            )
        if config.uses_speech or lacks_text:
            if audio is None:
                raise ValueError("This model needs audio: pass {'audio': …, 'text': …} or (audio, text).")
            samples, own_rate = decode_audio(audio, channel=channel, part=part)
            clip |= {"seconds": len(samples) / own_rate, "has_speech": silence_reason(samples) is None}
            # Only now to the model's rate: resampling adds ripples to a constant, which is silence too.
            waveform = load_audio({"array": samples, "sampling_rate": own_rate}, sampling_rate=rate, name=name)
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

    def _collate(self, clips: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        rows = [dict(clip["features"]) for clip in clips]
        if self.model.config.uses_text:
            rows = [{**row, **self.processor(text=clip["text"])} for row, clip in zip(rows, clips, strict=True)]
        return dict(self.processor.pad(rows))

    def _forward(self, model_inputs: dict[str, Any], return_corrections: bool = False) -> dict[str, Any]:
        output = self.model(**model_inputs)
        outputs = {"logits": output.logits, "pooled": output.pooled}
        if (ood_score := self.model.ood_score(output.pooled)) is not None:
            outputs["ood_score"] = ood_score
        if return_corrections:
            outputs["corrections"] = self.model.correct_transcripts(
                model_inputs.get("input_ids"), model_inputs.get("text_attention_mask")
            )
        return outputs

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        top_k: int | None = None,
        return_embedding: bool = False,
        return_decision: bool = False,
    ) -> list[dict] | dict[str, Any]:
        """Return the labels of one clip with their probabilities, best first, and what else was asked for."""
        config, text = self.model.config, model_outputs["text"]
        probabilities = (model_outputs["logits"].float() / config.calibration_temperature).softmax(-1)
        best = probabilities.topk(min(top_k or len(probabilities), len(probabilities)))
        emotions = [
            {"label": config.id2label[index], "score": score}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        answer: dict[str, Any] = {}
        if "corrections" in model_outputs:
            corrected, words = correct_words(text, model_outputs["corrections"], self.processor)
            answer |= {"corrections": [asdict(word) for word in words], "corrected_text": corrected}
        if return_embedding:
            answer["embedding"] = model_outputs["pooled"].float().numpy().copy()
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
