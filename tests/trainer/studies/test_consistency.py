"""DTW against a plain loop, and the table of Table VII."""

import math
import sys

import numpy as np
import pytest
from scipy import stats

from trainer.errors import ExperimentError
from trainer.studies.consistency import (
    SPACES,
    consistency_table,
    dtw_distance,
    mean_interval,
    speech_text_distances,
)
from trainer.studies.representations import UtteranceWeights, scaled

DICE = np.random.default_rng(0)


def warped(first, second):
    """The least sum of squares over all paths, and the lengths that a path with this sum may have."""
    costs = {(-1, -1): (0.0, {0})}
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            before = [costs[place] for place in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if place in costs]
            least = min(cost for cost, _ in before)
            steps = {step + 1 for cost, lengths in before if math.isclose(cost, least) for step in lengths}
            costs[i, j] = least + (a - b) ** 2, steps
        costs.pop((-1, -1), None)
    return costs[len(first) - 1, len(second) - 1]


@pytest.mark.parametrize("lengths", [(1, 1), (1, 7), (9, 4), (12, 30)])
def test_the_distance_is_that_of_a_plain_loop(lengths):
    pytest.importorskip("dtaidistance", reason="the extra `analysis` is not installed")
    first, second = (DICE.normal(size=length) for length in lengths)
    squares, steps = warped(scaled(first), scaled(second))
    assert any(dtw_distance(first, second) == pytest.approx(math.sqrt(squares / step)) for step in steps)


def test_tempo_and_scale_do_not_count_and_shape_does():
    pytest.importorskip("dtaidistance", reason="the extra `analysis` is not installed")
    first = DICE.normal(size=20)
    assert dtw_distance(first, np.repeat(7 * first + 3, 3)) == pytest.approx(0, abs=1e-7)
    assert dtw_distance(first, -first) > 0.05
    assert dtw_distance(first, DICE.normal(size=33)) <= 1


def test_the_special_tokens_do_not_count():
    pytest.importorskip("dtaidistance", reason="the extra `analysis` is not installed")
    words, frames = DICE.normal(size=6), DICE.normal(size=30)
    weights = UtteranceWeights(np.repeat(words, 4), np.array([99.0, *words, -99.0]), frames, -frames, 0)
    found = speech_text_distances(weights)
    assert set(found) == set(SPACES)
    assert found["encoders, H"] == pytest.approx(0, abs=1e-7)
    assert found["cross-modal, H^(spe)"] == dtw_distance(frames, -frames) > 0


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "dtaidistance", None)
    with pytest.raises(ExperimentError, match=r"dtaidistance: pip install .*analysis"):
        dtw_distance(np.ones(3), np.ones(3))


def test_intervals_are_students():
    values = DICE.normal(size=12)
    mean, low, high = mean_interval(values)
    reach = stats.t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - reach, values.mean() + reach))
    assert mean_interval([0.5]) == (0.5, None, None)
    assert mean_interval([0.5, 0.5]) == (0.5, None, None)


def test_the_difference_is_paired():
    """The texts differ by as much in every utterance, however much the utterances differ."""
    written = DICE.uniform(size=8)
    distances = {
        name: [dict.fromkeys(SPACES, value + extra) for value in written]
        for name, extra in (("hypothesis", 0.1), ("transcript", 0.0))
    }
    lines = consistency_table({"M4SER": distances}).splitlines()
    assert len(lines) == 2 + len(SPACES)
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:3] == ["M4SER", "cross-modal, H^(spe)", "8"]
    assert cells[3].startswith(f"{written.mean() + 0.1:.3f} [")
    assert cells[5] in ("+0.100", "+0.100 [+0.100, +0.100]")
