"""MELD in its own layout: official splits, mp4 through PyAV, every trap reported and no plain clip overwritten."""

import json
import shutil
from collections import Counter

import pytest

from data_scripts import load_corpus
from data_scripts.audit import OFFICIAL_SPLIT
from data_scripts.corpora.meld import EMOTIONS, EXPECTED_EMOTIONS, EXPECTED_SPLITS
from data_scripts.errors import CorpusError
from data_scripts.tables import read_table
from tests.helpers.layouts import (
    APPLE_DOUBLE,
    MELD_FOLDERS,
    drop_reasons,
    make_meld,
    meld_row,
    write_bytes,
    write_meld_csv,
    write_mp4,
)

DEV = MELD_FOLDERS["dev"]


@pytest.fixture
def raw(tmp_path):
    """A small MELD.Raw, two clips in each split."""
    return make_meld(tmp_path / "MELD.Raw")


def test_rows(raw):
    corpus = load_corpus("meld", raw, num_workers=2)
    assert list(corpus.dataset) == ["train", "validation", "test"]
    ids = {split: list(part["id"]) for split, part in corpus.dataset.items()}
    assert ids["train"] == ["train_dia0_utt0", "train_dia0_utt1"]
    assert ids["validation"] == ["dev_dia0_utt0", "dev_dia0_utt1"]
    assert ids["test"][0] == "test_dia0_utt0"
    row = corpus.dataset["validation"][1]
    assert row["duration"] == pytest.approx(0.6, abs=0.06)  # AAC pads to whole frames
    assert corpus.dataset["validation"].features["emotion"].names == list(EMOTIONS)
    assert (row["emotion"], row["speaker"], row["transcript"]) == (EMOTIONS.index("joy"), "Joey", "You’re a genius!")
    assert row["audio"]["path"] == str((raw / "dev_splits_complete/dia0_utt1.mp4").resolve())
    assert (corpus.report.dropped, corpus.report.repaired, corpus.report.noted) == ([], [], [])
    assert corpus.report.expected == {"emotions": EXPECTED_EMOTIONS, "splits": EXPECTED_SPLITS}
    assert corpus.report.audit.accepted == OFFICIAL_SPLIT


def test_expected_counts_are_those_of_the_real_csvs(shared_dir):
    tables = {split: shared_dir / "data" / "meld" / f"{split}_sent_emo.csv" for split in MELD_FOLDERS}
    if not all(path.is_file() for path in tables.values()):
        pytest.skip("no data/meld in ../shared")
    rows = {split: read_table(path) for split, path in tables.items()}
    assert list(map(len, rows.values())) == list(EXPECTED_SPLITS.values())
    assert Counter(row["Emotion"] for some in rows.values() for row in some) == EXPECTED_EMOTIONS


def test_nested_as_the_archives_unpack(raw, tmp_path):
    for split, folder in MELD_FOLDERS.items():
        (raw / split).mkdir()
        shutil.move(raw / folder, raw / split / folder)
        write_bytes(raw / split / f"._{folder}", APPLE_DOUBLE)
    (tmp_path / "csv").mkdir()
    for path in list(raw.glob("*.csv")):
        shutil.move(path, tmp_path / "csv" / path.name)
    corpus = load_corpus("meld", tmp_path)  # CSVs beside MELD.Raw
    assert corpus.report.kept == 6
    assert len(corpus.report.dropped) == 3
    write_meld_csv(
        tmp_path / "a" / "copy" / "dev_sent_emo.csv", [meld_row(0, 0, "fear")]
    )  # deeper, and earlier by name
    corpus = load_corpus("meld", tmp_path)
    assert corpus.report.kept == 6
    second = "second dev_sent_emo.csv: the other one is read"
    assert drop_reasons(corpus.report)["a/copy/dev_sent_emo.csv"] == second


def test_every_trap_is_reported(raw):
    test = raw / "output_repeated_splits_test"
    rows = [meld_row(0, number, "neutral") for number in range(7)]
    rows += [meld_row(0, 3, "joy"), meld_row(1, 0, "bored"), meld_row(1, 1, ""), meld_row(2, 0, "joy", " ")]
    rows += [(1, "x", "Ross", "joy", "neutral", "", "", 1, 1, "", "")]
    rows[0] = meld_row(0, 0, " Neutral ")
    rows[0], rows[6] = rows[6], rows[0]  # the order of the CSV is not that of the utterances
    write_meld_csv(raw / "test_sent_emo.csv", rows)
    write_mp4(test / "final_videos_testdia0_utt0.mp4", seed=7)
    write_mp4(test / "final_videos_testdia0_utt1.mp4", seed=7)
    (test / "dia0_utt1.mp4").unlink()
    whole = write_mp4(test / "dia0_utt2.mp4").read_bytes()
    write_bytes(test / "dia0_utt2.mp4", whole[: len(whole) // 2])  # no moov atom
    write_mp4(test / "dia0_utt4.mp4", audio=False)
    write_mp4(test / "dia0_utt5.mp4", seconds=0)
    write_mp4(test / "dia0_utt6.mp4", seconds=31)
    for name in ("dia1_utt0", "dia1_utt1", "dia2_utt0", "dia9_utt9"):
        write_mp4(test / f"{name}.mp4")
    write_bytes(test / "._dia0_utt0.mp4", APPLE_DOUBLE)
    write_bytes(test / "notes.txt", b"mine")
    corpus = load_corpus("meld", raw)
    found = drop_reasons(corpus.report)
    assert found.pop("test_dia0_utt2").startswith("unreadable audio: the recording is not audio, or is truncated")
    assert found.pop("test_dia0_utt4").startswith("unreadable audio: the recording has no audio stream")
    assert found.pop("test_dia0_utt5").startswith("unreadable audio: the recording ")
    folder = "output_repeated_splits_test"
    assert found == {
        f"{folder}/._dia0_utt0.mp4": "AppleDouble file of macOS (._*), neither text nor media",
        f"{folder}/notes.txt": "not named as a clip of MELD",
        f"{folder}/final_videos_testdia0_utt0.mp4": "final_videos_test twin: the clip with the plain name is used",
        f"{folder}/dia9_utt9.mp4": "unlabelled extra: no row of the CSV names this clip",
        "test_dia0_utt3": "clip absent",
        "test_dia1_utt0": "unknown emotion: bored",
        "test_dia1_utt1": "no emotion",
        "test_sent_emo.csv:9": "second row of an utterance",
        "test_sent_emo.csv:13": "row without a dialogue and utterance number",
    }
    paths = {row["id"]: row["audio"]["path"].rpartition("/")[2] for row in corpus.dataset["test"]}
    assert paths == {
        "test_dia0_utt0": "dia0_utt0.mp4",
        "test_dia0_utt1": "final_videos_testdia0_utt1.mp4",  # no plain twin
        "test_dia0_utt6": "dia0_utt6.mp4",
        "test_dia2_utt0": "dia2_utt0.mp4",
    }
    assert list(paths) == sorted(paths)
    assert {note["id"] for note in corpus.report.repaired} == {
        f"{folder}/final_videos_testdia0_utt1.mp4",
        "test_dia2_utt0",
    }
    assert [note["id"] for note in corpus.report.noted] == ["test_dia0_utt6"]


@pytest.mark.parametrize(
    ("gone", "written", "message"),
    [
        ([""], {}, r"MELD.Raw is no MELD: give MELD.Raw, with train_sent_emo.csv"),
        (["test_sent_emo.csv", DEV], {}, r"test_sent_emo.csv, dev_splits_complete/ missing in .*: copy all"),
        ([DEV], {"dev.tar.gz": b""}, r"dev_splits_complete/ missing in .*: unpack dev.tar.gz there"),
        ([DEV], {f"{DEV}/notes": b""}, r"no usable utterance of split validation of meld.*unpack its archive again"),
        (
            [],
            {"dev_sent_emo.csv": b"Utterance,Emotion\nHi,joy\n"},
            r"dev_sent_emo.csv lacks the columns Speaker, Dialogue_ID, Utterance_ID",
        ),
    ],
    ids=["all", "csv and clips", "archive", "clips", "columns"],
)
def test_what_is_missing_is_named(raw, gone, written, message):
    for path in (raw / name for name in gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    raw.mkdir(exist_ok=True)
    for name, data in written.items():
        write_bytes(raw / name, data)
    with pytest.raises(CorpusError, match=message):
        load_corpus("meld", raw)


REASONS_BY_FAULT = {
    "broken mp4 (truncated, no moov atom)": "unreadable audio: the recording is not audio, or is truncated",
    "absent clip": "clip absent",
    "final_videos_test twin": "final_videos_test twin: the clip with the plain name is used",
    "AppleDouble file": "AppleDouble file",
    "unlabelled extra clip": "unlabelled extra",
    "no audio stream (video only)": "unreadable audio: the recording has no audio stream",
    "zero-duration audio": "unreadable audio: the recording holds no audio samples: its length is zero",
    "40 s clip (speech, then noise)": "longer than 30 s",
}


@pytest.mark.slow
def test_spoken_meld(shared_dir):
    """The real text, synthetic voices: every planted fault is reported, and all else is kept."""
    folder = shared_dir / "data" / "meld_spoken"
    if not (folder / "TRAPS.json").is_file():
        pytest.skip("no data/meld_spoken in ../shared")
    expected = json.loads((folder / "TRAPS.json").read_text(encoding="utf-8"))
    report = load_corpus("meld", folder).report
    listed = {(note["id"], note["reason"]) for note in report.dropped + report.noted}
    assert len(report.dropped) + len(report.noted) == len(expected["traps"])
    for trap in expected["traps"]:
        name = "{split}_dia{dialogue_id}_utt{utterance_id}".format(**trap)
        reason = REASONS_BY_FAULT[trap["kind"]]
        assert any(item in (trap["path"], name) and why.startswith(reason) for item, why in listed), trap
    usable = [expected["counts"][split]["usable_rows"] for split in ("train", "dev", "test")]
    assert [report.splits[split].utterances for split in ("train", "validation", "test")] == usable
