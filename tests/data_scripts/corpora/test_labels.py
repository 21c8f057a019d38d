"""Labels become classes: by a map in any of its forms, by other spellings, and counted before and after."""

import json
from decimal import Decimal

import numpy as np
import pytest

from data_scripts.corpora import CORPORA, CorpusSelection
from data_scripts.corpora.labels import map_label, parse_label_map
from data_scripts.corpora.ravdess import EMOTIONS
from data_scripts.corpora.registry import assign_classes, scan_corpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from tests.helpers.layouts import make_iemocap, make_ravdess


def assigned(*labels, label_map=None, wanted=None):
    """The classes of rows with these labels, the classes there are, and the report."""
    report = PreparationReport("x")
    selection = CorpusSelection("manifest", "table.csv", wanted, label_map=label_map)
    rows = [{"id": str(number), "emotion": label} for number, label in enumerate(labels)]
    kept, classes = assign_classes(rows, selection, report)
    return [row["emotion"] for row in kept], classes, report


def test_every_form_of_a_map_says_the_same(tmp_path):
    (tmp_path / "m.json").write_text('{"happy": "joy", "calm": "neutral"}', encoding="utf-8-sig")
    (tmp_path / "m.yaml").write_text("happy: joy\ncalm: neutral\n")
    expected = {"happy": "joy", "calm": "neutral"}
    for form in (
        ["happy=joy", "calm=neutral"],
        ["happy = joy ", " calm=neutral"],
        "happy=joy,calm=neutral",
        "happy=joy; calm=neutral,",
        "happy=joy calm=neutral",
        ["happy=joy,", "calm=neutral"],
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
    assert parse_label_map(["very happy=so glad", "fear,disgust=both"]) == {
        "very happy": "so glad",
        "fear,disgust": "both",
    }
    assert parse_label_map('{"1": "happy", "2": 3}') == {"1": "happy", "2": "3"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("happy", "'happy' is no pair of label and class: write happy=joy"),
        ("happy:joy", "'happy:joy' is no pair of label and class: write happy=joy"),
        *((value, "is no pair") for value in ("a=x,b:y", "a==x", "very happy=joy b=x", "a->x")),
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


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *((value, "sad") for value in (["sad"], "['sad']", '["sad"]', "[sad]", ("sad",), b"sad", np.array(["sad"]))),
        *((value, "3") for value in (3.0, 3, "3", [3], np.int64(3), Decimal(3))),
        *((value, value) for value in ("1.0", "happy/excited", "[sad", "(sad)", "\U0001f600", "+", "none of these")),
    ],
    ids=repr,
)
def test_a_value_is_a_label(value, label):
    labels, classes, report = assigned(value, "angry")
    assert (labels, set(classes)) == ([label, "angry"], {label, "angry"})
    assert not report.dropped + report.repaired


_WORDS = ["nan", "N/A", "n.a.", "<NA>", "#N/A", "None", "(none)", "NULL", "-", "?", "\u2014", "...", "xxx"]
_WORDS += ["unknown", "\u200b"]


@pytest.mark.parametrize("value", [None, float("nan"), "", " \t", [], "[]", {}, *_WORDS, ["N/A"]], ids=repr)
def test_a_value_that_is_missing_is_no_class(value):
    labels, classes, report = assigned(value, "sad", "angry")
    assert (labels, classes) == (["sad", "angry"], ["angry", "sad"])
    word = value[0] if value == ["N/A"] else value if value in _WORDS else None
    reason = (
        f"no emotion: {word!r} (a class of that name is kept by --label_map or --emotions)" if word else "no emotion"
    )
    assert report.dropped == [{"id": "0", "reason": reason}]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"wanted": ["none", "sad"]}, ["none", "none", "sad"]),
        ({"label_map": {"none": "calm"}}, ["calm", "calm", "sad"]),
        ({"label_map": {"sad": "none"}}, ["none"] * 3),
    ],
)
def test_a_class_whose_name_is_such_a_word_is_named_by_the_user(options, labels):
    assert assigned("none", "None", "sad", **options)[0] == labels


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *(
            (value, "a list: give each recording one")
            for value in (["sad", "angry"], "['sad', 'angry']", "[sad, angry]")
        ),
        *((value, "is several: give each recording one") for value in ("sad;angry", "Angry, sad", "sad-angry")),
        *((value, "votes, ratings or prob") for value in ({"sad": 0.7, "angry": 0.3}, '{"sad": 0.7}', "{'sad': 2}")),
        *((value, "a list of numbers") for value in ([0, 1], "[0, 1]", "0 1", "[0. 1.]", np.array([0.0, 1.0]))),
        *((value, r"with a fraction.*--label_column_name") for value in (3.72, "3.72", "3,72", Decimal("-.5"))),
        *((value, "a truth value.*--label_map true=angry") for value in (True, "True", "false")),
    ],
    ids=repr,
)
def test_what_is_no_label_is_refused_with_its_count(value, message):
    with pytest.raises(
        CorpusError, match=rf"table.csv: 2 of 5 labels cannot be read, the first of 1: .*{message}"
    ) as error:
        assigned("sad", value, "angry", value, None)
    assert len(str(error.value)) < 250
    assert "\n" not in str(error.value)


def test_what_a_map_names_is_a_label_whatever_it_is():
    named = {"true": "angry", "False": "other", "3.72": "high", "sad;angry": "mixed"}
    assert assigned(True, False, 3.72, "sad;angry", "sad", "angry", label_map=named)[0] == [
        *("angry", "other", "high"),
        *("mixed", "sad", "angry"),
    ]


def test_labels_that_are_the_speakers_are_refused():
    rows = [{"id": name, "emotion": name, "speaker": f"{name} "} for name in ("Anna", "Ben", "7")]
    selection = CorpusSelection("manifest", "table.csv")
    with pytest.raises(CorpusError, match=r"each label is its row's speaker \(7, Anna, Ben …\).*--speaker_column_name"):
        assign_classes(rows, selection, PreparationReport("x"))
    assign_classes([*rows, {**rows[0], "speaker": "Ben"}], selection, PreparationReport("x"))


def test_nearly_as_many_classes_as_rows_are_none():
    with pytest.raises(CorpusError, match=r"has 11 classes in 20 rows \(a, b, c …\).*--label_column_name"):
        assigned(*"abcdefghijk", *"abcdefghi")
    assert len(assigned(*"abcdefghij", *"abcdefghij")[1]) == 10


@pytest.mark.parametrize("column", ["speaker", "session"])
@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["07", "7", "7.0", "07", "8"], ["07"] * 4 + ["8"]),
        (["spk07", "SPK7", "spk7", "spk7", "spk70"], ["spk7"] * 4 + ["spk70"]),
        (["Anna  B", "anna_b ", "Anna B", "Anna B", "Ann"], ["Anna B"] * 4 + ["Ann"]),
        (["'S-1'", "s 1.", "S-01", "S-01", "-1"], ["S-01"] * 4 + ["-1"]),
        (["Zo\u00eb", "Zoe\u0308", "\uff3aoe\u0308", "Zo\u00eb", "Zoe"], ["Zo\u00eb"] * 4 + ["Zoe"]),
        (["1.05", "1.5", "10", "1", "105"], ["1.05", "1.5", "10", "1", "105"]),
        (["Ses01F", "Ses01M", "Ses10F", None, "Ses01F"], ["Ses01F", "Ses01M", "Ses10F", None, "Ses01F"]),
        (["unknown", "nan", "?", "A", "B"], [None, None, None, "A", "B"]),
    ],
)
def test_spellings_of_a_speaker_or_session_are_one(column, names, read):
    report = PreparationReport("x")
    rows = [{"id": str(number), "emotion": "ab"[number % 2], column: name} for number, name in enumerate(names)]
    kept, _ = assign_classes(rows, CorpusSelection("manifest", "table.csv"), report)
    assert [row[column] for row in kept] == read
    changed = [number for number, pair in enumerate(zip(names, read, strict=True)) if len(set(pair)) == 2]
    assert [note["id"] for note in report.repaired] == [str(number) for number in changed]
    assert all(note["reason"].startswith(f"{column} ") for note in report.repaired)


def test_spellings_that_look_alike_are_told_apart_in_the_report():
    *_, report = assigned("Zo\u00eb", "Zoe\u0308", "Zo\u00eb", "ZO\u00cb")
    assert [note["reason"] for note in report.repaired] == [
        r"label 'Zoe\u0308' read as 'Zo\xeb'",
        "label 'ZO\u00cb' read as 'Zo\u00eb'",
    ]


def test_speakers_of_a_corpus_with_its_own_labels_stay():
    rows = [{"id": name, "emotion": "happy", "speaker": name} for name in ("07", "7", "nan")]
    kept, _ = assign_classes(rows, CorpusSelection("ravdess", "folder"), PreparationReport("x"))
    assert [row["speaker"] for row in kept] == ["07", "7", "nan"]


def test_a_map_then_a_selection():
    labels, classes, report = assigned(
        "happy", "excited", "sad", "fru", label_map={"excited": "joy", "happy": "joy"}, wanted=["sad", "joy"]
    )
    assert (labels, classes) == (["joy", "joy", "sad"], ["sad", "joy"])
    assert report.dropped == [{"id": "3", "reason": "emotion not selected: fru"}]
    assert report.labels["after"] == {"fru": 1, "joy": 2, "sad": 1}


def test_what_no_row_has_is_named():
    with pytest.raises(
        CorpusError, match=r"names hapy \(did you mean happy\?\), which .*csv does not have; it has happy, sad"
    ):
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
