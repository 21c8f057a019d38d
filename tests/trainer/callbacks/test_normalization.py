"""What an update counts, against what the model sees."""

import pytest
import torch
from accelerate import Accelerator

from modeling_m4ser.losses_m4ser import LOSSES
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


def test_each_loss_is_a_mean_over_what_it_is_counted_by():
    """A micro-batch of three utterances, and one of one: the contrastive loss counts them alike."""
    model = tiny_model()
    batches = [ragged_batch(model), ragged_batch(model, samples=(900,), tokens=(4,))]
    normalizer = UpdateNormalizer(model, Accelerator(cpu=True))
    normalizer.begin_update(batches, torch.device("cpu"))
    first, second = (normalizer.shares(batch) for batch in batches)
    sizes = [len(batch["input_ids"]) for batch in batches]
    assert first["utterances"] == pytest.approx(sizes[0] / sum(sizes))
    assert [share[LOSSES["contrastive"].counted_by] for share in (first, second)] == [0.5, 0.5]
    for name in ("emotion", "detection", "correction", "adversarial"):
        counted_by = LOSSES[name].counted_by
        assert first[counted_by] + second[counted_by] == pytest.approx(1)
        assert first[counted_by] > second[counted_by]
    marked = [int((batch["detection_labels"] != -100).sum()) for batch in batches]
    assert first[LOSSES["detection"].counted_by] == pytest.approx(marked[0] / sum(marked))
