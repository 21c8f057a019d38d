"""A tiny model, recordings of which some are broken, and the table that names them."""

import csv

import numpy as np
import pytest
import soundfile

from tests.helpers.layouts import write_wav
from tests.helpers.tiny import tiny_pretrained

TEXTS = ("i am so happy", "we go home", "you can not believe it")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny model."""
    return tiny_pretrained(tmp_path_factory.mktemp("model"))


def make_broken(folder):
    """Recordings that are broken in eight ways, by the name of the way."""
    good = write_wav(folder / "good.wav", 0.3).read_bytes()
    names = {
        kind: folder / f"{kind}.wav" for kind in ("empty", "cut", "html", "text", "nan", "missing", "folder", "none")
    }
    names["empty"].touch()
    names["cut"].write_bytes(good[:43])
    names["html"].write_text("<html><body>404</body></html>")
    names["text"].write_text("no sound " * 50)
    soundfile.write(names["nan"], np.full(4000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    names["folder"].mkdir()
    soundfile.write(names["none"], np.zeros(0, dtype=np.float32), 16000)
    return names


@pytest.fixture
def table(tmp_path):
    """A table of fourteen recordings of several lengths; eight of them are broken."""
    files = [write_wav(tmp_path / f"{number}.wav", 0.2 + 0.1 * number, seed=number) for number in range(6)]
    mixed = [file for pair in zip([*files, *files[:2]], make_broken(tmp_path).values(), strict=True) for file in pair]
    path = tmp_path / "table.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "file", "text"))
        writer.writerows((f"r{row}", file.name, TEXTS[row % 3]) for row, file in enumerate(mixed))
    return path
