"""Every corpus by its name. A new one is a file of its own beside these, and a line here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from unicodedata import normalize

from data_scripts.corpora import hf_dataset, iemocap, manifest, meld, ravdess
from data_scripts.corpora.base import CORPORA, ScannedCorpus
from data_scripts.corpora.labels import check_label_map, find_lists, map_label, read_label
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError, check_known
from data_scripts.spellings import names_nothing, one_spelling, spelling_key

CORPORA.update(
    (record.name, record)
    for record in (hf_dataset.RECORD, iemocap.RECORD, manifest.RECORD, meld.RECORD, ravdess.RECORD)
)

Row = dict[str, Any]

#: The file in a corpus's folder, or one below it, that lists recordings made by speech synthesis, one row for each.
SYNTHESIS_FILE = "synthesis.csv"
_MANY_ROWS = 20  # from which on a label for every second row is no class


def scan_corpus(selection: CorpusSelection) -> tuple[ScannedCorpus, PreparationReport]:
    """Find a corpus's utterances of the wanted classes without reading their audio.

    Returns:
        What was found, and the report in which everything left out so far is listed.

    Raises:
        CorpusError: an absent or incomplete folder, or one that is not this corpus.
        OSError: a folder or file cannot be read.
    """
    check_place(selection)
    record = selection.record
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
    scanned.check_kept(scanned.rows, report)
    return scanned, report


def check_place(selection: CorpusSelection) -> None:
    """Raise `CorpusError` where there is nothing at a corpus's place; a name on the Hub is not looked up."""
    record, place = selection.record, selection.place
    if place is None:
        raise CorpusError("say where the corpus lies: --data_dir FOLDER")
    if not record.takes_name:
        if not place.exists():
            raise CorpusError(f"{place} does not exist: give the folder of the {record.name} corpus")
        if not place.is_dir() and not record.takes_file:
            raise CorpusError(f"{place} is not a folder: give the folder of the {record.name} corpus")


def assign_classes(
    rows: Sequence[Row], selection: CorpusSelection, report: PreparationReport
) -> tuple[list[Row], list[str]]:
    """Return the rows of the wanted classes, and these classes in the order of their numbers.

    Where a corpus may have any labels, `_read_labels` reads them, and those that differ only in spelling are one, as
    are its speakers and sessions: as the classes or the map write it, or else as most rows do. Then the map is applied,
    and what is not wanted left out. The report lists each row whose label, speaker or session is read as another
    spelling, and each that is left out; where labels change, the counts too.

    Raises:
        CorpusError: values that are no labels, nearly as many classes as rows, or a class or label that is not there.
    """
    label_map, wanted = selection.mapping, selection.emotions
    labels: Sequence[str] = selection.record.emotions
    if not labels:
        named = [*(wanted or ()), *label_map, *label_map.values()]
        rows = _read_labels(rows, named, selection.where, report)
    before = _counted(rows)
    if not labels:
        check_label_map(label_map, before, selection.where)
        rows = _unify_spellings(rows, "emotion", [*(wanted or ()), *label_map.values()], report)
        for column in ("speaker", "session"):
            rows = _unify_spellings(_without_missing(rows, column, report), column, (), report)
        labels = sorted(_counted(rows), key=lambda label: map_label(label, label_map))
    classes, becomes = selection.record.classes(label_map, wanted, labels)
    check_known(selection.where, "emotion", wanted or (), sorted(becomes.values()))
    mapped = [{**row, "emotion": becomes[row["emotion"]]} for row in rows]
    if before != (after := _counted(mapped)):
        report.labels = {"before": before, "after": after}
    for row in mapped:
        if row["emotion"] not in classes:
            report.drop(row["id"], f"emotion not selected: {row['emotion']}")
    kept = [row for row in mapped if row["emotion"] in classes]
    named = ((row.get("speaker") or "", row["emotion"]) for row in kept)
    if kept and len(classes) > 1 and all(spelling_key(speaker) == spelling_key(label) for speaker, label in named):
        raise CorpusError(
            f"{selection.where}: each label is its row's speaker ({', '.join(classes[:3])} …); name the columns by "
            "--label_column_name and --speaker_column_name"
        )
    if len(kept) >= _MANY_ROWS and len(classes) > len(kept) / 2:
        raise CorpusError(
            f"{selection.where} has {len(classes)} classes in {len(kept)} rows ({', '.join(classes[:3])} …): these are "
            "no classes; name the column of the labels by --label_column_name"
        )
    return kept, classes


def _read_labels(rows: Sequence[Row], named: Iterable[str], owner: str, report: PreparationReport) -> list[Row]:
    """The rows that have a label, as text; those without go into the report, by their id.

    Words for a value that is missing are none, unless they are among the `named`; so for what is no label at all, of
    which one stands for the others in the error.
    """
    known = {spelling_key(name) for name in named}
    read, wrong = [], []
    for row in rows:
        value = row["emotion"]
        if isinstance(value, (str, int, float)) and spelling_key(str(value)) in known:
            read.append({**row, "emotion": str(value)})
            continue
        try:
            label = read_label(value)
        except CorpusError as error:
            wrong.append(f"{row['id']}: {error}")
            continue
        if label is not None and not names_nothing(label):
            read.append({**row, "emotion": label})
        elif label is None or not label.strip():
            report.drop(row["id"], "no emotion")
        else:
            report.drop(row["id"], f"no emotion: {label!r} (a class of that name is kept by --label_map or --emotions)")
    lists = {label for label in find_lists(_counted(read)) if spelling_key(label) not in known}
    wrong += [
        f"{row['id']}: {row['emotion']!r} is several: give each recording one, or map it by --label_map"
        for row in read
        if row["emotion"] in lists
    ]
    if wrong:
        raise CorpusError(f"{owner}: {len(wrong)} of {len(rows)} labels cannot be read, the first of {wrong[0]}")
    return read


def _without_missing(rows: Sequence[Row], column: str, report: PreparationReport) -> list[Row]:
    """The rows, with nothing in place of words for a value that is missing; those changed are listed in the report."""
    changed = []
    for row in rows:
        missing = row.get(column) is not None and names_nothing(row[column])
        if missing:
            report.repair(row["id"], f"{column} {row[column]!r} read as none: rename it if it is one")
        changed.append({**row, column: None} if missing else row)
    return changed


def _unify_spellings(
    rows: Sequence[Row], column: str, preferred: Iterable[str], report: PreparationReport
) -> list[Row]:
    """The rows with one spelling for each value of a column; those changed are listed in the report."""
    spellings = one_spelling((row[column] for row in rows if row.get(column) is not None), preferred)
    kind = "label" if column == "emotion" else column
    unified = []
    for row in rows:
        value = row.get(column)
        if value is not None and value != (name := spellings[value]):
            show = ascii if normalize("NFC", value) == normalize("NFC", name) else repr  # these would look the same
            report.repair(row["id"], f"{kind} {show(value)} read as {show(name)}")
            row = {**row, column: name}
        unified.append(row)
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
