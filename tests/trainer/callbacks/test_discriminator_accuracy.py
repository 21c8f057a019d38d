"""What D makes of the frames: right shares, padding left out, logged after an evaluation."""

import pytest
import torch

from tests.helpers.corpus import tiny_corpus, tiny_trainer
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.callbacks.discriminator_accuracy import DiscriminatorAccuracyCallback, measure_discriminator


@pytest.fixture
def collator(tmp_path):
    return M4SERDataCollator(tiny_processor(tmp_path, "whisper"), tiny_config("whisper"))


def test_shares_of_valid_frames(collator):
    model, rows = tiny_model("whisper"), tiny_corpus(6).to_list()
    with torch.no_grad():
        model.discriminator.output.bias.fill_(0.01)
    measured = measure_discriminator(model.train(), [collator(rows[:4]), collator(rows[4:])])
    assert model.training
    # Each utterance alone, frame by frame.
    model.eval()
    right = {"speech_specific": 0, "text_specific": 0, "invariant": 0}
    frames = 0
    for row in rows:
        with torch.no_grad():
            output = model(**{k: v for k, v in collator([row]).items() if "label" not in k})
            for name in right:
                right[name] += int((model.discriminator(output[name])[0] > 0).sum())
            frames += output["invariant"].shape[1]
    assert measured["discriminator_accuracy_speech"] == pytest.approx(right["speech_specific"] / frames, abs=1e-6)
    assert measured["discriminator_accuracy_text"] == pytest.approx(1 - right["text_specific"] / frames, abs=1e-6)
    assert measured["discriminator_speech_share"] == pytest.approx(right["invariant"] / frames, abs=1e-6)
    assert len({round(value, 6) for value in measured.values()}) > 1


@pytest.mark.parametrize(("bias", "expected"), [(1e6, (1, 0, 1)), (-1e6, (0, 1, 0))])
def test_a_discriminator_that_knows_one_answer(collator, bias, expected):
    model = tiny_model("whisper")
    with torch.no_grad():
        model.discriminator.output.bias.fill_(bias)
    assert tuple(measure_discriminator(model, [collator(tiny_corpus(4).to_list())]).values()) == expected
    with pytest.raises(ValueError, match="has no discriminator"):
        measure_discriminator(tiny_model("whisper", use_adversarial=False), [])


def test_it_is_logged_after_each_evaluation(tmp_path, collator):
    rows = tiny_corpus(8)
    trainer = tiny_trainer(
        tmp_path, tiny_model("whisper"), rows, eval_data=rows, eval_strategy="epoch", num_train_epochs=2
    )
    trainer.add_callback(DiscriminatorAccuracyCallback(rows, collator))
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "discriminator_speech_share" in entry]
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert entries[-1]["step"] == trainer.state.global_step
    measured = measure_discriminator(trainer.model, [collator(rows.to_list())])
    assert {name: entries[-1][name] for name in measured} == pytest.approx(measured, abs=1e-6)
