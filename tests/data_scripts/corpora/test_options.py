"""What is asked of a corpus: refused before anything is read, and the same however it is written."""

import argparse
import dataclasses
from pathlib import Path

import pytest

from data_scripts.corpora import CorpusSelection
from data_scripts.corpora.options import add_options
from data_scripts.errors import CorpusError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corpus": "ravdes"}, "unknown corpus 'ravdes'; known: dataset, iemocap, manifest, meld, ravdess"),
        ({"corpus": "ravdess", "emotions": ["bored"]}, "RAVDESS speech has no emotion bored; it has neutral, calm"),
        ({"corpus": "iemocap", "emotions": ["joy"]}, "IEMOCAP has no emotion joy; it has neutral, happy, excited"),
        ({"corpus": "meld", "emotions": ["calm", "fear", "bored"]}, "MELD has no emotion calm, bored; it has neutral"),
        ({"corpus": "ravdess", "emotions": ["sad", "sad"]}, "each only once"),
        ({"emotions": []}, "at least one class"),
        ({"corpus": "iemocap", "sessions": []}, "sessions must name at least one session"),
        ({"corpus": "ravdess", "sessions": ["1"]}, "RAVDESS speech has no sessions to choose from: leave --sessions"),
        ({"sessions": ["1"]}, "has no sessions to choose from"),
        ({"corpus": "meld", "text_column_name": "a"}, "MELD has no columns to choose from: leave --text_column_name"),
        ({"corpus": "ravdess", "train_split_name": "a"}, "has no splits to choose from"),
        ({"dataset_config_name": "a"}, "has no configurations to choose from"),
        ({"corpus": "dataset", "train_split_name": "a", "test_split_name": "a"}, "each split needs a name of its own"),
        ({"audio_column_name": "a", "label_column_name": "A"}, "both name A: a column is one thing"),
        ({"corpus": "ravdess", "label_map": ["glad=joy"]}, "label_map names glad, which RAVDESS speech does not have"),
        (
            {"corpus": "ravdess", "emotions": ["happy"], "label_map": ["happy=joy"]},
            "RAVDESS speech has no emotion happy; it has neutral, calm, joy",
        ),
        ({"dataset_name": "user/name", "data_dir": "folder"}, "in place of corpus and data_dir"),
        ({"dataset_name": "user/name", "corpus": "meld"}, "in place of corpus and data_dir"),
        ({"num_workers": 0}, "num_workers must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(arguments, message):
    with pytest.raises(CorpusError, match=message):
        CorpusSelection(**{"data_dir": None if "dataset_name" in arguments else "nowhere", **arguments})


def test_what_depends_on_the_data_is_checked_later():
    CorpusSelection("manifest", "x", ["anything"], label_map={"any": "anything"})


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
    assert selection == CorpusSelection("iemocap", "corpus", ("sad", "happy"), ["2", "10"])
    assert selection != CorpusSelection("iemocap", "corpus", ("happy", "sad"), ["2", "10"])
    assert selection.place == Path("corpus")
    table = CorpusSelection("manifest", "x", label_map=["b=c", "a=c"], text_column_name="a", audio_column_name="b")
    assert table.describe()["columns"] == {"audio": "b", "hypothesis": "a"}
    assert table.describe()["label_map"] == {"a": "c", "b": "c"}
    assert table == dataclasses.replace(table) == dataclasses.replace(table, label_map={"a": "c", "b": "c"})
    dataset = CorpusSelection(dataset_name="user/name", eval_split_name="dev", dataset_config_name="one")
    assert (dataset.corpus, dataset.where) == ("dataset", "user/name")
    assert dataset.describe()["split_names"] == {"validation": "dev"}
    assert dataset.describe()["config_name"] == "one"


def test_a_command_line_says_the_same():
    parser = argparse.ArgumentParser()
    add_options(parser, skip=("corpus", "strict"))
    words = "--data_dir x --emotions sad happy --label_map a=happy --speaker_column_name who --num_workers 3"
    selection = CorpusSelection.parse(parser.parse_args(words.split()), corpus="manifest")
    expected = CorpusSelection(
        "manifest", "x", ["sad", "happy"], label_map={"a": "happy"}, speaker_column_name="who", num_workers=3
    )
    assert selection == expected
    usage = parser.format_help()
    assert "--data_dir FOLDER" in usage
    assert "--strict" not in usage
