"""Detection and correction are measured as plain loops count them; a model that knows all errors leaves none."""

import random

import jiwer
import numpy as np
import pytest
import torch

from data_scripts.alignment import align_hypothesis
from modeling_m4ser import CHANGE, DELETE, KEEP, apply_edits
from modeling_m4ser.correction_m4ser import TranscriptCorrection
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.evaluation.transcript_correction import (
    CorrectedUtterance,
    choose_threshold,
    correct_rows,
    correction_for_log,
    detection_metrics,
    measure_correction,
    wer_change_interval,
    word_errors,
)

ROWS = [
    {"hypothesis": "I am happy!", "transcript": "i am so happy", "source": "a"},
    {"hypothesis": "we go home now", "transcript": "We go home, now", "source": "b"},
    {"hypothesis": "can the sad", "transcript": "not the sad home", "source": "a"},
    {"hypothesis": "", "transcript": "you believe", "source": "b"},
    {"hypothesis": None, "transcript": "you believe", "source": "b"},
    {"hypothesis": "you believe", "transcript": None, "source": "b"},
    {"hypothesis": "you", "transcript": "[laughter]", "source": "b"},
]


@pytest.fixture
def processor(tmp_path):
    return tiny_processor(tmp_path, "whisper")


def knowing(processor, rows, wrong=(), confidence=0.5):
    """A model whose heads are replaced by the true edits of `rows`, but for the hypotheses in `wrong`: all KEEP."""
    model = tiny_model("whisper")
    references = {
        tuple(processor.encode_transcript(row["hypothesis"])): row["transcript"]
        for row in rows
        if row["hypothesis"] and row["transcript"] and row["hypothesis"] not in wrong
    }
    correct = model.correct_transcripts

    def correct_transcripts(input_ids, text_attention_mask, **options):
        corrections = []
        for found in correct(input_ids, text_attention_mask, **options):
            pieces, labels, targets = found.input_ids, [KEEP] * len(found.input_ids), {}
            if reference := references.get(tuple(pieces)):
                alignment = align_hypothesis(pieces, processor.encode_transcript(reference))
                labels, targets = alignment.labels, alignment.targets
            sure = {place: confidence for place, label in enumerate(labels) if label != KEEP}
            corrected = apply_edits(pieces, labels, targets)
            corrections.append(TranscriptCorrection(pieces, labels, targets, corrected, sure))
        return corrections

    model.correct_transcripts = correct_transcripts
    return model


def test_a_model_that_knows_all_errors(processor, monkeypatch):
    """No speech is read for it."""
    model = knowing(processor, ROWS)
    monkeypatch.setattr(model.m4ser.speech_encoder, "forward", None)
    monkeypatch.setattr(model.m4ser, "fusion", None)
    measured = measure_correction(model, processor, ROWS, group_column="source", batch_size=2)
    # Counted by hand: "so" is missing; "not the sad home" against "can the sad" has two errors; two words are missing.
    assert (measured["utterances"], measured["words"]) == (4, 14)
    assert measured["wer_before"] == pytest.approx(5 / 14)
    assert measured["wer_after"] == pytest.approx(2 / 14), "nothing can be put where nothing was heard"
    assert measured["edit_rate"] == pytest.approx(3 / 10)
    assert measured["changed"] == pytest.approx(2 / 4)
    assert measured["detection"]["macro_f1"] == 1.0
    assert measured["groups"].keys() == {"a", "b"}
    a, b = measured["groups"]["a"], measured["groups"]["b"]
    assert (a["wer_before"], a["wer_after"], a["edit_rate"]) == pytest.approx((3 / 8, 0, 3 / 6))
    assert (b["wer_before"], b["wer_after"], b["edit_rate"]) == pytest.approx((2 / 6, 2 / 6, 0))
    assert b["detection"]["change"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert b["detection"]["keep"]["support"] == 4
    assert "groups" not in a


def test_a_model_that_misses_some(processor):
    model = knowing(processor, ROWS, wrong=("can the sad",))
    measured = measure_correction(model, processor, ROWS)
    assert (measured["wer_before"], measured["wer_after"]) == pytest.approx((5 / 14, 4 / 14))
    assert measured["groups"] == {}
    logged = correction_for_log(model, processor, ROWS)
    assert list(logged.values()) == [measured["detection"]["macro_f1"], measured["wer_before"], measured["wer_after"]]
    # "can the sad" -> "not the sad home": one wrong piece and one insertion are two places to change.
    detection = measured["detection"]
    assert detection["change"]["support"] == 3
    assert detection["change"]["recall"] == pytest.approx(1 / 3)
    assert detection["change"]["precision"] == 1.0
    assert detection["keep"]["precision"] == pytest.approx(7 / 9)


def test_labels_are_those_of_training(processor):
    rows = tiny_corpus(12).to_list()
    labels = M4SERDataCollator(processor, tiny_config("whisper"))(rows)["detection_labels"]
    utterances = correct_rows(tiny_model("whisper"), processor, rows, batch_size=5)
    for utterance, row in zip(utterances, labels.tolist(), strict=True):
        assert utterance.labels == [label for label in row if label != -100]
        assert len(utterance.correction.labels) == len(utterance.labels)


def test_without_error_detection_or_any_row(processor):
    model = tiny_model("whisper", use_error_detection=False)
    torch.nn.init.zeros_(model.corrector.output.weight)
    model.corrector.output.bias.data[3] = 1.0  # the end: every transcript is deleted
    measured = measure_correction(model, processor, ROWS)
    assert measured["detection"] is correction_for_log(model, processor, ROWS)["eval_detection_f1"] is None
    assert measured["wer_after"] == 1.0
    nothing = measure_correction(model, processor, [])
    assert {name for name, value in nothing.items() if value is None} >= {"wer_before", "wer_change", "edit_rate"}
    assert (nothing["utterances"], nothing["words"], nothing["groups"]) == (0, 0, {})


def test_a_class_that_is_not_there_is_left_out_of_the_mean():
    found = detection_metrics([KEEP, KEEP, DELETE], [KEEP, CHANGE, KEEP])
    assert found["change"] == {"precision": 0.0, "recall": None, "f1": None, "support": 0}
    assert found["delete"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1}
    assert found["macro_f1"] == pytest.approx((1 / 2 + 0) / 2)


def test_word_errors_are_those_of_jiwer():
    rng = random.Random(1)
    references, hypotheses = ([" ".join(rng.choices("abc", k=rng.randrange(7))) for _ in range(60)] for _ in range(2))
    counted = [jiwer.process_words(*pair) for pair in zip(references, hypotheses, strict=True)]
    expected = [each.substitutions + each.deletions + each.insertions for each in counted]
    assert word_errors(references, hypotheses).tolist() == expected
    assert sum(expected) > 60


def test_the_model_s_own_threshold_counts(processor):
    model = knowing(processor, ROWS, confidence=0.5)
    for threshold, by_argument, expected in ((0.5, None, 2), (0.51, None, 5), (0.51, 0.4, 2), (0.2, 1.0, 5)):
        model.config.correction_threshold = threshold
        measured = measure_correction(model, processor, ROWS, threshold=by_argument)
        assert measured["wer_after"] == pytest.approx(expected / 14)
        assert measured["detection"]["macro_f1"] == 1.0, "detection is of all edits"


def utterance(processor, hypothesis, reference, corrected, confidence, group):
    """Each hypothesis is one word."""
    (piece,), new = processor.encode_transcript(hypothesis), processor.encode_transcript(corrected)
    correction = TranscriptCorrection([piece], [CHANGE], {0: new}, new, {0: confidence})
    return CorrectedUtterance(hypothesis, reference, correction, [KEEP], group)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        # (confidence, right or wrong, group)
        ([(0.9, True, "a"), (0.5, True, "a"), (0.3, False, "a")], 0.5),
        ([(0.9, False, "a"), (0.5, True, "a"), (0.3, True, "a")], 0.3),
        ([(0.9, False, "a"), (0.5, True, "a"), (0.3, False, "a")], 1.0),
        ([(0.9, True, "a"), (0.5, True, "a"), (0.4, True, "a"), (0.4, True, "a"), (0.45, False, "b")], 0.5),
        ([(0.97, True, "a"), (0.1, False, "a")], 0.97),
        ([(0.99, False, "a")], 1.0),
    ],
)
def test_the_threshold_of_the_fewest_errors_that_no_group_pays_for(processor, edits, expected):
    texts = {True: ("sad", "happy", "happy"), False: ("happy", "happy", "sad")}
    utterances = [utterance(processor, *texts[right], sure, group) for sure, right, group in edits]
    assert choose_threshold(utterances, processor) == expected


def test_the_interval_holds_what_is_drawn():
    rng = np.random.default_rng(0)
    words, before = rng.integers(1, 20, 400), rng.integers(0, 4, 400)
    after = before - (rng.random(400) < 0.2)
    found = wer_change_interval(before, after, words)
    assert found["estimate"] == pytest.approx((after - before).sum() / words.sum())
    assert found["low"] < found["estimate"] < found["high"] < 0
    # The delta method's standard error of a ratio of sums.
    rest = (after - before) - found["estimate"] * words
    assert (found["high"] - found["low"]) / 3.92 == pytest.approx(rest.std() / words.mean() / 20, rel=0.1)
    assert wer_change_interval(before, before, words) == {"estimate": 0, "low": 0, "high": 0}
