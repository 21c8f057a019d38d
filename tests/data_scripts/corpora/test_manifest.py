"""Manifests: what is faulty is refused or dropped by name, and what is there is read."""

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from data_scripts import load_corpus
from data_scripts.corpora import CorpusSelection, scan_corpus
from data_scripts.corpora.columns import COLUMN_OPTIONS
from data_scripts.corpora.lookup import OTHER_FOLDER
from data_scripts.errors import CorpusError
from tests.helpers.layouts import drop_reasons, write_wav


@pytest.fixture
def folder(tmp_path):
    """A folder with the recordings wavs/1.wav … wavs/4.wav."""
    for number in range(1, 5):
        write_wav(tmp_path / "wavs" / f"{number}.wav")
    return tmp_path


def write_csv(folder, *lines, name="manifest.csv", encoding="utf-8"):
    """A CSV of these lines."""
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / name


def test_smallest(folder):
    corpus = load_corpus("manifest", write_csv(folder, "audio,emotion", "wavs/2.wav,sad", "wavs/1.wav,happy"))
    rows = corpus.dataset["train"]
    assert list(corpus.dataset) == ["train"]
    assert rows.features["emotion"].names == ["happy", "sad"]
    assert list(rows["id"]) == ["wavs/2.wav", "wavs/1.wav"]
    assert list(rows["emotion"]) == [1, 0]
    assert rows[0]["audio"] == {"path": str((folder / "wavs" / "2.wav").resolve()), "bytes": None}
    assert rows[0]["speaker"] is rows[0]["transcript"] is rows[0]["hypothesis"] is None


FULL = [
    {
        "audio": "wavs/1.wav",
        "emotion": "sad",
        "id": "a",
        "transcript": 'None, "she" said – naïve 漢 😀',
        "hypothesis": "nun",
        "asr_model": "tiny",
        "speaker": "01",
        "session": "s1",
        "split": "train",
    },
    {"audio": "wavs/2.wav", "emotion": "happy", "id": "b", "hypothesis": "", "asr_model": "tiny", "split": "dev"},
    {"audio": "wavs/3.wav", "emotion": "happy", "id": "c", "transcript": "null", "split": "test"},
]


def test_every_column_and_split(folder):
    pd.DataFrame(FULL).to_csv(folder / "m.csv", index=False)
    corpus = load_corpus("manifest", folder)
    assert {split: list(part["id"]) for split, part in corpus.dataset.items()} == {
        "train": ["a"],
        "validation": ["b"],
        "test": ["c"],
    }
    first, second, third = (part[0] for part in corpus.dataset.values())
    assert first["transcript"] == 'None, "she" said – naïve 漢 😀'
    assert first["session"] == "s1"
    assert (first["speaker"], first["hypothesis"]) == ("01", "nun")  # not the number 1
    assert (second["hypothesis"], second["asr_model"], second["transcript"]) == ("", "tiny", None)
    assert (third["hypothesis"], third["transcript"]) == (None, "null")


def test_embedded_audio(folder):
    audio = [{"path": "one.wav", "bytes": (folder / "wavs" / "1.wav").read_bytes()}, {"path": "x", "bytes": b"junk"}]
    table = pyarrow.table({"audio": audio, "emotion": ["sad", "sad"]})
    pyarrow.parquet.write_table(table, folder / "m.parquet")
    corpus = load_corpus("manifest", folder)
    assert corpus.dataset["train"]["audio"][0] == audio[0]
    assert drop_reasons(corpus.report)["x"].startswith("unreadable audio")


def test_faulty_rows_are_dropped_by_name(folder):
    (folder / "wavs" / "4.wav").write_bytes(b"")
    lines = ["wavs/1.wav,sad", "wavs/2.wav,bored", "wavs/3.wav,", "wavs/9.wav,sad", "wavs/4.wav,sad", ",sad"]
    corpus = load_corpus("manifest", write_csv(folder, "audio,emotion", *lines), emotions=["sad"])
    found = drop_reasons(corpus.report)
    assert found.pop("wavs/4.wav").startswith("unreadable audio: the recording is empty")
    assert found.pop("wavs/9.wav").startswith("audio file missing (looked in ")
    assert found == {"wavs/2.wav": "emotion not selected: bored", "wavs/3.wav": "no emotion", "row 6": "no audio"}
    assert list(corpus.dataset["train"]["id"]) == ["wavs/1.wav"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["sound,mood", "wavs/1.wav,sad"], "lacks the columns audio, emotion; its columns: sound, mood. If one of"),
        (["audio|emotion", "wavs/1.wav|sad"], "separate the columns by commas"),
        (["audio,emotion"], "has no rows"),
        (["audio,emotion,id", "wavs/1.wav,sad,a", "wavs/2.wav,happy,a"], "more than once: a"),
        (["audio,emotion,split", "wavs/1.wav,sad,holdout"], "wavs/1.wav has the unknown split 'holdout'; use train"),
        (["audio,emotion", "wavs/9.wav,sad"], "1 of 1 recordings are missing, e.g. wavs/9.wav .looked in"),
    ],
)
def test_errors(folder, lines, message):
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus("manifest", write_csv(folder, *lines))
    assert "manifest.csv" in str(caught.value)


def test_one_manifest_is_named(folder):
    for name in ("a.csv", "b.jsonl"):
        (folder / name).write_text("")
    for place, message in (
        ("", r"2 manifests .a.csv, b.jsonl.: name one"),
        ("wavs/1.wav", r"1.wav is not a manifest"),
        ("wavs", "wavs holds no table; looked for a manifest"),
    ):
        with pytest.raises(CorpusError, match=message):
            load_corpus("manifest", folder / place)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("train.csv", "dev.csv", "test.csv"), {"train": ["a.wav"], "validation": ["b.wav"], "test": ["c.wav"]}),
        (("Train_labels.csv", "labels-test.csv"), {"train": ["a.wav"], "test": ["b.wav"]}),
        (("all.csv", "info.json"), {"train": ["a.wav"]}),
    ],
)
def test_tables_of_splits(tmp_path, names, found):
    for letter, name in zip("abc", names, strict=False):
        write_wav(tmp_path / f"{letter}.wav", seed=ord(letter))
        lines = [f"{letter}.wav,sad"] if name.endswith("csv") else []
        write_csv(tmp_path, "audio,label" if letter == "a" else "audio,emotion", *lines, name=name)
    corpus = load_corpus("manifest", tmp_path)
    assert {split: list(part["id"]) for split, part in corpus.dataset.items()} == found


def test_recordings_below_the_table_under_the_paths_of_another_machine(folder):
    names = ["/kaggle/input/x/wavs/1.wav", "D:\\set\\2.wav", "file:///gone/3.wav", "https://host/4"]
    path = write_csv(folder, "audio,emotion", *(f"{name},sad" for name in names))
    corpus = load_corpus("manifest", path)
    assert corpus.dataset["train"]["id"][:] == names
    found = [audio["path"] for audio in corpus.dataset["train"]["audio"]]
    assert found == [str((folder / "wavs" / f"{number}.wav").resolve()) for number in range(1, 5)]
    assert corpus.report.reasons("repaired") == {OTHER_FOLDER: 4}


def test_usual_names_encodings_and_windows_paths(folder):
    lines = ["File Name;LABEL;Text;Sentence; SPK ;valence", "wavs\\2.wav;sad;hi, you;Hi you.;7;0.5"]
    path = write_csv(folder, *lines, encoding="utf-16")
    corpus = load_corpus("manifest", path)
    (row,) = corpus.dataset["train"]
    assert row["audio"]["path"] == str((folder / "wavs" / "2.wav").resolve())
    assert (row["hypothesis"], row["transcript"], row["speaker"]) == ("hi, you", "Hi you.", "7")
    assert corpus.report.columns == {
        "audio": "File Name",
        "emotion": "LABEL",
        "transcript": "Sentence",
        "hypothesis": "Text",
        "speaker": "SPK",
    }
    assert corpus.report.unread_columns == ["valence"]
    assert "columns: audio from File Name, emotion from LABEL, transcript from" in corpus.report.table()
    assert "columns not read: valence" in corpus.report.table()


def test_a_tilde_is_the_home_folder_and_a_backslash_in_a_name_stays(folder, monkeypatch):
    (folder / "wavs" / "1.wav").rename(folder / "a\\1.wav")
    monkeypatch.setenv("HOME", str(folder / "wavs"))
    monkeypatch.setenv("USERPROFILE", str(folder / "wavs"))
    path = write_csv(folder, "audio,emotion", "~/2.wav,sad", "a\\1.wav,sad")
    found = [audio["path"] for audio in load_corpus("manifest", path).dataset["train"]["audio"]]
    assert found == [str((folder / place).resolve()) for place in ("wavs/2.wav", "a\\1.wav")]


def test_overlapping_parts_in_two_splits_are_a_leak_and_copies_are_told_once(folder):
    write_wav(folder / "wavs" / "2.wav", seed=2)
    lines = ["audio,emotion,split,start,end", "wavs/1.wav,sad,train,0,0.1", "wavs/2.wav,happy,train,0,0.1"]
    table = write_csv(folder, *lines, "wavs/1.wav,sad,test,0.05,0.2", "wavs/2.wav,happy,test,0,0.1")
    report = load_corpus("manifest", table).report
    assert sorted([*each["train"], *each["test"]] for each in report.audit.recordings) == [
        ["wavs/1.wav 0-0.1 s", "wavs/1.wav 0.05-0.2 s"],
        ["wavs/2.wav 0-0.1 s", "wavs/2.wav 0-0.1 s (2)"],
    ]


def test_chosen_columns(folder):
    lines = ["path,wav,label,mood,text,spoken,who", "x,wavs/1.wav,no,sad,read,said,me"]
    path = write_csv(folder, *lines)
    chosen = {"audio": "wav", "emotion": "Mood", "hypothesis": "spoken", "transcript": "text", "speaker": "who"}
    scanned, report = scan_corpus(
        CorpusSelection("manifest", path, **{COLUMN_OPTIONS[role]: name for role, name in chosen.items()})
    )
    (row,) = scanned.rows
    assert [row[name] for name in ("emotion", "hypothesis", "transcript", "speaker")] == ["sad", "said", "read", "me"]
    assert report.selection["columns"] == chosen
    assert report.columns == {**chosen, "emotion": "mood"}
    assert report.unread_columns == ["path", "label"]
