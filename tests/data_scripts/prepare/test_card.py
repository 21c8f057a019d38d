"""The dataset card: what the corpus's makers ask, where each split lies, and no path of this machine."""

import pytest
import yaml

from data_scripts.corpora import CORPORA
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.card import CARD_MARK, dataset_card

SELECTION = {"name": "x", "data_dir": "/somewhere/on/this/machine", "emotions": None, "sessions": None}


@pytest.fixture
def report():
    """Two splits of a few utterances."""
    report = PreparationReport("iemocap", selection=SELECTION)
    rows = [{"emotion": "sad", "speaker": "a", "session": "1", "duration": 2.0}]
    report.count("train", rows * 3, ["sad"])
    report.count("test", rows, ["sad"])
    return report


def head(card):
    """The YAML head."""
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_it_says_what_the_record_says(name, report):
    record = CORPORA[name]
    card = dataset_card(record, report, embedded=False, tables="abc")
    assert head(card).get("license") == record.license
    assert head(card)["pretty_name"] == record.title
    assert f"# {record.title}, prepared for speech emotion recognition\n" in card
    assert record.about in card
    assert "/somewhere" not in card
    assert CARD_MARK in card


def test_it_names_every_split_and_the_counts(report):
    card, embedded = (dataset_card(CORPORA["iemocap"], report, embedded=kind, tables="abc") for kind in (False, True))
    (config,) = head(card)["configs"]
    assert config["data_files"] == [{"split": name, "path": f"{name}.parquet"} for name in ("train", "test")]
    assert report.table() in card
    assert "absolute paths on the machine that prepared it" in card
    assert "The audio is inside the Parquet files." in embedded
