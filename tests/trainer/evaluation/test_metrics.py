"""Metrics against plain loops."""

import evaluate
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import EvalPrediction

from trainer.evaluation.metrics import EmotionMetrics, compute_emotion_metrics, emotion_metrics, metric_keys

FOUR = ["neutral", "happy", "sad", "angry"]
MELD = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]


def naive(predictions, references, number_of_classes):
    """Every metric by counting, one utterance at a time."""
    counts = [[0] * number_of_classes for _ in range(number_of_classes)]
    for predicted, true in zip(predictions, references, strict=True):
        counts[true][predicted] += 1
    total = len(references)
    recalls, f1s, supports = {}, {}, {}
    for k in range(number_of_classes):
        support, guessed, hit = sum(counts[k]), sum(row[k] for row in counts), counts[k][k]
        if support:
            recalls[k], f1s[k], supports[k] = hit / support, 2 * hit / (support + guessed), support
    return {
        "wa": sum(counts[k][k] for k in range(number_of_classes)) / total,
        "ua": sum(recalls.values()) / len(recalls),
        "macro_f1": sum(f1s.values()) / len(f1s),
        "weighted_f1": sum(f1s[k] * supports[k] for k in f1s) / total,
        "recalls": recalls,
        "f1s": f1s,
        "confusion_matrix": counts,
    }


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_any_predictions_against_loops(pairs):
    predictions, references = zip(*pairs, strict=True)
    results, expected = emotion_metrics(predictions, references, MELD), naive(predictions, references, 7)
    for key in ("wa", "ua", "macro_f1", "weighted_f1"):
        assert results[key] == pytest.approx(expected[key], abs=1e-12)
    for kind in ("recall", "f1"):
        found = {k: results[f"{kind}_{name}"] for k, name in enumerate(MELD) if f"{kind}_{name}" in results}
        assert found == pytest.approx(expected[f"{kind}s"], abs=1e-12)
    assert results["confusion_matrix"] == expected["confusion_matrix"]
    assert results["accuracy"] == results["wa"]


def test_metric_of_the_evaluate_library(repo_root, tmp_path):
    file = str(repo_root / "trainer" / "evaluation" / "metrics.py")
    for metric in (
        EmotionMetrics(label_names=FOUR, cache_dir=str(tmp_path / "a")),
        evaluate.load(file, label_names=FOUR, cache_dir=str(tmp_path / "b")),
    ):
        metric.add_batch(predictions=[0, 1], references=[0, 1])
        metric.add_batch(predictions=np.array([2, 0]), references=np.array([3, 0]))
        assert metric.compute() == emotion_metrics([0, 1, 2, 0], [0, 1, 3, 0], FOUR)
        # A second round starts empty; names given to compute() win.
        again = metric.compute(predictions=[1], references=[1], label_names=["calm", "tense"])
        assert again["f1_tense"] == 1.0
    with pytest.raises(ValueError, match="label_names"):
        EmotionMetrics(cache_dir=str(tmp_path / "c")).compute(predictions=[0], references=[0])


def test_trainer_function_gives_floats_only():
    logits = np.array([[2.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1], [5, 0, 0, 0]], dtype=np.float32)
    labels = np.array([0, 1, 2, 0])
    results = compute_emotion_metrics(FOUR)(EvalPrediction(predictions=logits, label_ids=labels))
    assert results["wa"] == 0.75
    assert results["ua"] == pytest.approx(2 / 3)
    assert all(type(value) is float and np.isfinite(value) for value in results.values())
    assert "confusion_matrix" not in results
    # Several tensors from the model or several labels: the first of each.
    several = EvalPrediction(predictions=(logits, np.zeros((4, 9))), label_ids=(labels, np.zeros((4, 3))))
    assert compute_emotion_metrics(FOUR)(several) == results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trainer_function_by_batches(dtype):
    """The last batch gives the metrics of all, and the next evaluation starts over."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(10, 4)), rng.integers(0, 4, size=10)
    compute = compute_emotion_metrics(FOUR)
    for size in (6, 10):
        expected = compute_emotion_metrics(FOUR)(EvalPrediction(predictions=logits[:size], label_ids=labels[:size]))
        given = []
        for start in range(0, size, 4):
            part = slice(start, min(start + 4, size))
            batch = EvalPrediction(torch.tensor(logits[part], dtype=dtype), torch.tensor(labels[part]))
            given.append(compute(batch, compute_result=start + 4 >= size))
        assert given == [{}] * (len(given) - 1) + [expected]
    compute(EvalPrediction(predictions=logits, label_ids=labels), compute_result=False)
    compute.reset()
    assert compute(EvalPrediction(predictions=logits, label_ids=labels), compute_result=True) == expected
    assert compute.label_names == list(FOUR)


def test_trainer_function_refuses_wrong_logits():
    compute = compute_emotion_metrics(FOUR)
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        compute(EvalPrediction(predictions=np.zeros((2, 3)), label_ids=np.zeros(2, dtype=int)))
    with pytest.raises(ValueError, match="NaN"):
        compute(EvalPrediction(predictions=np.full((2, 4), np.nan), label_ids=np.zeros(2, dtype=int)))


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "non-empty"),
        ([0, 1], [0], "2 predictions for 1 references"),
        ([0, 4], [0, 1], "predictions holds 4"),
        ([0, 1], [0, -100], "references holds -100"),
        ([0.5], [0], "integers"),
    ],
)
def test_bad_input(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        emotion_metrics(predictions, references, FOUR)


def test_names_of_any_kind():
    names = ["very happy", "happy/excited", "悲しい", "mid-low"]
    assert metric_keys(names) == ["very_happy", "happy_excited", "悲しい", "mid-low"]
    names = ["very happy", "very_happy", "very_happy_0", "悲しい", "😀", "ok"]
    keys = metric_keys(names)
    assert keys == ["very_happy_0", "very_happy_1", "very_happy_0_2", "悲しい_3", "4", "ok_5"]
    results = emotion_metrics(range(6), range(6), names)
    assert [results[f"f1_{key}"] for key in keys] == [1.0] * 6
    with pytest.raises(ValueError, match="twice"):
        compute_emotion_metrics(["sad", "sad"])
    with pytest.raises(ValueError, match="empty"):
        metric_keys([])
