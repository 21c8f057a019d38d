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


def plan_classes(
    labels: Sequence[str],
    label_map: Mapping[str, str],
    wanted: Sequence[str] | None,
    defaults: Sequence[str] = (),
    merged: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Return the classes of a corpus in the order of their numbers, and what each label becomes (maybe no class).

    Args:
        labels: every label of the corpus.
        label_map: {label: class}.
        wanted: the classes asked for, in order; None: those that the defaults and the labels of the map become.
        defaults: the labels kept where no classes are asked for; empty: all.
        merged: label -> the label it counts as, unless it is a class of its own or the map names it.
    """
    named = {plain_label(label) for label in label_map}
    becomes = {label: map_label(label, label_map) for label in labels}
    usual = (label for label in labels if not defaults or label in defaults or plain_label(label) in named)
    classes = list(wanted or dict.fromkeys(becomes[label] for label in usual))
    for label, other in (merged or {}).items():
        if label not in classes and plain_label(label) not in named:
            becomes[label] = becomes[other]
    return classes, becomes


def assign_classes(
    rows: Sequence[Row],
    label_map: Mapping[str, str],
    wanted: Sequence[str] | None,
    owner: object,
    report: PreparationReport,
    labels: Sequence[str] = (),
    defaults: Sequence[str] = (),
    merged: Mapping[str, str] | None = None,
) -> tuple[list[Row], list[str]]:
    """Return the rows of the wanted classes, and these classes in the order of their numbers.

    Where a corpus may have any labels, those that differ only in case or white space are one: as the classes or the map
    write it, or else as most rows do. Then the map is applied, and what is not wanted left out.

    Args:
        rows: with a label as `emotion`.
        label_map: {label: class}.
        wanted: the classes asked for, in order; None: the usual ones, or all that occur, sorted.
        owner: what the corpus is called in messages.
        report: lists each row whose label is read as another spelling, and each that is left out; gets the counts
            before and after, where labels change.
        labels: every label of the corpus; empty: those that occur.
        defaults: see `plan_classes`.
        merged: see `plan_classes`.

    Raises:
        CorpusError: a label of the map or a wanted class that no row has.
    """
    before = _counts(rows)
    if not labels:
        check_label_map(label_map, before, owner)
        rows = _unify_spellings(rows, [*(wanted or ()), *label_map.values()], report)
        labels = sorted(_counts(rows), key=lambda label: map_label(label, label_map))
    classes, becomes = plan_classes(labels, label_map, wanted, defaults, merged)
    check_emotions(wanted or (), sorted(set(becomes.values())), owner)
    mapped = [{**row, "emotion": becomes[row["emotion"]]} for row in rows]
    if before != (after := _counts(mapped)):
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
