"""What became of every item of a corpus: kept and counted, repaired, or dropped, each with its reason."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_NOT_GIVEN = "(not given)"


@dataclass
class SplitCounts:
    """What one split keeps: how many utterances, how many hours, and how many of each emotion, speaker and session."""

    utterances: int = 0
    hours: float = 0.0
    emotions: dict[str, int] = field(default_factory=dict)
    speakers: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)


@dataclass
class PreparationReport:
    """The account of one preparation.

    Attributes:
        corpus: the corpus's name.
        splits: the counts of each split.
        dropped: {"id", "reason"} of every item left out.
        repaired: {"id", "reason"} of every item kept after a repair.
    """

    corpus: str
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    repaired: list[dict[str, str]] = field(default_factory=list)

    def drop(self, item: str, reason: str) -> None:
        """Note that an item is left out. Items that share a reason are counted together, so keep ids out of it."""
        self.dropped.append(_note(item, reason))

    def repair(self, item: str, reason: str) -> None:
        """Note that an item was kept after a repair."""
        self.repaired.append(_note(item, reason))

    def count(self, split: str, rows: Sequence[Mapping[str, Any]], emotions: Sequence[str]) -> None:
        """Count a split's kept rows (canonical columns, `emotion` a name); a class without any shows as 0."""
        ordered = {name: 0 for name in emotions} | Counter(row["emotion"] for row in rows)
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

    def drop_reasons(self) -> dict[str, int]:
        """How many items were dropped for each reason, the commonest first."""
        return dict(Counter(note["reason"] for note in self.dropped).most_common())

    def repair_reasons(self) -> dict[str, int]:
        """How many items were repaired for each reason, the commonest first."""
        return dict(Counter(note["reason"] for note in self.repaired).most_common())

    def to_json(self) -> str:
        """Return the report as JSON: the fields, and the counts by reason for whoever reads the file."""
        summary = {"kept": self.kept, "drop_reasons": self.drop_reasons(), "repair_reasons": self.repair_reasons()}
        return json.dumps({"corpus": self.corpus, **summary, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "PreparationReport":
        """Return the report that `to_json` wrote.

        Raises:
            ValueError: the text is no such report.
        """
        try:
            fields = json.loads(text)
            splits = {name: SplitCounts(**counts) for name, counts in fields["splits"].items()}
            return cls(fields["corpus"], splits, fields["dropped"], fields["repaired"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a preparation report: {error!r}") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_json` to `path`, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(self.to_json(), encoding="utf-8")
        os.replace(temporary, path)

    def table(self) -> str:
        """Return a short plain-text table: emotions by split, then what was dropped and repaired."""
        splits = list(self.splits)
        names = list(dict.fromkeys(name for counts in self.splits.values() for name in counts.emotions))
        rows = [["", *splits, "all"]]
        for name in names:
            rows.append(_row(name, [self.splits[split].emotions.get(name, 0) for split in splits]))
        rows.append(_row("utterances", [self.splits[split].utterances for split in splits]))
        speakers = [set(self.splits[split].speakers) - {_NOT_GIVEN} for split in splits]
        rows.append(["speakers", *(str(len(some)) for some in speakers), str(len(set().union(*speakers)))])
        hours = [self.splits[split].hours for split in splits]
        rows.append(["hours", *(f"{value:.2f}" for value in [*hours, sum(hours)])])
        first, *widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))])
            for row in rows
        ]
        for title, reasons in (("dropped", self.drop_reasons()), ("repaired", self.repair_reasons())):
            lines.append(f"{title}: {sum(reasons.values())}")
            lines.extend(f"  {count}  {reason}" for reason, count in reasons.items())
        return "\n".join(line.rstrip() for line in [f"{self.corpus}: {self.kept} utterances kept", *lines])


def _note(item: str, reason: str) -> dict[str, str]:
    """One entry of a list of the report."""
    if not item or not reason:
        raise ValueError(f"an item is dropped or repaired with its id and a reason, got {item!r} and {reason!r}")
    return {"id": item, "reason": reason}


def _counted(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, int]:
    """How often each value of a column occurs, sorted by value."""
    return dict(sorted(Counter(row.get(column) or _NOT_GIVEN for row in rows).items()))


def _row(name: str, counts: Sequence[int]) -> list[str]:
    """One line of the table, with its total."""
    return [name, *(str(count) for count in [*counts, sum(counts)])]
