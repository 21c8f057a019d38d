"""What all figures share: colours, resolution, names as plain text, and how a figure is written."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

#: Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
GREY = "#767676"
#: Dots per inch of every figure.
DPI = 150


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, making its folder.

    Args:
        figure: what to write.
        path: the file.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.1)
    return path


def plain_tick_labels(labels: Iterable[Any]) -> None:
    """Keep a `$` in a name from being read as mathematics.

    Args:
        labels: matplotlib's texts.
    """
    for label in labels:
        label.set_parse_math(False)
