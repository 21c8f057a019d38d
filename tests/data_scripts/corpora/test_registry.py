"""The registry: corpora by name, what a folder must be, and what tells a stand-in from the corpus of its name."""

import dataclasses

import pytest

from data_scripts import load_corpus
from data_scripts.corpora import CORPORA, CorpusSelection, scan_corpus
from data_scripts.corpora.base import ScannedCorpus
from data_scripts.errors import CorpusError
from tests.helpers.layouts import make_iemocap, make_meld, make_ravdess


def test_every_corpus_is_known_by_the_name_of_its_record():
    assert sorted(CORPORA) == ["dataset", "iemocap", "manifest", "meld", "ravdess"]
    assert all(record.name == name for name, record in CORPORA.items())


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    (tmp_path / "file.wav").write_bytes(b"")
    for name, place, message in (
        ("ravdess", None, "say where the corpus lies: --data_dir FOLDER"),
        ("ravdess", tmp_path / "gone", "gone does not exist: give the folder of the ravdess corpus"),
        ("meld", tmp_path / "file.wav", "is not a folder"),
        ("ravdess", tmp_path / "file.wav", "is no whole zip archive"),
        (
            "ravdess",
            tmp_path,
            r"no usable recording of ravdess in .*looked for Actor_NN/03-01.*1 × not named as a RAVDESS rec",
        ),
    ):
        with pytest.raises(CorpusError, match=message):
            load_corpus(name, place)


def test_another_corpus_is_one_record(tmp_path, monkeypatch):
    monkeypatch.setitem(CORPORA, "mine", dataclasses.replace(CORPORA["ravdess"], name="mine"))
    report = load_corpus("mine", make_ravdess(tmp_path)).report
    assert report.corpus == report.selection["name"] == "mine"


def stand_in(*selection, **options):
    """Why a corpus is a stand-in."""
    return scan_corpus(CorpusSelection(*selection, **options))[1].stand_in


def test_a_corpus_of_another_size_is_a_stand_in_whatever_is_selected(tmp_path, monkeypatch):
    release = make_iemocap(tmp_path, codes=("neu", "hap", "exc", "ang", "sad", "fru"))
    assert stand_in("iemocap", release) == "50 utterances instead of 5531"
    assert stand_in("iemocap", release, None, ["1", "2"]) == "20 utterances instead of 2108"
    monkeypatch.setattr("data_scripts.corpora.iemocap.EXPECTED_SESSIONS", dict.fromkeys("12345", 10))
    for options in ({}, {"emotions": ["sad"]}, {"sessions": ["3"]}, {"label_map": ["excited=thrilled"]}):
        assert stand_in("iemocap", release, **options) == ""


def test_a_synthetic_corpus_of_the_right_size_is_a_stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr("data_scripts.corpora.meld.EXPECTED_SPLITS", {"train": 2, "validation": 2, "test": 2})
    raw = make_meld(tmp_path / "MELD.Raw")
    assert stand_in("meld", raw) == ""
    (raw / "synthesis.csv").write_text("split,voice\n")
    assert stand_in("meld", raw) == ""
    (raw / "synthesis.csv").write_text("split,voice\ntrain,f_slt\n")
    assert stand_in("meld", raw) == stand_in("meld", tmp_path) == "1 of its recordings are synthetic"


@pytest.mark.parametrize(
    ("found", "spoken", "reason"),
    [
        *((found, found // 100, "") for found in (990, 1000, 1010)),
        *((found, 0, f"{found} utterances instead of 1000") for found in (989, 1011)),
        (1000, 11, "11 of its recordings are synthetic"),
    ],
)
def test_a_hundredth_makes_no_other_corpus(tmp_path, monkeypatch, found, spoken, reason):
    rows = [{"id": str(number), "emotion": "happy"} for number in range(found)]
    scanned = ScannedCorpus(rows, "files", expected={"sessions": {"1": 1000}})
    record = dataclasses.replace(CORPORA["ravdess"], scan=lambda *_: scanned)
    monkeypatch.setitem(CORPORA, "ravdess", record)
    (tmp_path / "synthesis.csv").write_text("voice\n" + "f_slt\n" * spoken)
    assert stand_in("ravdess", tmp_path) == reason


def test_a_corpus_without_a_size_of_its_own_is_none(tmp_path):
    assert stand_in("ravdess", make_ravdess(tmp_path / "ravdess")) == ""
    (tmp_path / "m.csv").write_text("audio,emotion\nravdess/Actor_01/03-01-01-01-01-01-01.wav,sad\n")
    assert stand_in("manifest", tmp_path / "m.csv") is None
