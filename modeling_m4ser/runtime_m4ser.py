"""The pipeline without torch and transformers: an exported folder (see `export_m4ser.py`), run by onnxruntime."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .answering_m4ser import Answering
from .preparation_m4ser import Preparation
from .rows_m4ser import read_collection
from .sound_m4ser import domain_distance

try:
    import onnxruntime
    import tokenizers
except ImportError:
    onnxruntime: Any = None

#: The graph, what the runtime must know besides the model's and the processor's files, a Whisper's mel filters, and
#: what the training data sound like.
GRAPH_FILE, EXPORT_FILE, FILTERS_FILE, DOMAIN_FILE = "model.onnx", "export.json", "mel_filters.npy", "domain.npz"
Batch = dict[str, np.ndarray]


class OnnxProcessor(Preparation):
    """What [`M4SERProcessor`] does, in numpy: one utterance, or rows of a batch, to the inputs of the graph.

    Args:
        folder (`Path`): an exported one.
    """

    def __init__(self, folder: Path):
        fields = _read(folder / "processor_config.json")
        self._features = fields.pop("feature_extractor")
        self.sampling_rate = self._features["sampling_rate"]
        for name in Preparation.__annotations__.keys() & fields.keys():
            setattr(self, name, fields[name])
        told = _read(folder / EXPORT_FILE)
        self._shortest, self._pad = told["shortest"], told["pad_token_id"]
        filters = folder / FILTERS_FILE
        self._filters = np.load(filters) if filters.is_file() else None
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(
        self, audio: Any = None, text: str | None = None, sampling_rate: Any = None, names: Sequence[Any] = (None,)
    ) -> Batch:
        """Return the inputs of one waveform (samples,) at `sampling_rate`, or of one transcript, as a batch of one."""
        if text is None:
            return self._read_speech(audio, names[0])
        normal = self.normalize_text(text)
        ids = np.array([self.cut_ids(self._tokenizer.encode(normal).ids, normal)])
        return {"input_ids": ids, "text_attention_mask": np.ones_like(ids)}

    def _read_speech(self, waveform: np.ndarray, name: str | None) -> Batch:
        if self._filters is None:
            values = self.prepare_waveform(waveform, name)
            length = len(values)
            if self._features["do_normalize"]:
                values = (values - values.mean()) / np.sqrt(values.var() + 1e-7)
            # The graph wants samples for one frame; the mask says which of them are there.
            values = np.pad(values, (0, max(0, self._shortest - length)))[None].astype(np.float32)
            return {"input_values": values, "speech_attention_mask": _mask(length, values.shape[-1])}
        window, hop = self._features["n_fft"], self._features["hop_length"]
        values = log_mel(self.prepare_waveform(waveform, name, max(window, hop)), self._filters, window, hop)[None]
        return {"input_features": values, "speech_attention_mask": _mask(values.shape[-1], values.shape[-1])}

    def pad(self, rows: Sequence[Batch]) -> Batch:
        """Join batches along their first axis, and pad their last axis on the right."""
        batch = {}
        for name in rows[0]:
            longest = max(row[name].shape[-1] for row in rows)
            value = self._pad if name == "input_ids" else 0
            ends = [[(0, 0)] * (row[name].ndim - 1) + [(0, longest - row[name].shape[-1])] for row in rows]
            padded = [np.pad(row[name], end, constant_values=value) for row, end in zip(rows, ends, strict=True)]
            batch[name] = np.concatenate(padded)
        return batch


class OnnxPipeline(Answering):
    """The pipeline of an exported folder: inputs, options and answers are those of [`SpeechTextEmotionPipeline`].

    Args:
        folder (`str` or `Path`): what `export_onnx` wrote.
        num_threads (`int`, *optional*): of one computation; by default those of onnxruntime.
        options: as in a call.

    Raises:
        ImportError: onnxruntime or tokenizers are not installed.
        FileNotFoundError: the folder is no exported one.
    """

    def __init__(self, folder: str | Path, num_threads: int | None = None, **options):
        if onnxruntime is None:
            raise ImportError("running an exported model needs onnxruntime and tokenizers: pip install 'm4ser[onnx]'")
        folder, self.device = Path(folder), None
        if not (folder / EXPORT_FILE).is_file():
            raise FileNotFoundError(f"{folder} is no exported model: write one with m4ser export")
        self._equal_lengths = _read(folder / EXPORT_FILE)["equal_lengths"]
        config, domain = read_config(folder), folder / DOMAIN_FILE
        distance = partial(domain_distance, **np.load(domain)) if domain.is_file() else lambda sounds: None
        self.model, self.processor = SimpleNamespace(config=config, ood_score=distance), OnnxProcessor(folder)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = num_threads or 0
        self._session = onnxruntime.InferenceSession(folder / GRAPH_FILE, settings, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._defaults = {name: options.pop(name) for name in ("batch_size", "num_workers") if name in options}
        self._preprocess_params, self._forward_params, self._postprocess_params = self._sanitize_parameters(**options)

    def _sanitize_parameters(self, **options):
        if options.pop("return_corrections", None):
            raise ValueError("An exported model corrects no transcripts: leave return_corrections out.")
        return super()._sanitize_parameters(**options)

    def __call__(self, inputs: Any, **options) -> Any:
        """Classify one input, or a collection of inputs, as the pipeline does."""
        collection = read_collection(inputs)
        inputs = inputs if collection is None else collection
        options = self._defaults | options
        batch_size, workers = options.pop("batch_size", None) or 1, options.pop("num_workers", None) or 0
        kept = self._preprocess_params, self._forward_params, self._postprocess_params
        stages = [old | new for old, new in zip(kept, self._sanitize_parameters(**options), strict=True)]
        if isinstance(inputs, list):
            return list(self.get_iterator(inputs, workers, batch_size, *stages))
        if isinstance(inputs, Iterator):
            return self.get_iterator(inputs, workers, batch_size, *stages)
        return next(self.get_iterator([inputs], 0, 1, *stages))

    def forward(self, batch: Batch) -> Batch:
        """Run the graph on a batch of the processor; rows of one length at a time where padding would be read."""
        if not self._equal_lengths or "input_values" not in batch:
            return dict(zip(self._outputs, self._session.run(None, batch), strict=True))
        lengths = batch["speech_attention_mask"].sum(-1)
        lengths = np.maximum(lengths, self.processor._shortest)
        outputs: list[Any] = [None] * len(lengths)
        for length in np.unique(lengths):
            (rows,) = np.nonzero(lengths == length)
            part = {name: value[rows] for name, value in batch.items()}
            for name in ("input_values", "speech_attention_mask"):
                part[name] = part[name][:, :length]
            for row, answer in zip(rows, zip(*self._session.run(None, part), strict=True), strict=True):
                outputs[row] = answer
        return dict(zip(self._outputs, map(np.stack, zip(*outputs, strict=True)), strict=True))


def log_mel(waveform: np.ndarray, filters: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Return Whisper's features (mel, T), float32, of samples (samples,): `filters` are (window / 2 + 1, mel)."""
    reflected = np.pad(waveform, window // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(reflected, window)[::hop][: len(waveform) // hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1])) ** 2
    found = np.log10(np.maximum(power @ filters, 1e-10)).T
    return ((np.maximum(found, found.max() - 8) + 4) / 4).astype(np.float32)


def read_config(folder: str | Path) -> SimpleNamespace:
    """Return the fields of an exported model's configuration that its answers depend on, under their names there."""
    fields = _read(Path(folder) / "config.json")
    fields["id2label"] = {int(number): name for number, name in fields["id2label"].items()}
    modalities = fields["modalities"]
    return SimpleNamespace(**fields, uses_speech=modalities != "text", uses_text=modalities != "speech")


def _mask(length: int, size: int) -> np.ndarray:
    return (np.arange(size) < length).astype(np.int64)[None]


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
