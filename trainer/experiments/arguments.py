"""What a command line says about corpus, model and runs. Imports nothing heavy, so that `--help` answers at once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.columns import COLUMN_OPTIONS
from data_scripts.corpora.options import SPLIT_OPTIONS, option_help
from data_scripts.corpora.report import prepared_name
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS

if TYPE_CHECKING:
    from datasets import DatasetDict

    from data_scripts.splits import Fold

#: How a grid divides a corpus, see `trainer.experiments.protocols`.
PROTOCOLS = ("own_split", "leave_one_session_out", "leave_one_speaker_out", "speaker_folds", "dialogue_folds")
TEXT_COLUMNS = ("hypothesis", "transcript")
#: The fields of `ModelArguments` that are mappings, given as JSON on a command line.
MAPPING_FIELDS = ("model_options", "speech_options", "text_options", "processor_options")


@dataclass
class CorpusArguments(CorpusSelection):
    """Which corpus an experiment reads."""

    corpus: str = field(default="manifest", metadata=option_help(f"{', '.join(CORPORA)}.", "NAME"))
    prepared_dir: str | None = field(
        default=None,
        metadata=option_help("Instead of --data_dir: a folder that data_scripts.prepare wrote.", "FOLDER"),
    )
    asr_model: str | None = field(
        default=None,
        metadata=option_help("Whisper model (Hub name or folder) that writes missing hypotheses.", "MODEL"),
    )
    asr_language: str | None = field(
        default=None,
        metadata=option_help(
            "Spoken language, e.g. en. Default: the corpus's; otherwise detected per clip.", "LANGUAGE"
        ),
    )
    hypotheses: str | None = field(
        default=None,
        metadata=option_help(
            "CSV or JSONL file with ready hypotheses (columns id, hypothesis), for utterances without one.", "FILE"
        ),
    )

    def __post_init__(self):
        if self.prepared_dir is not None:
            chosen = [*COLUMN_OPTIONS.values(), *SPLIT_OPTIONS.values(), "dataset_config_name", "label_map"]
            if given := [name for name in ("data_dir", "dataset_name", *chosen) if getattr(self, name) is not None]:
                raise ExperimentError(f"A prepared folder is used as it is: leave {', '.join(given)} out.")
            if (name := prepared_name(self.prepared_dir)) in CORPORA:
                self.corpus = name
        super().__post_init__()

    def check_record(self) -> None:
        """Raise where the corpus does not have what is wanted; of a prepared folder, only its tables can say so."""
        if self.prepared_dir is None:
            super().check_record()


@dataclass
class ModelArguments:
    """Which model an experiment trains."""

    speech_encoder: str = field(
        default="facebook/hubert-base-ls960",
        metadata={"help": "Hub name or folder: hubert, wav2vec2, wavlm, data2vec-audio or whisper."},
    )
    text_encoder: str = field(
        default="google-bert/bert-base-uncased", metadata={"help": "Hub name or folder of a BERT-like model."}
    )
    ablation: str = field(default="M4SER", metadata={"help": f"Row of Table IV or V: {', '.join(ABLATIONS)}."})
    model_options: str = field(
        default="{}", metadata={"help": "Further M4SERConfig fields, as JSON (a mapping in a YAML file)."}
    )
    speech_options: str = field(
        default="{}", metadata={"help": "Fields of the speech encoder's own configuration, e.g. SpecAugment, as JSON."}
    )
    text_options: str = field(
        default="{}", metadata={"help": "Fields of the text encoder's own configuration, as JSON."}
    )
    processor_options: str = field(
        default="{}", metadata={"help": "Arguments of M4SERProcessor, e.g. trim_silence_db, as JSON."}
    )
    text_column: str = field(
        default="hypothesis", metadata={"help": "'hypothesis' (ASR text) or 'transcript' (human text, Table VI)."}
    )
    transcript_noise: float | None = field(
        default=None,
        metadata={
            "help": "Train on texts with new recognition errors in each epoch, at this word error rate, e.g. 0.2; with "
            "labels for detection and correction, of human text too."
        },
    )
    freeze_encoders: bool = field(default=False, metadata={"help": "Train the fusion and the heads alone."})
    freeze_speech_encoder: bool = field(
        default=False, metadata={"help": "Train everything but the speech encoder, see --cache_features."}
    )
    freeze_speech_layers: int = field(
        default=0, metadata={"help": "Freeze this many of the speech encoder's lowest layers, and its front end."}
    )
    freeze_feature_encoder: bool = field(
        default=True, metadata={"help": "Keep the speech encoder's convolutional front end as pretrained."}
    )

    def __post_init__(self):
        if self.ablation not in ABLATIONS:
            raise ExperimentError(f"ablation {self.ablation!r} is none of: {', '.join(ABLATIONS)}.")
        if self.text_column not in TEXT_COLUMNS:
            raise ExperimentError(f"text_column must be 'hypothesis' or 'transcript', not {self.text_column!r}.")
        if self.transcript_noise is not None and not 0 < self.transcript_noise < 1:
            raise ExperimentError(
                f"transcript_noise is a word error rate between 0 and 1, e.g. 0.2, not {self.transcript_noise}: leave "
                "it out to train on the texts as they are."
            )
        for name in MAPPING_FIELDS:
            value = getattr(self, name)
            try:
                value = json.loads(value) if isinstance(value, str) else value
            except json.JSONDecodeError as error:
                raise ExperimentError(f"{name} is no JSON ({error}): {value!r}.") from error
            if not isinstance(value, dict):
                raise ExperimentError(f'{name} must be a mapping such as {{"name": value}}, not {value!r}.')
            setattr(self, name, value)
        if self.freeze_speech_layers and not self.freeze_feature_encoder:
            raise ExperimentError(
                "freeze_speech_layers freezes what lies under those layers too: leave freeze_feature_encoder at true."
            )

    @property
    def reads_text(self) -> bool:
        """Whether the model reads transcripts."""
        return {**ABLATIONS[self.ablation], **self.options("model_options")}.get("modalities") != "speech"

    @property
    def reads_hypotheses(self) -> bool:
        """Whether it reads ASR transcripts, or makes errors as they have."""
        return self.reads_text and (self.text_column == "hypothesis" or self.transcript_noise is not None)

    def options(self, name: str) -> dict[str, Any]:
        """Return one of `MAPPING_FIELDS`, parsed."""
        return getattr(self, name)


@dataclass
class RunArguments:
    """Which runs of a protocol to make."""

    folds: list[int] | None = field(default=None, metadata={"help": "Run these folds only, counted from 1."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the division into folds."})
    seeds: list[int] | None = field(default=None, metadata={"help": "Repeat each fold with these training seeds."})
    linear_probe: bool = field(
        default=False, metadata={"help": "Also measure logistic regression on the pretrained encoder's frozen frames."}
    )

    def choose(
        self, folds: Sequence["Fold"], dataset: "DatasetDict"
    ) -> dict[str, tuple["DatasetDict", dict[str, Any]]]:
        """Return name -> (splits, description) of the folds to run."""
        wanted = sorted(set(self.folds or range(1, len(folds) + 1)))
        outside = [number for number in wanted if not 1 <= number <= len(folds)]
        if outside:
            raise ExperimentError(f"There is no fold {outside[0]}: folds are counted from 1 to {len(folds)}.")
        chosen = [folds[number - 1] for number in wanted]
        return {fold.name: (fold.select(dataset), {**fold.describe(), "seed": self.split_seed}) for fold in chosen}


@dataclass
class GridArguments(RunArguments):
    """Which cells of a grid to run, and how the corpus is divided."""

    protocol: str | None = field(
        default=None,
        metadata={
            "help": f"{', '.join(PROTOCOLS)}. By default the corpus' own split; where it has none, IEMOCAP is divided "
            "by session, any other by speaker. Folds of dialogues need ids as MELD's or IEMOCAP's."
        },
    )
    num_folds: int = field(default=5, metadata={"help": "Folds of dialogues or speakers."})
    rows: list[str] | None = field(default=None, metadata={"help": "Run these rows of the table only, in this order."})
    paper: bool = field(default=False, metadata={"help": "Show the paper's numbers beside a stand-in corpus too."})
    learning_rates: list[float] | None = field(
        default=None,
        metadata={
            "help": "Each row tries these as learning_rate with the first seed, and keeps the one that is best on "
            "validation data by metric_for_best_model. The rates of encoders and classifier stay as configured."
        },
    )

    def __post_init__(self):
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise ExperimentError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {self.protocol!r}.")
        if self.linear_probe:
            raise ExperimentError("A grid has its probes as rows: leave linear_probe out.")
