"""What all figures share: grid, colours of models, fonts for names in any script, and the files that are written.

Figures are built as objects rather than through pyplot, so that nothing global changes and nothing has to be closed.
"""

import functools
import itertools
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

from trainer.errors import ExperimentError

#: Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
GREY = "#767676"
#: How an emotion looks in every figure that shows it, by the names that corpora give it.
EMOTION_COLOURS = {
    **dict.fromkeys(("angry", "anger", "ang"), COLOURS[1]),
    **dict.fromkeys(("happy", "happiness", "joy", "hap", "excited"), COLOURS[4]),
    **dict.fromkeys(("neutral", "neu"), "#8C8C8C"),
    **dict.fromkeys(("sad", "sadness"), COLOURS[0]),
    **dict.fromkeys(("fear", "fearful"), COLOURS[3]),
    **dict.fromkeys(("disgust", "disgusted"), COLOURS[2]),
    **dict.fromkeys(("surprise", "surprised"), COLOURS[5]),
    "calm": "#B2DF8A",
}
#: Dots per inch of every figure.
DPI = 150
#: What a figure can be written as.
FORMATS = ("png", "pdf", "svg")
#: How a model looks in every figure: colour and line.
MODEL_STYLES: dict[str, tuple[str, Any]] = {
    "M4SER": (COLOURS[0], "-"),
    "speech & text + concat": (COLOURS[1], "--"),
    "only text": (COLOURS[2], "-."),
    "only speech": (COLOURS[3], ":"),
    "w/o AED & AEC": (COLOURS[4], (0, (5, 1, 1, 1, 1, 1))),
}
#: How the name of a model ends in a figure that gives every utterance the same answer.
ONE_CLASS = " (one class only)"
_LINES = ("--", "-.", ":", "-")
#: The gid of a text that is mathematics; a `$` in any other is a dollar.
MATH = "mathematics"

_FAMILY = "DejaVu Sans"  # comes with matplotlib
_formats: tuple[str, ...] = ("png",)


def set_figure_formats(formats: Iterable[str]) -> None:
    """Choose the files that every figure of this process is written as from now on, of `FORMATS`."""
    global _formats
    chosen = tuple(dict.fromkeys(formats))
    if not chosen or not set(chosen) <= set(FORMATS):
        raise ExperimentError(f"figure_format: {' '.join(chosen)!r} is not of {', '.join(FORMATS)}.")
    _formats = chosen


def model_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour and line of each model of a figure; a model of `MODEL_STYLES` looks the same in all figures."""
    others = itertools.cycle(zip(itertools.cycle(COLOURS[5:]), _LINES, strict=False))
    styles = {name: MODEL_STYLES.get(name.removesuffix(ONE_CLASS)) or next(others) for name in names}
    return {name: {"color": colour, "linestyle": line} for name, (colour, line) in styles.items()}


def label_colours(labels: Iterable[str]) -> dict[str, str]:
    """Return the colour of each label: that of its emotion, and one of the others' for a label that is none known."""
    others = itertools.cycle(["#6A3D9A", "#B15928", "#F0E442", "#000000"])
    return {label: EMOTION_COLOURS.get(label.lower()) or next(others) for label in labels}


def new_axes(
    width: float, height: float, rows: int = 1, columns: int = 1, *, grid: Any = "both", dpi: int = DPI, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure (inches) and its axes, row by row, with a light grid (`both`, `x`, `y`, None) and no box."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flatten())
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        if grid:
            ax.grid(axis=grid, color="#dddddd", linewidth=0.6)
        else:
            ax.spines[:].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure in every format of `set_figure_formats`, making its folder; return the first file.

    Its texts are plain, except those with the gid `MATH`. Each format replaces the ending of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _prepare_texts(figure)
    # Neither a date nor random names: the same figure is the same file.
    with matplotlib.rc_context({"svg.hashsalt": "m4ser", "pdf.fonttype": 42}):
        for ending in _formats:
            dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending)
            options = {"format": ending, "metadata": dated, "bbox_inches": "tight", "pad_inches": 0.1}
            figure.savefig(path.with_suffix(f".{ending}"), **options)
    return path.with_suffix(f".{_formats[0]}")


def _prepare_texts(figure: Figure) -> None:
    """Show names as they are written, in a font that has their letters, or else with the letters' code points."""
    lost: set[str] = set()

    def spelled(text: str) -> str:
        unknown = {letter for letter in text if _font_with(letter) is None}
        lost.update(unknown)
        return "".join(f"\\u{ord(letter):04x}" if letter in unknown else letter for letter in text)

    for axis in (axis for ax in figure.findobj(Axes) for axis in (ax.xaxis, ax.yaxis)):
        names = [label.get_text() for label in axis.get_ticklabels()]
        if names != (known := [spelled(name) for name in names]):
            axis.set_ticklabels(known)  # an axis writes its own names at each drawing
    for text in figure.findobj(Text):
        if text.get_gid() != MATH:
            text.set_parse_math(False)
            text.set_text(spelled(text.get_text()))
            families = {_FAMILY: None} | {name: None for name in map(_font_with, text.get_text()) if name}
            text.set_fontfamily(list(families))
    if lost:
        _warn_of_letters("".join(sorted(lost)[:10]))


@functools.cache
def _warn_of_letters(letters: str) -> None:
    warnings.warn(
        f"no installed font has the letters {letters}: figures name their codes. Install a font, e.g. Noto Sans CJK",
        stacklevel=4,
    )


@functools.cache
def _characters(file: str) -> frozenset[int]:
    """The characters of a font file; none where it cannot be read or is no outline font."""
    try:
        font = get_font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def _font_with(letter: str) -> str | None:
    """The family of an installed upright font that has a letter, the usual one first; None where none has it."""
    if not letter.isprintable() or ord(letter) in _characters(findfont(_FAMILY)):
        return _FAMILY
    fonts = sorted((font.name, font.fname) for font in fontManager.ttflist if font.style == "normal")
    # Mathematical fonts have letters at places that are not theirs.
    real = ((name, file) for name, file in fonts if not name.startswith(("cm", "STIX", "Last", "DejaVu Math")))
    return next((name for name, file in real if ord(letter) in _characters(file)), None)


def legend_above(figure: Figure, columns: int, size: float = 8, **options: Any) -> None:
    """Put one legend of all axes above them; several lines of one name count once."""
    known: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(name, handle)
    options |= {"fontsize": size, "title_fontsize": size + 1, "frameon": False}
    figure.legend(list(known.values()), list(known), loc="outside upper center", ncols=columns, **options)
