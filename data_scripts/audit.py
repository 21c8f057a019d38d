"""The leak audit: recordings and speakers that are in several splits, and classes that are missing from train.

A test result says something about new recordings and new people only where none of these is found.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_scripts.errors import CorpusError
from data_scripts.spellings import one_spelling

AUDITED_COLUMNS = ("id", "speaker", "emotion", "content")

#: Why speakers may be in several splits.
OFFICIAL_SPLIT = "the corpus's makers divided it so"
PROTOCOL_SPLIT = "the protocol divides so"

_NAMED_CASES = 3  # in a message; the report holds all
_ROUNDED = 0.01  # seconds by which parts that follow each other may overlap


@dataclass
class Audit:
    """What the leak audit of some splits found."""

    splits: list[str]  # those that were compared
    recordings: list[dict[str, list[str]]] = field(default_factory=list)  # in several: {split: ids of its copies}
    speakers: dict[str, list[str]] = field(default_factory=dict)  # {speaker: the several splits}
    classes: dict[str, dict[str, int]] = field(default_factory=dict)  # {split: {class that train lacks: utterances}}
    relabelled: list[dict[str, list[str]]] = field(default_factory=list)  # recordings: {each of its labels: ids}
    repeated: dict[str, int] = field(default_factory=dict)  # {split: copies of others of the same split}; no leak
    unchecked: dict[str, int] = field(default_factory=dict)  # {column: rows} without `speaker` or `content`
    accepted: str = ""  # why speakers may be in several splits here; empty where they should not

    def warnings(self) -> list[str]:
        """Return one sentence for each kind of leak or of contradiction, with the first cases and what to do."""
        found = []
        if self.recordings:
            cases = [" = ".join(f"{split} {ids[0]}" for split, ids in copies.items()) for copies in self.recordings]
            count, first = _cases(cases, "recording")
            found.append(f"{count} in more than one split ({first}): keep each in one of them")
        if self.speakers and not self.accepted:
            cases = [f"{speaker} in {' and '.join(splits)}" for speaker, splits in self.speakers.items()]
            count, first = _cases(cases, "speaker")
            found.append(f"{count} in more than one split ({first}): divide by speaker")
        for split, classes in self.classes.items():
            count, first = _cases([f"{name}, {number}" for name, number in classes.items()], "class", "classes")
            found.append(
                f"{count} in {split} that train never shows ({first}): leave it out, or move some of it to train"
            )
        if self.relabelled:
            cases = [" = ".join(f"{ids[0]} {label}" for label, ids in each.items()) for each in self.relabelled]
            _, first = _cases(cases, "recording")
            found.append(
                f"{len(cases)} recording{' has' if len(cases) == 1 else 's have'} more than one label ({first}): keep "
                "the right one; where they are parts of a recording, say so in columns start and end"
            )
        return found

    def table(self) -> list[str]:
        """Return the lines of a short table; none where there is nothing to compare and nothing was found."""
        lines = []
        if len(self.splits) > 1:
            accepted = f" ({self.accepted})" if self.speakers and self.accepted else ""
            missing = sum(len(classes) for classes in self.classes.values())
            lines += [
                f"recordings in several splits  {len(self.recordings)}",
                f"speakers in several splits    {len(self.speakers)}{accepted}",
                f"classes that train lacks      {missing}",
            ]
        lines += [f"recordings with several labels: {len(self.relabelled)}"] if self.relabelled else []
        lines += [f"copies within {split}: {count}" for split, count in self.repeated.items()]
        lines += [f"not checked: {count} rows without {column}" for column, count in self.unchecked.items()]
        return ["leak audit", *(f"  {line}" for line in lines)] if lines else []

    def refuse(self) -> None:
        """Raise `CorpusError` where there is a leak or a contradiction; the message names the first cases."""
        if found := self.warnings():
            what = "the splits leak: " if len(found) > bool(self.relabelled) else ""
            raise CorpusError(f"{what}{'; '.join(found)}. Without --strict this is only a warning")


def audit_splits(splits: Mapping[str, Mapping[str, Sequence[Any]]], accepted: str = "") -> Audit:
    """Compare splits, for each of which its `AUDITED_COLUMNS` are given, with one another.

    `emotion` holds names. A column that is absent, and a value that is None, is not checked.
    """
    audit = Audit(list(splits), accepted=accepted)
    for copies in _places(splits, "content").values():
        if len(copies) > 1:
            audit.recordings.append(copies)
        for split, ids in copies.items():
            if len(ids) > 1:
                audit.repeated[split] = audit.repeated.get(split, 0) + len(ids) - 1
    labels: dict[Any, dict[str, list[str]]] = {}
    for part in splits.values():
        for content, emotion, identity in zip(part.get("content", ()), part["emotion"], part["id"], strict=False):
            if content is not None:
                labels.setdefault(content, {}).setdefault(emotion, []).append(identity)
    audit.relabelled = [each for each in labels.values() if len(each) > 1]
    places = _places(splits, "speaker")
    spellings = one_spelling(map(str, places))
    spread: dict[str, dict[str, None]] = {}
    for speaker, there in places.items():
        spread.setdefault(spellings[str(speaker)], {}).update(dict.fromkeys(there))
    audit.speakers = {speaker: list(there) for speaker, there in spread.items() if len(there) > 1}
    if "train" in splits:
        for emotion, places in _places(splits, "emotion").items():
            if "train" not in places:
                for split, ids in places.items():
                    audit.classes.setdefault(split, {})[emotion] = len(ids)
    for column in ("speaker", "content"):
        missing = sum(list(part.get(column, [None] * len(part["id"]))).count(None) for part in splits.values())
        if missing and (len(splits) > 1 or column == "content"):
            audit.unchecked[column] = missing
    return audit


def audit_dataset(data: Mapping[Any, Any], accepted: str = "") -> Audit:
    """Compare the splits of a prepared dataset with one another; nothing is decoded for it."""
    columns: dict[str, dict[str, Sequence[Any]]] = {}
    for split, part in data.items():
        found = {name: part[name][:] for name in AUDITED_COLUMNS if name in part.column_names}
        if (names := getattr(part.features["emotion"], "names", None)) is not None:
            found["emotion"] = [names[label] for label in found["emotion"]]
        columns[str(split)] = found
    return audit_splits(columns, accepted)


def shared_times(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, list[str]]]:
    """Return the parts of one file that have some time in common and are in several splits, as {split: ids}.

    `splits` holds the scanned rows of each split. Times that are rounded may meet by up to 10 ms.
    """
    files: dict[Any, list[tuple[float, float, str, str]]] = {}
    cut = {}
    for split, rows in splits.items():
        for row in rows:
            if row.get("bytes") is None:
                start, end, in_samples = row.get("part") or (0.0, None, False)
                key = row["path"], row.get("channel"), in_samples
                files.setdefault(key, []).append((start, math.inf if end is None else end, split, row["id"]))
                if "part" in row:
                    cut[key] = True
    meeting: list[dict[str, list[str]]] = []
    for key in cut:
        reached = -math.inf
        for start, end, split, identity in sorted(files[key]):
            if start > reached - _ROUNDED:
                meeting.append({})
            meeting[-1].setdefault(split, []).append(identity)
            reached = max(reached, end)
    return [parts for parts in meeting if len(parts) > 1]


def print_warnings(audit: Audit, name: str) -> None:
    """Print what leaks between the splits of a fold, one line for each kind, on stderr."""
    for warning in audit.warnings():
        print(f"warning: {name}: {warning}", file=sys.stderr, flush=True)


def _places(splits: Mapping[str, Mapping[str, Sequence[Any]]], column: str) -> dict[Any, dict[str, list[str]]]:
    """Where each value of a column occurs: {value: {split: ids}}."""
    places: dict[Any, dict[str, list[str]]] = {}
    for split, part in splits.items():
        for value, identity in zip(part.get(column, ()), part["id"], strict=column in part):
            if value is not None:
                places.setdefault(value, {}).setdefault(split, []).append(identity)
    return places


def _cases(cases: Sequence[str], one: str, several: str = "") -> tuple[str, str]:
    """How many cases there are, with the verb, and the first of them."""
    count = f"1 {one} is" if len(cases) == 1 else f"{len(cases)} {several or one + 's'} are"
    return count, "; ".join(cases[:_NAMED_CASES]) + ("; …" if len(cases) > _NAMED_CASES else "")
