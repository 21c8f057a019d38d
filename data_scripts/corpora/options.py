"""What a user may ask of a corpus: one dataclass, from which every command and function takes its options."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, cast

from data_scripts.corpora.base import CORPORA, CorpusRecord
from data_scripts.corpora.columns import COLUMN_HELP, COLUMN_OPTIONS, check_choices
from data_scripts.corpora.labels import check_label_map, map_label, parse_label_map
from data_scripts.errors import CorpusError, check_known

LABEL_MAP_HELP = "Labels that become another class, e.g. excited=happy, or a JSON or YAML file of such a mapping."
#: The options that choose a split of a dataset.
SPLIT_OPTIONS = {"train": "train_split_name", "validation": "eval_split_name", "test": "test_split_name"}


def option_help(text: str, metavar: str) -> dict[str, str]:
    """Return the metadata of a dataclass field that is an option of a command line."""
    return {"help": text, "metavar": metavar}


def _column_help(role: str) -> dict[str, str]:
    return option_help(f"Column of {COLUMN_HELP[role]} (manifest or dataset).", "NAME")


def _split_help(use: str) -> dict[str, str]:
    return option_help(f"{use} split (manifest or dataset).", "NAME")


@dataclass
class CorpusSelection:
    """Which corpus, and what of it. Making one does not touch its files.

    Attributes:
        corpus: its name, a key of `CORPORA`.
        data_dir: its folder; of a manifest, the file or its folder; of a dataset, its folder, its name on the Hub, or a
            `Dataset` or `DatasetDict` itself.
        emotions: the classes wanted, in the order of their numbers; None: the corpus's default.
        sessions: the sessions wanted, such as ["1", "2"]; kept in ascending order. None: all.
        label_map: {label: class} of the labels that become another class; given as `parse_label_map` takes it.

    Raises:
        CorpusError: an unknown corpus, or one that does not have what is wanted; a class, column or split twice.
    """

    corpus: str = field(default="manifest", metadata=option_help("Name of the corpus.", "NAME"))
    data_dir: str | None = field(
        default=None, metadata=option_help("Corpus folder, or path of the manifest.", "FOLDER")
    )
    emotions: list[str] | None = field(
        default=None, metadata=option_help("Keep only these classes, in this order.", "NAME")
    )
    sessions: list[str] | None = field(default=None, metadata=option_help("Keep only these sessions (IEMOCAP).", "N"))
    label_map: list[str] | None = field(default=None, metadata=option_help(LABEL_MAP_HELP, "LABEL=CLASS"))
    dataset_name: str | None = field(
        default=None,
        metadata=option_help(
            "Instead of --data_dir: a dataset's name on the Hub, its folder (AudioFolder too), or what save_to_disk "
            "wrote.",
            "NAME",
        ),
    )
    dataset_config_name: str | None = field(
        default=None, metadata=option_help("Configuration, of a dataset that has several.", "NAME")
    )
    train_split_name: str | None = field(default=None, metadata=_split_help("Training"))
    eval_split_name: str | None = field(default=None, metadata=_split_help("Validation"))
    test_split_name: str | None = field(default=None, metadata=_split_help("Test"))
    audio_column_name: str | None = field(default=None, metadata=_column_help("audio"))
    label_column_name: str | None = field(default=None, metadata=_column_help("emotion"))
    text_column_name: str | None = field(default=None, metadata=_column_help("hypothesis"))
    transcript_column_name: str | None = field(default=None, metadata=_column_help("transcript"))
    speaker_column_name: str | None = field(default=None, metadata=_column_help("speaker"))
    strict: bool = field(
        default=False, metadata={"help": "Stop where a recording or speaker is in two splits, instead of warning."}
    )
    num_workers: int = field(default=2, metadata=option_help("Recordings decoded at once.", "N"))

    def __post_init__(self):
        if self.dataset_name is not None:
            if self.data_dir is not None or self.corpus not in ("manifest", "dataset"):
                raise CorpusError("dataset_name stands in place of corpus and data_dir: leave those out")
            self.corpus = "dataset"
        if self.corpus not in CORPORA:
            raise CorpusError(f"unknown corpus {self.corpus!r}; known: {', '.join(sorted(CORPORA))}")
        if self.num_workers < 1:
            raise CorpusError(f"num_workers must be at least 1, got {self.num_workers}")
        self.label_map = parse_label_map(self.label_map) or None  # pyright: ignore[reportAttributeAccessIssue]
        if self.emotions is not None:
            self.emotions = list(self.emotions)
            if not self.emotions or len(set(self.emotions)) != len(self.emotions):
                raise CorpusError(f"emotions must name at least one class and each only once, got {self.emotions}")
        if self.sessions is not None:
            self.sessions = sorted({str(session) for session in self.sessions}, key=lambda name: (len(name), name))
            if not self.sessions:
                raise CorpusError("sessions must name at least one session; leave them out for all")
        check_choices(self.columns)
        if len(set(self.split_names.values())) != len(self.split_names):
            raise CorpusError(f"each split needs a name of its own, got {self.split_names}")
        self.check_record()

    def check_record(self) -> None:
        """Raise `CorpusError` where the corpus does not have what is wanted."""
        record, title = self.record, self.record.title
        if record.emotions:
            check_label_map(self.mapping, record.emotions, title)
            known = (map_label(name, self.mapping) for name in record.emotions)
            check_known(title, "emotion", self.emotions or (), known)
        if self.sessions is not None and not record.has_sessions:
            raise CorpusError(f"{title} has no sessions to choose from: leave --sessions out")
        if self.columns and not record.has_columns:
            options = ", ".join(f"--{COLUMN_OPTIONS[role]}" for role in self.columns)
            raise CorpusError(f"{title} has no columns to choose from: leave {options} out")
        if self.split_names and not record.has_splits:
            raise CorpusError(f"{title} has no splits to choose from: leave the names of splits out")
        if self.dataset_config_name and not record.takes_name:
            raise CorpusError(f"{title} has no configurations to choose from: leave --dataset_config_name out")

    @classmethod
    def parse(cls, namespace: argparse.Namespace, **values: Any) -> Self:
        """Return what the options of `add_options` say; `values` stand in place of options that the parser lacks."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in vars(namespace).items() if name in known} | values)

    @property
    def record(self) -> CorpusRecord:
        """The corpus."""
        return CORPORA[self.corpus]

    @property
    def place(self) -> Any:
        """Where the corpus lies: a path (or a name on the Hub, as one), or a dataset in memory; None: not said."""
        place = self.data_dir if self.dataset_name is None else self.dataset_name
        return Path(place).expanduser() if isinstance(place, (str, os.PathLike)) else place

    @property
    def where(self) -> str:
        """The corpus's place, for messages and reports."""
        if not isinstance(self.place, Path):
            return f"a {type(self.place).__name__} in memory"
        if self.record.takes_name and not self.place.exists():
            return self.place.as_posix()  # a name on the Hub
        return str(self.place.resolve())

    @property
    def mapping(self) -> dict[str, str]:
        """The label map, empty where there is none."""
        return cast(dict[str, str], self.label_map or {})

    @property
    def columns(self) -> dict[str, str]:
        """{role: column} of the columns chosen."""
        return self._chosen(COLUMN_OPTIONS)

    @property
    def split_names(self) -> dict[str, str]:
        """{split: name} of the splits chosen."""
        return self._chosen(SPLIT_OPTIONS)

    def _chosen(self, options: dict[str, str]) -> dict[str, str]:
        """{key: value} of {key: option}, of the options that are given."""
        return {key: getattr(self, name) for key, name in options.items() if getattr(self, name) is not None}

    def describe(self) -> dict[str, Any]:
        """Return the selection as JSON: two equal ones select the same from the same folder."""
        return {
            "name": self.corpus,
            "data_dir": self.where,
            "emotions": self.emotions,
            "sessions": self.sessions,
            "columns": self.columns or None,
            "label_map": self.mapping or None,
            "split_names": self.split_names or None,
            "config_name": self.dataset_config_name,
        }


def add_options(parser: argparse.ArgumentParser, skip: Sequence[str] = ()) -> None:
    """Add the options of `CorpusSelection` to a command's parser, but for those in `skip`."""
    for each in fields(CorpusSelection):
        if each.name in skip:
            continue
        settings: dict[str, Any] = {"help": each.metadata["help"], "default": each.default}
        if each.type is bool:
            settings["action"] = "store_true"
        else:
            settings |= {"metavar": each.metadata["metavar"], "type": int if each.type is int else str}
            settings |= {"nargs": "+"} if str(each.type).startswith("list") else {}
        parser.add_argument(f"--{each.name}", **settings)
