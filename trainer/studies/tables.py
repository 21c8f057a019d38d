"""A table of models measured on the same utterances: metrics, intervals, differences, a paper's numbers beside them.

It is made of predictions alone, and of as many of them as there are, so that it can be written while a grid runs.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_scripts.files import write_atomically
from trainer.evaluation.drawing import ONE_CLASS
from trainer.evaluation.metrics import emotion_metrics
from trainer.evaluation.significance import bootstrap_interval, holm, paired_bootstrap
from trainer.evaluation.summary import markdown_table, summarize

#: What the metrics are called in a table.
TITLES = {"wa": "WA", "accuracy": "ACC", "ua": "UA", "weighted_f1": "W-F1", "macro_f1": "macro-F1"}
#: Rows that every other one is compared with, unless a table has others.
REFERENCES = ("speech & text + concat", "M4SER")
_LEVEL = 0.05


@dataclass(frozen=True)
class TableRow:
    """What is known of one model.

    Attributes:
        predictions: seed, or another name of a run that other rows have too -> the tested utterances, indexed by id and
            sorted, with `emotion`, `predicted` (names) and `cluster`. All seeds have the same utterances.
        facts: further columns of the table, by title; None leaves a place empty.
        compared: whether it is compared with the references.
    """

    name: str
    predictions: Mapping[Any, pd.DataFrame]
    finished: int
    planned: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    compared: bool = True


@dataclass(frozen=True)
class Table:
    """A finished table of shares in [0, 1].

    Attributes:
        metric: the one that intervals and differences are of.
        records: of each row `row`, `finished` and `planned` runs, `seeds`, `utterances`, `metrics` ({name: mean, std,
            values}, over seeds), `interval`, `differences` ({reference: estimate, low, high, p_value, p_holm …, and
            `disagreement`, the share of utterances that one of the two alone gets right, and whether a run of either
            predicts `one_class`}), `one_class_runs` (class -> how many runs predict no other), `paper` and `facts`.
    """

    metrics: Sequence[str]
    metric: str
    references: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    heading: str
    notes: Sequence[str]

    def write(self, path: str | Path, figures: Sequence[str] = ()) -> None:
        """Write `path` with the endings .md, .csv (a line for each row) and .json, which names the table's figures."""
        path = Path(path)
        content = {"heading": self.heading, "metric": self.metric, "rows": list(self.records), "notes": self.notes}
        text = json.dumps({**content, "figures": list(figures)}, indent=2, ensure_ascii=False)
        write_atomically(path.with_suffix(".json"), text + "\n")
        write_atomically(
            path.with_suffix(".csv"), pd.json_normalize([dict(record) for record in self.records]).to_csv(index=False)
        )
        write_atomically(path.with_suffix(".md"), self.to_markdown())

    def to_markdown(self) -> str:
        """Return the table in Markdown, in percent, with its heading and notes."""
        rows = [dict(self._cells(record)) for record in self.records]
        table = [markdown_table(list(rows[0]), [list(row.values()) for row in rows]), ""] if rows else []
        return "\n".join([self.heading, "", *table, *(f"* {note}" for note in self.notes)]) + "\n"

    def _cells(self, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield title and content of each place in a row."""
        yield "model", f"{record['row']} †" if record["one_class_runs"] else record["row"]
        yield "runs", f"{record['finished']}/{record['planned']}"
        for name in self.metrics:
            value = record["metrics"][name]
            spread = "" if value["std"] is None else f" ± {format_percent(value['std'])}"
            yield TITLES[name], f"{format_percent(value['mean'])}{spread}"
        yield f"{TITLES[self.metric]}, 95 % interval", format_range(record["interval"])
        for reference in self.references:
            yield f"− {reference} (p)", _difference(record["differences"].get(reference))
        for name in dict.fromkeys(name for other in self.records for name in other["paper"]):
            value = record["paper"].get(name)
            yield f"paper's {TITLES[name]}", None if value is None else format_percent(value)
        known = [title for other in self.records for title, value in other["facts"].items() if value is not None]
        for title in dict.fromkeys(known):
            yield title, record["facts"].get(title)


def make_table(
    rows: Sequence[TableRow],
    emotions: Sequence[str],
    metrics: Sequence[str],
    metric: str,
    references: Sequence[str],
    paper: Mapping[str, Mapping[str, float]],
    heading: str,
    notes: Sequence[str] = (),
) -> Table:
    """Measure and compare rows; `paper` is row -> {metric: percent}.

    Two rows are compared on the utterances and the seeds that both have. The p values are of a paired bootstrap over
    clusters and seeds, corrected by Holm's method for the number of comparisons in the table.
    """
    by_name = {row.name: row for row in rows}
    records = []
    for row in rows:
        others = [by_name[name] for name in references if name in by_name and name != row.name and row.compared]
        differences = {other.name: compare(row, other, metric) for other in others}
        records.append(
            {
                **_measure(row, emotions, metrics, metric),
                "differences": {name: compared for name, compared in differences.items() if compared is not None},
                "paper": {name: value / 100 for name, value in paper.get(row.name, {}).items()},
                "facts": dict(row.facts),
            }
        )
    comparisons = _correct(records)
    return Table(metrics, metric, references, records, heading, [*_notes(records, metric, comparisons), *notes])


def join_tables(tables: Mapping[str, Table], heading: str, notes: Sequence[str] = ()) -> Table:
    """Return tables of the same columns (label -> table) as one: a row is called by its name and its table's label.

    The differences stay those within each table; their p values are corrected for all comparisons of the whole.
    """
    first = next(iter(tables.values()))
    parts = {label: copy.deepcopy(list(table.records)) for label, table in tables.items()}
    comparisons = _correct(*parts.values())
    records = [{**record, "row": f"{record['row']}, {label}"} for label, records in parts.items() for record in records]
    own = _notes(records, first.metric, comparisons)
    return Table(first.metrics, first.metric, first.references, records, heading, [*own, *notes])


def names_in_figures(tables: Iterable[Table]) -> dict[str, str]:
    """Return row -> its name in a figure, which says that a run of it predicts one class only."""
    flagged: dict[str, str] = {}
    for record in (record for table in tables for record in table.records):
        flagged[record["row"]] = flagged.get(record["row"], "") or (ONE_CLASS if record["one_class_runs"] else "")
    return {row: f"{row}{ending}" for row, ending in flagged.items()}


def compare(first: TableRow, second: TableRow, metric: str) -> dict[str, Any] | None:
    """Return the difference of two rows, first − second, and how often one of them alone is right.

    Rows without a seed in common, such as a probe and a model, are compared by the first one's only seed or the second
    one's; two of them with other seeds, or no utterance in common, are not: None.
    """
    tables = [list(row.predictions.values()) for row in (first, second)]
    shared = [seed for seed in first.predictions if seed in second.predictions]
    if 1 not in map(len, tables):
        tables = [[row.predictions[seed] for seed in shared] for row in (first, second)]
    if not all(tables):
        return None
    ids = tables[0][0].index.intersection(tables[1][0].index)
    if not len(ids):
        return None
    aligned = [[table.loc[ids] for table in part] for part in tables]
    labels, clusters = aligned[0][0]["emotion"].to_numpy(), list(aligned[0][0]["cluster"])
    predicted = [np.stack([table["predicted"].to_numpy() for table in part]) for part in aligned]
    compared = paired_bootstrap(labels, predicted[0], predicted[1], metric, clusters)
    right, other = np.broadcast_arrays(*(part == labels for part in predicted))
    constant = any(_one_class(run) for model in predicted for run in model)
    return {**asdict(compared), "disagreement": float(np.mean(right != other)), "one_class": constant}


def _correct(*tables: Sequence[Mapping[str, Any]]) -> int:
    """Give each difference its p value after Holm's correction for all of them, and return how many there are.

    M4SER against the baseline and the baseline against M4SER are one comparison.
    """
    pairs: dict[tuple[int, frozenset[str]], list[dict[str, Any]]] = {}
    for number, records in enumerate(tables):
        for record in records:
            for reference, compared in record["differences"].items():
                pairs.setdefault((number, frozenset((record["row"], reference))), []).append(compared)
    corrected = holm([same[0]["p_value"] for same in pairs.values()])
    for same, p_value in zip(pairs.values(), corrected, strict=True):
        for compared in same:
            compared["p_holm"] = p_value
    return len(pairs)


def _measure(row: TableRow, emotions: Sequence[str], metrics: Sequence[str], metric: str) -> dict[str, Any]:
    """A record without its comparisons."""
    tables = list(row.predictions.values())
    number: Any = {name: index for index, name in enumerate(emotions)}
    labels = tables[0]["emotion"].map(number).to_numpy()
    predicted = np.stack([table["predicted"].map(number).to_numpy() for table in tables])
    runs = [{"metrics": {"test": emotion_metrics(part, labels, emotions)}} for part in predicted]
    interval = bootstrap_interval(labels, predicted, metric, list(tables[0]["cluster"]))
    return {
        "row": row.name,
        "finished": row.finished,
        "planned": row.planned,
        "seeds": list(row.predictions),
        "utterances": len(labels),
        "metrics": summarize(runs, metrics),
        "interval": asdict(interval),
        "one_class_runs": dict(Counter(emotions[part[0]] for part in predicted if _one_class(part))),
    }


def _one_class(predicted: np.ndarray) -> bool:
    return bool((predicted == predicted[0]).all())


def _notes(records: Sequence[Mapping[str, Any]], metric: str, comparisons: int) -> list[str]:
    """How to read the table, and what it can resolve."""
    notes = [
        "Percentages. ± is the standard deviation (n − 1) over seeds; the folds of a seed are pooled. Differences are "
        f"points of {TITLES[metric]} with the paired p value, corrected by Holm's method for {comparisons} "
        "comparisons; bold: below 0.05."
    ]
    if flagged := [record for record in records if record["one_class_runs"]]:
        rows = (
            f"{record['row']} ({', '.join(record['one_class_runs'])}; {sum(record['one_class_runs'].values())} of "
            f"{len(record['seeds'])} runs)"
            for record in flagged
        )
        notes.append(f"† predicts one class only: {'; '.join(rows)}. No difference to it is in bold.")
    compared = [c for record in records for c in record["differences"].values()]
    if sizes := [
        c["minimum_detectable_difference"] for c in compared if c["minimum_detectable_difference"] is not None
    ]:
        size, disagreement = np.median(sizes), np.median([c["disagreement"] for c in compared])
        notes.append(
            f"These data find a difference of {format_percent(float(size))} points (median over the comparisons) with "
            f"a power of 80 %; one model alone is right in {format_percent(float(disagreement))} % of cases."
        )
    if any(record["paper"] for record in records):
        notes.append("The paper's numbers are those it prints (He et al. 2025); they were not measured here.")
    return notes


def _difference(compared: Mapping[str, Any] | None) -> str:
    """A difference in points with its p value, in bold where it stands after correction and both tell classes apart."""
    if compared is None:
        return ""
    p = compared["p_holm"]
    text = f"{100 * compared['estimate']:+.1f} ({format_p_value(p)})"
    return f"**{text}**" if p is not None and p < _LEVEL and not compared["one_class"] else text


def format_p_value(p: float | None) -> str:
    """Return a p value, with "n.s." where it is not significant, and alone where it says no more than that."""
    if p is None or p < 0.001:
        return "–" if p is None else "<0.001"
    return f"{p:.3f}" if p < _LEVEL else f"n.s., {p:.2f}" if p < 0.2 else "n.s."


def format_range(interval: Mapping[str, Any]) -> str:
    """Return the ends of an `Interval` in percent; a dash where it has none."""
    ends = interval["low"], interval["high"]
    return "–" if None in ends else " to ".join(map(format_percent, ends))


def format_percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.1f}"
