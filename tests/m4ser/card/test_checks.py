"""Verdicts follow intervals, and the intervals hold what they promise."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from m4ser.card.checks import FAILED, PASSED, UNKNOWN, Check, Measured, change, counted, gap, mean, metric, share


def rows(right, speakers=8):
    """Rows of which some are right, spread over speakers."""
    right = np.asarray(right)
    frame = pd.DataFrame({"emotion": "sad", "predicted": np.where(right, "sad", "happy")})
    return frame.assign(speaker=[f"s{row % speakers}" for row in range(len(right))])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.5, 0.9, PASSED), (0.1, 0.3, FAILED), (0.4, 0.6, UNKNOWN), (None, None, UNKNOWN), (0.5, 0.5, PASSED)],
)
def test_a_verdict_needs_the_whole_interval(low, high, verdict):
    check = Check("right", "WA", lambda _: counted(0), least=0.5)
    assert check.verdict(Measured(0.5, low, high)) == verdict
    assert check.bound == "≥ 50.0"


def test_two_sided_bounds():
    check = Check("right", "gap", lambda _: counted(0), -0.1, 0.1)
    found = [check.verdict(Measured(0, *ends)) for ends in ((-0.05, 0.05), (0.2, 0.3), (-0.3, -0.2), (-0.2, 0.2))]
    assert found == [PASSED, FAILED, FAILED, UNKNOWN]
    assert check.bound == "-10.0 to 10.0"


def test_few_speakers_give_no_interval():
    assert metric("wa", rows([1, 0, 1, 1], 2)).low is None
    assert mean(*(lambda some: (some, pd.Series([1.0, 2, 3, 4])))(rows([1, 0, 1, 1], 2))).low is None
    assert metric("wa", rows([1, 0, 1, 1] * 5, 2), clusters=None).low > 0.4


def test_all_right_is_bounded_by_the_number_of_utterances():
    few, many = metric("wa", rows([1] * 20)), metric("wa", rows([1] * 200))
    assert few.value == many.value == 1
    assert few.low == pytest.approx(0.025 ** (1 / 20))
    assert many.low > 0.98
    unchanged = change(rows([1] * 20), rows([1] * 20), "wa")
    assert unchanged.value == 0
    assert unchanged.high == pytest.approx(1 - few.low)


def test_a_gap_of_two_numbers_without_spread_has_no_interval():
    alike = [mean(rows([1] * 16), pd.Series([size] * 16)) for size in (0.3, 0.1)]
    found = gap(*alike)
    assert found.value == pytest.approx(0.2)
    assert found.low is None


def test_a_gap_is_welch_s():
    first, second = np.random.default_rng(0).normal(size=8), 3 * np.random.default_rng(1).normal(size=5)
    measured = [
        Measured(some.mean(), standard_error=stats.sem(some), degrees_of_freedom=len(some) - 1)
        for some in (first, second)
    ]
    found, wanted = gap(*measured), stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_change_is_paired_and_mean_is_a_mean():
    after, before = rows([1, 1, 0, 0] * 20), rows([1, 1, 1, 0] * 20)
    lost = change(after, before, "wa")
    assert lost.value == pytest.approx(-0.25)
    assert lost.low < -0.25 < lost.high
    found = mean(before, pd.Series([0.1, 0.2, np.nan, 0.3] * 20))
    assert found.value == pytest.approx(0.2)
    assert found.utterances == 60


def test_intervals_of_means_and_gaps_hold_the_truth():
    generator, held = np.random.default_rng(0), {"mean": 0, "gap": 0}
    for _ in range(40):
        frame = rows([1] * 60, 6)
        by_speaker = dict(zip(frame["speaker"].unique(), generator.normal(size=6), strict=True))
        numbers = frame["speaker"].map(by_speaker) + generator.normal(size=60)
        held["mean"] += mean(frame, numbers).low <= 0 <= mean(frame, numbers).high
        first, second = rows(generator.random(80) < 0.7, 20), rows(generator.random(60) < 0.6, 15)
        found = gap(*(share(part, part["predicted"] == "sad") for part in (first, second)))
        held["gap"] += found.low <= 0.1 <= found.high
    assert all(count >= 36 for count in held.values()), held
