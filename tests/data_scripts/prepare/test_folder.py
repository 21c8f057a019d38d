"""A prepared folder: what it holds, what a second run does again, and what goes to the Hub."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from datasets import Dataset, DatasetDict, load_dataset

from data_scripts import load_corpus
from data_scripts.copies import content_digest
from data_scripts.corpora import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.prepare import folder as preparation
from data_scripts.prepare import recordings
from data_scripts.prepare.folder import prepare_folder, push_to_hub
from data_scripts.prepare.recordings import needs_no_conversion
from data_scripts.schema import load_prepared, save_prepared
from data_scripts.transcribe.dataset import HypothesesFile, fill_folder
from modeling_m4ser.audio_m4ser import decode_audio, load_audio
from modeling_m4ser.decoding_m4ser import decode_file
from tests.helpers.layouts import drop_reasons, noise, write_wav


def test_only_what_is_not_16_khz_mono_is_converted(mixed, tmp_path):
    report = prepare_folder(CorpusSelection("manifest", mixed, num_workers=2), tmp_path / "out")
    rows = {row["id"]: row for row in load_prepared(tmp_path / "out")["train"]}
    assert report.kept == 5
    for name, row in rows.items():
        path = Path(row["audio"]["path"])
        assert path.is_absolute()
        assert row["audio"]["bytes"] is None
        assert path.parent == ((mixed if name.startswith("direct") else tmp_path / "out" / "audio").resolve())
        samples, rate = decode_audio(row["audio"])
        wanted = load_audio(str(mixed / name))
        assert rate == 16000
        assert samples.shape == wanted.shape
        assert abs(samples - wanted).max() <= 2**-15
        assert row["duration"] == pytest.approx(0.2, abs=0.05)


def test_bytes_of_a_parquet_manifest_become_flacs(mixed, tmp_path, decoded):
    files = [mixed / "direct.wav", mixed / "stereo.wav"]
    audio = [{"path": path.name, "bytes": path.read_bytes()} for path in files]
    (tmp_path / "parquet").mkdir()
    table = pyarrow.table({"audio": audio, "emotion": ["sad", "happy"], "id": ["a", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "parquet" / "m.parquet")
    prepare_folder(CorpusSelection("manifest", tmp_path / "parquet"), tmp_path / "out")
    written = load_prepared(tmp_path / "out")["train"]["audio"]
    folder = (tmp_path / "out" / "audio").resolve()
    assert list(written) == [{"path": str(folder / name), "bytes": None} for name in ("a.flac", "b.flac")]
    np.testing.assert_array_equal(load_audio(written[0]["path"]), load_audio(str(mixed / "direct.wav")))
    assert len(decoded) == 2
    prepare_folder(CorpusSelection("manifest", tmp_path / "parquet"), tmp_path / "out")
    assert len(decoded) == 2, "what has not changed is decoded again"


def test_embedding_afterwards_and_back(mixed, tmp_path, decoded):
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
    decoded.clear()
    wanted = {path.name: load_audio(str(path)) for path in mixed.iterdir() if path.suffix != ".csv"}
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out", embed_audio=True)
    assert sorted(decoded) == ["direct.flac", "direct.wav"]  # of the others there was a FLAC
    assert not (tmp_path / "out" / "audio").exists()
    mixed.rename(tmp_path / "elsewhere")  # embedded audio depends on no other file
    for row in load_dataset(str(tmp_path / "out"))["train"]:
        assert row["audio"]["bytes"][:4] == b"fLaC"
        assert "/" not in row["audio"]["path"]
        assert abs(load_audio(row["audio"]) - wanted[row["id"]]).max() <= 2**-15
        assert needs_no_conversion(row["audio"]["bytes"])
    (tmp_path / "elsewhere").rename(mixed)
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 3
    assert all(row["audio"]["bytes"] is None for row in load_prepared(tmp_path / "out")["train"])


def test_load_dataset_does_not_answer_from_the_cache_of_another_folder(mixed, tmp_path):
    """`datasets` tells folders of one name apart by their cards alone."""
    for number, emotions in enumerate((["sad"], ["happy"])):
        out = tmp_path / str(number) / "out"
        report = prepare_folder(CorpusSelection("manifest", mixed, emotions), out)
        assert load_dataset(str(out))["train"]["id"][:] == load_prepared(out)["train"]["id"][:]
        assert report.kept == {"sad": 3, "happy": 2}[emotions[0]]
    (tmp_path / "h.csv").write_text(
        "id,hypothesis\n" + "".join(f"{i},new\n" for i in load_prepared(out)["train"]["id"])
    )
    fill_folder(out, load_prepared(out), HypothesesFile(tmp_path / "h.csv", "tiny"))
    assert set(load_dataset(str(out))["train"]["hypothesis"]) == {"new"}


# The second run


def test_a_second_run_decodes_only_what_changed(mixed, tmp_path, decoded):
    def run():
        decoded.clear()
        prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
        state = {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.suffix in (".parquet", ".flac")}
        return sorted(decoded), state

    first, state = run()
    assert len(first) == 5
    assert run() == ([], state)
    write_wav(mixed / "other rate.wav", seconds=0.3, rate=44100)
    size = (mixed / "direct.wav").stat().st_size
    write_wav(mixed / "direct.wav", seed=7)
    assert (mixed / "direct.wav").stat().st_size == size, "another recording of the same size"
    changed, after = run()
    assert changed == ["direct.wav", "other rate.wav"]
    assert after != state
    rows = {row["id"]: row for row in load_prepared(tmp_path / "out")["train"]}
    assert rows["other rate.wav"]["duration"] == pytest.approx(0.3)
    assert rows["direct.wav"]["content"] == content_digest(load_audio(str(mixed / "direct.wav")))
    assert run() == ([], after)


@pytest.mark.parametrize("way", ["a manifest", "a dataset", "a dataset of arrays"])
def test_parts_of_a_file_are_prepared_as_separate_files(tmp_path, decoded, way):
    """A file of which two parts are cut, one as long as a file of its own, and times that are none of it."""
    whole, lines = noise(1.0, rate=22050), ["0,0.25", "0.25,1.005", "0,1", "0.9,1.2", "1,1"]
    soundfile.write(tmp_path / "long.wav", whole, 22050, subtype="FLOAT")
    write_wav(tmp_path / "own.wav", 0.5)
    csv = [
        "audio,emotion,start,end",
        *(f"long.wav,sad,{line}" for line in lines),
        "own.wav,sad,0,0.5",
        "own.wav,sad,0,0.2",
    ]
    (tmp_path / "m.csv").write_text("\n".join(csv))
    given = tmp_path / "m.csv"
    if way != "a manifest":
        table = pd.read_csv(given)
        table["audio"] = [str(tmp_path / name) for name in table["audio"]]
        given = Dataset.from_pandas(table)
    if way == "a dataset of arrays":
        arrays = [dict(zip(("array", "sampling_rate"), soundfile.read(path), strict=True)) for path in given["audio"]]
        given = given.remove_columns("audio").add_column("audio", arrays)
    selection = CorpusSelection("manifest" if way == "a manifest" else "dataset", given)
    reports = [prepare_folder(selection, tmp_path / "out") for _ in range(2)]
    assert way == "a dataset of arrays" or len(decoded) == 6 + 1  # the second time, what is not inside alone
    rows = load_prepared(tmp_path / "out")["train"]
    cuts = [whole[:5513], whole[5513:], whole, noise(0.5), noise(0.2)]
    for row, cut, rate in zip(rows, cuts, [22050] * 3 + [16000] * 2, strict=True):
        expected = load_audio({"array": cut, "sampling_rate": rate})
        np.testing.assert_allclose(load_audio(row["audio"]), expected, atol=2**-14)
        assert row["duration"] == pytest.approx(len(cut) / rate)
    direct = [Path(row["audio"]["path"]).name == "own.wav" for row in rows]
    assert direct == [False] * 3 + [way != "a dataset of arrays", False]
    for report in reports:
        assert set(drop_reasons(report).values()) == {
            "a part ends after its start",
            "the part is not inside the recording: check the times and their unit, and leave them out where the file "
            "is the part alone",
        }
        assert (report.audit.repeated, report.audit.relabelled) == ({}, [])
        assert report.columns == {"audio": "audio", "emotion": "emotion", "start": "start", "end": "end"}
    assert way != "a manifest" or list(rows["id"])[:2] == ["long.wav 0-0.25 s", "long.wav 0.25-1.005 s"]


def test_a_file_is_decoded_once_for_its_parts(tmp_path, monkeypatch):
    """Two files, and a repair that is said of every part of one."""
    read, whole = [], [noise(1), noise(1, seed=1)]

    def decode(file, label, tell):
        read.append(label)
        tell("mended") if len(read) == 1 else None
        return decode_file(file, label, tell)

    monkeypatch.setattr(recordings, "decode_file", decode)
    lines = []
    for number, content in enumerate(whole):
        soundfile.write(tmp_path / f"{number}.wav", content, 16000)
        lines += [f"{number}.wav,sad,{start / 10},{start / 10 + 0.1}" for start in range(10)]
    (tmp_path / "m.csv").write_text("\n".join(["audio,emotion,start,end", *lines]))
    corpus = load_corpus("manifest", tmp_path / "m.csv", num_workers=1)
    cuts = [load_audio(row["audio"]) for row in corpus.dataset["train"]]
    np.testing.assert_allclose(np.concatenate(cuts), np.concatenate(whole), atol=2**-14)
    assert len(read) == 2
    assert corpus.report.reasons("repaired") == {"mended": 10}


def test_a_lost_or_damaged_flac_is_made_again(mixed, tmp_path, decoded):
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
    first, second, _ = sorted((tmp_path / "out" / "audio").iterdir())
    whole = first.read_bytes()
    first.write_bytes(whole[:-10])
    second.unlink()
    decoded.clear()
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
    assert len(decoded) == 2
    assert first.read_bytes() == whole
    assert second.is_file()


def test_what_is_no_longer_selected_goes_away(mixed, tmp_path):
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
    kept = tmp_path / "out" / "audio" / "mine.txt"
    kept.write_text("not ours")
    prepare_folder(CorpusSelection("manifest", mixed, ["happy"]), tmp_path / "out")
    assert sorted(path.name for path in kept.parent.iterdir()) == ["lossy.mp3.flac", "mine.txt"]


@pytest.mark.parametrize(("told_by", "seconds"), [("content", 0.2), ("duration", 0.3)])
def test_hypotheses_outlive_a_second_run(mixed, tmp_path, told_by, seconds):
    """But that of another recording: as long as the first, or longer, where the folder tells no content yet."""
    out = tmp_path / "out"
    prepare_folder(CorpusSelection("manifest", mixed), out)

    def recognise(row):
        return {"hypothesis": f"words of {row['id']}", "asr_model": "tiny"}

    train = load_prepared(out)["train"]
    train = train.map(recognise, features=train.features)
    save_prepared(DatasetDict(train=train if told_by == "content" else train.remove_columns("content")), out)
    write_wav(mixed / "other rate.wav", seconds, rate=44100, seed=7)
    prepare_folder(CorpusSelection("manifest", mixed), out)
    rows = {row["id"]: row for row in load_prepared(out)["train"]}
    assert rows.pop("other rate.wav")["hypothesis"] is None
    assert {name: (row["hypothesis"], row["asr_model"]) for name, row in rows.items()} == {
        name: (f"words of {name}", "tiny") for name in rows
    }


# The Hub


def test_push_needs_embedded_audio(mixed, tmp_path):
    prepare_folder(CorpusSelection("manifest", mixed), tmp_path / "out")
    with pytest.raises(CorpusError, match="only refers to its audio by path: prepare it with --embed_audio first"):
        push_to_hub(tmp_path / "out", "someone/corpus")


def test_a_new_dataset_is_private_and_holds_no_machine_paths(mixed, tmp_path, monkeypatch):
    calls, uploaded = {}, {}

    class FakeHub:
        def create_repo(self, name, **options):
            calls["create"] = options
            return type("Address", (str,), {"repo_id": name})(f"https://hub/{name}")

        def create_commit(self, repository, operations, **options):
            calls["commit"] = repository, options["repo_type"]
            for operation in operations:
                with operation.as_file() as file:
                    uploaded[operation.path_in_repo] = file.read()

    monkeypatch.setattr(preparation, "HfApi", FakeHub)
    out = tmp_path / "out"
    report = prepare_folder(CorpusSelection("manifest", mixed), out, embed_audio=True)
    assert push_to_hub(out, "someone/corpus") == "https://hub/someone/corpus"
    assert calls["create"] == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert calls["commit"] == ("someone/corpus", "dataset")
    assert sorted(uploaded) == ["README.md", "report.json", "train.parquet"]
    assert not any(str(tmp_path).encode() in content for content in uploaded.values())
    for name in ("train.parquet", "README.md"):
        assert uploaded[name] == (out / name).read_bytes()
    # The folder's own report says where the corpus lies; everything else of it is published.
    assert PreparationReport.from_json((out / "report.json").read_text(encoding="utf-8")) == report
    published = PreparationReport.from_json(uploaded["report.json"].decode())
    assert published.selection | {"data_dir": str(mixed.resolve())} == report.selection
    published.selection = report.selection
    assert published == report
