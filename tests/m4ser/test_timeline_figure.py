"""The picture: every turn is drawn, pale where it is a guess, with the words that fit; the page plays them."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from m4ser import timeline_figure
from m4ser.timeline_figure import draw_timeline
from trainer.evaluation.drawing import EMOTION_COLOURS


def row(start, end, speaker, decision, confidence, text="Nobody told me that"):
    scores = {"angry": confidence, "sad": 1 - confidence} if confidence else {}
    told = {"label": "angry", "decision": decision, "confidence": confidence, "error": None}
    return {"start": start, "end": end, "speaker": speaker, "channel": None, "text": text, "scores": scores} | told


ROWS = [
    row(1, 20, "Ann", "angry", 1.0),
    row(21, 22, "Ben", "angry", 0.5, "the <b> door that nobody opens"),
    row(22.5, 24, "Ben", "uncertain", 0.6),
    row(170, 190, "Ann", "angry", 0.9, "words over two strips"),
]


@pytest.fixture
def call():
    """Two hundred seconds, silent but for one second."""
    samples = np.zeros(200 * 8000, np.float32)
    samples[8000:16000] = 0.5
    return {"array": samples, "sampling_rate": 8000}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    figures: list[Figure] = []

    def keep(figure, path):
        figures.append(figure)
        return path

    monkeypatch.setattr(timeline_figure, "save_figure", keep)
    return figures


def test_turns_are_drawn_where_they_are(call, drawn, tmp_path):
    draw_timeline(ROWS, call, tmp_path / "call.png")
    strips = drawn[0].axes
    assert [ax.get_xlim() for ax in strips] == [(30 * n, 30 * (n + 1)) for n in range(7)]
    assert [label.get_text() for label in strips[0].get_yticklabels()] == ["Ann", "Ben"]
    boxes = [box for ax in strips for box in ax.collections[1:]]
    spans = [(round(box.get_paths()[0].vertices[:, 0].min(), 1), box.get_alpha()) for box in boxes]
    assert spans == [
        (1, 1),
        (21, 0.25),
        (22.5, pytest.approx(0.4)),
        (170, pytest.approx(0.85)),
        (170, pytest.approx(0.85)),
    ]
    assert to_rgba(boxes[0].get_facecolor()[0])[:3] == to_rgba(EMOTION_COLOURS["angry"])[:3]
    assert (boxes[0].get_hatch(), boxes[2].get_hatch()) == (None, "/////")
    words = [text.get_text() for ax in strips for text in ax.texts]
    assert words == ["Nobody told me that", "the <b> door…", "Nobody told me that", "words over two strips"]
    wave = strips[0].collections[0].get_paths()[0].vertices
    loud = wave[np.abs(wave[:, 1] - 1.55) > 0.2, 0]
    assert 0.9 < loud.min() < loud.max() < 2.1


def test_the_page_has_the_picture_and_plays_the_turns(call, tmp_path, monkeypatch):
    import soundfile

    soundfile.write(tmp_path / "my call.wav", call["array"], 8000)
    page = draw_timeline(ROWS, str(tmp_path / "my call.wav"), tmp_path / "out" / "call.html").read_text("utf-8")
    assert '<audio controls src="../my call.wav">' in page
    assert re.findall(r'data-start="([\d.]+)"', page) == ["1", "21", "22.5", "170"]
    assert "the &lt;b&gt; door" in page
    assert "data:image/png;base64,iVBOR" in page
