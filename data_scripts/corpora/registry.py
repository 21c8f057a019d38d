"""Every corpus by its name. A new one is a file of its own beside these, and a line here."""

from pathlib import Path

from data_scripts.corpora import hf_dataset, iemocap, manifest, meld, ravdess
from data_scripts.corpora.base import CorpusRecord, ScannedCorpus, Selection
from data_scripts.corpora.labels import assign_classes, relabel, relabel_counts
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

CORPORA: dict[str, CorpusRecord] = {
    record.name: record
    for record in (
        hf_dataset.RECORD,
        iemocap.RECORD,
        manifest.RECORD,
        meld.RECORD,
        ravdess.RECORD,
    )
}


class CorpusSelection(Selection):
    """A selection whose corpus is known and has what is wanted; see `Selection` for the arguments.

    Making one does not touch the disk.

    Raises:
        CorpusError: an unknown corpus; an emotion it does not have, or one twice; sessions or columns of a
            corpus without any.
    """

    def check(self) -> None:
        """Check the name, and what the corpus has; raises as the class does."""
        super().check()
        if self.name not in CORPORA:
            raise CorpusError(f"unknown corpus {self.name!r}; known: {', '.join(sorted(CORPORA))}")
        self.record.check(self)

    @property
    def record(self) -> CorpusRecord:
        """The corpus."""
        return CORPORA[self.name]

    @property
    def where(self) -> str:
        """The corpus's place, for messages and reports."""
        if not isinstance(self.data_dir, Path):
            return f"a {type(self.data_dir).__name__} in memory"
        if self.record.takes_name and not self.data_dir.exists():
            return self.data_dir.as_posix()  # a name on the Hub
        return super().where


def scan_corpus(selection: CorpusSelection) -> tuple[ScannedCorpus, PreparationReport]:
    """Find a corpus's utterances without reading their audio.

    Returns:
        What was found, and the report in which everything left out so far is listed.

    Raises:
        CorpusError: an absent or incomplete folder, or one that is not this corpus.
        OSError: a folder or file cannot be read.
    """
    record, data_dir = selection.record, selection.data_dir
    if not record.takes_name:
        if not data_dir.exists():
            raise CorpusError(f"{data_dir} does not exist: give the folder of the {selection.name} corpus")
        if not data_dir.is_dir() and not record.takes_file:
            raise CorpusError(f"{data_dir} is not a folder: give the folder of the {selection.name} corpus")
    report = PreparationReport(selection.name, selection=selection.describe())
    scanned = _scan(record, selection, report)
    report.expected = scanned.expected
    return scanned, report


def _scan(record: CorpusRecord, selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """The corpus as its own `scan` finds it, with its labels made classes."""
    label_map = dict(selection.label_map)
    if not record.emotions:
        scanned = record.scan(selection, report)
        scanned.rows, scanned.emotions = assign_classes(
            scanned.rows, label_map, selection.emotions, selection.where, report
        )
    elif label_map:
        labels, classes = record.wanted_labels(selection)
        plain = Selection(selection.name, selection.data_dir, labels, selection.sessions, selection.columns)
        scanned = record.scan(plain, report)
        scanned.rows, scanned.emotions = relabel(scanned.rows, label_map, report), classes
        if counts := scanned.expected.get("emotions"):
            scanned.expected["emotions"] = relabel_counts(counts, label_map)
    else:
        scanned = record.scan(selection, report)
    return scanned
