"""`pipeline("speech-text-emotion-recognition")`: emotions of (audio, transcript) pairs."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace
from typing import Any, Self

import torch
from transformers import Pipeline, pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .audio_m4ser import audio_name, load_audio
from .decoding_m4ser import logger
from .rows_m4ser import read_collection, read_utterance
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
            model's name or folder, an `automatic-speech-recognition` pipeline, or any function from 16 kHz samples to
            text, or to a dict with it under `text`. A Whisper hears what is longer than its 30 s in parts.
        channel (`int`, *optional*): which channel of the audio to read, counted from 0, unless the input names one; by
            default the mean of all.
        return_corrections (`bool`, *optional*): whether to return a dict `{"emotions", "text", "corrections",
            "corrected_text"}` with what error detection and correction say about the transcript: a list of words that
            change, each `{"start", "end", "text", "replacement", "confidence"}` with places in the given text in
            characters. Only edits of the model's `correction_threshold` count.
    """

    model: Any
    processor: Any

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def _sanitize_parameters(self, **options):
        unknown = sorted(set(options) - {"top_k", "asr", "channel", "return_corrections"})
        if unknown:
            raise TypeError(f"{type(self).__name__} does not take {', '.join(unknown)}.")
        if options.get("asr") is not None:
            options["asr"] = self._recognizer(options["asr"])
        else:
            options.pop("asr", None)
        if options.get("top_k") is not None and options["top_k"] < 1:
            raise ValueError(f"top_k must be at least 1, not {options['top_k']}.")
        # A call's None means all channels or all labels, whatever the constructor was given.
        stages = ("asr", "channel"), ("return_corrections",), ("top_k",)
        return tuple({name: options[name] for name in stage if name in options} for stage in stages)

    def __call__(self, inputs: Any, **kwargs) -> Any:
        """Classify one input, or a collection of inputs, see the class."""
        collection = read_collection(inputs)
        inputs = inputs if collection is None else collection
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def preprocess(self, inputs: Any, asr: Callable | None = None, channel: int | None = None) -> dict[str, Any]:
        """Turn one input into the processor's tensors (a batch of one) and the transcript as it was given."""
        audio, text, own_channel, part = read_utterance(inputs)
        channel = channel if own_channel is None else own_channel
        config = self.model.config
        waveform = None
        if config.uses_speech or (text is None and asr is not None):
            if audio is None:
                raise ValueError("This model needs audio: pass {'audio': …, 'text': …} or (audio, text).")
            waveform = load_audio(audio, sampling_rate=self.processor.sampling_rate, channel=channel, part=part)
        if text is None and config.uses_text:
            if asr is None:
                raise ValueError(
                    "No transcript was given. Pass {'audio': …, 'text': …} or (audio, text), or let an ASR model write "
                    "it: pipe(audio, asr='openai/whisper-small.en')."
                )
            text = _written(asr(waveform), audio_name(audio))
        features = self.processor(
            audio=waveform if config.uses_speech else None,
            text=text if config.uses_text else None,
            sampling_rate=self.processor.sampling_rate,
            names=[audio_name(audio)],
        )
        return {**features, "text": [text]}

    def _forward(self, model_inputs: dict[str, Any], return_corrections: bool = False) -> dict[str, Any]:
        texts = model_inputs.pop("text")
        outputs = {"logits": self.model(**model_inputs).logits, "text": texts}
        if return_corrections:
            outputs["corrections"] = self.model.correct_transcripts(
                model_inputs.get("input_ids"), model_inputs.get("text_attention_mask")
            )
        return outputs

    def postprocess(self, model_outputs: dict[str, Any], top_k: int | None = None) -> list[dict] | dict[str, Any]:
        """Return labels with their probabilities, best first."""
        config = self.model.config
        labels = config.id2label
        scores = (model_outputs["logits"][0].float() / config.calibration_temperature).softmax(-1)
        best = scores.topk(min(top_k or len(scores), len(scores)))
        emotions = [
            {"label": labels[index], "score": score}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        if "corrections" not in model_outputs:
            return emotions
        # One utterance comes as a list of one, an utterance out of a batch as itself.
        correction, text = _only(model_outputs["corrections"]), _only(model_outputs["text"])
        corrected, words = correct_words(text, correction, self.processor)
        return {
            "emotions": emotions,
            "text": text,
            "corrections": [asdict(word) for word in words],
            "corrected_text": corrected,
        }

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Iterate as every pipeline does, but let the processor pad batches: it knows the axes of its tensors."""
        # A generator has no known size: it streams, in this process.
        if hasattr(inputs, "__len__"):
            dataset = PipelineDataset(inputs, self._without_weights().preprocess, preprocess_params)
        else:
            dataset, num_workers = PipelineIterator(inputs, self.preprocess, preprocess_params), 0
        loader = torch.utils.data.DataLoader(
            dataset, num_workers=num_workers, batch_size=batch_size, collate_fn=self._collate
        )
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)

    def _without_weights(self) -> Self:
        """Return what reads inputs: worker processes need no weights, and torch cannot pickle those of HuBERT."""
        reader = copy.copy(self)
        reader.model = SimpleNamespace(config=self.model.config)
        return reader

    def _collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [text for item in items for text in item.pop("text")]
        return {**self.processor.pad(items), "text": texts}

    def _recognizer(self, asr: str | Callable) -> Callable[[Any], Any]:
        """Return a function from samples to text, or a dictionary with it; a model given by name is loaded once."""
        if isinstance(asr, str):
            loaded: dict[str, Any] = vars(self).setdefault("_recognizers", {})
            if asr not in loaded:
                loaded[asr] = pipeline("automatic-speech-recognition", model=asr, device=self.device)
            asr = loaded[asr]
        if not callable(asr):
            raise ValueError(f"asr must be a model name, an ASR pipeline or a function, not {type(asr).__name__}.")
        return partial(_recognize, asr, self.processor.sampling_rate) if isinstance(asr, Pipeline) else asr


def _recognize(asr: Pipeline, sampling_rate: int, waveform: Any) -> Any:
    """Return what an ASR pipeline makes of samples (samples,)."""
    options: dict[str, Any] = {}
    # Whisper reads no more at once than its window of 30 s. Whoever chose parts for the pipeline has settled that.
    is_whisper = getattr(asr, "type", None) == "seq2seq_whisper" and "chunk_length_s" not in asr._preprocess_params
    if is_whisper and len(waveform) > asr.feature_extractor.n_samples:
        writes_times = hasattr(asr.model.generation_config, "no_timestamps_token_id")
        seconds = asr.feature_extractor.chunk_length
        options = {"return_timestamps": True} if writes_times else {"chunk_length_s": seconds, "ignore_warning": True}
    return asr({"raw": waveform, "sampling_rate": sampling_rate}, **options)


def _written(answer: Any, name: str | None) -> str:
    """Return the text of a recogniser's answer: a string, or a dictionary with one under "text"."""
    text = answer.get("text") if isinstance(answer, Mapping) else answer
    if not isinstance(text, str):
        keys = f" with the keys {sorted(map(str, answer))[:9]}" if isinstance(answer, Mapping) else ""
        raise ValueError(
            f"asr gave {type(answer).__name__}{keys} for {name or 'the audio'}: it must return the text, or a "
            'dictionary with it under "text"; put what you call into a function that does.'
        )
    if not text.strip():
        logger.warning_once(f"asr heard no words in {name or 'the audio'}: its emotion is read from the sound alone.")
    return text


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
