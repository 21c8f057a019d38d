"""What is to be predicted: every kind of place, its ids, and that nothing heavy is read before its turn."""

import io
import json
import pickle
import sys
import tarfile
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from data_scripts.errors import CorpusError
from data_scripts.schema import build_dataset, save_prepared
from m4ser.predict.inputs import Inputs
from modeling_m4ser.rows_m4ser import read_utterance
from tests.helpers.layouts import write_wav


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wav", "sub/a.wav"):
        write_wav(tmp_path / "calls" / name, 0.2)
    for name in ("notes.txt", "._b.wav", "c.pdf"):
        (tmp_path / "calls" / name).touch()
    return tmp_path / "calls"


def read(*places):
    """The ids, and what the pipeline reads, of places; as actors on other machines get them."""
    inputs = pickle.loads(pickle.dumps(Inputs(list(map(str, places)))))
    rows = [inputs[place] for place in range(len(inputs))]
    assert [row["id"] for row in rows] == list(inputs.digests)
    return {row["id"]: row | {"read": read_utterance(row["utterance"])} for row in rows}


def test_a_folder_gives_its_recordings_by_their_places_and_counts_the_rest(folder, capsys):
    rows = read(folder)
    assert list(rows) == ["b.wav", "sub/a.wav"]
    assert rows["sub/a.wav"]["file"] == rows["sub/a.wav"]["read"].audio == str(folder / "sub" / "a.wav")
    assert "2 recordings; 3 other files are left out" in capsys.readouterr().out


def test_files_and_patterns_are_called_as_they_are_given(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert list(read("calls/b.wav", "calls/**/a.*")) == ["calls/b.wav", "calls/sub/a.wav"]


def test_one_id_for_two_inputs_is_an_error_before_any_work(folder):
    with pytest.raises(CorpusError, match=r"2 ids more than once: b\.wav"):
        Inputs([str(folder), str(folder / "sub" / "..")])


def test_one_id_for_two_rows_of_a_table_is_an_error(folder):
    (folder / "t.csv").write_text("id,file\nx,b.wav\nx,sub/a.wav\n")
    with pytest.raises(CorpusError, match=r"t\.csv has 1 ids more than once: x\."):
        Inputs([str(folder / "t.csv")])


def test_what_is_not_there_names_the_nearest(folder):
    with pytest.raises(CorpusError, match=r"call does not exist \(did you mean .*calls\?\)"):
        Inputs([str(folder.parent / "call")])


def test_a_table_is_read_by_its_columns(folder):
    table = folder / "t.csv"
    lines = ["wav,sentence,asr_text,asr_model,channel,start_ms,end_ms", "b.wav,human,heard,whisper,1,0,100"]
    table.write_text("\n".join([*lines, "b.wav,,,whisper,,100,200", ",so,,,,0,1"]) + "\n", encoding="utf-8")
    first, second, third = read(table).values()
    assert first["id"] == "b.wav channel 1 0-0.1 s"
    assert first["read"][1:3] == ("heard", 1)
    assert (first["asr_model"], first["read"].part.end) == ("whisper", 0.1)
    assert first["file"] == str(folder / "b.wav")
    assert second["read"].text == ""  # whisper heard no words
    assert (third["id"], third["file"]) == ("t, row 3", None)


def test_the_digest_follows_what_is_read(folder):
    digests = []
    for text in ("a", "b", "a"):
        (folder / "t.jsonl").write_text(json.dumps({"id": "x", "file": "b.wav", "text": text}))
        digests.append(Inputs([str(folder / "t.jsonl")]).digests["x"])
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("kind", ["saved", "parquet", "prepared"])
def test_recordings_in_datasets_are_read_when_their_turn_comes(folder, tmp_path, kind):
    clips = [{"path": f"{number}.wav", "bytes": bytes([number])} for number in range(3)]
    rows = [{"id": f"u{clip['path']}", "audio": clip, "hypothesis": "we go"} for clip in clips]
    place = tmp_path / "data"
    if kind == "saved":
        Dataset.from_list(rows).save_to_disk(str(place))
    elif kind == "parquet":
        place = tmp_path / "data.parquet"
        pq.write_table(pa.Table.from_pylist(rows), place)
    else:
        rows = [row | {"emotion": "sad", "duration": 1.0} for row in rows]
        save_prepared({"train": build_dataset(rows[:2], ["sad"]), "test": build_dataset(rows[2:], ["sad"])}, place)
    found = read(place)
    assert list(found) == ["u0.wav", "u1.wav", "u2.wav"]
    assert [row["read"].audio["bytes"] for row in found.values()] == [b"\0", b"\1", b"\2"]
    assert {row["read"].text for row in found.values()} == {"we go"}


def test_shards_of_the_benchmark_are_one_input(tmp_path):
    for name in "ab":
        rows = [{"audio_flac": name.encode(), "label": "sad", "language": "en", "source_id": "s"}] * 2
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    found = read(tmp_path)
    assert list(found) == ["a, row 1", "a, row 2", "b, row 1", "b, row 2"]
    assert [row["read"].audio for row in found.values()] == [b"a", b"a", b"b", b"b"]


def test_splits_with_the_same_ids_are_told_apart(tmp_path):
    part = build_dataset([{"id": "x", "audio": {"path": "x.wav", "bytes": b"x"}, "emotion": "sad"}], ["sad"])
    save_prepared({"train": part, "test": part}, tmp_path / "data")
    assert list(read(tmp_path / "data")) == ["train/x", "test/x"]


def test_samples_of_a_tar(folder):
    files = {"one.flac": b"sound", "one.txt": b"we go\n", "one.json": b"{}", "three.txt": b""}
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    rows = read(folder / "shard.tar")
    assert rows["one"]["read"][:2] == ({"path": "one.flac", "bytes": b"sound"}, "we go")
    assert rows["one"]["file"] == f"{folder}/shard.tar/one.flac"


def test_cuts_of_lhotse_are_parts_of_files(folder, monkeypatch):
    source = types.SimpleNamespace(type="file", source="b.wav")
    cut = {"id": "cut", "start": 0.1, "end": 0.2, "channel": 0}
    cut |= {"recording": types.SimpleNamespace(sources=[source]), "supervisions": [types.SimpleNamespace(text="we go")]}
    cuts = types.SimpleNamespace(from_file=lambda path: [types.SimpleNamespace(**cut)])
    monkeypatch.setitem(sys.modules, "lhotse", types.SimpleNamespace(CutSet=cuts))
    (folder / "cuts.jsonl.gz").touch()
    audio, text, channel, part = read(folder / "cuts.jsonl.gz")["cut"]["read"]
    assert (audio, text, channel, str(part)) == (str(folder / "b.wav"), "we go", 0, "0.1-0.2 s")
