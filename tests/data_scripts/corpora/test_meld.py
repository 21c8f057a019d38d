"""MELD in its own layout: official splits, mp4 through PyAV, every trap reported and no plain clip overwritten."""

import hashlib
import json
import shutil
from collections import Counter

import pytest
from datasets import load_dataset

from data_scripts import load_corpus
from data_scripts.corpora import CorpusSelection
from data_scripts.corpora.meld import EMOTIONS, EXPECTED_EMOTIONS, EXPECTED_SPLITS
from data_scripts.errors import CorpusError
from data_scripts.prepare.folder import prepare_folder
from data_scripts.schema import load_prepared
from modeling_m4ser.audio_m4ser import load_audio
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


def test_expected_counts_are_those_of_the_real_csvs(shared_dir):
    from data_scripts.tables import read_table

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
    write_meld_csv(tmp_path / "old" / "older" / "dev_sent_emo.csv", [meld_row(0, 0, "fear")])
    corpus = load_corpus("meld", tmp_path)
    assert corpus.report.kept == 6
    second = "second dev_sent_emo.csv: the other one is read"
    assert drop_reasons(corpus.report)["old/older/dev_sent_emo.csv"] == second


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


def break_raw(raw, how):
    """Take something out of a MELD.Raw."""
    if how == "csv and clips":
        (raw / "test_sent_emo.csv").unlink()
    if how in ("csv and clips", "archive", "empty"):
        shutil.rmtree(raw / "dev_splits_complete")
    if how == "archive":
        (raw / "dev.tar.gz").write_bytes(b"")
    elif how == "empty":
        (raw / "dev_splits_complete").mkdir()
    elif how == "columns":
        (raw / "dev_sent_emo.csv").write_text("Utterance,Emotion\nHi,joy\n")
    elif how == "all":
        shutil.rmtree(raw)
        raw.mkdir()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("all", r"MELD.Raw is no MELD: give MELD.Raw, with train_sent_emo.csv"),
        ("csv and clips", r"test_sent_emo.csv, dev_splits_complete/ missing in .*: copy all"),
        ("archive", r"dev_splits_complete/ missing in .*: unpack dev.tar.gz there"),
        ("empty", r"no usable utterance of split validation of meld.*unpack its archive again"),
        ("columns", r"dev_sent_emo.csv lacks the columns Speaker, Dialogue_ID, Utterance_ID"),
    ],
)
def test_what_is_missing_is_named(raw, how, message):
    break_raw(raw, how)
    with pytest.raises(CorpusError, match=message):
        load_corpus("meld", raw)


def test_prepared_clips_become_flac(raw, tmp_path):
    assert prepare_folder(CorpusSelection("meld", raw), tmp_path / "out").kept == 6
    loaded = load_dataset(str(tmp_path / "out"))  # the tables, not the FLACs
    assert {split: part.num_rows for split, part in loaded.items()} == {"train": 2, "validation": 2, "test": 2}
    assert loaded["test"].features == load_prepared(tmp_path / "out")["test"].features
    row = loaded["train"][0]
    assert row["audio"] == {"path": str((tmp_path / "out/audio/train_dia0_utt0.flac").resolve()), "bytes": None}
    samples, original = load_audio(row["audio"]), load_audio(str(raw / "train_splits/dia0_utt0.mp4"))
    assert samples.shape == original.shape
    assert abs(samples - original).max() <= 2**-15
    assert row["duration"] == pytest.approx(len(samples) / 16000, abs=1e-3)


# Spoken MELD: the real text, synthetic voices, faults planted


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
def test_spoken_meld(shared_dir, tmp_path):
    """Every planted fault is reported; of twins the plain clip is used, and neither is touched."""
    folder, out = shared_dir / "data" / "meld_spoken", tmp_path / "out"
    if not (folder / "TRAPS.json").is_file():
        pytest.skip("no data/meld_spoken in ../shared")
    traps = json.loads((folder / "TRAPS.json").read_text(encoding="utf-8"))
    report = prepare_folder(CorpusSelection("meld", folder), out, num_workers=2)
    listed = {(note["id"], note["reason"]) for note in report.dropped + report.noted}
    assert len(report.dropped) + len(report.noted) == len(traps["traps"])
    rows = {row["id"]: row for row in load_prepared(out)["test"]}
    for trap in traps["traps"]:
        name = "{split}_dia{dialogue_id}_utt{utterance_id}".format(**trap)
        reason = REASONS_BY_FAULT[trap["kind"]]
        assert any(item in (trap["path"], name) and why.startswith(reason) for item, why in listed), trap
        if trap["kind"] == "final_videos_test twin":
            plain, twin = (folder / trap[key] for key in ("beside", "path"))
            assert hashlib.sha256(plain.read_bytes()).hexdigest() == trap["plain_sha256"]
            assert hashlib.sha256(twin.read_bytes()).hexdigest() == trap["sha256"]
            samples, wanted, other = (load_audio(x) for x in (rows[name]["audio"], str(plain), str(twin)))
            assert samples.shape == wanted.shape
            assert abs(samples - wanted).max() <= 2**-15
            assert samples.shape != other.shape or abs(samples - other).max() > 0.01
    usable = [traps["counts"][split]["usable_rows"] for split in ("train", "dev", "test")]
    assert [report.splits[split].utterances for split in ("train", "validation", "test")] == usable
    assert len(list((out / "audio").iterdir())) == sum(usable)
