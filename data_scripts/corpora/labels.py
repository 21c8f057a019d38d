"""Which label becomes which class: what a table may hold for one, and a map of the user's own."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from data_scripts.errors import CorpusError
from data_scripts.spellings import did_you_mean, spelling_key

_FILE_SUFFIXES = (".json", ".yaml", ".yml")
_FORMS = "write happy=joy, or name a JSON or YAML file of such a mapping"
_SEPARATORS = re.compile(r"[,;\s]+")
_PART_SEPARATORS = re.compile(r"[\s,;|/+&]+")


def read_label(value: Any) -> str | None:
    """Return a value of a table as a label; None for null, NaN and a list of nothing.

    A whole number is a label, also where a table writes it as a float; a list of one, or its text, is its only item.

    Raises:
        CorpusError: it is no label, but several, votes, a vector, a fraction or a truth value. The message begins with
            the value.
    """
    if hasattr(value, "tolist"):  # of numpy or torch
        value = value.tolist()
    if isinstance(value, (bytes, Decimal)):
        value = value.decode(errors="replace") if isinstance(value, bytes) else float(value)
    held = _held(value.strip()) if isinstance(value, str) else value
    if held is None or held != held or (isinstance(held, (list, tuple, set, Mapping)) and not held):
        return None
    if isinstance(held, (list, tuple, set)) and len(held) == 1:
        return read_label(*held)
    if problem := _problem(held):
        raise CorpusError(f"{value!r:.60} is {problem}")
    return str(int(held)) if isinstance(held, float) else str(value)


def _held(text: str) -> Any:
    """What the text of a label holds, where that is something else: a list, votes, a fraction, a truth value."""
    if text[:1] + text[-1:] in ("[]", "{}"):
        try:
            return _parse(text, "a label")
        except CorpusError:
            return text
    if text.casefold() in ("true", "false"):
        return text.casefold() == "true"
    parts = text.split()
    numbers = [number for part in parts if (number := _number(part)) is not None]
    if len(parts) > 1 and len(numbers) == len(parts):
        return numbers
    return numbers[0] if numbers and len(parts) == 1 and not numbers[0].is_integer() else text


def _number(text: str) -> float | None:
    """A finite number, with a decimal point or comma; None for any other text."""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _problem(held: Any) -> str:
    """Why a value is no label, and what to give in its place; empty for a label."""
    if isinstance(held, bool):
        return "a truth value: name the two classes, --label_map true=angry false=other"
    if isinstance(held, float) and not held.is_integer():
        return "a number with a fraction, as of a rating: give classes, or name their column by --label_column_name"
    if isinstance(held, Mapping):
        return "votes, ratings or probabilities: give each recording the class that wins"
    if isinstance(held, (list, tuple, set)):
        one_hot = all(isinstance(item, (int, float)) for item in held)
        return "a list of numbers: give the name of its class" if one_hot else "a list: give each recording one label"
    return ""


def find_lists(labels: Iterable[str]) -> list[str]:
    """Return the labels that are several of the others, such as "angry;sad" beside "angry" and "sad"."""
    keys = {label: spelling_key(label) for label in labels}
    known = set(keys.values())
    parts = {label: _PART_SEPARATORS.split(key) for label, key in keys.items()}
    return [label for label, some in parts.items() if len(some) > 1 and {*map(spelling_key, some)} <= known]


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
            first = classes.setdefault(spelling_key(label), name)
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
            return [_pair(word) for word in _words(text)]
    if not isinstance(part, Mapping):
        raise CorpusError(f"{owner} is no mapping of labels to classes, but {type(part).__name__}: {_FORMS}")
    return [(_as_name(label, owner), _as_name(name, owner)) for label, name in part.items()]


def _words(text: str) -> list[str]:
    """The pairs in one word of a command line, "a=x,b=y"; a label of several words, or with a comma, is one pair."""
    words = [word for word in _SEPARATORS.split(text) if word]
    return words if all(word.count("=") == 1 for word in words) else [text]


def _pair(word: str) -> tuple[str, str]:
    """The label and the class of "label=class"; a class whose name might be more pairs is refused."""
    label, _, name = word.partition("=")
    if "=" not in word or name.startswith("=") or re.search(r"[,;]|\s.*=", name.strip()):
        raise CorpusError(f"label_map {word!r} is no pair of label and class: {_FORMS}")
    return _as_name(label, "label_map"), _as_name(name, "label_map")


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
    return {spelling_key(key): name for key, name in label_map.items()}.get(spelling_key(label), label)


def check_label_map(label_map: Mapping[str, str], known: Iterable[str], owner: object) -> None:
    """Raise where a map names a label that the corpus does not have."""
    labels = list(known)
    plain = {spelling_key(label) for label in labels}
    if unknown := [label for label in label_map if spelling_key(label) not in plain]:
        names = ", ".join(f"{label}{did_you_mean(label, labels)}" for label in unknown)
        raise CorpusError(f"label_map names {names}, which {owner} does not have; it has {', '.join(labels) or 'none'}")
