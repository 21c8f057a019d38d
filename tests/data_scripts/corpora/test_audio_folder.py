"""AudioFolder: classes by folder, metadata tables, splits, archives, and what is named wrongly."""

import json
import unicodedata
import zipfile

import pandas as pd
import pytest

from data_scripts import load_corpus
from data_scripts.corpora.folders import APPLE_DOUBLE
from data_scripts.corpora.lookup import OTHER_FOLDER, OTHER_SPELLING
from data_scripts.errors import CorpusError
from tests.helpers.layouts import drop_reasons, write_wav


def content(corpus):
    """{split: {id: class}} of a corpus."""
    return {
        split: dict(zip(part["id"], part.features["emotion"].int2str(part["emotion"][:]), strict=True))
        for split, part in corpus.dataset.items()
    }


def make_classes(root, *places):
    """A recording at each of these places."""
    for number, place in enumerate(places):
        write_wav(root / place, seed=number)
    return root


@pytest.mark.parametrize(
    ("places", "tables", "found"),
    [
        (["happy/1.wav", "sad/2.flac"], {}, {"train": {"happy/1.wav": "happy", "sad/2.flac": "sad"}}),
        (
            ["train/happy/1.wav", "validation/sad/3.wav", "test/happy/1.wav"],
            {},
            {
                "train": {"train/happy/1.wav": "happy"},
                "validation": {"validation/sad/3.wav": "sad"},
                "test": {"test/happy/1.wav": "happy"},
            },
        ),
        # A table without labels takes those of the folders.
        (
            ["happy/1.wav", "sad/2.wav"],
            {"": "file_name,speaker\nhappy/1.wav,x\nsad/2.wav,y\n"},
            {"train": {"happy/1.wav": "happy", "sad/2.wav": "sad"}},
        ),
        (
            ["train/1.wav", "test/1.wav"],
            {"train": "file_name;label\n1.wav;sad\n", "test": "file_name;label\n1.wav;happy\n"},
            {"train": {"train/1.wav": "sad"}, "test": {"test/1.wav": "happy"}},
        ),
    ],
)
def test_folders_and_tables(tmp_path, places, tables, found):
    make_classes(tmp_path, *places)
    for folder, text in tables.items():
        (tmp_path / folder / "metadata.csv").write_text(text)
    corpus = load_corpus("dataset", tmp_path)
    assert content(corpus) == found
    assert corpus.report.columns["emotion"] == "label"
    first, place = corpus.dataset["train"][0], next(iter(found["train"]))
    assert first["audio"] == {"path": str(tmp_path / place), "bytes": None}
    assert first["speaker"] == ("x" if "" in tables else None)


def test_a_table_knows_better_than_the_folders_whatever_it_calls_the_class(tmp_path):
    make_classes(tmp_path, "happy/1.wav", "sad/2.wav")
    (tmp_path / "metadata.csv").write_text("file_name,emo\nhappy/1.wav,calm\nsad/2.wav,angry\n")
    assert content(load_corpus("dataset", tmp_path)) == {"train": {"happy/1.wav": "calm", "sad/2.wav": "angry"}}


@pytest.mark.parametrize(
    ("places", "found", "dropped"),
    [
        (
            ["Train/happy/1.wav", "TEST set/sad/2.wav", "extra/sad/3.wav", "extra/4.wav"],
            {"train": {"Train/happy/1.wav": "happy"}, "test": {"TEST set/sad/2.wav": "sad"}},
            ["extra/4.wav", "extra/sad/3.wav"],
        ),
        # Splits within the classes of each speaker.
        (
            ["01/sad/train/1.wav", "01/sad/dev/2.wav", "01/joy/evaluation/3.wav", "02/joy/train/4.wav"],
            {
                "train": {"01/sad/train/1.wav": "sad", "02/joy/train/4.wav": "joy"},
                "validation": {"01/sad/dev/2.wav": "sad"},
                "test": {"01/joy/evaluation/3.wav": "joy"},
            },
            [],
        ),
        # As `datasets` divides files by their names, where all have one of a split.
        (
            ["happy/train_1.wav", "sad/test_2.wav"],
            {"train": {"happy/train_1.wav": "happy"}, "test": {"sad/test_2.wav": "sad"}},
            [],
        ),
        (["happy/train_1.wav", "sad/2.wav"], {"train": {"happy/train_1.wav": "happy", "sad/2.wav": "sad"}}, []),
    ],
)
@pytest.mark.parametrize("root", ["plain", "run [1]", "a*b"])
def test_splits_by_folder(tmp_path, places, found, dropped, root):
    make_classes(tmp_path / "run 1", "angry/9.wav", "fear/9.wav")
    corpus = load_corpus("dataset", make_classes(tmp_path / root, *places))
    assert content(corpus) == found
    assert sorted(drop_reasons(corpus.report)) == dropped
    assert all("beside the folders of the splits (test, train)" in note["reason"] for note in corpus.report.dropped)


def test_a_metadata_table_in_another_spelling(tmp_path):
    """The class comes from the folder of the file that is found."""
    make_classes(tmp_path, unicodedata.normalize("NFD", "happy/é.wav"), "sad/2.wav")
    (tmp_path / "Metadata.csv").write_text("file_name,speaker\nhappy/é.WAV,x\n2.wav,y\n", encoding="utf-8")
    corpus = load_corpus("dataset", tmp_path)
    assert list(content(corpus)["train"].values()) == ["happy", "sad"]
    assert corpus.report.reasons("repaired") == {OTHER_SPELLING: 1, OTHER_FOLDER: 1}
    assert not corpus.report.dropped


def test_speakers_and_links(tmp_path):
    make_classes(tmp_path / "in", *(f"{a}/{b}/1.wav" for a in ("Bob", "Ann") for b in ("happy", "sad")))
    (tmp_path / "in" / "Eve").symlink_to((tmp_path / "in" / "Bob").rename(tmp_path / "else"))
    corpus = load_corpus("dataset", tmp_path / "in")
    assert content(corpus)["train"]["Eve/sad/1.wav"] == "sad"
    assert corpus.dataset["train"]["speaker"][:] == ["Ann", "Ann", "Eve", "Eve"]
    assert corpus.report.columns["speaker"] == "speaker"
    assert not corpus.report.dropped


def test_where_the_folders_do_not_say_the_user_does(tmp_path):
    make_classes(tmp_path, *(f"train/{a}/{b}/1.wav" for a in ("calls", "chats") for b in ("ann", "bob")))
    with pytest.raises(CorpusError, match=r"folders in folders.*--label_column_name folder_1 or folder_2"):
        load_corpus("dataset", tmp_path)
    corpus = load_corpus("dataset", tmp_path, label_column_name="folder_1", speaker_column_name="folder_2")
    assert content(corpus)["train"]["train/chats/ann/1.wav"] == "chats"
    assert corpus.dataset["train"]["speaker"][:] == ["ann", "bob", "ann", "bob"]


@pytest.mark.parametrize(
    ("places", "table", "message"),
    [
        (["wavs/1.wav", "wavs/2.wav"], None, "recordings, but no labels.* or give a table of them by --data_dir"),
        (["test/sad/1.wav", "happy/1.wav"], None, "beside those of test, e.g. happy/1.wav: put the training data into"),
        (["1.wav", "2.wav"], None, "recordings, but no labels: put them into a folder for each class"),
        (["train/1.wav", "test/1.wav"], None, "recordings, but no labels"),
        (["1.wav", "2.wav"], "name,label\n1.wav,sad\n", r"metadata\.csv has no column file_name"),
        *(
            (
                ["1.wav"],
                f"file_name,label\n{name},sad\n",
                r"metadata\.csv, row 1: file_name .* is no file of that folder",
            )
            for name in ("../1.wav", "/etc/1.wav", "")
        ),
    ],
)
def test_what_cannot_be_read(tmp_path, places, table, message):
    make_classes(tmp_path / "in", *places)
    if table is not None:
        (tmp_path / "in" / "metadata.csv").write_text(table)
    with pytest.raises(CorpusError, match=message):
        load_corpus("dataset", tmp_path / "in")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_metadata_table(tmp_path, kind):
    make_classes(tmp_path, "1.wav", "wavs/2.wav", "left.wav")
    rows = [
        {"file_name": "1.wav", "feeling": "sad", "speaker_id": "a", "text": "hi", "sentence": "hi there"},
        {"file_name": "wavs/2.wav", "feeling": "happy", "speaker_id": "b", "text": "ho", "sentence": "ho there"},
        {"file_name": "gone.wav", "feeling": "sad", "speaker_id": "b", "text": "ho", "sentence": "ho there"},
    ]
    if kind == "csv":
        pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    elif kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pd.DataFrame(rows).to_parquet(tmp_path / "metadata.parquet")
    corpus = load_corpus("dataset", tmp_path, label_column_name="feeling")
    assert content(corpus) == {"train": {"1.wav": "sad", "wavs/2.wav": "happy"}}
    part = corpus.dataset["train"]
    assert part["speaker"][:] == ["a", "b"]
    assert part["hypothesis"][:] == ["hi", "ho"]
    assert part["transcript"][:] == ["hi there", "ho there"]
    reasons = drop_reasons(corpus.report)
    assert reasons.pop("gone.wav").startswith("audio file missing (looked in ")
    assert reasons == {"left.wav": "named by no metadata table"}


def archive(path, source):
    """Put all files of a folder into an archive."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for each in sorted(source.rglob("*.*")):
            made.write(each, each.relative_to(source))


@pytest.mark.parametrize("root", ["plain", "run [1]"])
@pytest.mark.parametrize(("names", "splits"), [(("train", "test"), ["train", "test"]), (("a", "b"), ["train"])])
def test_archives_that_hold_the_same_places(tmp_path, names, splits, root):
    source = make_classes(tmp_path / "source", "happy/1.wav", "sad/1.wav")
    for name in names:
        archive(tmp_path / root / f"{name}.zip", source)
    found = content(load_corpus("dataset", tmp_path / root))
    assert list(found) == splits
    assert sorted(label for part in found.values() for label in part.values()) == ["happy", "happy", "sad", "sad"]


def test_an_archive_and_what_is_no_recording(tmp_path):
    source = make_classes(tmp_path / "source", "happy/1.wav", "sad/1.wav", "sad/._1.wav")
    (source / "notes.txt").write_text("hello")
    archive(tmp_path / "data" / "all.zip", source)
    make_classes(tmp_path / "data", "angry/3.wav", "angry/4.wav")
    corpus = load_corpus("dataset", tmp_path / "data")
    assert content(corpus) == {
        "train": {"angry/3.wav": "angry", "angry/4.wav": "angry", "happy/1.wav": "happy", "sad/1.wav": "sad"}
    }
    other = "neither a recording nor a metadata table"
    assert drop_reasons(corpus.report) == {"sad/._1.wav": APPLE_DOUBLE, "notes.txt": other}
