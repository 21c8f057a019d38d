"""What a corpus is to the rest of the code: one record, one function that scans it, and what that function returns."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_scripts.corpora.columns import COLUMN_OPTIONS, check_choices
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError


@dataclass(frozen=True, init=False)
class Selection:
    """What is wanted of a corpus, as its `scan` function takes it.

    Attributes:
        name: the corpus's name, a key of `CORPORA`.
        data_dir: the corpus's folder; for a manifest, the file or its folder.
        emotions: the classes wanted, in the order of their labels; None: the corpus's default.
        sessions: the sessions wanted, such as ("1", "2"), in ascending order; None: all.
        columns: (role, column) of the columns chosen, the roles of `COLUMN_OPTIONS`, sorted; given as a mapping.

    Raises:
        CorpusError: emotions or sessions that name nothing, an emotion twice, or a column for two roles.
    """

    name: str
    data_dir: Path
    emotions: tuple[str, ...] | None
    sessions: tuple[str, ...] | None
    columns: tuple[tuple[str, str], ...]

    def __init__(
        self,
        name: str,
        data_dir: str | os.PathLike,
        emotions: Sequence[str] | None = None,
        sessions: Iterable[str | int] | None = None,
        columns: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ):
        numbers = None if sessions is None else {str(session) for session in sessions}
        ordered = None if numbers is None else tuple(sorted(numbers, key=lambda number: (len(number), number)))
        # The class is frozen: its own attributes have to be set past it.
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "data_dir", Path(data_dir))
        object.__setattr__(self, "emotions", None if emotions is None else tuple(emotions))
        object.__setattr__(self, "sessions", ordered)
        object.__setattr__(self, "columns", tuple(sorted(dict(columns or {}).items())))
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

    def describe(self) -> dict[str, Any]:
        """Return the selection as JSON: two equal ones select the same from the same folder."""
        return {
            "name": self.name,
            "data_dir": str(self.data_dir.resolve()),
            "emotions": None if self.emotions is None else list(self.emotions),
            "sessions": None if self.sessions is None else list(self.sessions),
            "columns": dict(self.columns) or None,
        }


@dataclass
class ScannedCorpus:
    """What a corpus's `scan` found on disk, before any audio is read.

    Attributes:
        emotions: the class names, in the order of their numbers.
        rows: one dictionary for each utterance: `split` (one of `SPLITS`), `id`, `path` or `bytes` of the audio,
            `emotion` (a name), and where known `channel` (of the audio, from 0), `speaker`, `session`, `transcript`,
            `hypothesis`, `asr_model`.
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
        takes_file: whether `data_dir` may be a file; otherwise it must be a folder.
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
    takes_file: bool = False

    def wanted_emotions(self, selection: Selection) -> list[str]:
        """Return the classes to keep, in the order of their labels."""
        return list(selection.emotions or self.default_emotions or self.emotions)

    def check(self, selection: Selection) -> None:
        """Check a selection without touching the disk.

        Raises:
            CorpusError: an emotion that the corpus does not have, or sessions or columns of a corpus without any.
        """
        if self.emotions:
            check_emotions(selection.emotions or (), self.emotions, self.title)
        if selection.sessions is not None and not self.has_sessions:
            raise CorpusError(f"{self.title} has no sessions to choose from: leave --sessions out")
        if selection.columns and not self.has_columns:
            options = ", ".join(f"--{COLUMN_OPTIONS[role]}" for role, _ in selection.columns)
            raise CorpusError(f"{self.title} has no columns to choose from: leave {options} out")


def check_emotions(wanted: Iterable[str], known: Sequence[str], owner: str | os.PathLike) -> None:
    """Check that every wanted emotion is known.

    Raises:
        CorpusError: one is not; the message names it, the owner and what there is.
    """
    if unknown := [name for name in wanted if name not in known]:
        raise CorpusError(f"{owner} has no emotion {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
