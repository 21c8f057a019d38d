"""How well errors are corrected is logged after each evaluation, on a bounded number of rows with both texts."""

from itertools import pairwise

import pytest
from datasets import Dataset

from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import tiny_model
from trainer.callbacks.error_correction import MAX_UTTERANCES, ErrorCorrectionCallback
from trainer.evaluation.transcript_correction import measure_correction


def texts(size, missing=lambda index: False):
    human = [None if missing(index) else "x" for index in range(size)]
    return Dataset.from_dict({"hypothesis": list(map(str, range(size))), "transcript": human, "audio": [None] * size})


@pytest.mark.parametrize("size", [0, 1, MAX_UTTERANCES, MAX_UTTERANCES + 1, 1000])
def test_rows_are_evenly_spaced_and_few(size):
    rows = ErrorCorrectionCallback(texts(2 * size, missing=lambda index: index % 2), lambda *_: {}).rows
    numbers = [int(row["hypothesis"]) for row in rows]
    assert len(rows) == size if size <= MAX_UTTERANCES else MAX_UTTERANCES / 2 <= len(rows) <= MAX_UTTERANCES
    assert all(number % 2 == 0 for number in numbers), "a row without human text"
    steps = {second - first for first, second in pairwise(numbers)}
    assert len(steps) <= 1
    assert all(row.keys() == {"hypothesis", "transcript"} for row in rows)


def test_it_is_logged_after_each_evaluation(tmp_path):
    rows = tiny_corpus(8)
    trainer = tiny_trainer(
        tmp_path, tiny_model("whisper"), rows, eval_data=rows, eval_strategy="epoch", num_train_epochs=2
    )

    def measure(model, chosen):
        return measure_correction(model, trainer.processing_class, chosen)

    trainer.add_callback(ErrorCorrectionCallback(rows, measure))
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "eval_correction_wer" in entry]
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert entries[-1]["step"] == trainer.state.global_step
    measured = measure(trainer.model, rows.to_list())
    assert measured["wer_before"] != measured["wer_after"]
    assert entries[-1]["eval_transcript_wer"] == pytest.approx(measured["wer_before"])
    assert entries[-1]["eval_correction_wer"] == pytest.approx(measured["wer_after"])
    assert entries[-1]["eval_detection_f1"] == pytest.approx(measured["detection"]["macro_f1"])


@pytest.mark.parametrize("case", ["no human text", "no detection"])
def test_what_is_not_there_is_not_logged(tmp_path, case):
    rows = tiny_corpus(8, with_transcripts=case != "no human text")
    trainer = tiny_trainer(tmp_path, tiny_model("whisper"), rows, eval_data=rows)
    found = {"detection": None, "wer_before": 0.2, "wer_after": 0.1}
    trainer.add_callback(ErrorCorrectionCallback(rows, lambda model, chosen: found))
    trainer.evaluate()
    logged = {name for entry in trainer.state.log_history for name in entry if "wer" in name or "f1" in name}
    assert logged == (set() if case == "no human text" else {"eval_transcript_wer", "eval_correction_wer"})
