"""Draw architecture.png, the figure of the README.

    python docs/pictures/draw_architecture.py [OUTPUT.png]

Coordinates are inches of the figure, the origin at the lower left. Colours are Okabe and Ito's, which colour-blind
readers can tell apart; each also differs in its label or its line.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

WIDTH, HEIGHT, DPI = 13.0, 7.3, 130
SPEECH, TEXT, JOINT, TRAINING, NEUTRAL = "#0072B2", "#D55E00", "#007A5A", "#8A3F73", "#333333"
FILL = {SPEECH: "#E3F0F9", TEXT: "#FCE9DC", JOINT: "#DDF3EB", TRAINING: "#FFFFFF", NEUTRAL: "#F2F2F2"}
TOP, MIDDLE, BOTTOM, LOSSES = 6.15, 4.45, 2.75, 0.85  # the four rows


class Drawing:
    """A figure, and the few shapes that it is made of."""

    def __init__(self):
        self.figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
        self.axes.axis("off")

    def box(self, left: float, right: float, middle: float, color: str, title: str, note: str = "", height=1.0):
        """A block from `left` to `right` around the height `middle`: a title, and a smaller note under it."""
        self.axes.add_patch(
            FancyBboxPatch(
                (left, middle - height / 2), right - left, height, boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=FILL[color], edgecolor=color, linewidth=1.8, zorder=3,
                linestyle="--" if color == TRAINING else "-",
            )
        )  # fmt: skip
        center = (left + right) / 2
        lines = title.count("\n") + 1
        shift = 0.13 * (note.count("\n") + 1) if note else 0
        self.text(center, middle + shift, title, color=color, weight="bold")
        if note:
            self.text(center, middle - 0.13 * lines - 0.02, note, size=12)

    def text(self, x: float, y: float, text: str, color: str = NEUTRAL, size: float = 13, weight="normal", **options):
        """Text around a point."""
        options = {"ha": "center", "va": "center", "linespacing": 1.15, **options}
        self.axes.text(x, y, text, color=color, fontsize=size, fontweight=weight, zorder=5, **options)

    def arrow(self, *points: tuple[float, float], color: str = NEUTRAL, dashed: bool = False):
        """A line through the points, with an arrowhead at the last."""
        style = {"color": color, "linewidth": 1.8, "linestyle": (0, (4, 2)) if dashed else "-", "zorder": 2}
        self.axes.plot(*zip(*points, strict=True), solid_capstyle="round", solid_joinstyle="round", **style)
        (x, y), (tip_x, tip_y) = points[-2:]
        length = np.hypot(tip_x - x, tip_y - y)
        neck = (tip_x - 0.1 * (tip_x - x) / length, tip_y - 0.1 * (tip_y - y) / length)
        arrowprops = {"arrowstyle": "-|>", "color": color, "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", points[-1], neck, arrowprops=arrowprops, zorder=4)

    def dot(self, x: float, y: float, color: str):
        """A place where a line branches."""
        self.axes.plot([x], [y], "o", color=color, markersize=6, zorder=4)


def draw() -> Figure:
    """The whole figure."""
    it = Drawing()
    it.axes.add_patch(Rectangle((1.6, 0.12), 11.3, 1.55, facecolor="#F6EEF4", edgecolor="none", zorder=0))
    it.text(1.72, 1.5, "In training only", color=TRAINING, weight="bold", ha="left")
    _inputs(it)
    _fusion(it)
    _emotion(it)
    _training(it)
    return it.figure


def _inputs(it: Drawing) -> None:
    """The waveform, the transcript, their encoders, and the two lines that carry H_S and H_T on."""
    time = np.linspace(0, 1, 400)
    wave = np.sin(2 * np.pi * 17 * time) * np.exp(-((time - 0.35) ** 2) / 0.02)
    wave += 0.7 * np.sin(2 * np.pi * 23 * time) * np.exp(-((time - 0.75) ** 2) / 0.012)
    it.axes.plot(0.12 + 1.15 * time, TOP + 0.1 + 0.35 * wave, color=SPEECH, linewidth=1.2)
    it.text(0.7, TOP - 0.45, "speech", color=SPEECH)
    it.text(0.7, BOTTOM + 0.17, "“i can\nbelieve it”", size=12, style="italic")
    it.text(0.7, BOTTOM - 0.45, "ASR text", color=TEXT)
    it.box(1.65, 3.1, TOP, SPEECH, "Speech\nencoder", "e.g. HuBERT", height=1.15)
    it.box(1.65, 3.1, BOTTOM, TEXT, "Text\nencoder", "e.g. BERT", height=1.15)
    it.arrow((1.32, TOP), (1.65, TOP), color=SPEECH)
    it.arrow((1.32, BOTTOM), (1.65, BOTTOM), color=TEXT)
    it.text(3.28, TOP + 0.2, "$H_S$", color=SPEECH)
    it.text(3.28, BOTTOM + 0.2, "$H_T$", color=TEXT)


def _fusion(it: Drawing) -> None:
    """The three cross-modal encoders, the aligner with the joint projection, and the generator."""
    speech, text = 3.5, 3.82  # where the vertical lines of H_S and H_T stand
    it.box(4.3, 5.95, TOP, SPEECH, "CME", "query $H_T$, keys $H_S$\nEq. 8")
    it.box(6.5, 8.15, TOP, SPEECH, "CME", "query $H_S$, keys $\\hat{H}_S$\nEq. 9")
    it.box(4.3, 5.95, MIDDLE, JOINT, "Aligner", "$n$ tokens onto\n$m$ frames")
    it.box(6.5, 8.15, MIDDLE, JOINT, "Joint layer", "FC($H_S$ ∥ $H_T$)")
    it.box(6.5, 8.15, BOTTOM, TEXT, "CME", "query $H_S$, keys $H_T$\nEq. 10")
    it.box(8.75, 10.15, MIDDLE, JOINT, "MIR\ngenerator", "Eq. 11-15", height=1.15)

    it.arrow((3.1, TOP), (speech, TOP), (4.3, TOP), color=SPEECH)
    it.arrow((speech, TOP), (speech, 7.0), (7.3, 7.0), (7.3, TOP + 0.5), color=SPEECH)
    it.arrow((speech, TOP), (speech, 3.62), (6.22, 3.62), (6.22, BOTTOM + 0.22), (6.5, BOTTOM + 0.22), color=SPEECH)
    it.arrow((6.22, 3.62), (6.22, MIDDLE - 0.25), (6.5, MIDDLE - 0.25), color=SPEECH)
    it.dot(speech, TOP, SPEECH)
    it.dot(6.22, 3.62, SPEECH)
    it.arrow((3.1, BOTTOM), (6.5, BOTTOM), color=TEXT)
    it.arrow((text, BOTTOM), (text, TOP - 0.3), (4.3, TOP - 0.3), color=TEXT)
    it.arrow((text, MIDDLE), (4.3, MIDDLE), color=TEXT)
    it.dot(text, BOTTOM, TEXT)
    it.dot(text, MIDDLE, TEXT)
    it.arrow((5.95, TOP), (6.5, TOP), color=SPEECH)
    it.text(6.22, TOP + 0.22, "$\\hat{H}_S$", color=SPEECH)
    it.arrow((5.95, MIDDLE + 0.2), (6.5, MIDDLE + 0.2), color=TEXT)
    it.arrow((8.15, MIDDLE), (8.75, MIDDLE), color=JOINT)
    it.text(8.44, MIDDLE + 0.22, "$H_{ST}$", color=JOINT)
    it.arrow((9.45, TOP), (9.45, MIDDLE + 0.575), color=SPEECH)
    it.arrow((9.45, BOTTOM), (9.45, MIDDLE - 0.575), color=TEXT)
    it.dot(9.45, TOP, SPEECH)
    it.dot(9.45, BOTTOM, TEXT)


def _emotion(it: Drawing) -> None:
    """The mean over all three representations, and the classifier."""
    it.arrow((8.15, TOP), (11.0, TOP), color=SPEECH)
    it.arrow((10.15, MIDDLE), (11.0, MIDDLE), color=JOINT)
    it.arrow((8.15, BOTTOM), (11.0, BOTTOM), color=TEXT)
    it.text(8.8, TOP + 0.25, "$H_S^{spe}$", color=SPEECH)
    it.text(10.43, MIDDLE + 0.25, "$H_{ST}^{inv}$", color=JOINT)
    it.text(8.8, BOTTOM + 0.25, "$H_T^{spe}$", color=TEXT)
    it.axes.add_patch(
        FancyBboxPatch(
            (11.0, BOTTOM - 0.45), 0.5, TOP - BOTTOM + 0.9, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=FILL[NEUTRAL], edgecolor=NEUTRAL, linewidth=1.8, zorder=3,
        )
    )  # fmt: skip
    it.text(11.25, MIDDLE, "Mean over frames", weight="bold", rotation=90)
    it.box(11.8, 12.93, MIDDLE, NEUTRAL, "Classifier", "Eq. 18", height=1.15)
    it.arrow((11.5, MIDDLE), (11.8, MIDDLE))
    it.arrow((12.38, MIDDLE + 0.575), (12.38, TOP - 0.35))
    it.text(12.3, TOP - 0.02, "emotion\n$L_{ER}$", weight="bold")


def _training(it: Drawing) -> None:
    """Error detection and correction, the discriminator, and the contrastive loss."""
    it.box(1.75, 3.35, LOSSES - 0.08, TRAINING, "Detection", "$L_{AED}$  Eq. 2-3", height=0.85)
    it.box(4.3, 6.2, LOSSES - 0.08, TRAINING, "Correction", "$L_{AEC}$  Eq. 4-7", height=0.85)
    it.box(8.1, 10.15, LOSSES - 0.08, TRAINING, "Discriminator", "$L_{GAN}$  Eq. 20", height=0.85)
    it.box(10.75, 12.8, LOSSES - 0.08, TRAINING, "Contrastive loss", "$L_{LCL}$  Eq. 21", height=0.85)
    it.arrow((3.82, BOTTOM), (3.82, LOSSES - 0.08), (3.35, LOSSES - 0.08), color=TRAINING, dashed=True)
    it.arrow((3.82, LOSSES - 0.08), (4.3, LOSSES - 0.08), color=TRAINING, dashed=True)
    # One line gathers the three representations that D tells apart.
    it.arrow((10.72, TOP), (10.72, 1.95), (9.13, 1.95), (9.13, LOSSES + 0.345), color=TRAINING, dashed=True)
    for row in (TOP, MIDDLE, BOTTOM):
        it.dot(10.72, row, TRAINING)
    it.arrow((11.25, BOTTOM - 0.45), (11.25, LOSSES + 0.345), color=TRAINING, dashed=True)


def main() -> None:
    """Write the file."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("architecture.png")
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans"}):
        figure = draw()
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
