"""One callable class for every engine: rows in, one answer a row out; and what all decides an answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_scripts.errors import UserError
from data_scripts.versions import package_version
from m4ser.runtimes import load_config, load_pipeline

Row = dict[str, Any]

#: What a model or a recogniser is made of; the card and the code that lies beside the weights are not.
_MODEL_FILES = ("*.safetensors", "*.onnx*", "*.np[yz]", "*.bin", "*.json", "*.txt", "*.model")
#: Of config.json, what changes no answer.
_NOTES = ("_name_or_path", "architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version")
_PACKAGES = {"torch": ("m4ser", "torch", "transformers"), "onnx": ("m4ser", "onnxruntime", "tokenizers")}


@dataclass(frozen=True)
class Settings:
    """How to predict.

    Attributes:
        model: its folder or its name on the Hub.
        asr: of the model that writes the texts that are not given, its folder or name ("faster-whisper:NAME" too).
        batch_size: utterances that the models read at once.
        num_workers: threads that decode recordings.
        channel: which channel to read, counted from 0; None: the mean of all.
        corrections: whether to say what error correction makes of the texts.
        embeddings: whether to keep the pooled features.
        device: "cpu", "cuda:1", …; None: the first accelerator.
        runtime: "torch", or "onnx": the model is an exported folder.
    """

    model: str
    asr: str | None = None
    batch_size: int = 16
    num_workers: int = 2
    channel: int | None = None
    corrections: bool = False
    embeddings: bool = False
    device: str | None = None
    runtime: str = "torch"

    @property
    def chunk_size(self) -> int:
        """How many rows to give to a `Predictor` at a time: several of the windows in which it sorts by length."""
        return 16 * self.batch_size


class Predictor:
    """A loaded pipeline as a function from rows (see `m4ser.predict.inputs`) to answers, the columns of the table.

    An input that cannot be read is an answer with `ok` false, `error_type` and `error`.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.pipe = load_pipeline(
            settings.model,
            settings.runtime,
            settings.device,
            asr=settings.asr,
            channel=settings.channel,
            on_error="skip",
            return_decision=True,
            return_corrections=settings.corrections,
            return_embedding=settings.embeddings,
        )

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """Return an answer for each row, in order."""
        utterances = [row["utterance"] for row in rows]
        answers = self.pipe(utterances, batch_size=self.settings.batch_size, num_workers=self.settings.num_workers)
        return [self._answer(row, answer) for row, answer in zip(rows, answers, strict=True)]

    def _answer(self, row: Row, answer: dict[str, Any]) -> Row:
        named = {"id": row["id"], "file": row["file"], "asr_model": row["asr_model"], "ok": "error" not in answer}
        if not named["ok"]:
            return named | answer
        if self.settings.asr is not None and answer["text"] is not None:
            from modeling_m4ser.rows_m4ser import read_utterance  # imports torch

            named["asr_model"] = row["asr_model"] if read_utterance(row["utterance"]).text else self.settings.asr
        emotions = answer.pop("emotions")
        scores = {f"probability_{each['label']}": each["score"] for each in emotions}
        return {**named, **answer, **scores, "label": emotions[0]["label"]}


def describe(settings: Settings, has_text: bool = True) -> dict[str, Any]:
    """Return all that decides an answer, JSON-ready: the model's fields and files, the recognizer's, versions, options.

    Raises:
        UserError: the model or the recognizer is not there, or is none; the model reads words, and neither the inputs
            (`has_text`) nor a recognizer have any.
    """
    config = load_config(settings.model, settings.runtime)
    if settings.corrections and settings.runtime == "onnx":
        raise UserError("an exported model corrects no transcripts: leave --corrections out")
    if config["modalities"] != "speech" and settings.asr is None and not has_text:
        raise UserError(
            f"{settings.model} reads words too: let a recognizer write them, --asr openai/whisper-small.en, or give a "
            "table with a column text"
        )
    return {
        "model": {name: value for name, value in config.items() if name not in _NOTES},
        "files": _digests(settings.model),
        "asr": settings.asr and {"name": settings.asr, "files": _digests(settings.asr)},
        "options": {name: getattr(settings, name) for name in ("channel", "corrections", "embeddings")},
        "versions": {name: package_version(name) for name in _PACKAGES[settings.runtime]},
    }


def _digests(name: str) -> dict[str, str]:
    """The files of a model by their content; config.json is compared field by field. One of the Hub is downloaded."""
    from modeling_m4ser.recognition_m4ser import FASTER_WHISPER, split_language  # late: --help needs none of it

    name, _ = split_language(name)
    if (
        name.startswith(FASTER_WHISPER)
        and not Path(name := name.removeprefix(FASTER_WHISPER)).is_dir()
        and "/" not in name
    ):
        return {}  # a size, such as small.en, of which that package knows the place
    from huggingface_hub import snapshot_download

    try:
        folder = name if Path(name).is_dir() else snapshot_download(name, allow_patterns=list(_MODEL_FILES))
    except (ValueError, OSError) as error:
        raise UserError(f"{name} is no folder, and no name on the Hub: {' '.join(str(error).split())}") from error
    found = {}
    for path in sorted({path for pattern in _MODEL_FILES for path in Path(folder).glob(pattern)}):
        if path.name != "config.json":
            with open(path, "rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found
