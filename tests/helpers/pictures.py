"""Figures that whole experiments write beside what is tested."""

import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure


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
        yield
