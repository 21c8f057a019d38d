"""Speed perturbation: the copies, how they sound, and training on them."""

import math

import numpy as np
import pytest

from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import tiny_config, tiny_processor
from trainer import M4SERDataCollator
from trainer.inputs.augmentation import with_speeds


def test_every_row_stands_once_at_each_speed():
    data = tiny_corpus(5)
    copies = with_speeds(data, [0.9, 1.0, 1.1])
    assert len(copies) == 15
    assert copies.features["emotion"] == data.features["emotion"]
    for number, row in enumerate(copies):
        original = data[number % 5]
        assert row.pop("speed") == (0.9, 1.0, 1.1)[number // 5]
        assert row.pop("duration") == pytest.approx(original.pop("duration") / (0.9, 1.0, 1.1)[number // 5])
        assert row == original


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
def test_faster_is_shorter_and_higher(tmp_path, speed):
    """A tone of 500 Hz over 0.4 s is heard as one of 500·speed Hz over 0.4/speed s."""
    collator = M4SERDataCollator(tiny_processor(tmp_path), tiny_config())
    row = tiny_corpus(1)[0]
    tone = np.sin(2 * math.pi * 500 * np.arange(6400) / 16000).astype(np.float32)
    row = {**row, "audio": {"array": tone, "sampling_rate": 16000}, "speed": speed}
    (heard,) = collator([row])["input_values"].numpy()
    assert len(heard) == pytest.approx(6400 / speed, abs=1)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert spectrum.argmax() * 16000 / len(heard) == pytest.approx(500 * speed, abs=16000 / len(heard))


def test_rows_without_a_speed_are_heard_as_they_are(tmp_path):
    collator = M4SERDataCollator(tiny_processor(tmp_path), tiny_config())
    rows = list(tiny_corpus(3))
    plain, at_one = collator(rows), collator([{**row, "speed": 1.0} for row in rows])
    assert all((plain[name] == at_one[name]).all() for name in plain)


def test_other_collections_are_refused():
    with pytest.raises(ValueError, match=r"speed_perturbation.*datasets\.Dataset.*list"):
        with_speeds(list(tiny_corpus(4)), [0.9, 1.1])
