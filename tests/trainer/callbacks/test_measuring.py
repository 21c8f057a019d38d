"""What is measured after each evaluation: on a bounded number of rows, with padding left out, into the log."""

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from data_scripts.splits import evenly_spaced
from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.callbacks.measuring import MAX_UTTERANCES, MeasuringCallback, measure_discriminator


@pytest.fixture
def collator(tmp_path):
    return M4SERDataCollator(tiny_processor(tmp_path, "whisper"), tiny_config("whisper"))


def test_rows_are_evenly_spaced_and_few():
    rows = MeasuringCallback(
        "mine", Dataset.from_dict({"row": range(1000)}), lambda *_: {}, Accelerator(cpu=True)
    ).rows["row"][:]
    assert rows == list(evenly_spaced(1000, MAX_UTTERANCES))


def test_what_is_known_is_logged_after_each_evaluation(tmp_path):
    rows, seen = tiny_corpus(8), []
    trainer = tiny_trainer(
        tmp_path, tiny_model("whisper"), rows, eval_data=rows, eval_strategy="epoch", num_train_epochs=2
    )

    def measure(model, chosen):
        seen.append((model, list(chosen)))
        return {"mine": 0.5, "unknown": None}

    trainer.add_callback(MeasuringCallback("mine", rows, measure, trainer.accelerator))
    trainer.add_callback(
        MeasuringCallback("nothing", rows.select([]), lambda *_: {"nothing": 1.0}, trainer.accelerator)
    )
    trainer.train()
    assert [entry for entry in trainer.state.log_history if {"mine", "unknown", "nothing"} & set(entry)] == [
        {"epoch": epoch, "step": epoch, "mine": 0.5} for epoch in (1, 2)
    ]
    assert seen == [(trainer.model, list(rows))] * 2


def test_shares_of_valid_frames(collator):
    model, rows = tiny_model("whisper"), tiny_corpus(6).to_list()
    with torch.no_grad():
        model.discriminator.output.bias.fill_(0.01)
    measured = measure_discriminator(model.train(), [collator(rows[:4]), collator(rows[4:])])
    assert model.training
    # Each utterance alone, frame by frame.
    model.eval()
    taken, frames = torch.zeros(3), 0
    for row in rows:
        with torch.no_grad():
            output = model(**{k: v for k, v in collator([row]).items() if "label" not in k})
            features = torch.cat([output.speech_specific, output.text_specific, output.invariant])
            taken += (model.discriminator(features) > 0).sum(1)
            frames += features.shape[1]
    speech, text, invariant = (taken / frames).tolist()
    assert list(measured.values()) == pytest.approx([speech, 1 - text, invariant], abs=1e-6)
    assert len({round(value, 6) for value in measured.values()}) > 1


@pytest.mark.parametrize(("bias", "expected"), [(1e6, (1, 0, 1)), (-1e6, (0, 1, 0))])
def test_a_discriminator_that_knows_one_answer(collator, bias, expected):
    model = tiny_model("whisper")
    with torch.no_grad():
        model.discriminator.output.bias.fill_(bias)
    assert tuple(measure_discriminator(model, [collator(tiny_corpus(4).to_list())]).values()) == expected
