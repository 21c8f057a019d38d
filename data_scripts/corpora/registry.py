"""Every corpus by its name. A new one is a file of its own beside these, and a line here."""

from collections import Counter
from pathlib import Path

from data_scripts.corpora import hf_dataset, iemocap, manifest, meld, ravdess
from data_scripts.corpora.base import CORPORA, ScannedCorpus
from data_scripts.corpora.labels import assign_classes
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

CORPORA.update(
    (record.name, record)
    for record in (hf_dataset.RECORD, iemocap.RECORD, manifest.RECORD, meld.RECORD, ravdess.RECORD)
)

#: The file in a corpus's folder that says that recordings were made by speech synthesis, one row for each.
SYNTHESIS_FILE = "synthesis.csv"


def scan_corpus(selection: CorpusSelection) -> tuple[ScannedCorpus, PreparationReport]:
    """Find a corpus's utterances of the wanted classes without reading their audio.

    Returns:
        What was found, and the report in which everything left out so far is listed.

    Raises:
        CorpusError: an absent or incomplete folder, or one that is not this corpus.
        OSError: a folder or file cannot be read.
    """
    record, place, mapping = selection.record, selection.place, selection.mapping
    if place is None:
        raise CorpusError("say where the corpus lies: --data_dir FOLDER")
    if not record.takes_name:
        if not place.exists():
            raise CorpusError(f"{place} does not exist: give the folder of the {record.name} corpus")
        if not place.is_dir() and not record.takes_file:
            raise CorpusError(f"{place} is not a folder: give the folder of the {record.name} corpus")
    report = PreparationReport(record.name, selection=selection.describe())
    scanned = record.scan(selection, report)
    if record.emotions:
        report.stand_in = _stand_in(scanned, selection)
        report.expected = _expected(scanned, selection)
    scanned.rows, scanned.emotions = assign_classes(
        scanned.rows,
        mapping,
        selection.emotions,
        selection.where,
        report,
        record.emotions,
        record.default_emotions,
        record.merged,
    )
    left_out = {note["id"] for note in report.dropped}
    report.repaired, report.noted = (
        [note for note in notes if note["id"] not in left_out] for notes in (report.repaired, report.noted)
    )
    return scanned, report


def _expected(scanned: ScannedCorpus, selection: CorpusSelection) -> dict[str, dict[str, int]]:
    """What a complete corpus would keep of the wanted classes; other counts than theirs are of the default ones."""
    classes, becomes = selection.record.classes(selection.mapping, selection.emotions)
    kept = {label for label, name in becomes.items() if name in classes}
    expected = dict(scanned.expected) if kept == _default_labels(selection) else {}
    if labels := scanned.expected.get("emotions"):
        counts: Counter[str] = Counter(dict.fromkeys(classes, 0))
        for label in kept:
            counts[becomes[label]] += labels[label]
        expected["emotions"] = dict(counts)
    return expected


def _default_labels(selection: CorpusSelection) -> set[str]:
    """The labels that are kept where no classes are asked for."""
    classes, becomes = selection.record.classes({}, None)
    return {label for label, name in becomes.items() if name in classes}


def _stand_in(scanned: ScannedCorpus, selection: CorpusSelection) -> str:
    """Why what was found is not the corpus of that name: part of it is spoken by machine, or its size is another."""
    labels = _default_labels(selection)
    found = sum(row["emotion"] in labels for row in scanned.rows)
    spoken = _synthetic_rows(selection.place)
    if spoken > found / 100:
        return f"{spoken} of its recordings are synthetic"
    whole = sum((scanned.expected.get("sessions") or scanned.expected.get("splits") or {}).values())
    if whole and abs(found - whole) > whole / 100:
        return f"{found} utterances instead of {whole}"
    return ""


def _synthetic_rows(folder: Path) -> int:
    """How many recordings the corpus's own list, in its folder or one below, says to be synthetic."""
    files = [*folder.glob(SYNTHESIS_FILE), *folder.glob(f"*/{SYNTHESIS_FILE}")]
    return sum(max(0, len(file.read_text(encoding="utf-8").splitlines()) - 1) for file in files)
