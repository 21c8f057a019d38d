"""The preparation report: every item accounted for, with its reason, and readable again."""

import json

import pytest

from data_scripts.audit import Audit
from data_scripts.corpora.report import PreparationReport


def kept(emotion, speaker, session=None, seconds=1800.0):
    """A row as the report counts it."""
    return {"emotion": emotion, "speaker": speaker, "session": session, "duration": seconds}


@pytest.fixture
def report():
    """Five kept, three dropped for two reasons, one repaired."""
    report = PreparationReport("toy")
    report.count(
        "train", [kept("happy", "a"), kept("sad", "b", "s2"), kept("sad", "a", "s1")], ["happy", "sad", "calm"]
    )
    report.count("test", [kept("happy", "c"), kept("sad", "a")], ["happy", "sad", "calm"])
    report.drop("x1", "too short")
    report.drop("x2", "no label")
    report.drop("x3", "too short")
    report.repair("y1", "wrong folder")
    return report


def test_counts(report):
    train = report.splits["train"]
    assert (report.kept, train.utterances, train.hours) == (5, 3, 1.5)
    assert train.emotions == {"happy": 1, "sad": 2, "calm": 0}
    assert train.speakers == {"a": 2, "b": 1}
    assert train.sessions == {"(not given)": 1, "s1": 1, "s2": 1}
    assert report.reasons("dropped") == {"too short": 2, "no label": 1}
    assert report.reasons("repaired") == {"wrong folder": 1}


def test_json_round_trip(report, tmp_path):
    report.drop("naïve 漢", "é")
    report.save(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert PreparationReport.from_json(text) == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    content = json.loads(text)
    assert content["kept"] == 5
    assert content["drop_reasons"]["too short"] == 2
    assert {"id": "x2", "reason": "no label"} in content["dropped"]
    assert "naïve 漢" in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"corpus": "a", "splits": {"train": {"odd": 1}}}'])
def test_json_of_something_else(text):
    with pytest.raises(ValueError, match="not a preparation report"):
        PreparationReport.from_json(text)


def words(report):
    """The lines of the table, word by word."""
    return [line.split() for line in report.table().splitlines()]


def test_table(report):
    lines = words(report)
    for expected in (
        "train test all",
        "happy 1 1 2",
        "sad 2 1 3",
        "calm 0 0 0",
        "utterances 3 2 5",
        "speakers 2 2 3",  # "a" is in both splits: three in all
        "hours 1.50 1.00 2.50",
        "dropped: 3",
        "2 too short",
        "repaired: 1",
    ):
        assert expected.split() in lines, report.table()


def test_what_is_not_given_is_no_speaker_and_no_session():
    report = PreparationReport("toy")
    report.count("train", [kept("sad", None)], ["sad"])
    assert ["speakers", "0", "0"] in words(report)
    assert "not given" not in report.table()


def test_expected_counts_and_differences(report, tmp_path):
    report.expected = {"splits": {"train": 3, "test": 4}, "emotions": {"happy": 2, "fear": 1}}
    assert report.found("emotions") == {"happy": 2, "sad": 3, "calm": 0}
    assert report.found("splits") == {"train": 3, "test": 2}
    assert report.differences() == [
        {"kind": "splits", "name": "test", "kept": 2, "expected": 4},
        {"kind": "emotions", "name": "fear", "kept": 0, "expected": 1},
    ]
    lines = words(report)
    for expected in (
        "split kept expected difference",
        "train 3 3",
        "test 2 4 -2",
        "all 5 7 -2",
        "fear 0 1 -1",
        "s1 1",  # sessions are listed even where nothing is known of them
    ):
        assert expected.split() in lines, report.table()
    assert PreparationReport.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["differences"][0]["expected"] == 4


def test_notes_and_the_audit_are_shown_where_there_are_any(report):
    assert "noted" not in report.table()
    assert "leak audit" not in report.table()
    report.note("z1", "long")
    report.note("z2", "long")
    report.audit = Audit(["train", "test"], speakers={"a": ["train", "test"]})
    assert "noted: 2\n  2  long" in report.table()
    assert "leak audit\n  recordings in several splits  0\n  speakers in several splits    1\n" in report.table()
    assert PreparationReport.from_json(report.to_json()) == report


def test_reports_of_earlier_versions_can_be_read(report):
    fields = json.loads(report.to_json())
    del fields["noted"], fields["expected"], fields["selection"]
    assert PreparationReport.from_json(json.dumps(fields)) == report
