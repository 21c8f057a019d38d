"""Recordings under other names: found where one file alone can be meant, counted, and else named with what is near."""

import unicodedata
from pathlib import Path

import pytest

from data_scripts.corpora import lookup
from data_scripts.corpora.lookup import OTHER_FOLDER, OTHER_SPELLING, OTHER_SUFFIX, find_places, locate_recordings
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError

ACCENT = "é"
DECOMPOSED = unicodedata.normalize("NFD", f"wavs/{ACCENT}.wav")
HERE = ["wavs/a.wav", DECOMPOSED, "wavs/b.c.flac", "s1/x.wav", "s2/x.wav", "t/s1/x.wav", "n.txt"]


@pytest.mark.parametrize(
    ("name", "place", "how"),
    [
        ("wavs/A.WAV", "wavs/a.wav", OTHER_SPELLING),
        ("Wavs\\a.wav", "wavs/a.wav", OTHER_SPELLING),
        (f"wavs/{ACCENT}.wav", DECOMPOSED, OTHER_SPELLING),
        ("wavs/a", "wavs/a.wav", OTHER_SUFFIX),
        ("wavs/a.mp3", "wavs/a.wav", OTHER_SUFFIX),
        ("wavs/b.c", "wavs/b.c.flac", OTHER_SUFFIX),
        ("a.wav", "wavs/a.wav", OTHER_FOLDER),
        ("audio/a.wav", "wavs/a.wav", OTHER_FOLDER),
        ("/kaggle/input/set/wavs/a.wav", "wavs/a.wav", OTHER_FOLDER),
        ("C:\\data\\a.wav", "wavs/a.wav", OTHER_FOLDER),
        ("https://host/set/a.wav", "wavs/a.wav", OTHER_FOLDER),
        ("/kaggle/set/s2/x.wav", "s2/x.wav", OTHER_FOLDER),
        ("/kaggle/set/s2/x.mp3", "s2/x.wav", OTHER_FOLDER),
        ("/kaggle/t/s1/x.wav", "t/s1/x.wav", OTHER_FOLDER),
        ("x.wav", None, ""),  # two of that name
        ("s1/a.wav", None, ""),  # the folder is there, but not the file
        ("wavs/n", None, ""),  # no audio
        ("wavs/ab.wav", None, ""),
        ("", None, ""),
    ],
)
def test_one_name(name, place, how):
    assert find_places([name], HERE) == ({} if place is None else {name: (place, how)})


@pytest.mark.parametrize(
    ("names", "found"),
    [
        # What another row names is its own.
        (["s1/1.wav", "s2/1.wav"], {}),
        (["old/1.wav", "older/1.wav"], {}),
        # The nearer path has it.
        (["/kaggle/s1/1.wav", "/kaggle/s2/1.wav"], {"/kaggle/s1/1.wav": "s1/1.wav"}),
        # Twice the same, written in two ways.
        (["S1/1.wav", "s1/1.WAV"], {"S1/1.wav": "s1/1.wav", "s1/1.WAV": "s1/1.wav"}),
    ],
)
def test_names_beside_each_other(names, found):
    assert {name: place for name, (place, _) in find_places(names, ["s1/1.wav"]).items()} == found


def locate(folder, *names):
    """The places of rows with these paths, and the report."""
    report = PreparationReport("x")
    items = [{"id": name, "path": str(folder / name), "bytes": None} for name in names]
    kept = locate_recordings(items, folder, "table.csv", report)
    return [item["path"].removeprefix(f"{folder}/") for item in kept], report


def test_addresses_of_files(tmp_path):
    """Another machine's file is not this one's of the same path."""
    there = tmp_path / "a b.wav"
    there.touch()
    assert lookup.locate(tmp_path, there.as_uri()) == str(there)
    assert not Path(lookup.locate(tmp_path, there.as_uri().replace("//", "//server", 1))).exists()


def test_paths_are_mended_and_what_is_missing_is_named(tmp_path):
    for number in range(3):
        (tmp_path / f"clip_{number}.wav").write_text("")
    kept, report = locate(tmp_path, "clip_0.wav", "Clip_1.wav", "x/clip_2", "clip_.wav")
    assert kept == ["clip_0.wav", "clip_1.wav", "clip_2.wav"]
    assert {note["id"]: note["reason"] for note in report.repaired} == {
        "Clip_1.wav": OTHER_SPELLING,
        "x/clip_2": OTHER_FOLDER,
    }
    ((reason, count),) = report.reasons("dropped").items()
    assert count == 1
    assert reason.startswith(f"audio file missing (looked in {tmp_path} and its sub-folders (did you mean clip_")


def test_most_are_missing(tmp_path):
    (tmp_path / "all.zip").write_text("")
    (tmp_path / "a.wav").write_text("")
    assert locate(tmp_path, "a.wav", "b.wav")[0] == ["a.wav"]
    with pytest.raises(CorpusError, match=r"table.csv: 4 of 5 recordings are missing, e.g. c.wav, d.wav, ") as caught:
        locate(tmp_path, "a.wav", *(f"{letter}.wav" for letter in "cdef"))
    assert f"looked in {tmp_path} and its sub-folders" in str(caught.value)
    assert "; unpack all.zip if they are in there). Write their paths" in str(caught.value)
    for letter in "xy":
        (tmp_path / letter).mkdir()
        (tmp_path / letter / "c.wav").write_text("")
    with pytest.raises(CorpusError, match=r"where several files may be meant: x/c.wav, y/c.wav\)\. Write"):
        locate(tmp_path, "c.wav")
    address = [{"id": "1", "path": "https://host/a.wav", "bytes": None}]
    with pytest.raises(CorpusError, match=r"are missing, e.g. https://host/a.wav \(download what is an address"):
        locate_recordings(address, None, "it", PreparationReport("x"))
