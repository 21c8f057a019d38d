"""Thresholds by hand, and that they keep what they state on other draws of the same world."""

import numpy as np
import pytest
import torch

from modeling_m4ser.decisions_m4ser import decide
from modeling_m4ser.sound_m4ser import SOUND_SIZE as SIZE
from tests.helpers.tiny import tiny_model
from trainer.evaluation.calibration import calibrated_probabilities
from trainer.evaluation.decisions import (
    conformal_quantile,
    coverage_threshold,
    describe_decisions,
    fit_decisions,
    fit_domain,
    flagging_threshold,
    risk_coverage,
)


def draw(size, seed, classes=4, sharpness=2.0):
    """Logits of a model that is too sure by a factor of `sharpness`, features of mixed dimensions, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(size, classes))
    labels = (rng.random((size, 1)) > calibrated_probabilities(logits).cumsum(-1)).sum(-1)
    mixing = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    return sharpness * logits, (rng.normal(size=(size, SIZE)) @ mixing + 3).astype(np.float32), labels


def test_thresholds_by_hand():
    confidence = [0.9, 0.5, 0.7, 0.6, 0.8]
    assert coverage_threshold(confidence, 0.8) == 0.6
    assert coverage_threshold(confidence, 0.81) == coverage_threshold(confidence, 1.0) == 0.5
    assert coverage_threshold(confidence, 0.01) == 0.9
    # ⌈(9 + 1) × 0.9⌉ = 9: the largest of nine; of eight, every label.
    scores = np.arange(9) / 10
    probabilities = np.stack([1 - scores, scores], -1)
    assert conformal_quantile(probabilities, [0] * 9, 0.9) == pytest.approx(0.8)
    assert conformal_quantile(probabilities, [0] * 9, 0.5) == pytest.approx(0.4)
    assert conformal_quantile(probabilities[:8], [0] * 8, 0.9) == 1.0
    # At most 2 % above: none of 49, one of 50.
    assert flagging_threshold(np.arange(49.0)) == 48
    assert flagging_threshold(np.arange(50.0)) == 48


def test_the_quantile_is_mapie_s():
    mapie = pytest.importorskip("mapie.classification", reason="mapie is not installed")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    inputs = rng.normal(size=(400, 3)) + np.eye(3)[labels]
    model = LogisticRegression().fit(inputs[:100], labels[:100])
    other = mapie.SplitConformalClassifier(model, confidence_level=0.9, conformity_score="lac", prefit=True)
    other.conformalize(inputs[100:200], labels[100:200])
    quantile = conformal_quantile(model.predict_proba(inputs[100:200]), labels[100:200], 0.9)
    ours = 1 - model.predict_proba(inputs[200:]) <= quantile
    assert (ours == other.predict_set(inputs[200:])[1][:, :, 0]).all()


def test_the_domain_is_whitened_and_survives_few_clips_and_constant_features():
    rng = np.random.default_rng(1)
    scales = np.geomspace(1, 1e4, SIZE)  # as those of a pretrained encoder's dimensions differ
    features = (rng.normal(size=(2000, SIZE)) * scales + 3).astype(np.float32)
    features[:, 1] += features[:, 0]
    distance = fit_domain(features)
    scores = distance(features)
    assert np.square(scores).mean() == pytest.approx(1, abs=0.05)
    # A step in one small dimension; one in two that always rise together.
    steps = np.zeros((2, SIZE), np.float32)
    steps[0, 2], steps[1, :2] = 12 * scales[2], (-6, 6)
    for step in steps:
        assert distance(features[:50] + step).min() > np.quantile(scores, 0.98)
    for few in (features[:5], np.ones((8, SIZE), np.float32)):
        assert np.isfinite(fit_domain(few)(features)).all()


def test_what_is_fitted_holds_on_other_draws():
    model = tiny_model("whisper")
    fit_decisions(model, draw(1000, 1)[1], *draw(2000, 2), coverage=0.7, set_coverage=0.85)
    assert model.config.calibration_temperature == pytest.approx(2, rel=0.1)
    logits, features, labels = draw(1500, 3)
    found = describe_decisions(model, logits, features, labels)
    test = found.pop("test")
    assert found == {name: getattr(model.config, name) for name in found}
    assert test["flagged"] == pytest.approx(0.02, abs=0.01)
    assert test["coverage"] == pytest.approx(0.7 * 0.98, abs=0.03)
    assert test["set_coverage"] == pytest.approx(0.85, abs=0.02)
    assert test["accuracy"] > (logits.argmax(-1) == labels).mean() + 0.05
    # What the tables say is what the pipeline says.
    model.config.ood_threshold = 0.0
    assert describe_decisions(model, logits, features, labels)["test"] | {"flagged": 1.0} == {
        **test,
        "coverage": 0.0,
        "accuracy": None,
        "flagged": 1.0,
    }
    row = torch.from_numpy(calibrated_probabilities(logits[0], 2.0))
    assert decide(model.config, row, 0.1)["decision"] == "uncertain"


def test_risk_and_coverage_by_hand():
    probabilities = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    curve = risk_coverage(probabilities, [0, 1, 0])
    np.testing.assert_allclose(curve, [[1 / 3, 1], [2 / 3, 1 / 2], [1, 2 / 3]])
