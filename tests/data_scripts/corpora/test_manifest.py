"""Manifests: what is faulty is refused or dropped by name, and the three formats say the same."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from data_scripts import load_corpus
from data_scripts.corpora import CorpusSelection, scan_corpus
from data_scripts.corpora.columns import COLUMN_OPTIONS
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


@pytest.mark.parametrize("kind", ["csv", "csv with byte order mark", "jsonl", "parquet"])
def test_formats_say_the_same(folder, kind):
    columns = list(FULL[0])
    if kind == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in FULL)
        path = folder / "m.jsonl"
        path.write_text(text, encoding="utf-8")
    elif kind == "parquet":
        path = folder / "m.parquet"
        full = [{name: row.get(name) for name in columns} for row in FULL]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(full), path)
    else:
        cells = [[row.get(name, "").replace('"', '""') for name in columns] for row in FULL]
        lines = [",".join(columns), *(",".join(f'"{cell}"' for cell in row) for row in cells)]
        path = write_csv(folder, *lines, encoding="utf-8-sig" if "mark" in kind else "utf-8")
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
    assert found == {
        "wavs/2.wav": "emotion not selected: bored",
        "wavs/3.wav": "no emotion",
        "wavs/9.wav": "audio file missing",
        "row 6": "no audio",
    }
    assert list(corpus.dataset["train"]["id"]) == ["wavs/1.wav"]


def test_emotions_set_the_order(folder):
    path = write_csv(folder, "audio,emotion", "wavs/1.wav,b", "wavs/2.wav,a", "wavs/3.wav,c")
    corpus = load_corpus("manifest", path, emotions=["b", "a"])
    assert corpus.dataset["train"].features["emotion"].names == ["b", "a"]
    assert list(corpus.dataset["train"]["emotion"]) == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["sound,mood", "wavs/1.wav,sad"], "lacks the columns audio, emotion; its columns: sound, mood. If one of"),
        (["audio,text", "wavs/1.wav,hi"], "lacks the columns emotion; its columns: audio, text"),
        (["audio|emotion", "wavs/1.wav|sad"], "separate the columns by commas"),
        (["path,wav,emotion", "wavs/1.wav,x,sad"], "for the audio: path, wav; say which: --audio_column_name path"),
        (["audio,emotion"], "has no rows"),
        ([""], "has no rows"),
        (["id,audio,emotion", "x,wavs/1.wav,sad", "x,wavs/2.wav,sad"], "1 ids more than once: x"),
        (["audio,emotion", "wavs/1.wav,sad", "wavs/1.wav,happy"], "more than once: wavs/1.wav"),
        (["audio,emotion,split", "wavs/1.wav,sad,holdout"], "wavs/1.wav has the unknown split 'holdout'; use train"),
        (["audio,emotion,split", "wavs/1.wav,sad,train", "wavs/2.wav,sad,"], "wavs/2.wav has no split, though"),
        (["audio,emotion", "wavs/1.wav,sad,surplus"], "line 2: the number of cells"),
        (["audio,emotion", "wavs/1.wav"], "line 2: the number of cells"),
        (["audio,emotion", '"wavs/1.wav,sad'], "after line 1: unexpected end of data"),
        (["audio,emotion", "wavs/9.wav,sad"], "no usable recording of manifest.*1 × audio file missing"),
    ],
)
def test_errors(folder, lines, message):
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus("manifest", write_csv(folder, *lines))
    assert "manifest.csv" in str(caught.value)


def test_splits_go_by_several_names(folder):
    names = {"Train": "train", "VALID": "validation", "dev": "validation", "test": "test"}
    lines = [f"wavs/{number}.wav,sad,{name}" for number, name in enumerate(names, 1)]
    corpus = load_corpus("manifest", write_csv(folder, "audio,emotion,split", *lines))
    found = {row["id"]: split for split, part in corpus.dataset.items() for row in part}
    assert found == {f"wavs/{number}.wav": split for number, split in enumerate(names.values(), 1)}


def test_unknown_wanted_emotion(folder):
    path = write_csv(folder, "audio,emotion", "wavs/1.wav,sad")
    with pytest.raises(CorpusError, match=r"manifest.csv has no emotion hapy; it has sad"):
        load_corpus("manifest", path, emotions=["sad", "hapy"])


def test_in_windows_encoding(folder):
    path = write_csv(folder, "audio,emotion,transcript", "wavs/1.wav,sad,it’s naïve", encoding="cp1252")
    with pytest.raises(CorpusError, match=r"manifest.csv is not UTF-8 .byte 0x92.*CSV UTF-8"):
        load_corpus("manifest", path)


def test_damaged_files(folder):
    (folder / "m.jsonl").write_text('{"audio": "wavs/1.wav", "emotion": "sad"}\n{"audio": \n')
    with pytest.raises(CorpusError, match=r"m.jsonl, line 2: not JSON"):
        load_corpus("manifest", folder)
    (folder / "m.jsonl").write_text('["wavs/1.wav"]\n')
    with pytest.raises(CorpusError, match="line 1: expected an object"):
        load_corpus("manifest", folder / "m.jsonl")
    (folder / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorpusError, match=r"2 manifests .m.jsonl, m.parquet.: name one"):
        load_corpus("manifest", folder)
    with pytest.raises(CorpusError, match=r"m.parquet cannot be read as Parquet"):
        load_corpus("manifest", folder / "m.parquet")
    with pytest.raises(CorpusError, match=r"1.wav is not a manifest"):
        load_corpus("manifest", folder / "wavs" / "1.wav")
    with pytest.raises(CorpusError, match="wavs holds nothing; looked for a manifest"):
        load_corpus("manifest", folder / "wavs")


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


def test_a_tilde_is_the_home_folder(folder, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    write_wav(home / "1.wav")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    rows = load_corpus("manifest", write_csv(folder, "audio,emotion", "~/1.wav,sad")).dataset["train"]
    assert rows[0]["audio"]["path"] == str((home / "1.wav").resolve())


def test_a_backslash_in_a_name_that_exists_is_kept(folder):
    name = folder / "a\\1.wav"
    (folder / "wavs" / "1.wav").rename(name)
    corpus = load_corpus("manifest", write_csv(folder, "audio,emotion", "a\\1.wav,sad"))
    assert corpus.dataset["train"]["audio"][0]["path"] == str(name.resolve())


def test_text_is_never_a_human_reference(folder):
    (row,) = load_corpus("manifest", write_csv(folder, "audio,emotion,text", "wavs/1.wav,sad,hi")).dataset["train"]
    assert (row["hypothesis"], row["transcript"]) == ("hi", None)


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
