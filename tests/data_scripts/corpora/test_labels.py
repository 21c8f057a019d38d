"""Labels become classes: by a map in any of its forms, by other spellings, and counted before and after."""

import json

import pytest

from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.labels import map_label, parse_label_map
from data_scripts.corpora.ravdess import EMOTIONS
from data_scripts.corpora.registry import assign_classes, scan_corpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from tests.helpers.layouts import make_iemocap, make_ravdess


def rows(*labels):
    """Rows with these labels."""
    return [{"id": str(number), "emotion": label} for number, label in enumerate(labels)]


def assigned(*labels, label_map=None, wanted=None):
    """The classes of rows with these labels, the classes there are, and the report."""
    report = PreparationReport("x")
    selection = CorpusSelection("manifest", "table.csv", wanted, label_map=label_map)
    kept, classes = assign_classes(rows(*labels), selection, report)
    return [row["emotion"] for row in kept], classes, report


def test_every_form_of_a_map_says_the_same(tmp_path):
    (tmp_path / "m.json").write_text('{"happy": "joy", "calm": "neutral"}', encoding="utf-8-sig")
    (tmp_path / "m.yaml").write_text("happy: joy\ncalm: neutral\n")
    expected = {"happy": "joy", "calm": "neutral"}
    for form in (
        ["happy=joy", "calm=neutral"],
        ["happy = joy ", " calm=neutral"],
        expected,
        json.dumps(expected),
        [json.dumps(expected)],
        str(tmp_path / "m.json"),
        [str(tmp_path / "m.yaml")],
        tmp_path / "m.yaml",
        ["happy=joy", {"calm": "neutral"}],
    ):
        assert parse_label_map(form) == expected
    assert parse_label_map(None) == parse_label_map([]) == {}
    assert parse_label_map("a=b=c") == {"a": "b=c"}
    assert parse_label_map('{"1": "happy", "2": 3}') == {"1": "happy", "2": "3"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("happy", "'happy' is no pair of label and class: write happy=joy"),
        (["happy="], "is no name of a label or class"),
        (["happy=joy", "Happy=sad"], "maps Happy to both joy and sad"),
        ("gone.json", "gone.json cannot be read"),
        ("list.yaml", r"list.yaml is no mapping of labels to classes, but list"),
        ("{a: [1]}", "is no name of a label or class"),
        ('{"a": true}', "true is no name of a label or class: put it in quotes"),
        ("{a: b", "is neither JSON nor YAML"),
        ([["a", "b"]], "is no mapping of labels to classes, but list"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("- happy\n")
    with pytest.raises(CorpusError, match=message):
        parse_label_map(value)


def test_a_map_is_applied_once_and_in_any_case():
    assert map_label("HAPPY ", {"happy": "joy"}) == "joy"
    assert [map_label(name, {"a": "b", "b": "a"}) for name in "abc"] == ["b", "a", "c"]
    assert CORPORA["manifest"].classes({"a": "c"}, None, "ab") == (["c", "b"], {"a": "c", "b": "b"})


def test_spellings_of_a_label_are_one_class():
    labels, classes, report = assigned("Happy", "happy", "happy ", "happy", "sad")
    assert (labels, classes) == (["happy"] * 4 + ["sad"], ["happy", "sad"])
    assert report.repaired == [
        {"id": "0", "reason": "label 'Happy' read as 'happy'"},
        {"id": "2", "reason": "label 'happy ' read as 'happy'"},
    ]
    assert report.labels == {"before": {"Happy": 1, "happy": 2, "happy ": 1, "sad": 1}, "after": {"happy": 4, "sad": 1}}
    assert "labels: Happy 1, happy 2, happy  1, sad 1 -> happy 4, sad 1" in report.table()


def test_the_spelling_asked_for_wins():
    assert assigned("happy", "happy", "HAPPY", wanted=["HAPPY"])[:2] == (["HAPPY"] * 3, ["HAPPY"])
    assert assigned("glad", "Joy", "joy", label_map={"glad": "Joy"})[:2] == (["Joy"] * 3, ["Joy"])
    # As East Asian keyboards write it.
    assert assigned("joy", "\uff4a\uff4f\uff59", "joy")[:2] == (["joy"] * 3, ["joy"])


def test_a_map_then_a_selection():
    labels, classes, report = assigned(
        "happy", "excited", "sad", "fru", label_map={"excited": "joy", "happy": "joy"}, wanted=["sad", "joy"]
    )
    assert (labels, classes) == (["joy", "joy", "sad"], ["sad", "joy"])
    assert report.dropped == [{"id": "3", "reason": "emotion not selected: fru"}]
    assert report.labels["after"] == {"fru": 1, "joy": 2, "sad": 1}


def test_what_no_row_has_is_named():
    with pytest.raises(CorpusError, match=r"label_map names hapy, which .*table.csv does not have; it has happy, sad"):
        assigned("happy", "sad", label_map={"hapy": "joy"})
    with pytest.raises(CorpusError, match=r"table.csv has no emotion happy; it has joy, sad"):
        assigned("happy", "sad", label_map={"happy": "joy"}, wanted=["happy"])


def test_ravdess_with_calm_as_neutral(tmp_path):
    make_ravdess(tmp_path)
    scanned, report = scan_corpus(CorpusSelection("ravdess", tmp_path, label_map=["calm=neutral"]))
    assert scanned.emotions == [name for name in EMOTIONS if name != "calm"]
    assert report.labels["before"]["calm"] == 4
    assert report.labels["after"]["neutral"] == sum(row["emotion"] == "neutral" for row in scanned.rows) == 8
    wanted = CorpusSelection("ravdess", tmp_path, ["joy", "sad"], label_map={"happy": "joy"})
    scanned, report = scan_corpus(wanted)
    assert (scanned.emotions, {row["emotion"] for row in scanned.rows}) == (["joy", "sad"], {"joy", "sad"})
    assert set(report.reasons("dropped").values()) == {4}


@pytest.mark.parametrize(
    ("label_map", "emotions", "classes", "counts"),
    [
        # Excited counts as happy unless the map or the classes name it.
        ({"happy": "joy"}, None, ["neutral", "joy", "angry", "sad"], {"joy": 1636}),
        ({"excited": "angry"}, None, ["neutral", "happy", "angry", "sad"], {"happy": 595, "angry": 2144}),
        ({"frustrated": "angry"}, None, ["neutral", "happy", "angry", "sad"], {"happy": 1636, "angry": 2952}),
        ({"frustrated": "upset"}, None, ["neutral", "happy", "angry", "sad", "upset"], {"upset": 1849}),
        ({"sad": "down"}, ["down", "excited"], ["down", "excited"], {"down": 1084, "excited": 1041}),
    ],
)
def test_the_counts_of_iemocap_under_a_map(tmp_path, label_map, emotions, classes, counts):
    make_iemocap(tmp_path, codes=("neu", "hap", "exc", "ang", "sad", "fru"))
    scanned, report = scan_corpus(CorpusSelection("iemocap", tmp_path, emotions, label_map=label_map))
    assert sorted(scanned.emotions) == sorted(classes)
    assert counts.items() <= report.expected["emotions"].items()
    assert set(report.expected["emotions"]) == {row["emotion"] for row in scanned.rows} == set(classes)
