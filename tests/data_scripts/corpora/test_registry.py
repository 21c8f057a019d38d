"""The registry: corpora by name, and selections that are refused before anything is read."""

import dataclasses

import pytest

from data_scripts import load_corpus
from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.errors import CorpusError
from tests.helpers.layouts import make_ravdess


def test_every_corpus_is_known_by_the_name_of_its_record():
    assert sorted(CORPORA) == ["dataset", "iemocap", "manifest", "meld", "ravdess"]
    assert all(record.name == name for name, record in CORPORA.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ravdes",), "unknown corpus 'ravdes'; known: dataset, iemocap, manifest, meld, ravdess"),
        (("ravdess", ["bored"]), "RAVDESS speech has no emotion bored; it has neutral, calm"),
        (("iemocap", ["joy"]), "IEMOCAP has no emotion joy; it has neutral, happy, excited"),
        (("meld", ["happy"]), "MELD has no emotion happy; it has neutral, joy"),
        (("ravdess", ["sad", "sad"]), "each only once"),
        (("manifest", []), "at least one class"),
        (("iemocap", None, []), "sessions must name at least one session"),
        (("ravdess", None, ["1"]), "RAVDESS speech has no sessions to choose from"),
        (("meld", None, ["1"]), "MELD has no sessions to choose from"),
        (("manifest", None, ["1"]), "has no sessions to choose from"),
    ],
)
def test_a_selection_that_cannot_be_is_refused_before_anything_is_read(arguments, message):
    name, *wanted = arguments
    with pytest.raises(CorpusError, match=message):
        CorpusSelection(name, "nowhere", *wanted)


def test_a_selection_describes_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    selection = CorpusSelection("iemocap", "corpus", ["sad", "happy"], [10, "2", "2"])
    assert selection.describe() == {
        "name": "iemocap",
        "data_dir": str((tmp_path / "corpus").resolve()),
        "emotions": ["sad", "happy"],
        "sessions": ["2", "10"],
        "columns": None,
        "label_map": None,
        "split_names": None,
        "config_name": None,
    }
    assert CorpusSelection("meld", "x").describe()["sessions"] is None
    assert selection == CorpusSelection("iemocap", "corpus", ("sad", "happy"), ["2", "10"])
    assert selection != CorpusSelection("iemocap", "corpus", ("happy", "sad"), ["2", "10"])


def test_load_corpus_errors(tmp_path):
    with pytest.raises(CorpusError, match="unknown corpus 'ravdes'; known: dataset, iemocap, manifest, meld, ravdess"):
        load_corpus("ravdes", tmp_path)
    with pytest.raises(CorpusError, match="gone does not exist: give the folder of the ravdess corpus"):
        load_corpus("ravdess", tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"no usable recording of ravdess in .*looked for Actor_NN/03-01"):
        load_corpus("ravdess", tmp_path)
    with pytest.raises(CorpusError, match="no emotion bored; it has neutral, calm"):
        load_corpus("ravdess", tmp_path, emotions=["bored"])
    with pytest.raises(CorpusError, match="each only once"):
        load_corpus("ravdess", tmp_path, emotions=["sad", "sad"])
    with pytest.raises(CorpusError, match="num_workers must be at least 1"):
        load_corpus("ravdess", tmp_path, num_workers=0)
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match="is not a folder"):
        load_corpus("ravdess", tmp_path / "a.wav")
    with pytest.raises(CorpusError, match="Dropped: 1 × not named as a RAVDESS recording"):
        load_corpus("ravdess", tmp_path)


def test_another_corpus_is_one_record(tmp_path, monkeypatch):
    monkeypatch.setitem(CORPORA, "mine", dataclasses.replace(CORPORA["ravdess"], name="mine"))
    report = load_corpus("mine", make_ravdess(tmp_path)).report
    assert report.corpus == report.selection["name"] == "mine"


def test_columns_are_of_tables_only():
    with pytest.raises(CorpusError, match="MELD has no columns to choose from: leave --text_column_name out"):
        CorpusSelection("meld", "nowhere", columns={"hypothesis": "text"})
    selection = CorpusSelection("manifest", "x", columns={"hypothesis": "a", "audio": "b"})
    assert selection.describe()["columns"] == {"audio": "b", "hypothesis": "a"}
    assert selection == CorpusSelection("manifest", "x", columns={"audio": "b", "hypothesis": "a"})
    assert selection != CorpusSelection("manifest", "x")
