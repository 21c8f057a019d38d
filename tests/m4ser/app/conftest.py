"""A listener of two tiny models, and recordings for it."""

import numpy as np
import pytest
import soundfile

from m4ser.app.listener import Listener
from modeling_m4ser.recognition_m4ser import Recognizer
from tests.helpers.tiny import tiny_pretrained


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """`one` and `two`, models, of which the second is sure of nothing; `clip.wav`, `call.wav` and its `turns.srt`."""
    folder = tmp_path_factory.mktemp("app")
    tiny_pretrained(folder / "one", "whisper")
    tiny_pretrained(folder / "two", "whisper", reject_below=1.0)
    noise = 0.1 * np.random.default_rng(0).normal(size=32 * 16000)
    soundfile.write(folder / "clip.wav", noise[:16000], 16000)
    soundfile.write(folder / "call.wav", noise, 16000)
    turns = "1\n00:00:00,500 --> 00:00:01,500\n[Ann]: we <go>\n\n2\n00:00:20,000 --> 00:00:21,000\nhome now\n"
    (folder / "turns.srt").write_text(turns, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def listener(folder):
    """Both models, and a recognizer that hears the same words in everything."""
    listener = Listener([str(folder / "one"), str(folder / "two")])
    listener.asr = Recognizer(lambda waveform: "we go hom now")
    return listener
