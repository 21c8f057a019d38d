"""What a corpus is to the rest of the code: one record, one function that scans it, and what that function returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_scripts.corpora.labels import map_label
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.spellings import spelling_key


@dataclass
class ScannedCorpus:
    """What a corpus's `scan` found on disk, before any audio is read.

    Attributes:
        rows: one dictionary for each utterance: `split` (one of `SPLITS`), `id`, `path` or `bytes` of the audio (or a
            function that loads them), `emotion` (the corpus's own label), and where known `channel` (of the audio, from
            0), `part` (of it, a `modeling_m4ser.parts_m4ser.Part`), `speaker`, `session`, `transcript`, `hypothesis`,
            `asr_model`.
        search_hint: the files that were searched for, in words, for the error that nothing was found.
        required_values: the values of a column (`split` or `session`) that must keep an utterance each.
        remedy: what a user can do where one of those is empty.
        expected: what a complete corpus has, as far as it is known: {"emotions": utterances of each own label,
            "sessions" | "splits": utterances of the default classes}.
        official_split: whether the corpus's makers divided it, so that a speaker in several splits is their choice.
        emotions: the class names, in the order of their numbers; filled in by `scan_corpus`, not by `scan`.
    """

    rows: list[dict[str, Any]]
    search_hint: str
    required_values: dict[str, list[str]] = field(default_factory=dict)
    remedy: str = ""
    expected: dict[str, dict[str, int]] = field(default_factory=dict)
    official_split: bool = False
    emotions: list[str] = field(default_factory=list)

    def check_kept(self, rows: Sequence[Mapping[str, Any]], report: PreparationReport) -> None:
        """Raise `CorpusError` where no row is kept, or none of a value that must keep one."""
        place = f"of {report.corpus} in {report.selection.get('data_dir', 'its folder')}"
        reasons = "; ".join(f"{count} × {reason}" for reason, count in report.reasons("dropped").items())
        dropped = f". Dropped: {reasons}" if reasons else ""
        if not rows:
            raise CorpusError(f"no usable recording {place}; looked for {self.search_hint}{dropped}")
        for column, values in self.required_values.items():
            if empty := [value for value in values if not any(row[column] == value for row in rows)]:
                raise CorpusError(f"no usable utterance of {column} {', '.join(empty)} {place}: {self.remedy}{dropped}")


@dataclass(frozen=True)
class PaperNumbers:
    """What the paper (He et al., IEEE TASLP 2025) says of a corpus, exactly as it prints it.

    Attributes:
        metrics: the paper's name of each metric -> the one that `emotion_metrics` uses, in the paper's order.
        ablations: row of `trainer.experiments.ablations.ABLATIONS` -> the metrics' values, in percent.
    """

    utterances: int
    metrics: Mapping[str, str]
    ablations: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class CorpusRecord:
    """All that the rest of the code knows of a corpus.

    Attributes:
        license: an identifier of the Hub; None where it depends on the data.
        about: where it comes from and what its makers ask of its users, for the dataset card.
        scan: finds its utterances by their own labels, without reading their audio. It reports whatever it leaves out,
            and raises `CorpusError` where the folder is not that corpus, or `OSError` where it cannot be read.
        emotions: every label it has; empty where that depends on the data.
        default_emotions: the classes that are kept where none are asked for; empty: every label.
        merged: label -> the label it counts as, unless it is a class of its own or a label map names it.
        has_sessions: whether its sessions can be chosen; so for its columns, and its splits.
        language: what is spoken in it, for speech recognition, e.g. "en"; None: not known.
        takes_file: whether `data_dir` may be a file; otherwise it must be a folder.
        takes_name: whether `data_dir` may be what is no file or folder: a name on the Hub, or a dataset in memory.
        sex_of: "male" or "female" for a speaker, None for one that it does not know.
        dialogue_of: the dialogue of an utterance's id; None where its ids do not say.
        protocol: how it is usually divided where it has no splits, one of `trainer.experiments.arguments.PROTOCOLS`.
        paper: None where the paper does not use it.
    """

    name: str
    title: str
    license: str | None
    about: str
    scan: Callable[[Any, PreparationReport], ScannedCorpus]
    emotions: tuple[str, ...] = ()
    default_emotions: tuple[str, ...] = ()
    merged: Mapping[str, str] = field(default_factory=dict)
    has_sessions: bool = False
    has_columns: bool = False
    has_splits: bool = False
    language: str | None = None
    takes_file: bool = False
    takes_name: bool = False
    sex_of: Callable[[str], str | None] | None = None
    dialogue_of: Callable[[str], str] | None = None
    protocol: str = "speaker_folds"
    paper: PaperNumbers | None = None

    def classes(
        self, label_map: Mapping[str, str], wanted: Sequence[str] | None, labels: Sequence[str] | None = None
    ) -> tuple[list[str], dict[str, str]]:
        """Return the classes in the order of their numbers, and what each label becomes (maybe no class).

        Without `wanted`, the classes are what the default labels and those of the map become. `labels` are those that
        occur, of a corpus without fixed ones.
        """
        named = {spelling_key(label) for label in label_map}
        becomes = {label: map_label(label, label_map) for label in labels or self.emotions}
        usual = (
            name
            for label, name in becomes.items()
            if not self.default_emotions or label in self.default_emotions or spelling_key(label) in named
        )
        classes = list(wanted or dict.fromkeys(usual))
        for label, other in self.merged.items():
            if label not in classes and spelling_key(label) not in named:
                becomes[label] = becomes[other]
        return classes, becomes


#: Every corpus by its name; filled in by `data_scripts.corpora.registry`.
CORPORA: dict[str, CorpusRecord] = {}
