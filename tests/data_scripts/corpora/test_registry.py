"""RAVDESS and manifests on disk become canonical rows; whatever is faulty is dropped by name, refused or repaired."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from data_scripts.corpora import registry as corpora
from data_scripts.corpora.ravdess import EMOTIONS, voice
from data_scripts.corpora.registry import load_corpus
from data_scripts.schema import CorpusError, corpus_features
from tests.helpers import SHARED


def record(path, seconds=0.1, rate=16000):
    """Write a short recording, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, int(seconds * rate)), rate)
    return path


def reasons(report):
    """The dropped items and why."""
    return {note["id"]: note["reason"] for note in report.dropped}


# RAVDESS


@pytest.fixture
def ravdess(tmp_path):
    """Two actors, every emotion and statement once."""
    for actor in ("01", "02"):
        for emotion in range(1, 9):
            for statement in ("01", "02"):
                name = f"03-01-{emotion:02d}-01-{statement}-01-{actor}.wav"
                record(tmp_path / f"Actor_{actor}" / name, seconds=0.1 * emotion)
    return tmp_path


def test_ravdess_rows(ravdess):
    corpus = load_corpus("ravdess", ravdess, num_workers=2)
    assert list(corpus.dataset) == ["train"]
    rows = corpus.dataset["train"]
    assert rows.features == corpus_features(EMOTIONS) and len(rows) == 32
    assert list(rows["id"]) == sorted(rows["id"])
    last = rows[31]
    path = (ravdess / "Actor_02" / "03-01-08-01-02-01-02.wav").resolve()
    assert last.pop("duration") == pytest.approx(0.8)
    assert last == {
        "id": "03-01-08-01-02-01-02",
        "audio": {"path": str(path), "bytes": None},
        "speaker": "02",
        "session": None,
        "emotion": EMOTIONS.index("surprised"),
        "transcript": "Dogs are sitting by the door.",
        "hypothesis": None,
        "asr_model": None,
    }
    counts = corpus.report.splits["train"]
    assert counts.emotions == dict.fromkeys(EMOTIONS, 4) and counts.speakers == {"01": 16, "02": 16}
    assert counts.hours == pytest.approx(4 * 0.1 * 36 / 3600)
    assert (corpus.report.dropped, corpus.report.repaired) == ([], [])


def test_ravdess_subset_of_emotions_counts_the_others(ravdess):
    corpus = load_corpus("ravdess", ravdess, emotions=["sad", "happy"])
    rows = corpus.dataset["train"]
    assert rows.features["emotion"].names == ["sad", "happy"]
    assert Counter(rows["emotion"]) == {0: 4, 1: 4}
    assert corpus.report.drop_reasons() == {"emotion not selected": 24}
    assert corpus.report.kept + len(corpus.report.dropped) == 32


def test_ravdess_faulty_files_are_dropped_by_name(ravdess):
    folder = ravdess / "Actor_01"
    good = record(folder / "03-01-05-02-01-01-01.wav")
    record(folder / "03-01-05-02-01-01-01.flac")  # a twin of it
    record(ravdess / "copy" / "Actor_01" / "03-01-01-01-01-01-01.wav")  # the mirror that holds everything twice
    record(folder / "03-02-05-01-01-01-01.wav")  # song
    record(folder / "02-01-05-01-01-01-01.wav")  # from the video
    record(folder / "03-01-09-01-01-01-01.wav")  # no such emotion
    record(folder / "03-01-05-01-03-01-01.wav")  # no such statement
    record(folder / "take two.wav")
    (folder / "03-01-05-01-01-01-01.mp4").write_bytes(b"video")
    (folder / "._03-01-05-01-01-01-01.wav").write_bytes(b"\0\5\x16\7")
    (folder / "03-01-05-02-02-01-01.wav").write_bytes(b"")
    (folder / "03-01-05-02-02-02-01.wav").write_bytes(good.read_bytes()[:1000])
    (folder / "notes.txt").write_text("not a recording")
    corpus = load_corpus("ravdess", ravdess)
    found = reasons(corpus.report)
    assert found == {
        "Actor_01/03-01-05-02-01-01-01.flac": "second copy of a recording",
        "copy/Actor_01/03-01-01-01-01-01-01.wav": "second copy of a recording",
        "Actor_01/03-02-05-01-01-01-01.wav": "song, not speech (vocal channel 02)",
        "Actor_01/02-01-05-01-01-01-01.wav": "not an audio-only recording (modality 01 or 02)",
        "Actor_01/03-01-09-01-01-01-01.wav": "not named as a RAVDESS recording",
        "Actor_01/03-01-05-01-03-01-01.wav": "not named as a RAVDESS recording",
        "Actor_01/take two.wav": "not named as a RAVDESS recording",
        "Actor_01/03-01-05-01-01-01-01.mp4": "not named as a RAVDESS recording",
        "Actor_01/._03-01-05-01-01-01-01.wav": "AppleDouble file of macOS, no audio",
        "03-01-05-02-02-01-01": found["03-01-05-02-02-01-01"],
        "03-01-05-02-02-02-01": found["03-01-05-02-02-02-01"],
    }
    assert found["03-01-05-02-02-01-01"].startswith("unreadable audio: the recording is empty (0 bytes)")
    assert found["03-01-05-02-02-02-01"].startswith("unreadable audio: the recording is truncated")
    assert corpus.report.kept == corpus.dataset["train"].num_rows == 33
    paths = [audio["path"] for audio in corpus.dataset["train"]["audio"]]
    assert str(good.resolve()) in paths and not any("copy" in Path(path).parts for path in paths)


def test_ravdess_misplaced_file_keeps_the_speaker_of_its_name(ravdess):
    record(ravdess / "Actor_02" / "03-01-05-02-01-01-01.wav")
    corpus = load_corpus("ravdess", ravdess)
    row = next(row for row in corpus.dataset["train"] if row["id"] == "03-01-05-02-01-01-01")
    assert row["speaker"] == "01"
    reason = "in another actor's folder: the speaker is taken from the file name"
    assert corpus.report.repaired == [{"id": "Actor_02/03-01-05-02-01-01-01.wav", "reason": reason}]


def test_ravdess_voices():
    assert [voice(speaker) for speaker in ("01", "02", "23", "24")] == ["male", "female", "male", "female"]


def test_the_real_ravdess_is_complete():
    if not (SHARED / "data" / "ravdess").is_dir():
        pytest.skip("no ../shared/data/ravdess beside the repository")
    corpus = load_corpus("ravdess", SHARED / "data" / "ravdess", num_workers=2)
    expected = {name: 64 if name == "neutral" else 128 for name in EMOTIONS}
    assert corpus.report.splits["train"].emotions == expected
    assert corpus.report.splits["train"].speakers == {f"{actor:02d}": 60 for actor in range(1, 17)}
    assert (corpus.report.kept, corpus.report.dropped, corpus.report.repaired) == (960, [], [])


# Manifests


@pytest.fixture
def folder(tmp_path):
    """A folder with the recordings wavs/1.wav … wavs/4.wav."""
    for number in range(1, 5):
        record(tmp_path / "wavs" / f"{number}.wav")
    return tmp_path


def write_csv(folder, *lines, name="manifest.csv", encoding="utf-8"):
    """A CSV of these lines."""
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / name


def test_manifest_smallest(folder):
    corpus = load_corpus("manifest", write_csv(folder, "audio,emotion", "wavs/2.wav,sad", "wavs/1.wav,happy"))
    rows = corpus.dataset["train"]
    assert list(corpus.dataset) == ["train"] and rows.features["emotion"].names == ["happy", "sad"]
    assert list(rows["id"]) == ["wavs/2.wav", "wavs/1.wav"] and list(rows["emotion"]) == [1, 0]
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
def test_manifest_formats_say_the_same(folder, kind):
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
    assert first["transcript"] == 'None, "she" said – naïve 漢 😀' and first["session"] == "s1"
    assert (first["speaker"], first["hypothesis"]) == ("01", "nun")  # not the number 1
    assert (second["hypothesis"], second["asr_model"], second["transcript"]) == ("", "tiny", None)
    assert (third["hypothesis"], third["transcript"]) == (None, "null")


def test_manifest_embedded_audio(folder):
    audio = [{"path": "one.wav", "bytes": (folder / "wavs" / "1.wav").read_bytes()}, {"path": "x", "bytes": b"junk"}]
    table = pyarrow.table({"audio": audio, "emotion": ["sad", "sad"]})
    pyarrow.parquet.write_table(table, folder / "m.parquet")
    corpus = load_corpus("manifest", folder)
    assert corpus.dataset["train"]["audio"][0] == audio[0]
    assert reasons(corpus.report)["x"].startswith("unreadable audio")


def test_manifest_faulty_rows_are_dropped_by_name(folder):
    (folder / "wavs" / "4.wav").write_bytes(b"")
    lines = ["wavs/1.wav,sad", "wavs/2.wav,bored", "wavs/3.wav,", "wavs/9.wav,sad", "wavs/4.wav,sad", ",sad"]
    corpus = load_corpus("manifest", write_csv(folder, "audio,emotion", *lines), emotions=["sad"])
    found = reasons(corpus.report)
    assert found.pop("wavs/4.wav").startswith("unreadable audio: the recording is empty")
    assert found == {
        "wavs/2.wav": "emotion not selected: bored",
        "wavs/3.wav": "no emotion",
        "wavs/9.wav": "audio file missing",
        "row 6": "no audio",
    }
    assert list(corpus.dataset["train"]["id"]) == ["wavs/1.wav"]


def test_manifest_emotions_set_the_order(folder):
    path = write_csv(folder, "audio,emotion", "wavs/1.wav,b", "wavs/2.wav,a", "wavs/3.wav,c")
    corpus = load_corpus("manifest", path, emotions=["b", "a"])
    assert corpus.dataset["train"].features["emotion"].names == ["b", "a"]
    assert list(corpus.dataset["train"]["emotion"]) == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,label", "wavs/1.wav,sad"], "lacks the columns audio, emotion; its columns: file, label"),
        (["audio,text", "wavs/1.wav,hi"], "lacks the columns emotion; its columns: audio, text"),
        (["audio;emotion", "wavs/1.wav;sad"], "separate the columns by commas"),
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
def test_manifest_errors(folder, lines, message):
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus("manifest", write_csv(folder, *lines))
    assert "manifest.csv" in str(caught.value)


def test_manifest_unknown_wanted_emotion(folder):
    path = write_csv(folder, "audio,emotion", "wavs/1.wav,sad")
    with pytest.raises(CorpusError, match="labels no row hapy; its emotions: sad"):
        load_corpus("manifest", path, emotions=["sad", "hapy"])


def test_manifest_in_windows_encoding(folder):
    path = write_csv(folder, "audio,emotion,transcript", "wavs/1.wav,sad,it’s naïve", encoding="cp1252")
    with pytest.raises(CorpusError, match="manifest.csv is not UTF-8 .byte 0x92.*CSV UTF-8"):
        load_corpus("manifest", path)


def test_manifest_damaged_files(folder):
    (folder / "m.jsonl").write_text('{"audio": "wavs/1.wav", "emotion": "sad"}\n{"audio": \n')
    with pytest.raises(CorpusError, match="m.jsonl, line 2: not JSON"):
        load_corpus("manifest", folder)
    (folder / "m.jsonl").write_text('["wavs/1.wav"]\n')
    with pytest.raises(CorpusError, match="line 1: expected an object"):
        load_corpus("manifest", folder / "m.jsonl")
    (folder / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorpusError, match="2 manifests .m.jsonl, m.parquet.: name one"):
        load_corpus("manifest", folder)
    with pytest.raises(CorpusError, match="m.parquet cannot be read as Parquet"):
        load_corpus("manifest", folder / "m.parquet")
    with pytest.raises(CorpusError, match="1.wav is not a manifest"):
        load_corpus("manifest", folder / "wavs" / "1.wav")
    with pytest.raises(CorpusError, match="wavs holds nothing; looked for a manifest"):
        load_corpus("manifest", folder / "wavs")


# Any corpus


def test_load_corpus_errors(tmp_path):
    with pytest.raises(CorpusError, match="unknown corpus 'ravdes'; known: iemocap, manifest, meld, ravdess"):
        load_corpus("ravdes", tmp_path)
    with pytest.raises(CorpusError, match="gone does not exist: give the folder of the ravdess corpus"):
        load_corpus("ravdess", tmp_path / "gone")
    with pytest.raises(CorpusError, match="no usable recording of ravdess in .*looked for Actor_NN/03-01"):
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


def test_workers_change_nothing(ravdess):
    (ravdess / "Actor_01" / "03-01-01-01-01-01-01.wav").write_bytes(b"broken")
    alone, together = (load_corpus("ravdess", ravdess, num_workers=number) for number in (1, 4))
    assert alone.dataset["train"].to_list() == together.dataset["train"].to_list()
    assert alone.report == together.report and len(alone.report.dropped) == 1


def test_another_corpus_is_one_line(ravdess, monkeypatch):
    monkeypatch.setitem(corpora.CORPORA, "mine", corpora.CORPORA["ravdess"])
    assert load_corpus("mine", ravdess).report.corpus == "mine"
