"""What all figures share."""

import warnings

import pytest
from matplotlib.figure import Figure
from PIL import Image

from trainer.errors import ExperimentError
from trainer.evaluation import drawing
from trainer.evaluation.drawing import DPI, MATH, MODEL_STYLES, model_styles, new_axes, save_figure


@pytest.fixture
def formats():
    yield drawing.set_figure_formats
    drawing.set_figure_formats(["png"])


def test_a_figure_is_written_in_every_format_and_the_same_again(tmp_path, formats):
    figure, (ax,) = new_axes(3, 2)
    ax.plot([0, 1])
    with Image.open(save_figure(figure, tmp_path / "new" / "figure.png")) as image:
        assert image.format == "PNG"
        assert image.size[0] < 3 * DPI + 40
    formats(["pdf", "svg"])
    assert save_figure(figure, tmp_path / "a" / "figure.png").name == "figure.pdf"
    save_figure(figure, tmp_path / "b" / "figure.png")
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert one == other
    assert {name: content[:4] for name, content in one.items()} == {"figure.pdf": b"%PDF", "figure.svg": b"<?xm"}
    for wrong in ([], ["png", "jpg"]):
        with pytest.raises(ExperimentError, match="figure_format"):
            formats(wrong)


def test_names_are_plain_and_mathematics_is_not(tmp_path):
    figure = Figure()
    ax = figure.subplots()
    ax.set_xticks([0, 1], ["costs $5", "or $6$"])
    ax.set_title(r"$\lambda$", gid=MATH)
    save_figure(figure, tmp_path / "figure.png")
    assert not any(label.get_parse_math() for label in ax.get_xticklabels())
    assert ax.title.get_parse_math()


def test_names_in_any_script_have_a_font_or_their_codes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        drawing, "_font_with", lambda letter: {"é": "DejaVu Serif", "開": None}.get(letter, "DejaVu Sans")
    )
    figure = Figure()
    ax = figure.subplots()
    ax.set_yticks([0, 1], ["joie, fiertés", "開心"[:1]])
    ax.plot([0, 1], label="開")
    ax.legend()
    drawing._warn_of_letters.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_figure(figure, tmp_path / "figure.png")
        save_figure(figure, tmp_path / "figure.png")
    assert [str(warning.message).partition(":")[0] for warning in caught] == ["no installed font has the letters 開"]
    names = ax.get_yticklabels()
    assert [name.get_text() for name in names] == ["joie, fiertés", "\\u958b"]
    assert names[0].get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]
    assert ax.get_legend().get_texts()[0].get_text() == "\\u958b"


def test_fonts_are_looked_for_beyond_the_usual_one(monkeypatch):
    assert drawing._font_with("я") == "DejaVu Sans"
    monkeypatch.setattr(drawing, "_characters", lambda file: {ord("開")} if "Serif" in file else set())
    assert drawing._font_with.__wrapped__("開").startswith("DejaVu Serif")
    assert drawing._font_with.__wrapped__("心") is None


def test_a_model_looks_the_same_in_every_figure():
    one, other = model_styles(["M4SER", "mine", "only text"]), model_styles(["only text (one class only)", "M4SER"])
    assert one["M4SER"] == other["M4SER"] == dict(zip(("color", "linestyle"), MODEL_STYLES["M4SER"], strict=True))
    assert one["only text"] == other["only text (one class only)"]
    rows = [*MODEL_STYLES, "a", "b", "c", "d"]
    assert len({str(style) for style in model_styles(rows).values()}) == len(rows)
