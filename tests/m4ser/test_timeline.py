"""`m4ser timeline`: files of every format, a plot, and what stops it before a model is loaded."""

import csv
import json

import numpy as np
import pytest
import soundfile

from m4ser.__main__ import main
from m4ser.timeline import FORMATS
from modeling_m4ser.segments_m4ser import read_segments
from tests.helpers.tiny import EMOTIONS, tiny_pretrained

SRT = "1\n00:00:00,500 --> 00:00:01,500\n[Ann]: I can't\n\n2\n00:00:09,000 --> 00:00:10,000\nwe go\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, `call.wav` of two seconds, and segments: the second begins after its end."""
    folder = tmp_path_factory.mktemp("timeline")
    tiny_pretrained(folder / "model", "whisper")
    soundfile.write(folder / "call.wav", 0.1 * np.random.default_rng(0).normal(size=32000), 16000)
    (folder / "turns.srt").write_text(SRT, encoding="utf-8")
    return folder


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_written(folder, form, tmp_path, capsys):
    words = [str(folder / "call.wav"), "--model", str(folder / "model"), "--segments", str(folder / "turns.srt")]
    assert main(["timeline", *words, "--format", form, "--output_dir", str(tmp_path)]) == 0
    file = tmp_path / f"call{FORMATS[form]}"
    assert f"{file}: 2 turns, 1 not classified: the segment begins after the end" in capsys.readouterr().out
    if form == "json":
        first, second = json.loads(file.read_text("utf-8"))
        assert {*first["scores"]} == {*EMOTIONS}
        assert (first["speaker"], first["text"], second["label"]) == ("Ann", "I can't", None)
    elif form == "csv":
        first, second = csv.DictReader(file.read_text("utf-8").splitlines())
        assert float(first[f"probability_{first['label']}"]) == float(first["confidence"])
        assert (first["end"], second["text"], second["error"][:11]) == ("1.5", "we go", "the segment")
    else:
        given = read_segments(folder / "turns.srt")
        assert read_segments(file) == [turn._replace(text=None) if form == "rttm" else turn for turn in given]
        assert any(label in file.read_text("utf-8") for label in EMOTIONS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/call.wav", "b/call.wav"], "two recordings of one name"),
        (["call.wav", "--plot", "call.bmp"], "ends in .png, .pdf, .svg, .html, not call.bmp"),
        (["nothing.wav"], "nothing.wav: no such file"),
        (["."], ".: is a folder; name its recordings, ./*.wav"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(words, message, tmp_path, capsys):
    assert main(["timeline", *words, "--model", "none", "--output_dir", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_options_that_the_model_refuses_are_one_line(folder, tmp_path, capsys):
    words = [str(folder / "call.wav"), "--model", str(folder / "model"), "--output_dir", str(tmp_path)]
    assert main(["timeline", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: This model reads what is said")


def test_a_broken_recording_does_not_keep_the_others(folder, tmp_path, capsys):
    (tmp_path / "broken.wav").write_bytes(b"")
    words = [str(tmp_path / "broken.wav"), str(folder / "call.wav"), "--model", str(folder / "model")]
    status = main(["timeline", *words, "--segments", str(folder / "turns.srt"), "--output_dir", str(tmp_path)])
    error = capsys.readouterr().err.splitlines()[-1]
    assert (status, (tmp_path / "call.json").is_file()) == (2, True)
    assert error.startswith("error: 1 of 2 recordings could not be read: ")
    assert "broken.wav is empty" in error
