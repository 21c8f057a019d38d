"""What all figures share."""

from matplotlib.figure import Figure
from PIL import Image

from trainer.evaluation.drawing import COLOURS, DPI, plain_tick_labels, save_figure


def test_a_figure_is_written_into_a_new_folder(tmp_path):
    figure = Figure(figsize=(3, 2), dpi=DPI)
    ax = figure.subplots()
    ax.set_xticks([0, 1], ["costs $5", "or $6$"])
    plain_tick_labels(ax.get_xticklabels())
    assert not any(label.get_parse_math() for label in ax.get_xticklabels())
    path = save_figure(figure, tmp_path / "new" / "figure.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size[0] < 3 * DPI + 40


def test_colours_differ_in_brightness_too():
    """So that a grey print still tells the first ones apart."""
    shades = [sum(weight * int(c[i : i + 2], 16) for weight, i in ((0.3, 1), (0.59, 3), (0.11, 5))) for c in COLOURS]
    assert len({round(shade / 4) for shade in shades}) == len(COLOURS)
