"""Detection and correction are measured as plain loops count them; a model that knows all errors leaves none."""

import math
import random

import pytest
import torch

from data_scripts.alignment import align_hypothesis
from modeling_m4ser import CHANGE, DELETE, KEEP
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.evaluation.correction import (
    correct_rows,
    describe_correction,
    detection_metrics,
    measure_correction,
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


def knowing(processor, rows, wrong=()):
    """A model whose heads are replaced by the true edits of `rows`, but for the hypotheses in `wrong`: all KEEP."""
    model = tiny_model("whisper")
    references = {
        tuple(processor.encode_transcript(row["hypothesis"])): row["transcript"]
        for row in rows
        if row["hypothesis"] and row["transcript"] and row["hypothesis"] not in wrong
    }
    correct = model.correct_transcripts

    def correct_transcripts(input_ids, text_attention_mask, **options):
        corrections = correct(input_ids, text_attention_mask, **options)
        for correction in corrections:
            pieces = correction.input_ids
            correction.labels, correction.targets = [KEEP] * len(pieces), {}
            correction.corrected_ids = pieces
            if reference := references.get(tuple(pieces)):
                alignment = align_hypothesis(pieces, processor.encode_transcript(reference))
                correction.labels, correction.targets = alignment.labels, alignment.targets
                correction.corrected_ids = processor.encode_transcript(reference)
        return corrections

    model.correct_transcripts = correct_transcripts
    return model


def test_a_model_that_knows_all_errors(processor):
    measured = measure_correction(knowing(processor, ROWS), processor, ROWS, group_column="source", batch_size=2)
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
    assert measured["wer_after"] == pytest.approx(4 / 14)
    assert measured["groups"] == {}
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


def test_no_speech_is_read(processor, monkeypatch):
    model = tiny_model("whisper")
    monkeypatch.setattr(model.m4ser.speech_encoder, "forward", None)
    monkeypatch.setattr(model.m4ser, "fusion", None)
    assert measure_correction(model, processor, ROWS)["utterances"] == 4


def test_without_error_detection(processor):
    model = tiny_model("whisper", use_error_detection=False)
    torch.nn.init.zeros_(model.corrector.output.weight)
    model.corrector.output.bias.data[3] = 1.0  # the end: every transcript is deleted
    measured = measure_correction(model, processor, ROWS)
    assert measured["detection"] is None
    assert measured["wer_after"] == 1.0


def test_without_any_row():
    assert describe_correction([]) == {
        **dict.fromkeys(("wer_before", "wer_after", "edit_rate", "changed", "detection")),
        **{"utterances": 0, "words": 0, "groups": {}},
    }


def test_detection_counts_as_a_plain_loop():
    dice = random.Random(0)
    labels = dice.choices((KEEP, DELETE, CHANGE), (8, 1, 2), k=300)
    predictions = [label if dice.random() < 0.7 else dice.randrange(3) for label in labels]
    found = detection_metrics(labels, predictions)
    f1s = []
    for label, name in enumerate(("keep", "delete", "change")):
        both = sum(a == b == label for a, b in zip(labels, predictions, strict=True))
        precision, recall = both / predictions.count(label), both / labels.count(label)
        f1s.append(2 * precision * recall / (precision + recall))
        assert found[name] == pytest.approx(
            {"precision": precision, "recall": recall, "f1": f1s[-1], "support": labels.count(label)}
        )
    assert found["macro_f1"] == pytest.approx(sum(f1s) / 3)


def test_a_class_that_is_not_there():
    found = detection_metrics([KEEP, KEEP, DELETE], [KEEP, CHANGE, KEEP])
    assert found["change"] == {"precision": 0.0, "recall": None, "f1": None, "support": 0}
    assert found["delete"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1}
    assert found["macro_f1"] == pytest.approx((2 * 0.5 * 0.5 / (0.5 + 0.5) + 0) / 2)


def levenshtein(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        last, row = row, [i]
        for j, b in enumerate(second, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
    return row[-1]


def test_word_errors_are_the_edit_distance():
    dice = random.Random(1)
    texts = [[" ".join(dice.choices("abc", k=dice.randrange(7))) for _ in range(60)] for _ in range(2)]
    expected = [levenshtein(r.split(), h.split()) for r, h in zip(*texts, strict=True)]
    assert word_errors(*texts).tolist() == expected
    assert math.fsum(expected) > 60
