"""What a corpus is to the rest of the code: one record, one function that scans it, and what that function returns."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_scripts.corpora.columns import COLUMN_OPTIONS, check_choices
from data_scripts.corpora.labels import check_emotions, check_label_map, map_label, mapped_emotions, parse_label_map
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError


@dataclass(frozen=True, init=False)
class Selection:
    """What is wanted of a corpus, as its `scan` function takes it.

    Attributes:
        name: the corpus's name, a key of `CORPORA`.
        data_dir: the corpus's folder; for a manifest, the file or its folder; for a dataset, its folder, its name on
            the Hub, or a `Dataset` or `DatasetDict` itself.
        emotions: the classes wanted, in the order of their numbers; None: the corpus's default.
        sessions: the sessions wanted, such as ("1", "2"), in ascending order; None: all.
        columns: (role, column) of the columns chosen, the roles of `COLUMN_OPTIONS`, sorted; given as a mapping.
        label_map: (label, class) of the labels that become another class, sorted; given as `parse_label_map` takes it.
        split_names: (split, name) of the splits chosen, sorted; given as a mapping from `SPLITS` to names.
        config_name: the configuration of a dataset, where it has several.

    Raises:
        CorpusError: emotions or sessions that name nothing, an emotion twice, a column for two roles, a split for two,
            or a label map that is none.
    """

    name: str
    data_dir: Any
    emotions: tuple[str, ...] | None
    sessions: tuple[str, ...] | None
    columns: tuple[tuple[str, str], ...]
    label_map: tuple[tuple[str, str], ...]
    split_names: tuple[tuple[str, str], ...]
    config_name: str | None

    def __init__(
        self,
        name: str,
        data_dir: Any,
        emotions: Sequence[str] | None = None,
        sessions: Iterable[str | int] | None = None,
        columns: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        label_map: Any = None,
        split_names: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        config_name: str | None = None,
    ):
        numbers = None if sessions is None else {str(session) for session in sessions}
        ordered = None if numbers is None else tuple(sorted(numbers, key=lambda number: (len(number), number)))
        # The class is frozen: its own attributes have to be set past it.
        fields = {
            "name": name,
            "data_dir": Path(data_dir) if isinstance(data_dir, (str, os.PathLike)) else data_dir,
            "emotions": None if emotions is None else tuple(emotions),
            "sessions": ordered,
            "columns": tuple(sorted(dict(columns or {}).items())),
            "label_map": tuple(sorted(parse_label_map(dict(label_map) if _is_pairs(label_map) else label_map).items())),
            "split_names": tuple(sorted(dict(split_names or {}).items())),
            "config_name": config_name,
        }
        for field_name, value in fields.items():
            object.__setattr__(self, field_name, value)
        self.check()

    def check(self) -> None:
        """Check what can be checked without touching the disk.

        Raises:
            CorpusError: see the class.
        """
        if self.emotions is not None and (not self.emotions or len(set(self.emotions)) != len(self.emotions)):
            raise CorpusError(f"emotions must name at least one class and each only once, got {list(self.emotions)}")
        if self.sessions == ():
            raise CorpusError("sessions must name at least one session; leave them out for all")
        check_choices(dict(self.columns))
        names = [name for _, name in self.split_names]
        if len(set(names)) != len(names):
            raise CorpusError(f"each split needs a name of its own, got {dict(self.split_names)}")

    @property
    def where(self) -> str:
        """The corpus's place, for messages and reports."""
        return str(self.data_dir.resolve())

    def describe(self) -> dict[str, Any]:
        """Return the selection as JSON: two equal ones select the same from the same folder."""
        return {
            "name": self.name,
            "data_dir": self.where,
            "emotions": None if self.emotions is None else list(self.emotions),
            "sessions": None if self.sessions is None else list(self.sessions),
            "columns": dict(self.columns) or None,
            "label_map": dict(self.label_map) or None,
            "split_names": dict(self.split_names) or None,
            "config_name": self.config_name,
        }


def _is_pairs(value: Any) -> bool:
    """Whether a label map is given as another selection holds it."""
    return isinstance(value, tuple) and all(isinstance(pair, tuple) for pair in value)


@dataclass
class ScannedCorpus:
    """What a corpus's `scan` found on disk, before any audio is read.

    Attributes:
        emotions: the class names, in the order of their numbers.
        rows: one dictionary for each utterance: `split` (one of `SPLITS`), `id`, `path` or `bytes` of the audio (or a
            function that loads them), `emotion` (a name), and where known `channel` (of the audio, from 0), `speaker`,
            `session`, `transcript`, `hypothesis`, `asr_model`.
        looked_for: the files that were searched for, in words, for the error that nothing was found.
        never_empty: the values of a column (`split` or `session`) that must keep an utterance each: an empty one would
            make an empty fold or split.
        way_out: what a user can do where one of those is empty.
        expected: what a complete corpus would keep, see `PreparationReport.expected`.
        official_split: whether the corpus's makers divided it, so that a speaker in several splits is their choice.
    """

    emotions: list[str]
    rows: list[dict[str, Any]]
    looked_for: str
    never_empty: dict[str, list[str]] = field(default_factory=dict)
    way_out: str = ""
    expected: dict[str, dict[str, int]] = field(default_factory=dict)
    official_split: bool = False


@dataclass(frozen=True)
class CorpusRecord:
    """All that the rest of the code knows of a corpus.

    Attributes:
        name: its name on the command line.
        title: its name in text.
        licence: its licence, as an identifier of the Hub; None where it depends on the data.
        about: where it comes from and what its makers ask of its users, for the dataset card.
        scan: finds its utterances without reading their audio. It reports whatever it leaves out, and raises
            `CorpusError` where the folder is not that corpus, or `OSError` where it cannot be read.
        emotions: every class it has; empty where that depends on the data.
        default_emotions: those that are kept where none are asked for; empty: every class.
        has_sessions: whether its sessions can be chosen.
        has_columns: whether it is a table, whose columns can be chosen.
        has_splits: whether it may have splits of any name, which can be chosen.
        language: what is spoken in it, for speech recognition, e.g. "en"; None: not known.
        takes_file: whether `data_dir` may be a file; otherwise it must be a folder.
        takes_name: whether `data_dir` may be what is no file or folder: a name on the Hub, or a dataset in memory.
        sex_of: "male" or "female" for a speaker, None for one that it does not know; None where the corpus does not
            tell.
    """

    name: str
    title: str
    licence: str | None
    about: str
    scan: Callable[[Selection, PreparationReport], ScannedCorpus]
    emotions: tuple[str, ...] = ()
    default_emotions: tuple[str, ...] = ()
    has_sessions: bool = False
    has_columns: bool = False
    has_splits: bool = False
    language: str | None = None
    takes_file: bool = False
    takes_name: bool = False
    sex_of: Callable[[str], str | None] | None = None

    def wanted_emotions(self, selection: Selection) -> list[str]:
        """Return the classes to keep, in the order of their numbers."""
        return list(selection.emotions or self.default_emotions or self.emotions)

    def wanted_labels(self, selection: Selection) -> tuple[list[str], list[str]]:
        """Return the labels that a corpus of fixed ones is scanned for, and the classes that the map makes of them."""
        defaults = self.default_emotions or self.emotions
        return mapped_emotions(self.emotions, defaults, dict(selection.label_map), selection.emotions)

    def check(self, selection: Selection) -> None:
        """Check a selection without touching the disk.

        Raises:
            CorpusError: an emotion or a label of the map that the corpus does not have, or sessions, columns or splits
                of a corpus without any.
        """
        if self.emotions:
            label_map = dict(selection.label_map)
            check_label_map(label_map, self.emotions, self.title)
            known = list(dict.fromkeys(map_label(name, label_map) for name in self.emotions))
            check_emotions(selection.emotions or (), known, self.title)
        if selection.sessions is not None and not self.has_sessions:
            raise CorpusError(f"{self.title} has no sessions to choose from: leave --sessions out")
        if selection.columns and not self.has_columns:
            options = ", ".join(f"--{COLUMN_OPTIONS[role]}" for role, _ in selection.columns)
            raise CorpusError(f"{self.title} has no columns to choose from: leave {options} out")
        if (selection.split_names or selection.config_name) and not self.has_splits:
            raise CorpusError(
                f"{self.title} has no splits or configurations to choose from: leave the names of splits and "
                "--dataset_config_name out"
            )
