"""Which label becomes which class: spellings that mean the same, and a map of the user's own."""

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_scripts.errors import CorpusError

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
            try:
                part = _parse(Path(text).read_text(encoding="utf-8-sig"), owner)
            except (FileNotFoundError, UnicodeDecodeError) as error:
                raise CorpusError(f"{owner} cannot be read: {error}; {_FORMS}") from None
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


def _as_name(value: Any, owner: str) -> str:
    """A label or class as text. YAML reads some words as something else, which then has to be told apart."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise CorpusError(f"{owner}: {json.dumps(value, default=str)} is no name of a label or class: put it in quotes")
    return str(value).strip()


def map_label(label: str, label_map: Mapping[str, str]) -> str:
    """Return the class of a label, which is the label itself where the map does not name it (in any case)."""
    return {plain_label(key): name for key, name in label_map.items()}.get(plain_label(label), label)


def check_label_map(label_map: Mapping[str, str], known: Iterable[str], owner: object) -> None:
    """Raise where a map names a label that the corpus does not have."""
    labels = list(known)
    plain = {plain_label(label) for label in labels}
    if unknown := [label for label in label_map if plain_label(label) not in plain]:
        raise CorpusError(
            f"label_map names {', '.join(unknown)}, which {owner} does not have; it has {', '.join(labels) or 'none'}"
        )
