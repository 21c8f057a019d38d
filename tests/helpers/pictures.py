"""Figures: left out where whole experiments write them beside what is tested, caught and measured where they are."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from trainer.evaluation import drawing


@pytest.fixture(autouse=True, scope="module")
def blank_pictures(request):
    """Leave out how figures are laid out and rasterised, which takes longer than a tiny run's training.

    What they show is tested where they are drawn. A module that looks at the files says `LOOKS_AT_PICTURES = True`.
    """
    if getattr(request.module, "LOOKS_AT_PICTURES", False):
        yield
        return
    blank = io.BytesIO()
    Figure(figsize=(1, 1)).savefig(blank, format="png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda _, path, **__: Path(path).write_bytes(blank.getvalue()))
        patch.setattr(drawing, "_prepare_texts", lambda figure: None)
        yield


@pytest.fixture
def drawn(monkeypatch):
    """The figures as matplotlib objects, caught where they are saved."""
    caught, prepare = [], drawing._prepare_texts
    monkeypatch.setattr(drawing, "_prepare_texts", lambda figure: caught.append(figure) or prepare(figure))
    return caught


def check_png(path):
    """The file is a PNG with something drawn on white; returns its width and height."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
        assert (pixels.min() < 128, pixels.max()) == (True, 255)
        return image.size


def boxes_of(figure, texts):
    """Where texts are drawn."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in texts]


def overlap(boxes):
    """Whether two of some boxes do."""
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
