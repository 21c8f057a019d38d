"""Which label becomes which class: spellings that mean the same, and a map of the user's own."""

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

Row = dict[str, Any]

LABEL_MAP_HELP = "labels that become another class, e.g. excited=happy, or a JSON or YAML file of such a mapping"

_FILE_SUFFIXES = (".json", ".yaml", ".yml")
_FORMS = "write happy=joy, or name a JSON or YAML file of such a mapping"


def plain_label(label: str) -> str:
    """Return a label without what differs between habits of writing it: case and white space."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def parse_label_map(value: Any) -> dict[str, str]:
    """Return a label map in one form, {label: class}.

    Args:
        value: words such as "happy=joy"; a JSON or YAML file that holds a mapping, by its name; a mapping, or its JSON
            text; a list of these; or None for no map.

    Raises:
        CorpusError: it is none of these, a file cannot be read, or one label is mapped to two classes.
    """
    if value is None:
        return {}
    parts = [value] if isinstance(value, (str, os.PathLike, Mapping)) else list(value)
    found: dict[str, str] = {}
    classes: dict[str, str] = {}
    for part in parts:
        for label, name in _pairs(part):
            first = classes.setdefault(plain_label(label), name)
            if first != name:
                raise CorpusError(f"label_map maps {label} to both {first} and {name}: a label is of one class")
            found[label] = name
    return found


def _pairs(part: Any) -> list[tuple[str, str]]:
    """The pairs (label, class) of one word, file, JSON text or mapping."""
    owner = "label_map"
    if isinstance(part, (str, os.PathLike)):
        text = os.fspath(part).strip()
        if text.startswith("{"):
            part = _parse(text, owner)
        elif text.lower().endswith(_FILE_SUFFIXES):
            owner = f"label_map {text}"
            part = _parse(_read(Path(text)), owner)
        else:
            label, equals, name = text.partition("=")
            if not equals:
                raise CorpusError(f"label_map {text!r} is no pair of label and class: {_FORMS}")
            part = {label: name}
    if not isinstance(part, Mapping):
        raise CorpusError(f"{owner} is no mapping of labels to classes, but {type(part).__name__}: {_FORMS}")
    return [(_as_name(label, owner), _as_name(name, owner)) for label, name in part.items()]


def _parse(text: str, owner: str) -> Any:
    """A JSON or YAML text (the first is the second too)."""
    import yaml  # late: most commands need no map

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CorpusError(f"{owner} is neither JSON nor YAML: {' '.join(str(error).split())}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"label_map: there is no file {path}; {_FORMS}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"label_map {path} is not UTF-8: save it as UTF-8") from None


def _as_name(value: Any, owner: str) -> str:
    """A label or class as text. YAML reads some words as something else, which then has to be told apart."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise CorpusError(f"{owner}: {json.dumps(value, default=str)} is no name of a label or class: put it in quotes")
    return str(value).strip()


def map_label(label: str, label_map: Mapping[str, str]) -> str:
    """Return the class of a label, which is the label itself where the map does not name it (in any case)."""
    return {plain_label(key): name for key, name in label_map.items()}.get(plain_label(label), label)


def mapped_emotions(
    emotions: Sequence[str], defaults: Sequence[str], label_map: Mapping[str, str], wanted: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return what a corpus with fixed labels has to be asked for, and the classes that come of it.

    Args:
        emotions: every label of the corpus.
        defaults: those kept where none are asked for.
        label_map: {label: class}.
        wanted: the classes asked for, in order; None: those that the defaults and the labels of the map become.

    Returns:
        `(labels, classes)`
    """
    named = {plain_label(label) for label in label_map}
    kept = [label for label in emotions if label in defaults or plain_label(label) in named]
    classes = list(wanted or dict.fromkeys(map_label(label, label_map) for label in kept))
    return [label for label in emotions if map_label(label, label_map) in classes], classes


def _mapped(rows: Sequence[Row], label_map: Mapping[str, str]) -> list[Row]:
    """The rows with classes in place of labels."""
    classes = {label: map_label(label, label_map) for label in {row["emotion"] for row in rows}}
    return [{**row, "emotion": classes[row["emotion"]]} for row in rows]


def relabel(rows: Sequence[Row], label_map: Mapping[str, str], report: PreparationReport) -> list[Row]:
    """Return rows whose labels are replaced by their classes.

    Args:
        rows: with a label as `emotion`.
        label_map: {label: class}.
        report: gets the counts of the labels before and of the classes after.
    """
    mapped = _mapped(rows, label_map)
    report.labels = {"before": _counts(rows), "after": _counts(mapped)}
    return mapped


def relabel_counts(counts: Mapping[str, int], label_map: Mapping[str, str]) -> dict[str, int]:
    """Return {class: number} of {label: number}."""
    total: Counter[str] = Counter()
    for label, number in counts.items():
        total[map_label(label, label_map)] += number
    return dict(total)


def assign_classes(
    rows: Sequence[Row],
    label_map: Mapping[str, str],
    wanted: Sequence[str] | None,
    owner: object,
    report: PreparationReport,
) -> tuple[list[Row], list[str]]:
    """Return the rows of the wanted classes, of a corpus with labels of any kind, and the classes.

    Labels that differ only in case or white space are one: as the classes or the map write it, or else as most rows do.
    Then the map is applied, and what is not wanted left out.

    Args:
        rows: with a label as `emotion`.
        label_map: {label: class}.
        wanted: the classes wanted, in the order of their numbers; None: all that occur, sorted.
        owner: what the corpus is called in messages.
        report: lists each row whose label is read as another spelling, and each that is left out; gets the counts
            before and after, where spellings or the map change a label.

    Raises:
        CorpusError: a label of the map or a wanted class that no row has.
    """
    before = _counts(rows)
    check_label_map(label_map, before, owner)
    unified = _unify_spellings(rows, [*(wanted or ()), *label_map.values()], report)
    mapped = _mapped(unified, label_map)
    after = _counts(mapped)
    if before != after:
        report.labels = {"before": before, "after": after}
    check_emotions(wanted or (), list(after), owner)
    classes = list(wanted or after)
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


def check_emotions(wanted: Iterable[str], known: Sequence[str], owner: object) -> None:
    """Check that every wanted emotion is known.

    Raises:
        CorpusError: one is not; the message names it, the owner and what there is.
    """
    if unknown := [name for name in wanted if name not in known]:
        raise CorpusError(f"{owner} has no emotion {', '.join(unknown)}; it has {', '.join(known) or 'none'}")


def check_label_map(label_map: Mapping[str, str], known: Iterable[str], owner: object) -> None:
    """Check that every label of a map is one that the corpus has.

    Raises:
        CorpusError: one is not; the message names it and what there is.
    """
    labels = list(known)
    plain = {plain_label(label) for label in labels}
    if unknown := [label for label in label_map if plain_label(label) not in plain]:
        raise CorpusError(
            f"label_map names {', '.join(unknown)}, which {owner} does not have; it has {', '.join(labels) or 'none'}"
        )


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    """How often each label occurs, sorted by label."""
    return dict(sorted(Counter(row["emotion"] for row in rows).items()))
