"""What a corpus is to the rest of the code: records and selections of it."""

import dataclasses
from pathlib import Path

import pytest

from data_scripts.corpora.base import CorpusRecord, Selection, check_emotions
from data_scripts.errors import CorpusError

RECORD = CorpusRecord("toy", "Toy speech", None, "Made up.", lambda *_: None, emotions=("sad", "happy"))


def test_a_selection_is_normalised():
    selection = Selection("toy", "folder", ["sad"], ["10", 9, "9"])
    assert selection.data_dir == Path("folder")
    assert (selection.emotions, selection.sessions) == (("sad",), ("9", "10"))
    assert (Selection("toy", "x").emotions, Selection("toy", "x").sessions) == (None, None)
    assert hash(selection) == hash(Selection("toy", Path("folder"), ("sad",), ["9", "10"]))


def test_a_record_checks_what_it_has():
    RECORD.check(Selection("toy", "x"))
    RECORD.check(Selection("toy", "x", ["happy"]))
    with pytest.raises(CorpusError, match="Toy speech has no emotion calm, bored; it has sad, happy"):
        RECORD.check(Selection("toy", "x", ["calm", "sad", "bored"]))
    with pytest.raises(CorpusError, match="Toy speech has no sessions to choose from: leave --sessions out"):
        RECORD.check(Selection("toy", "x", sessions=["1"]))


def test_a_record_knows_what_is_wanted_by_default():
    assert RECORD.wanted_emotions(Selection("toy", "x")) == ["sad", "happy"]
    assert RECORD.wanted_emotions(Selection("toy", "x", ["happy"])) == ["happy"]
    few = dataclasses.replace(RECORD, default_emotions=("happy",))
    assert few.wanted_emotions(Selection("toy", "x")) == ["happy"]
    assert few.wanted_emotions(Selection("toy", "x", ["happy", "sad"])) == ["happy", "sad"]


def test_emotions_that_depend_on_the_data_are_checked_later():
    CorpusRecord("toy", "Toy", None, "", lambda *_: None).check(Selection("toy", "x", ["anything"]))
    with pytest.raises(CorpusError, match=r"a\.csv has no emotion calm; it has none"):
        check_emotions(["calm"], [], Path("a.csv"))
