"""Calibration: known errors, a known temperature found again, and what cannot be fitted."""

import numpy as np
import pytest

from trainer.evaluation import calibration
from trainer.evaluation.calibration import (
    TEMPERATURE_RANGE,
    calibrated_probabilities,
    describe_calibration,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
)


def confident(confidence):
    """Probabilities of class 0 as given, the rest for class 1."""
    first = np.asarray(confidence, dtype=float)
    return np.stack([first, 1 - first], axis=-1)


@pytest.fixture
def world():
    """Logits of 40,000 utterances whose labels are drawn from their softmax: calibrated at temperature 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(40_000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return logits, (rng.random((len(logits), 1)) > chances.cumsum(-1)).sum(-1)


def test_ece_by_hand():
    # Bin (0.8, 0.9]: confidence 0.85, accuracy 3/4. Bin (0.9, 1]: 0.95, 1/1. (4 × 0.1 + 1 × 0.05) / 5.
    probabilities = confident([0.84, 0.86, 0.84, 0.86, 0.95])
    labels = [0, 0, 0, 1, 0]
    assert reliability_curve(probabilities, labels, bins=10).error == pytest.approx(0.09)
    # All in one bin: |0.87 − 0.8|.
    assert reliability_curve(probabilities, labels, bins=1).error == pytest.approx(0.07)
    # The most probable class is what counts.
    assert reliability_curve(confident([0.1, 0.1]), [1, 1]).error == pytest.approx(0.1)
    assert reliability_curve(confident([0.1, 0.1]), [0, 0]).error == pytest.approx(0.9)


def test_reliability_curve_by_hand():
    curve = reliability_curve(confident([0.6, 0.58, 0.7, 1.0]), [0, 1, 0, 0], bins=10)
    # 0.6 ends the bin (0.5, 0.6], as 0.7 ends its own; 1.0 ends the last.
    assert curve.utterances.tolist() == [0, 0, 0, 0, 0, 2, 1, 0, 0, 1]
    np.testing.assert_allclose(curve.confidence[[5, 6, 9]], [0.59, 0.7, 1.0])
    np.testing.assert_allclose(curve.accuracy[[5, 6, 9]], [0.5, 1.0, 1.0])
    assert np.isnan(curve.accuracy[[0, 8]]).all()
    # Rounding errors have a bin.
    assert reliability_curve([[1 + 1e-15, 0.0], [1.0, 0.0]], [0, 0]).utterances.tolist() == [0] * 14 + [2]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_logits_is_found(world, temperature):
    logits, labels = world
    spoiled = temperature * logits
    assert fit_temperature(spoiled, labels) == pytest.approx(temperature, rel=0.03)
    described = describe_calibration(spoiled, labels, temperature)
    assert described["ece"]["after"] < 0.01
    assert described["nll"]["after"] == pytest.approx(negative_log_likelihood(logits, labels))
    if temperature != 1:
        assert described["ece"]["before"] > 0.05
        assert described["nll"]["before"] > described["nll"]["after"]
    else:
        assert described["ece"]["before"] == described["ece"]["after"]


def test_the_fit_is_the_best_of_all_temperatures():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    logits[np.arange(60), labels] += 0.5
    best = fit_temperature(logits, labels)
    reached = negative_log_likelihood(logits, labels, best)
    assert all(negative_log_likelihood(logits, labels, t) >= reached - 1e-9 for t in np.geomspace(0.1, 10, 200))
    assert fit_temperature(logits, labels) == best


def test_likelihood_by_hand():
    assert negative_log_likelihood([[0.0, np.log(3)]], [1]) == pytest.approx(-np.log(0.75))
    assert negative_log_likelihood([[0.0, 2 * np.log(3)]], [0], temperature=2) == pytest.approx(-np.log(0.25))
    np.testing.assert_allclose(calibrated_probabilities([[0.0, 2 * np.log(3)]], 2.0), [[0.25, 0.75]])
    # Large logits do not overflow.
    assert negative_log_likelihood([[1000.0, 0.0]], [1]) == pytest.approx(1000)
    np.testing.assert_allclose(calibrated_probabilities([[1000.0, 0.0]]), [[1.0, 0.0]])


def test_nothing_wrong_says_nothing_of_the_temperature(monkeypatch):
    warnings = []
    monkeypatch.setattr(calibration.logger, "warning", warnings.append)
    logits = 0.1 * np.eye(3)
    assert fit_temperature(logits, [0, 1, 2]) == 1.0
    assert not warnings
    assert fit_temperature(logits, [0, 1, 1]) != 1.0
    # Always sure and always wrong: the flatter, the likelier, up to the end of the range.
    assert fit_temperature([[5.0, 0.0]] * 4, [1] * 4) == pytest.approx(TEMPERATURE_RANGE[1], rel=1e-4)
    assert "ends at its bound" in warnings[-1]


@pytest.mark.parametrize(
    ("logits", "labels", "named"),
    [
        ([[np.nan, 0.0]], [0], "NaN"),
        ([[0.0, 1.0]], [2], "between 0 and 1"),
        ([[0.0, 1.0]], [-100], "between 0 and 1"),
        ([0.0, 1.0], [0, 1], "shapes"),
        ([[0.0, 1.0]], [0, 1], "shapes"),
        (np.zeros((0, 2)), [], "shapes"),
    ],
)
def test_bad_input_is_named(logits, labels, named):
    for function in (fit_temperature, negative_log_likelihood, reliability_curve):
        with pytest.raises(ValueError, match=named):
            function(logits, labels)
