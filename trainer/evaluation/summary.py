"""Several runs' metrics as one: mean and standard deviation, pooled predictions; as one line or a Markdown table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.evaluation.significance import METRICS

SUMMARY_METRICS = ("wa", "ua", "weighted_f1", "macro_f1")


def summarize(runs: Sequence[Mapping[str, Any]], keys: Sequence[str] = SUMMARY_METRICS) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (n − 1) of the runs' test metrics, as shares in [0, 1]."""
    summary = {}
    for key in keys:
        values = [run["metrics"]["test"][key] for run in runs]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        summary[key] = {"mean": float(np.mean(values)), "std": deviation, "values": values}
    return summary


def pool(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """WA and UA of all runs' test predictions together, from their confusion matrices."""
    matrix = np.sum([run["metrics"]["test"]["confusion_matrix"] for run in runs], axis=0)
    return {key: float(METRICS[key](matrix)) for key in ("wa", "ua")}


def format_row(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """`summarize` on one line, in percent."""
    cells = []
    for key, value in summary.items():
        spread = "" if value["std"] is None else f" ± {100 * value['std']:.1f}"
        cells.append(f"{key} {100 * value['mean']:.1f}{spread}")
    return "  ".join(cells)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], align: str = "") -> str:
    """Return a Markdown table, without a newline at its end.

    Args:
        header: titles of the columns.
        rows: their cells; None is an empty one, a float is written with six digits at most.
        align: `l`, `r` or `c` for each column; as the reader likes by default.

    Raises:
        ValueError: a row with another number of cells than the header.
    """
    rules = {"l": ":---", "r": "---:", "c": ":---:", "": "---"}
    lines = [header, [rules[side] for side in align or [""] * len(header)], *rows]
    if wrong := [line for line in lines if len(line) != len(header)]:
        raise ValueError(f"a table of {len(header)} columns has a line of {len(wrong[0])}: {list(wrong[0])}")
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("|", r"\|").replace("\n", " ")
