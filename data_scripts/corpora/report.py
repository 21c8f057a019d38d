"""What became of every item of a corpus: kept and counted, repaired, or dropped, each with its reason."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data_scripts.audit import Audit
from data_scripts.files import write_atomically

REPORT_NAME = "report.json"
_NOT_GIVEN = "(not given)"


@dataclass
class SplitCounts:
    """What one split keeps: how many utterances, hours, and utterances of each emotion, speaker and session."""

    utterances: int = 0
    hours: float = 0.0
    emotions: dict[str, int] = field(default_factory=dict)
    speakers: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)


@dataclass
class PreparationReport:
    """The account of one preparation.

    Attributes:
        splits: the counts of each split.
        dropped: {"id", "reason"} of every item left out: an utterance by its id, a file or line by its place.
        repaired: {"id", "reason"} of every item kept after a repair.
        noted: {"id", "reason"} of every item kept as it is that a user may want to look at.
        expected: what a complete corpus would keep, {"emotions" | "sessions" | "splits": {name: utterances}}; empty
            where nothing is known, or another selection was asked for.
        selection: what was asked for, see `CorpusSelection.describe`; empty in reports of earlier versions.
        columns: which column of a table was read as what, {role: column}; empty where the corpus is no table.
        unread_columns: the table's other columns.
        labels: where a map or another spelling changed labels, the utterances of each label "before" and of each class
            "after", as found; those dropped later are among them.
        stand_in: why what was found, whatever of it is wanted, is another corpus in the layout of this one; empty where
            nothing says so, None of corpora without a size of their own and in reports of earlier versions.
        audit: what the splits have in common; None in reports of earlier versions.
    """

    corpus: str
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    repaired: list[dict[str, str]] = field(default_factory=list)
    noted: list[dict[str, str]] = field(default_factory=list)
    expected: dict[str, dict[str, int]] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    unread_columns: list[str] = field(default_factory=list)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    stand_in: str | None = None
    audit: Audit | None = None

    def drop(self, item: str, reason: str) -> None:
        """Note that an item is left out. Items that share a reason are counted together, so keep ids out of it."""
        self.dropped.append({"id": item, "reason": reason})

    def repair(self, item: str, reason: str) -> None:
        """Note that an item was kept after a repair."""
        self.repaired.append({"id": item, "reason": reason})

    def note(self, item: str, reason: str) -> None:
        """Note something about an item that is kept as it is."""
        self.noted.append({"id": item, "reason": reason})

    def count(self, split: str, rows: Sequence[Mapping[str, Any]], emotions: Sequence[str]) -> None:
        """Count a split's kept rows (canonical columns, `emotion` a name); a class without any shows as 0."""
        ordered = dict.fromkeys(emotions, 0) | Counter(row["emotion"] for row in rows)
        self.splits[split] = SplitCounts(
            utterances=len(rows),
            hours=sum(row["duration"] for row in rows) / 3600,
            emotions=ordered,
            speakers=_counted(rows, "speaker"),
            sessions=_counted(rows, "session"),
        )

    @property
    def kept(self) -> int:
        """The number of utterances kept, over all splits."""
        return sum(counts.utterances for counts in self.splits.values())

    def reasons(self, kind: str) -> dict[str, int]:
        """Return how many items were "dropped", "repaired" or "noted" for each reason, the commonest first."""
        return dict(Counter(note["reason"] for note in getattr(self, kind)).most_common())

    def found(self, kind: str) -> dict[str, int]:
        """Return the utterances kept by "emotions", "speakers", "sessions" or "splits", over all splits."""
        if kind == "splits":
            return {name: counts.utterances for name, counts in self.splits.items()}
        total: Counter[str] = Counter()
        for counts in self.splits.values():
            total.update(getattr(counts, kind))  # update keeps a class that has none
        return dict(total)

    def differences(self) -> list[dict[str, Any]]:
        """Return where the corpus is incomplete: {"kind", "name", "kept", "expected"} of each unexpected count."""
        return [
            {"kind": kind, "name": name, "kept": self.found(kind).get(name, 0), "expected": number}
            for kind, numbers in self.expected.items()
            for name, number in numbers.items()
            if self.found(kind).get(name, 0) != number
        ]

    def to_json(self) -> str:
        """Return the report as JSON: the fields, and the counts by reason for whoever reads the file."""
        summary = {
            "kept": self.kept,
            "drop_reasons": self.reasons("dropped"),
            "repair_reasons": self.reasons("repaired"),
            "note_reasons": self.reasons("noted"),
            "differences": self.differences(),
        }
        return json.dumps({"corpus": self.corpus, **summary, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "PreparationReport":
        """Return the report that `to_json` wrote; a text that is none is a `ValueError`."""
        try:
            content = json.loads(text)
            known = {
                each.name: content[each.name] for each in fields(cls) if each.name in content
            }  # older ones lack some
            known["splits"] = {name: SplitCounts(**counts) for name, counts in content["splits"].items()}
            if known.get("audit") is not None:
                known["audit"] = Audit(**known["audit"])
            return cls(**known)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a preparation report: {error!r}") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_json` to `path`, whole or not at all."""
        write_atomically(path, self.to_json())

    def table(self) -> str:
        """Return a plain-text table: emotions by split, sessions, leaks, and what was dropped, repaired, noted."""
        splits = self.splits.values()
        counts = {name: [split.emotions.get(name, 0) for split in splits] for name in self.found("emotions")}
        counts["utterances"] = [split.utterances for split in splits]
        rows = [["", *self.splits, "all"]]
        rows += [[name, *map(str, [*numbers, sum(numbers)])] for name, numbers in counts.items()]
        speakers = [set(split.speakers) - {_NOT_GIVEN} for split in splits]
        rows.append(["speakers", *(str(len(some)) for some in [*speakers, set().union(*speakers)])])
        hours = [split.hours for split in splits]
        rows.append(["hours", *(f"{value:.2f}" for value in [*hours, sum(hours)])])
        lines = _aligned(rows)
        for kind, title in (("splits", "split"), ("sessions", "session"), ("emotions", "emotion")):
            lines.extend(self._comparison(kind, title))
        lines.extend(self.audit.table() if self.audit is not None else [])
        for kind in ("dropped", "repaired", "noted"):
            reasons = self.reasons(kind)
            if kind != "noted" or reasons:
                lines.append(f"{kind}: {sum(reasons.values())}")
            lines.extend(f"  {count}  {reason}" for reason, count in reasons.items())
        return "\n".join([f"{self.corpus}: {self.kept} utterances kept", *self._origin(), *lines])

    def _origin(self) -> list[str]:
        """Lines that say which column was read as what, and what labels became, in numbers."""
        lines = []
        if self.columns:
            named = (role if role == column else f"{role} from {column}" for role, column in self.columns.items())
            lines.append(f"columns: {', '.join(named)}")
        if self.unread_columns:
            lines.append(f"columns not read: {', '.join(self.unread_columns)}")
        if self.labels:
            counts = (", ".join(f"{name} {count}" for name, count in some.items()) for some in self.labels.values())
            lines.append(f"labels: {' -> '.join(counts)}")
        return lines

    def _comparison(self, kind: str, title: str) -> list[str]:
        """Lines that set what is kept beside what a complete corpus keeps; sessions are listed in any case."""
        expected, found = self.expected.get(kind, {}), self.found(kind)
        found.pop(_NOT_GIVEN, None)
        if not expected:
            rows = [[title, "kept"], *([name, str(kept)] for name, kept in found.items())]
            return _aligned(rows) if kind == "sessions" and found else []
        counts = {name: (found.get(name, 0), expected.get(name)) for name in dict.fromkeys([*expected, *found])}
        counts["all"] = sum(found.values()), sum(expected.values())
        rows = [[title, "kept", "expected", "difference"]]
        for name, (kept, whole) in counts.items():
            difference = "" if whole is None or kept == whole else f"{kept - whole:+d}"
            rows.append([name, str(kept), "" if whole is None else str(whole), difference])
        return _aligned(rows)


def prepared_report(folder: str | os.PathLike) -> PreparationReport | None:
    """Return the report of a prepared folder; None where it has none that can be read."""
    try:
        return PreparationReport.from_json((Path(folder) / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # not prepared by this command, but its tables may be all right


def prepared_name(folder: str | os.PathLike) -> str:
    """Return the name of the corpus that a prepared folder holds; `prepared` where it is not known."""
    report = prepared_report(folder)
    return "prepared" if report is None else report.corpus


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    first, *widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))])
        for row in rows
    )
    return [line.rstrip() for line in lines]


def _counted(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, int]:
    """How often each value of a column occurs, sorted by value."""
    return dict(sorted(Counter(row.get(column) or _NOT_GIVEN for row in rows).items()))
