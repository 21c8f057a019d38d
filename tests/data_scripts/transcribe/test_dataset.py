"""Filling hypotheses: batches that a journal records, imported files, and word error rates."""

import pyarrow
import pyarrow.parquet
import pytest
from datasets import DatasetDict

from data_scripts.schema import build_dataset, load_prepared, save_prepared
from data_scripts.transcribe.dataset import (
    TranscriptionError,
    fill_folder,
    import_hypotheses,
    read_hypotheses,
    word_error_rates,
)
from tests.data_scripts.transcribe.helpers import EMOTIONS, EchoRecognizer, make_dataset


def transcribed(folder, recognizer, **options):
    """The dataset after one run of the command."""
    filled, _ = fill_folder(folder, load_prepared(folder), recognizer, **options)
    assert all(filled[split][:] == part[:] for split, part in load_prepared(folder).items())
    return filled


def test_dataset_is_filled_and_undecodable_audio_is_listed(dataset, prepared):
    filled, report = fill_folder(prepared, dataset, EchoRecognizer(), batch_size=3)
    assert filled["train"].features == dataset["train"].features
    assert filled["train"].column_names == dataset["train"].column_names
    assert filled["train"]["id"][:] == dataset["train"]["id"][:]
    assert all(text.startswith("checksum") for text in filled["train"]["hypothesis"])
    assert set(filled["train"]["asr_model"]) == {"echo"}
    assert [text is None for text in filled["test"]["hypothesis"]] == [False, False, True, False]
    assert filled["test"]["asr_model"][2] is None
    assert list(report["undecodable"]) == ["test/utt2"]


def test_interrupted_run_resumes_to_the_same_output(dataset, prepared, tmp_path):
    save_prepared(dataset, tmp_path / "other")
    undisturbed = transcribed(tmp_path / "other", EchoRecognizer(), batch_size=2)
    for fail_at in (2, 1):
        with pytest.raises(RuntimeError):
            transcribed(prepared, EchoRecognizer(fail_at=fail_at), batch_size=2)
    (path,) = prepared.glob(".transcribe-*.jsonl")
    with open(path, "ab") as journal:
        journal.write(b'{"utterances": [{"split": "train", "id": "ut')  # torn by the crash
    last = EchoRecognizer()
    resumed = transcribed(prepared, last, batch_size=2)
    assert sum(last.batches) == 10 - 3 * 2  # ten decodable clips, three batches of two done before
    for split in undisturbed:
        assert resumed[split].to_dict() == undisturbed[split].to_dict()
    again = EchoRecognizer()
    assert transcribed(prepared, again, batch_size=2)["train"][:] == undisturbed["train"][:]
    assert again.batches == []
    other = EchoRecognizer(seed=1)
    transcribed(prepared, other)
    assert sum(other.batches) == 10, "what was done with other settings is not used"


def test_repaired_audio_is_recognised_on_the_next_run(prepared):
    transcribed(prepared, EchoRecognizer())
    save_prepared(make_dataset(broken=None), prepared)
    again = EchoRecognizer()
    filled = transcribed(prepared, again)
    assert again.batches == [1]
    assert None not in filled["test"]["hypothesis"][:]
    # And a recording in the place of another one that was as long, under its name.
    train = filled["train"].remove_columns("content").add_column("content", ["new", *[None] * 6])
    save_prepared(DatasetDict({**filled, "train": train.cast(filled["train"].features)}), prepared)
    again = EchoRecognizer()
    transcribed(prepared, again)
    assert again.batches == [1]


def test_bad_arguments(dataset, tmp_path):
    save_prepared(DatasetDict({"train": dataset["train"].select([0, 1, 1])}), tmp_path)
    for options, message in (({"batch_size": 0}, "batch_size"), ({}, "'utt1'")):
        with pytest.raises(TranscriptionError, match=message):
            transcribed(tmp_path, EchoRecognizer(), **options)


def texts(*pairs):
    """One-split dataset of (transcript, hypothesis) pairs."""
    rows = [{"id": str(i), "emotion": "happy", "transcript": t, "hypothesis": h} for i, (t, h) in enumerate(pairs)]
    return DatasetDict({"train": build_dataset(rows, EMOTIONS)})


def test_word_error_rate_normalises_and_skips_what_has_no_reference():
    pairs = texts(
        ("I can't go, Mr. Brown!", "i can not go mister brown"), ("The cat sat down.", "the cat sad"), (None, "x")
    )
    assert word_error_rates(pairs)["train"] == {"wer": 0.2, "with_error": 0.5, "utterances": 2, "words": 10}
    assert word_error_rates(texts(("I’m here, that‘s all", "i'm here that's all")))["train"]["wer"] == 0.0
    british = texts(("the colour", "the color"))
    assert word_error_rates(british)["train"]["wer"] == 0.5
    assert word_error_rates(british, {"colour": "color"})["train"]["wer"] == 0.0
    assert word_error_rates(texts(("[laughter]", "ha"), ("hm", None)))["train"]["wer"] is None


def test_hypotheses_are_imported_from_csv_parquet_and_jsonl(dataset, tmp_path):
    table = tmp_path / "h.csv"
    table.write_text("id,split,hypothesis\nutt0,Training,NA\nutt0,test,\nghost,train,boo\n", encoding="utf-8-sig")
    filled, report = import_hypotheses(dataset, read_hypotheses(table), "someone/asr")
    assert filled["train"]["hypothesis"][:2] == ["NA", None]
    assert filled["test"]["hypothesis"][0] == ""
    assert filled["train"]["asr_model"][:2] == ["someone/asr", None]
    assert report["imported"] == 2
    assert report["not_in_dataset"] == ["ghost"]
    assert len(report["without_hypothesis"]) == 9
    pyarrow.parquet.write_table(
        pyarrow.table({"id": ["utt0", "utt1"], "split": ["train", "train"], "hypothesis": ["NA", ""]}),
        tmp_path / "h.parquet",
    )
    filled, report = import_hypotheses(dataset, read_hypotheses(tmp_path / "h.parquet"), "someone/asr")
    assert filled["train"]["hypothesis"][:3] == ["NA", "", None]
    assert report["imported"] == 2
    lines = tmp_path / "h.jsonl"
    lines.write_text('{"id": "utt6", "hypothesis": "only in train"}\n', encoding="utf-8")
    assert import_hypotheses(dataset, read_hypotheses(lines), "x")[0]["train"]["hypothesis"][6] == "only in train"


def test_hypotheses_that_are_there_may_stay():
    known = texts(("a", "one"), ("b", "two"), ("c", None))
    given = {(None, "0"): "one", (None, "1"): "other", (None, "2"): "three"}
    filled, report = import_hypotheses(known, given, "x", missing_only=True)
    assert filled["train"]["hypothesis"][:] == ["one", "two", "three"]
    assert filled["train"]["asr_model"][:] == [None, None, "x"]
    assert (report["imported"], report["kept"]) == (
        2,
        ["train/1"],
    )  # where the file says the same, nothing is kept back


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"name,hypothesis\nx,y\n", "lacks 'id'"),
        ("a.csv", b"id,hypothesis\nutt1\n", r"a\.csv, line 2: the number of cells"),
        ("a.jsonl", b'{"id": "utt1", "hypothesis": null}', "row 1 lacks"),
        ("a.csv", b"id,hypothesis\nutt1,a\nutt1,b\n", "appears twice"),
        ("a.csv", "id,hypothesis\nutt1,café\n".encode("cp1252"), "not UTF-8"),
        ("a.csv", b"id,hypothesis\nghost,a\n", "none of the 1 ids"),
        ("a.csv", b"id,hypothesis\nutt1,a\n", "add a 'split' column"),
        ("a.jsonl", b'{"id": "utt1"', "cannot read"),
        ("absent.csv", None, "cannot read"),
    ],
)
def test_bad_hypotheses_are_refused(dataset, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TranscriptionError, match=message):
        import_hypotheses(dataset, read_hypotheses(tmp_path / name), "x")
