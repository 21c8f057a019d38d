"""Every corpus by its name. A new one is a file of its own beside these, and a line here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from data_scripts.corpora import hf_dataset, iemocap, manifest, meld, ravdess
from data_scripts.corpora.base import CORPORA, ScannedCorpus
from data_scripts.corpora.labels import check_label_map, map_label, plain_label
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError, check_known

CORPORA.update(
    (record.name, record)
    for record in (hf_dataset.RECORD, iemocap.RECORD, manifest.RECORD, meld.RECORD, ravdess.RECORD)
)

Row = dict[str, Any]

#: The file in a corpus's folder, or one below it, that lists recordings made by speech synthesis, one row for each.
SYNTHESIS_FILE = "synthesis.csv"


def scan_corpus(selection: CorpusSelection) -> tuple[ScannedCorpus, PreparationReport]:
    """Find a corpus's utterances of the wanted classes without reading their audio.

    Returns:
        What was found, and the report in which everything left out so far is listed.

    Raises:
        CorpusError: an absent or incomplete folder, or one that is not this corpus.
        OSError: a folder or file cannot be read.
    """
    record, place = selection.record, selection.place
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
    scanned.rows, scanned.emotions = assign_classes(scanned.rows, selection, report)
    left_out = {note["id"] for note in report.dropped}
    report.repaired, report.noted = (
        [note for note in notes if note["id"] not in left_out] for notes in (report.repaired, report.noted)
    )
    return scanned, report


def assign_classes(
    rows: Sequence[Row], selection: CorpusSelection, report: PreparationReport
) -> tuple[list[Row], list[str]]:
    """Return the rows of the wanted classes, and these classes in the order of their numbers.

    Where a corpus may have any labels, those that differ only in case or white space are one: as the classes or the map
    write it, or else as most rows do. Then the map is applied, and what is not wanted left out. The report lists each
    row whose label is read as another spelling, and each that is left out; where labels change, the counts too.
    """
    before, label_map, wanted = _counted(rows), selection.mapping, selection.emotions
    labels: Sequence[str] = selection.record.emotions
    if not labels:
        check_label_map(label_map, before, selection.where)
        rows = _unify_spellings(rows, [*(wanted or ()), *label_map.values()], report)
        labels = sorted(_counted(rows), key=lambda label: map_label(label, label_map))
    classes, becomes = selection.record.classes(label_map, wanted, labels)
    check_known(selection.where, "emotion", wanted or (), sorted(becomes.values()))
    mapped = [{**row, "emotion": becomes[row["emotion"]]} for row in rows]
    if before != (after := _counted(mapped)):
        report.labels = {"before": before, "after": after}
    for row in mapped:
        if row["emotion"] not in classes:
            report.drop(row["id"], f"emotion not selected: {row['emotion']}")
    return [row for row in mapped if row["emotion"] in classes], classes


def _unify_spellings(rows: Sequence[Row], preferred: Iterable[str], report: PreparationReport) -> list[Row]:
    """The rows with one spelling for each label; those changed are listed in the report."""
    counts = Counter(row["emotion"] for row in rows)
    spellings: dict[str, str] = {}
    for label in [*preferred, *sorted(counts, key=lambda label: (-counts[label], label))]:
        spellings.setdefault(plain_label(label), label.strip())
    unified = []
    for row in rows:
        label = spellings[plain_label(row["emotion"])]
        if label != row["emotion"]:
            report.repair(row["id"], f"label {row['emotion']!r} read as {label!r}")
        unified.append({**row, "emotion": label})
    return unified


def _counted(rows: Sequence[Row]) -> dict[str, int]:
    """How often each label occurs, sorted by label."""
    return dict(sorted(Counter(row["emotion"] for row in rows).items()))


def _expected(scanned: ScannedCorpus, selection: CorpusSelection) -> dict[str, dict[str, int]]:
    """What a complete corpus would keep of the wanted classes; other counts than theirs are of the default ones."""
    classes, becomes = selection.record.classes(selection.mapping, selection.emotions)
    kept = {label for label, name in becomes.items() if name in classes}
    expected = dict(scanned.expected) if kept == _default_labels(selection) else {}
    if labels := scanned.expected.get("emotions"):
        expected["emotions"] = dict.fromkeys(classes, 0)
        for label in kept:
            expected["emotions"][becomes[label]] += labels[label]
    return expected


def _default_labels(selection: CorpusSelection) -> set[str]:
    """The labels that are kept where no classes are asked for."""
    classes, becomes = selection.record.classes({}, None)
    return {label for label, name in becomes.items() if name in classes}


def _stand_in(scanned: ScannedCorpus, selection: CorpusSelection) -> str:
    """Why what was found is not the corpus of that name: part of it is spoken by machine, or its size is another."""
    labels, folder = _default_labels(selection), selection.place
    found = sum(row["emotion"] in labels for row in scanned.rows)
    lists = [*folder.glob(SYNTHESIS_FILE), *folder.glob(f"*/{SYNTHESIS_FILE}")]
    spoken = sum(max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) for path in lists)
    if spoken > found / 100:
        return f"{spoken} of its recordings are synthetic"
    whole = sum((scanned.expected.get("sessions") or scanned.expected.get("splits") or {}).values())
    if whole and abs(found - whole) > whole / 100:
        return f"{found} utterances instead of {whole}"
    return ""
