"""Every corpus by its name. A new one is a file of its own beside these, and a line here."""

from data_scripts.corpora import iemocap, manifest, meld, ravdess
from data_scripts.corpora.base import CorpusRecord, ScannedCorpus, Selection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

CORPORA: dict[str, CorpusRecord] = {
    record.name: record
    for record in (
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


def scan_corpus(selection: CorpusSelection) -> tuple[ScannedCorpus, PreparationReport]:
    """Find a corpus's utterances without reading their audio.

    Returns:
        What was found, and the report in which everything left out so far is listed.

    Raises:
        CorpusError: an absent or incomplete folder, or one that is not this corpus.
        OSError: a folder or file cannot be read.
    """
    record, data_dir = selection.record, selection.data_dir
    if not data_dir.exists():
        raise CorpusError(f"{data_dir} does not exist: give the folder of the {selection.name} corpus")
    if not data_dir.is_dir() and not record.takes_file:
        raise CorpusError(f"{data_dir} is not a folder: give the folder of the {selection.name} corpus")
    report = PreparationReport(selection.name, selection=selection.describe())
    scanned = record.scan(selection, report)
    report.expected = scanned.expected
    return scanned, report
