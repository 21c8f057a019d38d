"""A check: a number with its interval against a bound that was stated before. It passed, failed, or cannot be told.

It passed where the whole 95 % interval lies within the bound, and failed where all of it lies outside. Speakers are
drawn, see `trainer.evaluation.significance`; a number of one speaker is of the speaker's utterances.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from trainer.evaluation.significance import (
    MINIMUM_CLUSTERS,
    bootstrap_interval,
    effective_clusters,
    paired_bootstrap,
    variance_correction,
)

PASSED, FAILED, UNKNOWN = "passed", "failed", "cannot tell"
#: Condition ("" as it is) or baseline -> rows with what is answered to them, see `m4ser.card.answers`.
Answers = Mapping[str, pd.DataFrame]
_FEW = "too few speakers"


@dataclass(frozen=True)
class Measured:
    """A number of so many utterances with the ends of its interval; None where there are none, `note` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    utterances: int = 0
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """What shall be true: the number that `measure` finds lies between `least` and `most`, where these are given."""

    section: str
    name: str
    measure: Callable[[Answers], Measured]
    least: float | None = None
    most: float | None = None
    percent: bool = True

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.least is None or self.most is None:
            return f"≥ {self.write(self.least)}" if self.most is None else f"≤ {self.write(self.most)}"
        return f"{self.write(self.least)} to {self.write(self.most)}"

    def write(self, value: float | None) -> str:
        """Return a value as the page has it."""
        return "–" if value is None else f"{100 * value:.1f}" if self.percent else f"{value:.3g}"

    def verdict(self, found: Measured) -> str:
        """Return what the interval says of the bound."""
        if found.low is None or found.high is None:
            return UNKNOWN
        least, most = (-math.inf if self.least is None else self.least), (math.inf if self.most is None else self.most)
        if least <= found.low and found.high <= most:
            return PASSED
        return FAILED if found.high < least or found.low > most else UNKNOWN


def counted(value: float) -> Measured:
    """Return a number that is no sample of anything."""
    return Measured(value, value, value)


def metric(name: str, rows: pd.DataFrame, clusters: str | None = "speaker") -> Measured:
    """Return a metric of `emotion_metrics`; `clusters` names the column of what is drawn, None the utterances.

    Where no speaker has an error, or each has nothing else, the interval is the exact one of the utterances.
    """
    if rows.empty:
        return Measured(None, note="no utterance")
    names = None if clusters is None else list(rows[clusters])
    found = bootstrap_interval(rows["emotion"].to_numpy(str), rows["predicted"].to_numpy(str), name, names)
    if found.low is None and found.effective_clusters >= MINIMUM_CLUSTERS and found.estimate in (0, 1):
        ends = stats.binomtest(round(found.estimate * len(rows)), len(rows)).proportion_ci()
        return Measured(found.estimate, *ends, len(rows), (ends.high - ends.low) / 4, len(rows) - 1)
    return _measured(found, len(rows))


def share(rows: pd.DataFrame, true: Any, clusters: str | None = "speaker") -> Measured:
    """Return in how many of the rows something (a truth value for each) holds."""
    return metric("wa", rows.assign(emotion="yes", predicted=np.where(true, "yes", "no")), clusters)


def change(after: pd.DataFrame, before: pd.DataFrame, name: str) -> Measured:
    """Return how much a metric of the same utterances changes; it was paired by speaker."""
    if after.empty:
        return Measured(None, note="no utterance")
    labels = [part.to_numpy(str) for part in (after["emotion"], after["predicted"], before["predicted"])]
    if (labels[1] == labels[2]).all():  # it cannot be more than the share of labels that may change
        most = 1 - stats.binomtest(len(after), len(after)).proportion_ci().low
        return Measured(0.0, -most, most, len(after), note="all labels stay")
    found = paired_bootstrap(*labels, name, list(after["speaker"]))
    least = found.minimum_detectable_difference
    return _measured(
        found, len(after), least and f"p = {found.p_value:.2g}; of {100 * least:.0f} points it would be sure"
    )


def mean(rows: pd.DataFrame, values: pd.Series, clusters: str | None = "speaker") -> Measured:
    """Return the mean of a number for each row, by which speakers vary; rows without a number are left out."""
    numbers = values.astype(float).dropna()
    if numbers.empty:
        return Measured(None, note="no utterance")
    ids = numbers.index.to_series()
    names = ids if clusters is None else rows[clusters].loc[ids].fillna(ids)
    by_cluster, value = numbers.groupby(names.to_numpy()), float(numbers.mean())
    shares = by_cluster.size().to_numpy() / len(numbers)
    if (effective := effective_clusters(shares)) < MINIMUM_CLUSTERS:
        return Measured(value, utterances=len(numbers), note=_FEW)
    sums = by_cluster.sum() - value * by_cluster.size()
    error = math.sqrt(np.square(sums).sum() * variance_correction(shares)) / len(numbers)
    return _around(value, error, effective - 1, len(numbers))


def gap(first: Measured, second: Measured) -> Measured:
    """Return first minus second, of different rows, by Welch's rule."""
    if first.value is None or second.value is None:
        return Measured(None, note=first.note or second.note)
    value, size = first.value - second.value, first.utterances + second.utterances
    known = [(e.standard_error**2, e.degrees_of_freedom) for e in (first, second) if e.standard_error is not None]
    total = sum(variance for variance, _ in known)
    if len(known) < 2 or not total:
        return Measured(value, utterances=size, note=first.note or second.note or _FEW)
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in known if freedom)
    return _around(value, math.sqrt(total), freedom, size)


def _around(value: float, error: float, freedom: float, utterances: int) -> Measured:
    reach = float(stats.t.ppf(0.975, freedom)) * error
    return Measured(value, value - reach, value + reach, utterances, error, freedom)


def _measured(found: Any, utterances: int, note: str | None = "") -> Measured:
    if found.low is None:
        note = _FEW if found.effective_clusters < MINIMUM_CLUSTERS else "all speakers alike"
    return Measured(
        found.estimate, found.low, found.high, utterances, found.standard_error, found.degrees_of_freedom, note or ""
    )
