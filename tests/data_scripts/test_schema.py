"""The canonical table: its columns, and that what is saved comes back the same, offline."""

import os

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Audio, ClassLabel, DatasetDict, Value, load_dataset
from datasets.exceptions import DatasetGenerationError

from data_scripts.errors import CorpusError
from data_scripts.schema import (
    REQUIRED_COLUMNS,
    build_dataset,
    corpus_features,
    load_prepared,
    save_prepared,
    save_splits,
    select_rows,
    tables_digest,
    write_split,
)

EMOTIONS = ["sad", "happy", "angry"]


def row(number, emotion="happy", **columns):
    """One canonical row; its audio file need not exist."""
    audio = {"path": f"clips/{number}.wav", "bytes": None}
    return {"id": f"clip{number}", "audio": audio, "duration": 1.5, "emotion": emotion, **columns}


@pytest.fixture
def dataset():
    """Two splits with every column filled somewhere and null elsewhere."""
    full = {"speaker": "01", "session": "s1", "transcript": "Oh – naïve 漢 😀", "hypothesis": "", "asr_model": "tiny"}
    train = build_dataset([row(1, **full), row(2, "angry")], EMOTIONS)
    return DatasetDict({"train": train, "test": build_dataset([row(3, "sad")], EMOTIONS)})


def test_columns_types_and_order():
    features = corpus_features(EMOTIONS)
    assert list(features) == [*REQUIRED_COLUMNS, "content"]
    assert list(features)[:6] == ["id", "audio", "duration", "speaker", "session", "emotion"]
    assert features["audio"] == Audio(sampling_rate=16000, decode=False)
    assert features["emotion"] == ClassLabel(names=EMOTIONS)
    assert features["duration"] == Value("float32")
    assert {features[name].dtype for name in ("id", "speaker", "session", "transcript", "hypothesis")} == {"string"}


def test_build_dataset_numbers_the_emotions_and_fills_nulls(dataset):
    first, second = dataset["train"]
    assert (first["emotion"], second["emotion"]) == (1, 2)
    assert first["audio"] == {"path": "clips/1.wav", "bytes": None}
    assert first["hypothesis"] == ""
    assert second["hypothesis"] is None
    assert second["speaker"] is None
    with pytest.raises(CorpusError, match="clip9: unknown emotion 'bored'; the classes are sad, happy, angry"):
        build_dataset([row(9, "bored")], EMOTIONS)


def test_saved_and_loaded_is_the_same(dataset, tmp_path):
    folder = save_prepared(dataset, tmp_path / "new" / "folder")
    assert sorted(os.listdir(folder)) == ["test.parquet", "train.parquet"]
    loaded = load_prepared(folder)
    assert list(loaded) == ["train", "test"]
    for split in dataset:
        assert loaded[split].features == dataset[split].features
        assert loaded[split].to_list() == dataset[split].to_list()


@pytest.mark.parametrize("name", ["run [1]", "run ?", "a*b", "{a}", "x~y", "a#b%20"])
def test_a_folder_s_name_is_no_pattern(dataset, tmp_path, name):
    for place, number in (("run 1", 7), ("run 2", 8), ("aXb", 9), ("a", 10), (name, 1)):
        save_prepared(DatasetDict({"train": build_dataset([row(number)], EMOTIONS)}), tmp_path / place)
    assert list(load_prepared(tmp_path / name)["train"]["id"]) == ["clip1"]


def test_saving_again_replaces_every_split(dataset, tmp_path):
    save_prepared(dataset, tmp_path)
    (tmp_path / "report.json").write_text('{"corpus": "x"}')
    loaded = load_dataset(str(tmp_path))  # opens the folder as well
    assert {split: part.num_rows for split, part in loaded.items()} == {"train": 2, "test": 1}
    assert loaded["train"].features == dataset["train"].features
    save_prepared(DatasetDict({"train": build_dataset([row(7)], EMOTIONS)}), tmp_path)
    loaded = load_prepared(tmp_path)
    assert {split: list(part["id"]) for split, part in loaded.items()} == {"train": ["clip7"]}


def test_the_fingerprint_tells_the_rows_and_their_split(tmp_path):
    part, other = (build_dataset([row(number)], EMOTIONS) for number in (1, 2))
    kinds = [{"train": part}, {"test": part}, {"train": part, "test": other}, {"train": other, "test": part}]
    folders = [save_prepared(DatasetDict(splits), tmp_path / str(n)) for n, splits in enumerate(kinds)]
    assert len({*map(tables_digest, folders)}) == 4
    assert tables_digest(save_prepared(DatasetDict(kinds[0]), tmp_path / "again")) == tables_digest(folders[0])


def test_selected_classes_have_the_numbers_of_their_order(dataset):
    for wanted in (["angry", "happy"], EMOTIONS[::-1]):
        part = select_rows(dataset, wanted)["train"]
        assert part.features["emotion"].names == wanted
        assert dict(zip(part["id"], part.features["emotion"].int2str(part["emotion"][:]), strict=True)) == {
            "clip1": "happy",
            "clip2": "angry",
        }
    assert select_rows(dataset, sessions=["s1"])["train"]["id"][:] == ["clip1"]


def test_a_save_that_fails_leaves_every_split(dataset, tmp_path):
    save_prepared(dataset, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CorpusError, match="unknown emotion"):
        save_splits({"train": [row(9, "bored")]}, EMOTIONS, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_save_refuses_what_is_not_canonical(dataset, tmp_path):
    train = dataset["train"]
    for splits, message in (
        ({}, "no split"),
        ({"dev": train}, "'dev' is none of train, validation, test"),
        ({"train": train.remove_columns(["speaker", "asr_model"])}, "'train' lacks the columns speaker, asr_model"),
        ({"train": train.cast_column("emotion", Value("int64"))}, "no class labels"),
    ):
        with pytest.raises(CorpusError, match=message):
            save_prepared(DatasetDict(splits), tmp_path)
    assert not list(tmp_path.iterdir())
    for names in ([], ["sad", "sad"]):
        with pytest.raises(CorpusError, match="at least one emotion and each only once"):
            corpus_features(names)


def test_load_refuses_a_wrong_folder(dataset, tmp_path):
    with pytest.raises(CorpusError, match="nowhere is not a folder"):
        load_prepared(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"holds none of train.parquet"):
        load_prepared(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(CorpusError, match="cannot be read"):
        load_prepared(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(CorpusError, match=r"train.parquet lacks the columns id, audio.*its columns: text"):
        load_prepared(tmp_path)
    save_prepared(DatasetDict(train=dataset["train"]), tmp_path / "two")
    (tmp_path / "train.parquet").rename(tmp_path / "two" / "test.parquet")
    with pytest.raises(CorpusError):  # of another schema than train
        load_prepared(tmp_path / "two")


def test_a_full_disk_of_the_cache_is_not_blamed_on_the_folder(dataset, tmp_path, monkeypatch):
    save_prepared(dataset, tmp_path)
    full = OSError(28, "No space left on device", "cache.arrow")

    def failing(*_, **__):
        raise DatasetGenerationError("An error occurred while generating the dataset") from full

    monkeypatch.setattr("data_scripts.schema.load_dataset", failing)
    with pytest.raises(OSError, match="No space left") as caught:
        load_prepared(tmp_path)
    assert caught.value is full


def test_write_split_streams_the_same_table(tmp_path, monkeypatch):
    """In small row groups, always the same bytes, and what build_dataset holds."""
    rows = [row(number, audio={"path": f"{number}.flac", "bytes": bytes(40)}) for number in range(25)]
    for name in ("train", "again"):
        monkeypatch.setattr("data_scripts.schema._ROW_GROUP_BYTES", 100)
        with open(tmp_path / f"{name}.parquet", "wb") as file:
            write_split(iter(rows), EMOTIONS, file)
    assert (tmp_path / "train.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    assert pyarrow.parquet.ParquetFile(tmp_path / "train.parquet").num_row_groups == 9
    loaded = load_prepared(tmp_path)["train"]
    assert loaded.features == corpus_features(EMOTIONS)
    assert loaded.to_list() == build_dataset(rows, EMOTIONS).to_list()
    with pytest.raises(CorpusError, match="unknown emotion 'bored'"), open(os.devnull, "wb") as nowhere:
        write_split([row(1, "bored")], EMOTIONS, nowhere)
