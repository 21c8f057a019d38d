"""What an update counts, against what the model sees."""

import pytest
import torch
from accelerate import Accelerator

from tests.helpers.tiny import ragged_batch, tiny_model
from trainer.callbacks.normalization import COUNTED_ITEMS, UpdateNormalizer


@pytest.mark.parametrize("pooling", [1, 3])
@pytest.mark.parametrize("kind", ["hubert", "whisper"])
@pytest.mark.parametrize("from_states", [False, True])
def test_the_frames_counted_are_those_that_are_fused(kind, pooling, from_states):
    model = tiny_model(kind, frame_pooling=pooling)
    batch = ragged_batch(model)
    if from_states:
        encoder = model.m4ser.speech_encoder
        with torch.no_grad():
            states, mask = encoder.encode(batch.pop(encoder.input_name), batch["speech_attention_mask"])
        batch |= {"speech_states": torch.stack(states[-1:], 1), "speech_attention_mask": mask.long()}
    with torch.no_grad():
        seen = model(**batch).frame_mask.sum()
    normalizer = UpdateNormalizer(model, Accelerator(cpu=True))
    counts = dict(zip(COUNTED_ITEMS, normalizer.count(batch), strict=True))
    assert counts["frames"] == seen
    assert counts["utterances"] == len(batch["input_ids"])
    assert normalizer.frames_per_utterance(batch) == pytest.approx(seen / len(batch["input_ids"]))
