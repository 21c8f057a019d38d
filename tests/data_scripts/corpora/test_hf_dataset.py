"""Datasets of the Hugging Face world: in memory, saved, as Parquet, and from a Hub; labels and audio of every kind."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

from data_scripts import load_corpus
from data_scripts.corpora import CorpusSelection
from data_scripts.corpora.registry import scan_corpus
from data_scripts.errors import CorpusError
from data_scripts.prepare.recordings import bytes_of
from data_scripts.schema import load_prepared
from modeling_m4ser.audio_m4ser import load_audio
from tests.helpers.hub import serve_hub
from tests.helpers.layouts import noise, write_bytes, write_wav

RATE = 8000


def wav_bytes(seed=0, rate=RATE):
    """A short noise as the bytes of a WAV."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(0.2, rate, seed), rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def with_audio(values, label=(0, 1), names=("sad", "happy"), **columns):
    """A dataset whose Arrow data holds an Audio() column, as one from the Hub does."""
    features = Features(
        {
            "audio": {"bytes": Value("binary"), "path": Value("string")},
            "label": ClassLabel(names=list(names)),
            **{name: Value("string") for name in columns},
        }
    )
    table = Dataset.from_dict({"audio": values, "label": list(label), **columns}, features=features).data.table
    features["audio"] = Audio(sampling_rate=16000)
    return Dataset(table.replace_schema_metadata(features.arrow_schema.metadata))


def rows_of(data, **wanted):
    """The rows found in a dataset, and the classes."""
    scanned, report = scan_corpus(CorpusSelection("dataset", data, **wanted))
    return scanned.rows, scanned.emotions, report


def test_addresses_of_files_are_read_as_the_pipeline_reads_them(tmp_path):
    path = tmp_path / "what? 1.wav"
    path.write_bytes(wav_bytes())
    rows, _, _ = rows_of(Dataset.from_dict({"audio": [path.as_uri()], "label": ["sad"]}))
    assert [(row["path"], row["id"]) for row in rows] == [(str(path), "train/what? 1.wav")]


def test_an_audio_column_with_class_labels():
    data = with_audio([{"bytes": wav_bytes(n), "path": f"{n}.wav"} for n in range(2)], text=["a", "b"])
    corpus = load_corpus("dataset", data)
    part = corpus.dataset["train"]
    assert part["id"][:] == ["train/0.wav", "train/1.wav"]
    assert part.features["emotion"].names == ["happy", "sad"]
    assert part["emotion"][:] == [1, 0]
    assert part["hypothesis"][:] == ["a", "b"]
    assert part["transcript"][:] == [None, None]
    np.testing.assert_array_equal(load_audio(part[1]["audio"], RATE), noise(0.2, RATE, 1))
    assert part["duration"][:] == pytest.approx([0.2, 0.2])


ARRAY = Features({"array": Sequence(Value("float32")), "sampling_rate": Value("int64")})


@pytest.mark.parametrize("kind", ["path", "bytes", "array with rate", "array and a column", "two channels", "int16"])
def test_audio_of_every_kind(tmp_path, kind):
    samples = [noise(0.2, RATE, n) for n in range(2)]
    features = {"label": Value("string")}
    columns = {"label": ["sad", "happy"]}
    if kind == "path":
        columns["audio"] = [str(write_wav(tmp_path / f"{n}.wav", rate=RATE, seed=n)) for n in range(2)]
        features["audio"] = Value("string")
    elif kind == "bytes":
        columns["audio"], features["audio"] = [wav_bytes(n) for n in range(2)], Value("binary")
    elif kind == "array with rate":
        columns["audio"] = [{"array": array, "sampling_rate": RATE} for array in samples]
        features["audio"] = ARRAY
    elif kind == "two channels":
        columns["audio"] = [{"array": np.stack([array, array]), "sampling_rate": RATE} for array in samples]
        features["audio"] = {"array": Sequence(Sequence(Value("float32"))), "sampling_rate": Value("int64")}
    else:
        whole = [np.rint(array * 32767).astype(np.int16) for array in samples]
        columns |= {"audio": whole if kind == "int16" else samples, "sampling_rate": [RATE] * 2}
        features |= {
            "audio": Sequence(Value("int16" if kind == "int16" else "float32")),
            "sampling_rate": Value("int64"),
        }
    data = Dataset.from_dict(columns, features=Features(features))
    if kind == "int16":
        data = data.with_format("numpy")
    rows, _, _ = rows_of(data)
    for number, row in enumerate(rows):
        # A WAV file on disk and int16 samples have 16 bits.
        np.testing.assert_allclose(
            load_audio({"path": row["path"], "bytes": bytes_of(row)}, RATE),
            samples[number],
            atol=1e-4 if kind in ("path", "int16") else 1e-7,
        )


def test_an_array_at_a_wrong_level_is_dropped_with_the_reason(tmp_path):
    """16-bit samples in an int32 column: one row of two; the other is at the level of its type."""
    quiet = np.rint(noise(0.2, RATE) * 32767).astype(np.int32)
    features = Features({"audio": Sequence(Value("int32")), "label": Value("string"), "sample_rate": Value("int64")})
    columns = {"audio": [quiet, quiet * 65536], "label": ["sad", "happy"], "sample_rate": [RATE] * 2}
    corpus = load_corpus("dataset", Dataset.from_dict(columns, features=features))
    assert corpus.dataset["train"]["id"][:] == ["train/000001"]
    np.testing.assert_allclose(load_audio(corpus.dataset["train"][0]["audio"], RATE), noise(0.2, RATE), atol=1e-4)
    ((reason, count),) = corpus.report.reasons("dropped").items()
    assert count == 1
    assert "pass 16 bits as int16" in reason


NAMED = ClassLabel(names=["sad", "happy"])


@pytest.mark.parametrize(
    ("labels", "kind", "found"),
    [
        (["sad", "happy", None], "string", ["sad", "happy"]),
        ([7, 3, None], "int64", ["7", "3"]),
        ([1.0, 0.0, None], "float64", ["1", "0"]),
        ([1, 0, -1], NAMED, ["happy", "sad"]),
        ([1, 0, None], NAMED, ["happy", "sad"]),
        ([[1], [0], []], Sequence(NAMED), ["happy", "sad"]),
    ],
)
@pytest.mark.parametrize("form", [None, "numpy"])
def test_labels_of_every_kind(tmp_path, labels, kind, found, form):
    features = Features({"file": Value("string"), "label": Value(kind) if isinstance(kind, str) else kind})
    paths = [str(write_wav(tmp_path / f"{n}.wav")) for n in range(3)]
    data = Dataset.from_dict({"file": paths, "label": labels}, features=features).with_format(form)
    rows, classes, report = rows_of(data)
    assert ([row["emotion"] for row in rows], classes) == (found, sorted(found))
    assert report.reasons("dropped") == {"no emotion": 1}


def small(tmp_path, count=1, **columns):
    """A dataset of some recordings."""
    paths = [str(write_wav(tmp_path / f"{n}.wav", seed=n)) for n in range(count)]
    return Dataset.from_dict({"path": paths, "label": ["sad"] * count, **columns})


def test_splits_by_their_usual_names_and_ids(tmp_path):
    part, numbered = small(tmp_path), small(tmp_path, 2, id=["0", "1"])
    twins = Dataset.from_dict({"path": [str(write_wav(tmp_path / f / "1.wav")) for f in "ab"], "label": ["sad"] * 2})
    for data, ids in (
        (DatasetDict(test=part, dev=part, train=part), ["train/0.wav", "validation/0.wav", "test/0.wav"]),
        ({"full": part}, ["train/0.wav"]),  # a single split is training data
        (DatasetDict(train=numbered, test=numbered), ["train/0", "train/1", "test/0", "test/1"]),
        (twins, ["train/000000", "train/000001"]),  # files of one name
    ):
        rows, _, _ = rows_of(data)
        assert [row["id"] for row in rows] == ids
        assert [row["split"] for row in rows] == [name.split("/")[0] for name in ids]


def test_splits_in_a_column(tmp_path):
    for values, found in (
        (["test", "Train", "dev"], ["train", "validation", "test"]),
        (["a", "train", "test"], ["train"] * 3),
        (["train", "test", None], ["train"] * 3),
        (["test"] * 3, ["train"] * 3),
    ):
        rows, _, report = rows_of(small(tmp_path, 3, subset=values))
        assert [row["split"] for row in rows] == found
        assert report.unread_columns == ([] if "validation" in found else ["subset"])


def test_splits_by_name(tmp_path):
    first, second, third = small(tmp_path, 1), small(tmp_path, 2), small(tmp_path, 3)
    data = DatasetDict({"a": first, "b": second, "c": third})
    rows, _, report = rows_of(data, train_split_name="c", test_split_name="a")
    assert [row["split"] for row in rows] == ["train"] * 3 + ["test"]
    assert report.noted == [{"id": "b", "reason": "split of the dataset that was not asked for"}]
    with pytest.raises(CorpusError, match=r"has no split d \(--eval_split_name\); it has a, b, c"):
        rows_of(data, eval_split_name="d")


def test_columns_by_name_and_those_not_read(tmp_path):
    data = small(tmp_path, emotion_note=["?"], who=["ann"]).rename_column("label", "feeling")
    with pytest.raises(CorpusError, match=r"lacks the columns emotion; .*say so: --label_column_name NAME"):
        rows_of(data)
    rows, _, report = rows_of(data, label_column_name="feeling", speaker_column_name="who")
    assert (rows[0]["speaker"], rows[0]["emotion"]) == ("ann", "sad")
    assert report.columns == {"audio": "path", "emotion": "feeling", "speaker": "who"}
    assert report.unread_columns == ["emotion_note"]


def test_saved_to_disk(tmp_path):
    part = small(tmp_path, 2)
    DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "several")
    part.save_to_disk(tmp_path / "one")
    assert [row["split"] for row in rows_of(tmp_path / "several")[0]] == ["train"] * 2 + ["test"] * 2
    assert [row["split"] for row in rows_of(tmp_path / "one")[0]] == ["train"] * 2
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(CorpusError, match="was written by save_to_disk, but cannot be read"):
        rows_of(tmp_path / "one")


@pytest.mark.parametrize("name", ["data", "run [1]", "run ?"])
def test_a_folder_of_parquet(tmp_path, name):
    data = with_audio([{"bytes": wav_bytes(n), "path": None} for n in range(2)])
    for folder, part in ((name, data), ("run 1", data.select([0]))):
        (tmp_path / folder).mkdir()
        part.cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / folder / "train-00000-of-00001.parquet")
    rows, classes, _ = rows_of(tmp_path / name)
    assert (len(rows), classes) == (2, ["happy", "sad"])
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(load_audio(bytes_of(row), RATE), noise(0.2, RATE, number))


def in_memory(**columns):
    return lambda _: Dataset.from_dict(columns)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "gone", "gone does not exist: give a folder, or the name of a dataset on the Hub"),
        (lambda folder: write_bytes(folder / "a.csv", b"x\n"), r"is a file: a table goes in as a manifest, --data_dir"),
        (
            lambda folder: write_bytes(folder / "broken" / "README.md", b"---\nconfigs: [\n---\n").parent,
            "the dataset .*broken cannot be loaded: while parsing",
        ),
        (lambda folder: write_bytes(folder / "empty" / ".x", b"").parent, "the dataset .*empty cannot be loaded: "),
        (lambda _: 3, "not int"),
        (in_memory(path=[], label=[]), "has no rows"),
        (in_memory(audio=[[0.1, 0.2]], label=["sad"]), "row 0: the recording is an array without its rate: add"),
        (in_memory(path=["a", "b"], label=["sad"] * 2, id=["x", "x"]), "split train, has 1 ids more than once: x"),
        (
            lambda folder: DatasetDict(dict.fromkeys(("train", "dev", "validation"), small(folder))),
            "has the splits train, dev, validation: say which is what, --train_split_name NAME --eval",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path, make, message):
    with pytest.raises(CorpusError, match=message):
        rows_of(make(tmp_path))


@pytest.fixture
def prepare_from_hub(tmp_path):
    """The repositories of a Hub on this machine, and a function that prepares a dataset from there."""
    folders = {}

    with serve_hub(folders, tmp_path / "home") as online:

        def prepare(name, out, *options):
            command = [sys.executable, "-m", "data_scripts.prepare", "dataset", "--dataset_name", name]
            done = subprocess.run(
                [*command, "--output_dir", out, *options], capture_output=True, text=True, env={**os.environ, **online}
            )
            report = out / "report.json"
            return done, json.loads(report.read_text(encoding="utf-8")) if report.is_file() else None

        yield folders, prepare


def test_an_audio_folder_from_a_hub(prepare_from_hub, tmp_path):
    folders, prepare = prepare_from_hub
    for place in ("train/happy/1.wav", "train/sad/2.wav", "test/happy/3.wav"):
        write_wav(tmp_path / "folder" / place, seed=len(place))
    folders["tester/folder"] = tmp_path / "folder"
    done, report = prepare("tester/folder", tmp_path / "out", "--label_map", "happy=joy")
    assert done.returncode == 0, done.stderr
    assert {split: counts["emotions"] for split, counts in report["splits"].items()} == {
        "train": {"joy": 1, "sad": 1},
        "test": {"joy": 1, "sad": 0},
    }
    assert report["selection"]["data_dir"] == "tester/folder"
    dataset = load_prepared(tmp_path / "out")
    assert dataset["test"]["id"][:] == ["test/happy/3.wav"]
    written = soundfile.read(tmp_path / "folder" / "test" / "happy" / "3.wav", dtype="float32")[0]
    np.testing.assert_array_equal(load_audio(dataset["test"][0]["audio"]), written)


def test_configurations(tmp_path):
    for name in ("first", "second"):
        (tmp_path / "tables" / name).mkdir(parents=True)
        data = with_audio([{"bytes": wav_bytes(n), "path": f"{name}{n}.wav"} for n in range(2)])
        data.cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / "tables" / name / "train.parquet")
    (tmp_path / "tables" / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: first/*.parquet\n"
        "- config_name: two\n  data_files: second/*.parquet\n---\n"
    )
    with pytest.raises(CorpusError, match=r"\['one', 'two'\].*\(name it: --dataset_config_name\)$"):
        rows_of(tmp_path / "tables")
    rows, _, _ = rows_of(tmp_path / "tables", dataset_config_name="two")
    assert [row["id"] for row in rows] == ["train/second0.wav", "train/second1.wav"]
