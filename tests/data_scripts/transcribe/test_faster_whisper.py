"""Whisper through faster-whisper: the same transcripts as through transformers, and mistakes are reported."""

import sys

import numpy as np
import pytest
import soundfile

from data_scripts.transcribe.faster_whisper import FasterWhisperRecognizer
from data_scripts.transcribe.whisper import RecognizerError
from tests.data_scripts.transcribe.helpers import RAVDESS, REAL_MODEL, needs_real_model, noises


def test_it_depends_on_the_clip_alone(tiny_ctranslate2):
    recognizer = FasterWhisperRecognizer(tiny_ctranslate2, device="cpu", max_new_tokens=8)
    clips = [*noises(9_000, 800), np.zeros(0, np.float32), np.zeros(16_000, np.float32)]
    texts = recognizer.transcribe(clips)
    assert texts[2:] == ["", ""]
    assert all(texts[:2])
    assert recognizer.transcribe(clips[::-1]) == texts[::-1]
    assert recognizer.settings["model"] == recognizer.name == "tiny-ct2"
    assert recognizer.settings["backend"] == "faster-whisper"


def test_errors(tiny_ctranslate2, tiny_whisper, monkeypatch):
    def check(message, model=tiny_ctranslate2, **options):
        with pytest.raises(RecognizerError, match=message):
            FasterWhisperRecognizer(str(model), device="cpu", **options)

    check("no folder .*absent", "/absent")
    check("ct2-transformers-converter", tiny_whisper)
    check("English-only", language="german")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    check(r"pip install 'm4ser\[faster-whisper\]'")


@pytest.mark.slow
@needs_real_model
def test_it_recognises_what_transformers_recognises(tmp_path):
    converters = pytest.importorskip("ctranslate2.converters", reason="the extra faster-whisper is not installed")
    converter = converters.TransformersConverter(str(REAL_MODEL), copy_files=["tokenizer.json"])
    converter.convert(str(tmp_path / "converted"))
    clips = [soundfile.read(file, dtype="float32")[0] for file in sorted((RAVDESS / "Actor_01").glob("*.flac"))[:3]]
    texts = FasterWhisperRecognizer(str(tmp_path / "converted"), device="cpu", language="en").transcribe(clips)
    assert texts == ["Kids are talking by the door."] * 2 + ["Dogs are sitting by the door."]
