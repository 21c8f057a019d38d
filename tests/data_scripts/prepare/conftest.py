"""What the tests of preparing share: small corpora, and a look at what is decoded."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_scripts.prepare import recordings
from tests.helpers.layouts import noise, write_wav


@pytest.fixture
def corpus(tmp_path):
    """A RAVDESS of one actor, four recordings of which one is broken."""
    folder = tmp_path / "ravdess" / "Actor_01"
    folder.mkdir(parents=True)
    for seed, emotion in enumerate(("03", "04", "05")):
        write_wav(folder / f"03-01-{emotion}-01-01-01-01.wav", seconds=0.1, seed=seed)
    (folder / "03-01-05-01-01-02-01.wav").write_bytes(b"broken")
    return tmp_path / "ravdess"


@pytest.fixture
def mixed(tmp_path):
    """A manifest with recordings of many kinds: 16 kHz mono ones, and such as must be converted."""
    folder = tmp_path / "mixed"
    write_wav(folder / "direct.wav")
    write_wav(folder / "direct.flac")
    write_wav(folder / "other rate.wav", rate=44100)
    soundfile.write(folder / "stereo.wav", np.stack([noise(0.2), noise(0.2, seed=1)], axis=1), 16000)
    write_wav(folder / "lossy.mp3")
    lines = [f"{path.name},{'sad' if path.suffix == '.wav' else 'happy'}" for path in sorted(folder.iterdir())]
    (folder / "manifest.csv").write_text("audio,emotion\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The names of the recordings that are decoded."""
    names = []
    original = recordings.decode_audio

    def counting(audio, **options):
        names.append(Path(audio["path"] or "bytes").name)
        return original(audio, **options)

    monkeypatch.setattr(recordings, "decode_audio", counting)
    return names
