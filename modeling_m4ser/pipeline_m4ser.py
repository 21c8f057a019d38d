"""`pipeline("speech-text-emotion-recognition")`: emotions of (audio, transcript) pairs."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import Pipeline

from .answering_m4ser import Answering
from .linear_m4ser import use_onednn
from .rows_m4ser import read_collection
from .words_m4ser import correct_words


class SpeechTextEmotionPipeline(Answering, Pipeline):
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
            model's name or folder ("faster-whisper:NAME" for one of that package; "NAME:de" for a Whisper that hears
            German), an `automatic-speech-recognition` pipeline, or any function from 16 kHz samples to text, or to a
            dict with it under `text`. Longer than 30 s is heard in parts.
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

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        use_onednn(self.model)

    def __call__(self, inputs: Any, **kwargs) -> Any:
        """Classify one input, or a collection of inputs, see the class."""
        collection = read_collection(inputs)
        inputs = inputs if collection is None else collection
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """Answer one input as a list of one."""
        return next(self.get_iterator([inputs], 0, 1, preprocess_params, forward_params, postprocess_params))

    def get_iterator(self, inputs, *args) -> Iterator[Any]:
        """Iterate over the answers, see `Answering`."""
        # Only its type tells such a data set, which may have a length, from one that is asked for its rows.
        return super().get_iterator(iter(inputs) if isinstance(inputs, IterableDataset) else inputs, *args)

    def forward(self, model_inputs, **forward_params) -> dict[str, Any]:
        """Classify a batch as transformers' pipelines do; floats come back as arrays of float32."""
        outputs = super().forward(model_inputs, **forward_params)
        return {
            name: value.float().numpy() if isinstance(value, torch.Tensor) else value for name, value in outputs.items()
        }

    def _forward(self, model_inputs: dict[str, Any], return_corrections: bool = False) -> dict[str, Any]:
        output = self.model(**model_inputs)
        outputs = {"logits": output.logits, "pooled": output.pooled}
        if return_corrections:
            outputs["corrections"] = self.model.correct_transcripts(
                model_inputs.get("input_ids"), model_inputs.get("text_attention_mask")
            )
        return outputs

    def read_corrections(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """Return the keys of `return_corrections` where there are any."""
        if "corrections" not in model_outputs:
            return {}
        corrected, words = correct_words(model_outputs["text"], model_outputs["corrections"], self.processor)
        return {"corrections": [asdict(word) for word in words], "corrected_text": corrected}
