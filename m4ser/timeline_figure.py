"""A timeline as a picture: the waveform, and a band for each speaker whose color is the emotion."""

import base64
import html
import itertools
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from modeling_m4ser.audio_m4ser import stream_audio
from modeling_m4ser.decisions_m4ser import NO_SPEECH, UNCERTAIN
from modeling_m4ser.segments_m4ser import speaker_of
from trainer.evaluation.drawing import GREY, label_colours, new_axes, save_figure, set_figure_formats

_STRIPS = (15, 30, 60, 120, 300, 600, 1800, 3600)  # seconds that one strip may show
_MOST_STRIPS = 12
_WIDTH = 15.0  # inches
_BINS = 1200  # of the waveform, across a strip
_LETTER = 0.045  # inches that a letter of the words takes
_PALE = 0.25  # the opacity of a guess

Row = Mapping[str, Any]


def draw_timeline(rows: Sequence[Row], audio: Any, path: str | Path) -> Path:
    """Draw the rows of a timeline and the recording that they are of, and return the file: a .png, .pdf, .svg or .html.

    The page has the picture, a player, and the turns in a table: a click plays them.
    """
    path = Path(path)
    if path.suffix == ".html":
        with tempfile.TemporaryDirectory() as folder:
            picture = _draw(rows, audio, Path(folder) / "timeline.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_page(rows, audio, path, picture.read_bytes()), encoding="utf-8")
        return path
    return _draw(rows, audio, path)


def _draw(rows: Sequence[Row], audio: Any, path: Path) -> Path:
    peaks, step = _envelope(audio)
    seconds = round(len(peaks) * step, 6)
    strip = next((size for size in _STRIPS if seconds <= _MOST_STRIPS * size), _STRIPS[-1])
    count = max(1, math.ceil(seconds / strip))
    strip = seconds if count == 1 else strip
    bin_size = max(1, round(strip / _BINS / step))
    peaks = np.pad(peaks, (0, -len(peaks) % bin_size)).reshape(-1, bin_size).max(axis=1)
    times = np.arange(len(peaks)) * bin_size * step
    speakers = sorted({speaker_of(row) or "" for row in rows}) or [""]
    figure, strips = new_axes(_WIDTH, count * (0.55 + 0.5 * len(speakers)) + 0.5, rows=count, grid=None)
    colours = _colours(rows)
    for number, ax in enumerate(strips):
        begin, end = number * strip, (number + 1) * strip
        ax.fill_between(times, 1.55 - peaks / 2, 1.55 + peaks / 2, color="#555555", linewidth=0)
        for place, speaker in enumerate(speakers):
            own = [
                row for row in rows if (speaker_of(row) or "") == speaker and row["start"] < end and row["end"] > begin
            ]
            _draw_band(ax, own, -place, colours, (begin, end))
        ax.set_xlim(begin, end)
        ax.set_ylim(0.95 - len(speakers), 2.1)
        ax.set_yticks([0.65 - place for place in range(len(speakers))], speakers)
        ax.tick_params(left=False)
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 6, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(clock))
    legend = [Patch(label=label, **_box(colour)) for label, colour in colours.items()]
    figure.legend(handles=legend, loc="outside upper center", ncols=8, fontsize=9, frameon=False)
    set_figure_formats([path.suffix[1:]])
    return save_figure(figure, path)


def _envelope(audio: Any) -> tuple[np.ndarray, float]:
    """Return the peaks of parts of about 10 ms of a recording, the highest as 1, and their length in seconds."""
    peaks, rest, step = [np.zeros(0, np.float32)], np.zeros(0, np.float32), 0.01
    for block, rate in stream_audio(audio):
        size = round(0.01 * rate)
        samples = np.concatenate([rest, np.abs(block).max(axis=1)])
        whole = len(samples) // size * size
        peaks.append(samples[:whole].reshape(-1, size).max(axis=1))
        rest, step = samples[whole:], size / rate
    found = np.concatenate([*peaks, [rest.max()]] if len(rest) else peaks)
    return found / (found.max() or 1), step


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    labels = {label for row in rows for label in row["scores"]}
    other = {row["decision"] for row in rows} & {UNCERTAIN, NO_SPEECH}
    return label_colours(sorted(labels)) | dict.fromkeys(sorted(other), "white")


def _draw_band(
    ax: Axes, rows: Sequence[Row], bottom: int, colours: Mapping[str, str], span: tuple[float, float]
) -> None:
    """Draw the turns of one speaker in a strip, and under each as many of its words as fit before the next."""
    per_second = _WIDTH * 0.94 / (span[1] - span[0]) / _LETTER
    for row, following in itertools.zip_longest(rows, rows[1:]):
        guess = 1 / max(2, len(row["scores"]))
        alpha = _PALE + (1 - _PALE) * max(0.0, (row["confidence"] or 0) - guess) / (1 - guess)
        box = _box(colours.get(row["decision"], "white"))
        ax.broken_barh([(row["start"], row["end"] - row["start"])], (bottom + 0.45, 0.4), alpha=alpha, **box)
        start, end = max(row["start"], span[0]), min(following["start"] if following else span[1], span[1])
        if row["start"] >= span[0] and (words := _fitting(row["text"] or "", int((end - start) * per_second) - 1)):
            ax.text(start, bottom + 0.4, words, va="top", fontsize=6.5)


def _box(colour: str) -> dict[str, Any]:
    """Return how a turn of a color looks; hatched where there is none, as of what is uncertain."""
    is_open = {"facecolor": "white", "edgecolor": GREY, "hatch": "/////", "linewidth": 0.5}
    return is_open if colour == "white" else {"facecolor": colour, "edgecolor": "none"}


def _fitting(text: str, letters: int) -> str:
    """Return a text, or as many of its words as fit; nothing where these would say nothing."""
    if len(text) <= letters:
        return text
    words = text[: max(0, letters - 1)].rpartition(" ")[0]
    return f"{words}…" if words.count(" ") > 1 else ""


def clock(seconds: float, _: Any = None) -> str:
    """Return seconds as minutes and seconds, 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _page(rows: Sequence[Row], audio: Any, path: Path, picture: bytes) -> str:
    colours = _colours(rows)
    cells = ""
    for row in rows:
        sure = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
        texts = [clock(row["start"]), speaker_of(row), row["decision"] or row["error"], sure, row["text"]]
        filled = "".join(f"<td>{html.escape(text or '')}</td>" for text in texts)
        mark = colours.get(row["decision"], "transparent")
        cells += f'<tr data-start="{row["start"]}" style="border-left:.6em solid {mark}">{filled}</tr>\n'
    source = html.escape(Path(os.path.relpath(audio, path.parent)).as_posix())
    image = base64.b64encode(picture).decode()
    return f"""<!doctype html><meta charset="utf-8"><title>{source}</title>
<style>body{{font:15px sans-serif;margin:1em}}img{{width:100%}}table{{border-collapse:collapse}}
td{{padding:.2em .6em}}tr{{cursor:pointer}}audio{{width:100%;position:sticky;top:0}}</style>
<audio controls src="{source}"></audio><img alt="timeline" src="data:image/png;base64,{image}"><table>
{cells}</table><script>const player=document.querySelector("audio");for(const row of document.querySelectorAll("tr"))
row.onclick=()=>{{player.currentTime=row.dataset.start;player.play()}}</script>
"""
