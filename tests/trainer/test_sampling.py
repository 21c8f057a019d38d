"""The order of training utterances: by length, by seed, by epoch, the same again."""

import numpy as np
import torch

from trainer.sampling import EpochSampler


def test_the_sampler_depends_on_seed_and_epoch_alone():
    lengths = list(np.random.default_rng(0).uniform(1, 5, size=400))
    sampler = EpochSampler(4, lengths, seed=3)
    first = list(sampler)
    torch.manual_seed(99)
    assert list(sampler) == first
    assert sorted(first) == list(range(400))
    sampler.epoch = 1
    assert list(sampler) != first
    spread = np.mean([np.ptp([lengths[i] for i in first[start : start + 4]]) for start in range(0, 400, 4)])
    assert spread < 0.8, "batches are not of similar length"
