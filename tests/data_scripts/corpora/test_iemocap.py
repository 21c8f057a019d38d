"""IEMOCAP in its own layout: joined on the id, every trap reported, and never an empty fold."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts import load_corpus
from data_scripts.corpora import iemocap
from data_scripts.corpora.iemocap import (
    DEFAULT_EMOTIONS,
    EMOTION_CODES,
    EXPECTED_LABELS,
    EXPECTED_SESSIONS,
    drop_excited,
    select_turns,
)
from data_scripts.errors import CorpusError
from tests.helpers.layouts import APPLE_DOUBLE, drop_reasons, make_iemocap, write_bytes, write_wav

DIALOG = "Ses02F_impro01"


@pytest.fixture
def release(tmp_path):
    """A small IEMOCAP_full_release, five utterances of each of ten speakers."""
    return make_iemocap(tmp_path / "IEMOCAP_full_release")


def append(path, text, encoding="utf-8"):
    """Add lines to a text file."""
    path.write_bytes(path.read_bytes() + text.encode(encoding))


def test_rows_and_labels(release):
    corpus = load_corpus("iemocap", release.parent, num_workers=2)
    rows = corpus.dataset["train"]
    assert rows.features["emotion"].names == list(DEFAULT_EMOTIONS) == ["neutral", "happy", "angry", "sad"]
    assert len(rows) == 50
    assert list(rows["id"]) == sorted(rows["id"])
    assert Counter(rows["session"]) == dict.fromkeys("12345", 10)
    assert Counter(rows["speaker"]) == {f"Ses0{n}{voice}": 5 for n in range(1, 6) for voice in "FM"}
    assert Counter(map(iemocap.RECORD.sex_of, rows["speaker"])) == {"female": 25, "male": 25}
    assert [iemocap.sex(speaker) for speaker in ("Ses01F", "Ses05M", "anna", "")] == ["female", "male", None, None]
    # Both speak in the dialog named after F's motion capture: the speaker is the letter of the last part.
    row = next(row for row in rows if row["id"] == f"{DIALOG}_M002")
    assert row["speaker"] == "Ses02M"
    assert row["emotion"] == DEFAULT_EMOTIONS.index("happy")
    assert row["transcript"] == f"Words of {DIALOG}_M002."
    assert row["hypothesis"] is None
    assert row["audio"]["path"] == str((release / f"Session2/sentences/wav/{DIALOG}/{DIALOG}_M002.wav").resolve())
    # By the number of the utterance: neu, hap, exc, ang, sad.
    names = ["neutral", "happy", "happy", "angry", "sad"]
    assert all(rows.features["emotion"].int2str(row["emotion"]) == names[int(row["id"][-1])] for row in rows)
    assert (corpus.report.dropped, corpus.report.repaired, corpus.report.noted) == ([], [], [])
    assert corpus.report.expected == {"sessions": EXPECTED_SESSIONS, "emotions": EXPECTED_EMOTIONS}


EXPECTED_EMOTIONS = {"neutral": 1708, "happy": 1636, "angry": 1103, "sad": 1084}
SIX = ("neutral", "frustrated", "angry", "sad", "happy", "excited")


@pytest.mark.parametrize(
    ("emotions", "expected"),
    [
        (None, EXPECTED_EMOTIONS),
        (SIX, dict(zip(SIX, (1708, 1849, 1103, 1084, 595, 1041), strict=True))),
        ((*DEFAULT_EMOTIONS, "excited"), {"neutral": 1708, "happy": 595, "angry": 1103, "sad": 1084, "excited": 1041}),
        (("sad", "frustrated"), {"sad": 1084, "frustrated": 1849}),
        (("happy", "surprised", "other"), {"happy": 1636, "surprised": 107, "other": 3}),
    ],
    ids=["four", "six", "excited apart", "two", "happy with excited"],
)
def test_every_choice_of_classes_has_its_expected_counts(tmp_path, emotions, expected):
    release = make_iemocap(tmp_path, codes=("neu", "hap", "exc", "ang", "sad", "fru", "sur", "oth"))
    report = load_corpus("iemocap", release, emotions=emotions).report
    assert report.expected["emotions"] == expected
    assert list(report.found("emotions")) == list(expected)
    merged = "excited" not in expected
    assert report.found("emotions") == {name: 20 if name == "happy" and merged else 10 for name in expected}
    assert ("sessions" in report.expected) == (set(DEFAULT_EMOTIONS) <= set(expected) <= {*DEFAULT_EMOTIONS, "excited"})
    assert sum(EXPECTED_SESSIONS.values()) == sum(EXPECTED_EMOTIONS.values()) == 5531
    assert sum(EXPECTED_LABELS[name] for name in SIX) == 7380
    assert sum(EXPECTED_LABELS.values()) == 10039 - 2507  # all recordings but those without agreement
    # A session less: how many of each class are left is not published.
    report = load_corpus("iemocap", release, emotions=emotions, sessions=["1", "2", "3", "4"]).report
    assert "emotions" not in report.expected


# Improvised or scripted; without excited


@pytest.fixture
def both_kinds(tmp_path):
    return make_iemocap(tmp_path, sessions="12", dialogs=("F_impro01", "M_script01_1b", "F_script03_2"))


def test_turns(both_kinds):
    corpus = load_corpus("iemocap", both_kinds, sessions=["1", "2"]).dataset
    improvised, scripted = select_turns(corpus, "improvised")["train"], select_turns(corpus, "scripted")["train"]
    assert (len(improvised), len(scripted)) == (20, 40)
    assert all("_impro" in name for name in improvised["id"])
    assert all("_script" in name for name in scripted["id"])
    assert sorted([*improvised["id"], *scripted["id"]]) == sorted(corpus["train"]["id"])
    assert improvised.features == corpus["train"].features
    renamed = corpus.map(lambda row: {"id": row["id"].replace("Ses02M_script01_1b", "clip")})
    with pytest.raises(CorpusError, match="the id 'clip_F000' names no improvised or scripted dialog"):
        select_turns(renamed, "improvised")
    with pytest.raises(CorpusError, match="no scripted utterance among the 20 of this selection"):
        select_turns(DatasetDict(train=improvised), "scripted")


@pytest.mark.parametrize("emotions", [("excited", "neutral", "happy"), ("neutral", "happy", "excited")])
def test_excited_is_dropped(release, emotions):
    corpus = load_corpus("iemocap", release, emotions=emotions).dataset
    kept = drop_excited(corpus)["train"]
    assert kept.features["emotion"].names == ["neutral", "happy"]
    # By the number of the utterance: neu, hap, exc.
    assert all(row["emotion"] == int(row["id"][-1]) for row in kept)
    known = {row["id"]: row for row in corpus["train"] if row["id"][-1] != "2"}
    assert [{**row, "emotion": 0} for row in kept] == [{**known[name], "emotion": 0} for name in sorted(known)]
    with pytest.raises(CorpusError, match=r"cannot be told from happy ones.*--emotions neutral happy excited$"):
        drop_excited(DatasetDict(train=kept))


def test_every_trap_is_reported(release):
    session, wavs = release / "Session2", release / "Session2/sentences/wav" / DIALOG
    labels = session / "dialog/EmoEvaluation" / f"{DIALOG}.txt"
    texts = session / "dialog/transcriptions" / f"{DIALOG}.txt"
    (wavs / f"{DIALOG}_F000.wav").unlink()
    write_bytes(wavs / f"{DIALOG}_F001.wav", b"RIFF no longer")
    write_wav(wavs / f"{DIALOG}_F900.wav")
    for name in ("Ses03F_impro01_F000", "Ses02F_impro01_000"):  # of another session, and without a speaker
        write_wav(wavs / f"{name}.wav")
        append(labels, f"\n[1.0 - 2.0]\t{name}\tneu\t[2.5, 2.5, 2.5]\n")
    for number, code in ((901, "xxx"), (902, "fru"), (903, "zzz"), (904, "sad"), (905, "sad"), (906, "neu")):
        write_wav(wavs / f"{DIALOG}_F{number}.wav")
        append(labels, f"\n[1.0 - 2.0]\t{DIALOG}_F{number}\t{code}\t[2.5, 2.5, 2.5]\n")
    append(labels, f"[1.0 - 2.0]\t{DIALOG}_F905\tang\t[2.5, 2.5, 2.5]\n[1.0 - 2.0] no tabs\n")
    append(texts, "\nM: sorry\n")
    append(texts, f"{DIALOG}_MXX0 [001.0-002.0]: Hm.\n{DIALOG}_F906 [001.0-002.0]: He said: [LAUGHTER] x]: y\n")
    append(texts, f"{DIALOG}_F906 [001.0-002.0]: again\n")
    write_wav(release / f"Session2/sentences/wav/other/{DIALOG}_M000.wav")
    for kind in ("Attribute", "Categorical", "Self-evaluation"):
        write_bytes(labels.parent / kind / f"{DIALOG}_e2.txt", f"{DIALOG}_F900 :Neutral; ()\n".encode())
    apple = [labels.parent / f"._{labels.name}", texts.parent / f"._{texts.name}", wavs / f"._{DIALOG}_F000.wav"]
    apple += [wavs.parent / f"._{DIALOG}", session / "dialog/avi/DivX" / f"._{DIALOG}.avi"]
    for path in apple:
        write_bytes(path, APPLE_DOUBLE)
    first = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    first.write_bytes(first.read_text().replace("Words of Ses01F_impro01_F000.", "it’s naïve").encode("cp1252"))

    corpus = load_corpus("iemocap", release)
    found = drop_reasons(corpus.report)
    label_lines = len(labels.read_text().splitlines())
    assert found.pop(f"{DIALOG}_F001").startswith("unreadable audio: the recording is")
    expected = {path.relative_to(release).as_posix(): "AppleDouble file of macOS" for path in apple} | {
        f"{DIALOG}_F000": "label without wav",
        f"{DIALOG}_F900": "wav without label",
        "Ses03F_impro01_F000": "id of another session",
        "Ses02F_impro01_000": "id without a speaker letter in its last part",
        f"{DIALOG}_F901": "no agreement among the raters (xxx)",
        f"{DIALOG}_F902": "emotion not selected: frustrated",
        f"{DIALOG}_F903": "unknown label: zzz",
        f"{DIALOG}_F905": "labelled twice, differently",
        f"{DIALOG}_MXX0": "transcription without label and wav (id ending XX",
        f"Session2/dialog/EmoEvaluation/{DIALOG}.txt:{label_lines}": "label line of another form",
        f"Session2/dialog/transcriptions/{DIALOG}.txt:11": "transcription line without an utterance id",
        f"Session2/dialog/transcriptions/{DIALOG}.txt:14": "second transcription of an utterance",
        f"Session2/sentences/wav/other/{DIALOG}_M000.wav": "second copy of a recording",
        **{f"Session2/dialog/EmoEvaluation/{kind}": "sub-folder of single" for kind in ("Attribute", "Categorical")},
        "Session2/dialog/EmoEvaluation/Self-evaluation": "sub-folder of single",
    }
    assert {name: reason[: len(expected.get(name, ""))] for name, reason in found.items()} == expected
    rows = {row["id"]: row for row in corpus.dataset["train"]}
    assert len(rows) == 50
    assert rows[f"{DIALOG}_F906"]["transcript"] == "He said: [LAUGHTER] x]: y"
    assert rows[f"{DIALOG}_F904"]["transcript"] is None
    assert rows["Ses01F_impro01_F000"]["transcript"] == "it’s naïve"
    assert [note["id"] for note in corpus.report.repaired] == [first.relative_to(release).as_posix(), f"{DIALOG}_F904"]
    assert [note["id"] for note in corpus.report.noted] == [f"{DIALOG}_F906"]


def test_a_session_left_out_on_purpose(release):
    corpus = load_corpus("iemocap", release, sessions=["1", "2", "5"])
    assert set(corpus.dataset["train"]["session"]) == {"1", "2", "5"}
    assert drop_reasons(corpus.report) == dict.fromkeys(("Session3", "Session4"), "session not selected")
    assert corpus.report.expected == {"sessions": {n: EXPECTED_SESSIONS[n] for n in "125"}}


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ("Session1", {}, "you gave one session: give the folder above it"),
        ("Session1/dialog", {}, "is no IEMOCAP: give IEMOCAP_full_release"),
        ("", {"sessions": ["one"]}, "sessions of IEMOCAP are numbers, 1 to 5, got 'one'"),
        ("", {"sessions": ["1", "2", "3"]}, "Session3 is missing in .*on purpose: --sessions 1 2$"),
        ("", {"sessions": ["1", "4"]}, "Session4 in .* lacks dialog/EmoEvaluation, .*--sessions 1$"),
        ("", {"sessions": ["1", "5"]}, r"no usable utterance of session 5 of iemocap.*--sessions.*10 × unreadable"),
    ],
)
def test_what_is_not_whole_is_refused(release, place, options, message):
    shutil.rmtree(release / "Session3")
    (release / "Session4/dialog").rename(release / "Session4/dialogue")
    for path in (release / "Session5/sentences/wav").rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(CorpusError, match=message):
        load_corpus("iemocap", release / place, **options)


REASONS_BY_TRAP = {
    "label without wav": "label without wav",
    "wav without label": "wav without label",
    "text with ':'": "text contains ':'",
    "transcription id ending XX0, no label, no wav": "transcription without label and wav (id ending XX",
    "transcription line without an id": "transcription line without an utterance id",
    "sub-folder of .txt that are not the label files": "sub-folder of single raters' views",
    "AppleDouble file": "AppleDouble file",
}


def test_spoken_iemocap(shared_dir, tmp_path):
    """All five sessions of RAVDESS speech in IEMOCAP's layout: the tool's counts, and every fault that it planted."""
    out = tmp_path / "IEMOCAP_full_release"
    tool, ravdess = shared_dir / "tools" / "make_iemocap_layout.py", shared_dir / "data" / "ravdess"
    if not tool.is_file() or not ravdess.is_dir():
        pytest.skip("no tools/make_iemocap_layout.py and data/ravdess in ../shared")
    command = [sys.executable, str(tool), "--ravdess", str(ravdess), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    expected = json.loads((out / "EXPECTED.json").read_text(encoding="utf-8"))
    corpus = load_corpus("iemocap", out, num_workers=2)
    names = corpus.dataset["train"].features["emotion"].names
    rows = corpus.dataset["train"].to_pandas()
    every = Counter()
    for number, session in expected["sessions"].items():
        part = rows[rows["session"] == number.removeprefix("Session")]
        assert Counter(names[label] for label in part["emotion"]) == session["kept_by_class"]
        assert Counter(speaker[-1] for speaker in part["speaker"]) == session["kept_by_speaker"]
        every += Counter(session["labels"])
    texts = pd.read_csv(out / "MAPPING.csv", header=None, skiprows=1, index_col=1)[5]
    assert rows["transcript"].to_list() == texts[rows["id"]].to_list()
    dropped = corpus.report.reasons("dropped")
    assert dropped["no agreement among the raters (xxx)"] == every["xxx"]
    for code in ("fea", "sur", "dis"):
        assert dropped[f"emotion not selected: {EMOTION_CODES[code]}"] == every[code]
    notes = [*corpus.report.dropped, *corpus.report.noted]
    listed = {(note["id"].rpartition(":")[0] or note["id"], note["reason"]) for note in notes}
    assert len(expected["traps"]) > 80
    for trap in expected["traps"]:
        reason = REASONS_BY_TRAP[trap["kind"]]
        assert any(name == trap["where"] and why.startswith(reason) for name, why in listed), trap
