"""A corpus in memory: the same whatever the number of workers, and one channel where one is asked for."""

import numpy as np
import soundfile

from data_scripts import load_corpus
from modeling_m4ser.audio_m4ser import load_audio
from tests.helpers.layouts import make_ravdess, noise


def test_workers_change_nothing(tmp_path):
    ravdess = make_ravdess(tmp_path)
    (ravdess / "Actor_01" / "03-01-01-01-01-01-01.wav").write_bytes(b"broken")
    alone, together = (load_corpus("ravdess", ravdess, num_workers=number) for number in (1, 4))
    assert alone.dataset["train"].to_list() == together.dataset["train"].to_list()
    assert alone.report == together.report
    assert len(alone.report.dropped) == 1


def test_one_of_two_channels(tmp_path):
    """Two speakers in one file: each row's audio is its own channel."""
    soundfile.write(tmp_path / "call.wav", np.stack([noise(0.5, seed=1), noise(0.5, seed=2)], axis=1), 16000)
    (tmp_path / "m.csv").write_text("audio,emotion,channel\ncall.wav,sad,0\ncall.wav,sad,1\ncall.wav,sad,\n")
    part = load_corpus("manifest", tmp_path).dataset["train"]
    assert part["id"][:] == ["call.wav channel 0", "call.wav channel 1", "call.wav"]
    both = [noise(0.5, seed=seed) for seed in (1, 2)]
    for row, expected in zip(part, [*both, (both[0] + both[1]) / 2], strict=True):
        np.testing.assert_allclose(load_audio(row["audio"]), expected, atol=2**-14)
