"""A user's own data set as rows of a prepared corpus, whatever its columns, audio and labels are."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, IterableDataset
from torch.utils.data import DataLoader, Subset

from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS, tiny_config
from trainer.experiments.ablations import ABLATIONS
from trainer.inputs.augmentation import load_at_speed
from trainer.inputs.rows import LabelIndexer, RowReader

CORPUS = tiny_corpus(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The recordings of `CORPUS` as files."""
    folder = tmp_path_factory.mktemp("clips")
    for row in CORPUS:
        (folder / row["audio"]["path"]).write_bytes(row["audio"]["bytes"])
    return folder


@pytest.fixture
def table(folder) -> Dataset:
    """The corpus as a user has it: a path, a text and a label in words."""
    paths = [str(folder / row["audio"]["path"]) for row in CORPUS]
    labels = [EMOTIONS[label] for label in CORPUS["emotion"][:]]
    return Dataset.from_dict({"file": paths, "text": CORPUS["hypothesis"][:], "label": labels})


def with_files(table, made):
    """The table with other values, columns by name, for each of its files."""
    return Dataset.from_list([{**row, **made(row["file"])} for row in table])


def samples_in(file):
    return soundfile.read(file, dtype="float32")[0]


@pytest.fixture
def reader() -> RowReader:
    return RowReader(tiny_config("whisper"))


def made_by_code(table):
    """A map-style data set that is none of `datasets`."""
    return Subset(list(table), range(len(table)))


class PlainStream(torch.utils.data.IterableDataset):
    """A stream of someone's own."""

    epoch = None

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)

    def set_epoch(self, epoch):
        self.epoch = epoch


class Decoder:
    """What torchcodec gives in place of an audio column."""

    def __init__(self, path):
        self.path = path

    def get_all_samples(self):
        data, self.sample_rate = soundfile.read(self.path, dtype="float32")
        self.data = torch.from_numpy(data)[None]
        return self


# ---------------------------------------------------------------------- what is a prepared corpus stays


def test_a_prepared_corpus_is_not_touched(reader):
    for data in (CORPUS, list(CORPUS), CORPUS.to_iterable_dataset()):
        assert reader.read(data, "train_dataset", training=True) is data
    for data in (CORPUS.remove_columns("duration"), CORPUS.remove_columns("emotion")):
        assert reader.read(data, "eval_dataset") is data


def test_a_rate_beside_a_corpus_of_arrays_is_read(reader):
    arrays = [{**row, "audio": samples_of(row), "sampling_rate": 16000} for row in CORPUS]
    for row, expected in zip(reader.read(arrays, "train_dataset", training=True), CORPUS, strict=True):
        np.testing.assert_array_equal(samples_of(row), samples_of(expected))


def samples_of(row):
    return load_at_speed(row, 16000)


def test_a_corpus_with_other_classes_is_touched(reader, caplog):
    """Its columns are those of the collator, and its labels are not."""
    classes = ["sad", "neutral", "happy", "angry"]
    names = CORPUS.features["emotion"].int2str(CORPUS["emotion"][:])
    other = CORPUS.remove_columns("emotion").add_column("emotion", names)
    other = other.cast_column("emotion", ClassLabel(names=classes))
    for dataset in (other, other.to_iterable_dataset()):
        rows = rows_of(reader.read(dataset, "train_dataset", training=True))
        assert [row["emotion"] for row in rows] == CORPUS["emotion"][:] != other["emotion"][:]
        assert caplog.records.pop().getMessage().startswith("train_dataset numbers its classes in another way")


def test_what_was_read_is_not_read_again(reader, table):
    for dataset in (table, table.to_iterable_dataset(), made_by_code(table), PlainStream(list(table))):
        once = reader.read(dataset, "eval_dataset")
        assert once is not dataset
        assert reader.read(once, "eval_dataset") is once


def test_a_table_is_not_copied(reader, table, folder):
    shuffled = table.train_test_split(0.5, seed=1)["train"]
    before = (shuffled._fingerprint, shuffled.column_names)
    adapted = reader.read(shuffled, "train_dataset", training=True)
    assert adapted.rows is shuffled
    assert (shuffled._fingerprint, shuffled.column_names) == before
    assert [row["hypothesis"] for row in map(adapted.__getitem__, range(3))] == shuffled["text"][:]


# ---------------------------------------------------------------------- columns, audio, labels


KINDS = {
    "paths": lambda table: table,
    "an Audio column": lambda table: table.cast_column("file", Audio()),
    "bytes": lambda table: with_files(table, lambda file: {"file": Path(file).read_bytes()}),
    "arrays": lambda table: with_files(
        table, lambda file: {"file": {"array": samples_in(file), "sampling_rate": 16000}}
    ),
    "arrays and their rates": lambda table: with_files(
        table, lambda file: {"file": samples_in(file), "sampling_rate": 16000}
    ),
    "one channel of two": lambda table: with_files(
        table,
        lambda file: {
            "file": {"array": np.stack([0 * samples_in(file), samples_in(file)]), "sampling_rate": 16000},
            "channel": "1",
        },
    ),
    "decoders": lambda table: [{**row, "file": Decoder(row["file"])} for row in table],
    "class labels": lambda table: table.cast_column("label", ClassLabel(names=["sad", "neutral", "happy", "angry"])),
    "numbers": lambda table: Dataset.from_list([{**row, "label": EMOTIONS.index(row["label"])} for row in table]),
    "other names": lambda table: table.rename_columns({"file": "Audio Path", "text": "ASR-text", "label": "emo"}),
    "names beside others": lambda table: (
        table.add_column("audio", table["file"]).add_column("spk", [1] * 6).add_column("actor", [2] * 6)
    ),
    "a torch format": lambda table: table.with_format("torch"),
    "a pandas format": lambda table: table.with_format("pandas"),
    "a list": list,
    "a DataFrame": lambda table: table.to_pandas(),
    "a table of pyarrow": lambda table: table.data.table,
    "a dictionary of columns": lambda table: table.to_dict(),
    "rows made by code": made_by_code,
    "a transform": lambda table: table.with_transform(lambda batch: batch),
    "a stream": lambda table: table.to_iterable_dataset(num_shards=2),
    "a stream of an Audio column": lambda table: table.cast_column("file", Audio()).to_iterable_dataset(),
    "a stream of class labels": lambda table: KINDS["class labels"](table).to_iterable_dataset(),
    "a stream without types": lambda table: IterableDataset.from_generator(lambda: iter(list(table))),
    "a torch stream": lambda table: PlainStream(list(table)),
}


PATHLESS = ("bytes", "arrays", "arrays and their rates", "one channel of two", "decoders")


def rows_of(adapted):
    return [adapted[index] for index in range(len(adapted))] if hasattr(adapted, "__len__") else list(adapted)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_set_gives_the_rows_of_the_corpus(reader, table, kind):
    rows = rows_of(reader.read(KINDS[kind](table), "train_dataset", training=True))
    assert [row["emotion"] for row in rows] == CORPUS["emotion"][:]
    assert [row["hypothesis"] for row in rows] == CORPUS["hypothesis"][:]
    for row, expected in zip(rows, CORPUS, strict=True):
        np.testing.assert_array_equal(samples_of(row), samples_of(expected))
    assert rows[3]["id"].startswith("train_dataset[3]")
    assert ("clip03.flac" in rows[3]["id"]) == (kind not in PATHLESS)


@pytest.fixture
def parts(table, folder) -> Dataset:
    """The corpus as parts of one file; the lengths that stand beside them are of something else."""
    clips = [samples_in(path) for path in table["file"]]
    soundfile.write(folder / "all.wav", np.concatenate(clips), 16000)
    ends = np.cumsum([len(clip) for clip in clips])
    starts = ends - [len(clip) for clip in clips]
    times = {"begin_ms": starts / 16, "stop_ms": ends / 16, "duration": np.arange(6.0)}
    whole = Dataset.from_dict({"file": [str(folder / "all.wav")] * 6} | {k: v.tolist() for k, v in times.items()})
    return whole.add_column("text", table["text"][:]).add_column("label", table["label"][:])


@pytest.mark.parametrize("kind", ["paths", "a list", "a stream", "rows made by code", "bytes"])
def test_parts_of_a_file_are_the_clips(reader, parts, kind):
    adapted = reader.read(KINDS[kind](parts), "train_dataset", training=True)
    for row, expected in zip(rows_of(adapted), CORPUS, strict=True):
        np.testing.assert_array_equal(samples_of(row), samples_of(expected))
    if kind not in ("a stream", "rows made by code"):
        assert adapted["duration"] == pytest.approx(CORPUS["duration"][:])
    corpus = CORPUS.add_column("start", [0.0] * 6).add_column("end", [0.1] * 6)
    adapted = reader.read(corpus, "train_dataset", training=True)
    assert (adapted["duration"], len(samples_of(adapted[0]))) == ([0.1] * 6, 1600)
    named = reader.read(parts.rename_columns({"begin_ms": "start_ms", "stop_ms": "end_ms"}), "test_dataset")
    np.testing.assert_array_equal(samples_of(named[5]), samples_of(CORPUS[5]))


def test_times_that_are_none_are_named_before_the_first_row_is_read(reader, parts):
    rows = [{**row, "stop_ms": 0.0 if index == 4 else row["stop_ms"]} for index, row in enumerate(parts)]
    for dataset in (rows, Dataset.from_list(rows)):
        with pytest.raises(ValueError, match=r"^train_dataset\[4\]: a part ends after its start"):
            reader.read(dataset, "train_dataset", training=True)
    lazily = reader.read(made_by_code(rows), "train_dataset", training=True)
    with pytest.raises(ValueError, match=r"^train_dataset\[4\]: a part ends after its start"):
        lazily[4]


def test_ids_transcripts_and_all_else_stay(reader, table):
    mine = table.add_column("utt_id", list("abcdef")).add_column("sentence", ["s"] * 6).add_column("speed", [1.1] * 6)
    row = reader.read(mine, "train_dataset", training=True)[1]
    assert (row["id"], row["transcript"], row["speed"], row["text"]) == ("b", "s", 1.1, "can believe it not")


def test_human_text_is_no_hypothesis(reader, table):
    human = table.rename_column("text", "sentence")
    with pytest.raises(ValueError, match="eval_dataset has no column for the hypothesis, which the model reads"):
        reader.read(human, "eval_dataset")
    for column, named in (("transcript", "sentence"), ("words", "words")):
        row = RowReader(reader.config, text_column=column).read(table.rename_column("text", named), "eval_dataset")[0]
        assert row[column] == CORPUS[0]["hypothesis"]
        assert "hypothesis" not in row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.remove_columns("label"), r"has no column for the emotion; its columns: file, text\."),
        (lambda t: t.remove_columns("file"), "train_dataset has no column for the audio; its columns: text, label"),
        (lambda t: t.add_column("target", list(range(6))), "several columns for the emotion: label, target; rename"),
    ],
)
def test_a_column_that_is_missing_or_ambiguous_is_named(reader, table, change, message):
    for dataset in (change(table), change(table).to_iterable_dataset(), list(change(table))):
        with pytest.raises(ValueError, match=message):
            reader.read(dataset, "train_dataset", training=True)
    lazily = reader.read(made_by_code(change(table)), "train_dataset", training=True)
    with pytest.raises(ValueError, match=message):
        lazily[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (DatasetDict(train=CORPUS, test=CORPUS), r"is of type DatasetDict, .* pass one of its parts \(train, test\)"),
        ({"audio": ["a.wav"], "label": "sad"}, r"is of type dict, .* pass one of its parts \(audio, label\)"),
        ("corpus.csv", "is of type str, which is no data set: load it first, e.g. with datasets.load_dataset"),
        (Path("corpus.csv"), "is of type PosixPath, which is no data set: load it first"),
        (DataLoader(CORPUS), "is of type DataLoader, which is no data set: pass its dataset, loader.dataset"),
        (iter([]), "is of type list_iterator, which is no data set: pass a list of rows"),
        ([("a.wav", "so", "sad")], r"\[0\] is of type tuple: a row is a dictionary, such as"),
        ([{"audio": "a.wav", "text": "so", "label": "sad"}, None], r"\[1\] is of type NoneType: a row is a d"),
        ([], "is empty: it has no rows"),
        (CORPUS.select([]), "is empty"),
        (CORPUS.to_pandas().iloc[:0], "is empty"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_is_no_data_set_is_named_for_what_it_is(reader, given, message, training):
    with pytest.raises(ValueError, match=f"^somewhere ?{message}"):
        reader.read(given, "somewhere", training)


def test_a_missing_value_is_none(reader, table):
    missing = [None, np.nan, pd.NA, pd.NaT, "so", "so"]
    columns = {"sentence": missing, "label": [*missing[:4], "sad", "sad"]}
    for data in (table.to_pandas().assign(**columns), table.remove_columns("label").to_dict() | columns):
        rows = rows_of(reader.read(data, "eval_dataset"))
        assert [row["transcript"] for row in rows] == [None] * 4 + ["so"] * 2
        assert [row["emotion"] for row in rows] == [None] * 4 + [EMOTIONS.index("sad")] * 2
        with pytest.raises(ValueError, match=r"^train_dataset\[0\] has no emotion"):
            reader.read(data, "train_dataset", training=True)


@pytest.mark.parametrize(("ablation", "unread"), [("only text", "file"), ("only speech", "text")])
def test_what_the_model_does_not_read_need_not_be_there(table, ablation, unread):
    reader = RowReader(tiny_config("whisper", **ABLATIONS[ablation]))
    adapted = reader.read(table.remove_columns(unread), "train_dataset", training=True)
    assert adapted[3]["emotion"] == 3
    assert ("duration" in adapted.column_names) == (unread == "text")


def test_without_labels_a_data_set_is_good_for_predictions(reader, table):
    assert reader.read(table.remove_columns("label"), "test_dataset")[2]["emotion"] is None


@pytest.mark.parametrize(("label", "message"), [("furious", "the label 'furious'"), (None, "no emotion")])
def test_a_wrong_label_is_named_before_the_first_row_is_read(reader, table, label, message):
    rows = [{**row, "label": label if index == 4 else row["label"]} for index, row in enumerate(table)]
    named = Dataset.from_list(rows).add_column("id", list("abcdef"))
    for dataset, place in ((Dataset.from_list(rows), ""), (rows, ""), (named, r" \(id 'e'\)")):
        with pytest.raises(ValueError, match=rf"^train_dataset\[4\]{place} has {message}"):
            reader.read(dataset, "train_dataset", training=True)


def test_one_class_alone_is_refused_before_the_first_step(reader, table):
    """Whatever form the data have, and however large the numbers of its classes."""
    one = Dataset.from_list([{**row, "label": "sad"} for row in table])
    numbered = Dataset.from_list([{**row, "label": 3} for row in table])
    for dataset in (one, numbered, list(one), CORPUS.filter(lambda row: row["emotion"] == 3)):
        with pytest.raises(ValueError, match=r"^train_dataset: all [1-6] rows have one emotion, sad; "):
            reader.read(dataset, "train_dataset", training=True)
        assert reader.read(dataset, "eval_dataset")[0]["emotion"] == 3


@pytest.mark.parametrize("kind", ["a stream", "rows made by code", "a torch stream"])
def test_a_wrong_label_that_cannot_be_seen_before_is_named_at_its_row(reader, table, kind):
    wrong = Dataset.from_list([{**row, "label": 9 if index == 4 else 1} for index, row in enumerate(table)])
    adapted = reader.read(KINDS[kind](wrong), "train_dataset", training=True)
    with pytest.raises(ValueError, match=r"^train_dataset\[4\] has the label 9, which is outside the 4 classes"):
        rows_of(adapted)


# ---------------------------------------------------------------------- durations


@pytest.mark.parametrize("kind", ["paths", "an Audio column", "bytes", "arrays", "a list", "decoders"])
def test_durations_are_measured_once_when_they_are_asked_for(reader, table, kind, caplog):
    adapted = reader.read(KINDS[kind](table), "train_dataset", training=True)
    assert not caplog.records
    assert "duration" in adapted.column_names
    assert adapted["duration"] == pytest.approx(CORPUS["duration"][:])
    assert adapted["duration"] is adapted["duration"]
    (record,) = caplog.records
    assert record.getMessage().startswith("train_dataset has no column 'duration': its 6 recordings were measured")


def test_a_row_that_lacks_the_duration_of_the_others_is_seen(reader):
    first, *others = ({**row, "emotion": "happy" if n else "sad"} for n, row in enumerate(CORPUS.to_list()))
    del others[1]["duration"]
    assert reader.read([first, *others], "train_dataset", training=True)["duration"].index(None) == 2


def test_a_corpus_that_lacks_durations_alone_gets_them(reader):
    adapted = reader.read(CORPUS.remove_columns("duration"), "train_dataset", training=True)
    assert adapted["duration"] == pytest.approx(CORPUS["duration"][:])
    assert adapted[2]["id"] == "clip02"


def test_durations_that_are_there_are_not_measured(reader, table, caplog):
    stated = table.add_column("duration", [float(index) for index in range(6)])
    made = stated.with_transform(lambda batch: pytest.fail("a user's code is not run for a stored column"))
    for dataset in (stated, made, list(stated)):
        assert reader.read(dataset, "train_dataset", training=True)["duration"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert not caplog.records


def test_a_recording_that_cannot_be_measured_is_named(reader, table):
    rows = [{**row, "file": "nowhere.wav" if index == 2 else row["file"]} for index, row in enumerate(table)]
    adapted = reader.read(Dataset.from_list(rows), "train_dataset", training=True)
    with pytest.raises(ValueError, match=r"train_dataset\[2\] \(nowhere.wav\): no such audio file"):
        adapted["duration"]


@pytest.mark.parametrize("kind", ["rows made by code", "a transform"])
def test_rows_that_code_makes_are_not_measured(reader, table, kind):
    assert "duration" not in reader.read(KINDS[kind](table), "train_dataset", training=True).column_names


# ---------------------------------------------------------------------- in a data loader


@pytest.mark.parametrize("kind", ["paths", "rows made by code", "a torch stream"])
def test_adapted_rows_go_to_other_processes(reader, table, kind):
    adapted = reader.read(KINDS[kind](table), "train_dataset", training=True)
    assert [row["emotion"] for row in rows_of(pickle.loads(pickle.dumps(adapted)))] == CORPUS["emotion"][:]


def test_a_stream_is_told_the_epoch(reader, table):
    stream = PlainStream(list(table))
    reader.read(stream, "train_dataset").set_epoch(3)
    assert stream.epoch == 3


# ---------------------------------------------------------------------- labels

MODEL = {0: "angry", 1: "happy", 2: "sad"}
UNNAMED = {index: f"LABEL_{index}" for index in range(3)}


@pytest.mark.parametrize(
    ("id2label", "class_names", "labels", "indices", "notice"),
    [
        (MODEL, None, ["sad", "angry", None], [2, 0, None], None),
        (MODEL, None, [2, np.int64(1), torch.tensor(0)], [2, 1, 0], None),
        (MODEL, ["angry", "happy", "sad"], [2, 1, "sad"], [2, 1, 2], None),
        (MODEL, ["sad", "angry", "happy"], [0, 1, 2, "angry"], [2, 0, 1, 0], "data numbers its classes in another"),
        (MODEL, ["bored", "sad"], [1], [2], "data numbers its classes in another way than the model (bored, sad; "),
        (UNNAMED, ["sad", "angry", "happy"], [0, 1, 2], [0, 1, 2], "The model's labels have no names: the classes of"),
        (UNNAMED, None, [1, "LABEL_2"], [1, 2], None),
    ],
)
def test_labels_become_the_model_s_numbers(id2label, class_names, labels, indices, notice):
    indexer = LabelIndexer(id2label, class_names, "data")
    found = [indexer.index(label, "a row") for label in labels]
    assert found == indices
    assert all(type(index) in (int, type(None)) for index in found)
    assert indexer.notice is None if notice is None else indexer.notice.startswith(notice)


@pytest.mark.parametrize(
    ("class_names", "label", "message"),
    [
        (None, 3, r"^here has the label 3, which is outside the 3 classes; its labels: angry, happy, sad\. Build"),
        (None, -1, "^here has the label -1, which is outside the 3 classes"),
        (["sad", "bored"], 1, "^here has the label 'bored', which the model does not have; its labels: angry, "),
        (["sad", "bored"], 2, "^here has the label 2, which is outside the 2 classes"),
        (None, "Sad", "^here has the label 'Sad', which the model does not have"),
        *((None, value, f"^here has the label {value}: a label is the name or the number") for value in (1.0, True)),
    ],
)
def test_a_label_that_the_model_does_not_have_is_named_with_its_row(class_names, label, message):
    with pytest.raises(ValueError, match=message):
        LabelIndexer(MODEL, class_names, "train_dataset").index(label, "here")


def test_an_unnamed_model_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"d has 2 classes \(sad, happy\), the model has 3"):
        LabelIndexer(UNNAMED, ["sad", "happy"], "d")
