"""Recordings: FLACs that lose nothing, names that are safe, and what is taken over from an earlier run."""

import io
import json

import numpy as np
import pytest
import soundfile

from data_scripts.copies import acoustic_fingerprint, as_16_bit, content_digest
from data_scripts.corpora.base import ScannedCorpus
from data_scripts.corpora.report import PreparationReport
from data_scripts.prepare.recordings import (
    JOURNAL_NAME,
    RecordingInfo,
    RecordingStore,
    _file_state,
    earlier_hypotheses,
    encode_flac,
    flac_name,
    inspect_recording,
    inspect_recordings,
    keep_usable,
    needs_no_conversion,
)
from data_scripts.schema import save_splits
from modeling_m4ser.audio_m4ser import AudioError, decode_audio, load_audio
from modeling_m4ser.parts_m4ser import Part
from tests.helpers.layouts import noise, write_wav


def test_flac_keeps_16_bit_samples_exactly():
    every = np.arange(-32768, 32768, dtype=np.int16)
    decoded, rate = decode_audio(encode_flac(every.astype(np.float32) / 32768))
    assert rate == 16000
    assert np.array_equal(np.rint(decoded * 32768), every)
    clipped, _ = decode_audio(encode_flac(np.array([1.5, -1.5], np.float32)))
    assert clipped.tolist() == [32767 / 32768, -1.0]


def test_flac_names_are_safe_and_different():
    assert flac_name("Ses01F_impro01_F000") == "Ses01F_impro01_F000.flac"
    names = {flac_name(name) for name in ("a/b", "a_b", "a b", "../x", ".x", "x" * 300, "x" * 301)}
    assert len(names) == 7
    assert not any("/" in name or name.startswith(".") or len(name) > 140 for name in names)


@pytest.mark.parametrize(
    ("rate", "channels", "kind", "direct"),
    [(16000, 1, "WAV", True), (16000, 1, "FLAC", True), (16000, 2, "WAV", False), (8000, 1, "WAV", False)],
)
def test_only_16_khz_mono_wav_and_flac_are_direct(tmp_path, rate, channels, kind, direct):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((100, channels)), rate, format=kind)
    (tmp_path / "file").write_bytes(buffer.getvalue())
    assert needs_no_conversion(buffer.getvalue()) is needs_no_conversion(str(tmp_path / "file")) is direct
    assert not needs_no_conversion(b"no audio")
    assert not needs_no_conversion(None)
    assert not needs_no_conversion(str(tmp_path / "absent"))


def test_an_inspection_makes_a_flac_only_where_one_is_needed(tmp_path):
    row = {"id": "a", "path": str(write_wav(tmp_path / "a.wav", seconds=0.5))}
    samples = load_audio(row["path"])
    found = RecordingInfo(0.5, True, content_digest(samples), acoustic_fingerprint(samples))
    assert inspect_recording(row) == inspect_recording(row, tmp_path / "audio") == found
    assert not (tmp_path / "audio").exists()
    made = inspect_recording(row, tmp_path / "audio", always=True)
    assert (made.duration, made.needs_no_conversion, made.flac) == (0.5, True, "a.flac")
    assert (tmp_path / "audio" / "a.flac").stat().st_size == made.size
    row["path"] = str(write_wav(tmp_path / "b.wav", seconds=0.5, rate=8000))
    at_8_khz = inspect_recording(row)
    assert (at_8_khz.duration, at_8_khz.needs_no_conversion, at_8_khz.flac) == (0.5, False, None)
    assert at_8_khz.content == content_digest(load_audio(row["path"])) != found.content
    assert isinstance(inspect_recording({"id": "x", "path": str(tmp_path / "absent")}), AudioError)


def test_copies_have_one_content_whatever_holds_them(tmp_path):
    samples = as_16_bit(noise(0.5, rate=44100))
    for name in ("a.wav", "a.flac", "a.aiff"):
        soundfile.write(tmp_path / name, samples, 44100)
    converted = inspect_recording({"id": "c", "path": str(tmp_path / "a.wav")}, tmp_path).flac
    rows = [{"path": str(tmp_path / name)} for name in ("a.wav", "a.flac", "a.aiff", converted)]
    rows.append({"path": "b.flac", "bytes": (tmp_path / "a.flac").read_bytes()})
    assert len({inspect_recording({"id": "a", **row}).content for row in rows}) == 1
    samples[100] += 30
    soundfile.write(tmp_path / "other.wav", samples, 44100)
    other = {"id": "o", "path": str(tmp_path / "other.wav")}
    assert inspect_recording(other).content != inspect_recording({"id": "a", **rows[0]}).content


@pytest.mark.parametrize("size", [0, 4000, None])
def test_what_others_read_in_part_is_not_direct_and_listed(tmp_path, size):
    path = write_wav(tmp_path / "dead.wav", seconds=0.5)
    whole = path.read_bytes()
    start = whole.index(b"data") + 4
    joined = size is None
    path.write_bytes(whole * 2 if joined else whole[:start] + size.to_bytes(4, "little") + whole[start + 4 :])
    made = inspect_recording({"id": "dead", "path": str(path)}, tmp_path / "audio")
    assert (made.duration, made.needs_no_conversion, made.flac) == (1.0 if joined else 0.5, False, "dead.flac")
    if size == 0:
        assert not needs_no_conversion(str(path))
        assert made.repairs[0].startswith("its header counts 0 bytes of samples, but 16000 more follow")
    rows = [{"id": "dead", "path": str(path), "emotion": "sad", "split": "train"}]
    report = PreparationReport("any")
    keep_usable(ScannedCorpus(rows, "files", emotions=["sad"]), [made], report)
    assert report.repaired == [{"id": "dead", "reason": reason} for reason in made.repairs]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [(np.zeros(800), "silent: every sample is zero"), (np.full(800, 0.25), "constant: every sample is the same")],
)
def test_a_recording_without_sound_is_told_and_gets_no_flac(tmp_path, samples, reason):
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    info = inspect_recording({"id": "a", "path": str(tmp_path / "a.wav")}, tmp_path / "audio", always=True)
    assert (info.duration, info.silence, info.flac) == (0.1, reason, None)
    assert not (tmp_path / "audio").exists()


def stereo(path):
    """Write two speakers, one on each channel."""
    soundfile.write(path, np.stack([noise(0.5), noise(0.5, seed=1)], axis=1), 16000)
    return {"path": str(path)}


def test_each_channel_is_a_recording_of_its_own(tmp_path):
    row = stereo(tmp_path / "call.wav")
    left, right = (inspect_recording({"id": f"c{n}", **row, "channel": n}, tmp_path / "audio") for n in (0, 1))
    assert not left.needs_no_conversion
    assert left.content != right.content
    for info, seed in ((left, 0), (right, 1)):
        decoded, _ = decode_audio(str(tmp_path / "audio" / info.flac))
        assert abs(decoded - noise(0.5, seed=seed)).max() <= 2**-14
    mono = {"id": "m", "path": str(write_wav(tmp_path / "mono.wav")), "channel": 0}
    assert inspect_recording(mono).needs_no_conversion
    assert "channel=1 is not there" in str(inspect_recording({**mono, "channel": 1}))


def test_two_channels_of_a_file_are_remembered_apart(tmp_path, decoded):
    row = {**stereo(tmp_path / "call.wav"), "split": "train", "emotion": "sad"}
    rows = [{**row, "id": "a", "channel": 0}, {**row, "id": "b", "channel": 1}]
    paths = []
    for again in range(3):
        chosen = rows if again < 2 else [{**rows[0], "channel": 1}, rows[1]]
        with RecordingStore(tmp_path / "out", embed=False) as store:
            report = PreparationReport("toy")
            splits = store.finished_splits(ScannedCorpus(chosen, "rows", emotions=["sad"]), report, 1)
            paths.append([(row["id"], row["content"], row["audio"]["path"]) for row in splits["train"]])
        assert len(decoded) == (2, 2, 3)[again]
    assert paths[0] == paths[1] != paths[2]
    (_, one, first), (_, other, second) = paths[0]
    assert one != other
    assert first != second
    # The third time both rows took the same channel: copies of one another.
    assert paths[2][0][1] == paths[2][1][1] == other
    assert report.audit.repeated == {"train": 1}


def test_all_that_decides_what_is_remembered_of_a_recording(tmp_path):
    """Its place, its size, when it was written, its channel, and its part: where it begins, ends, and in which unit."""
    row, size = {"path": str(write_wav(tmp_path / "a.wav"))}, (tmp_path / "a.wav").stat().st_size
    parts = [Part(0.1), Part(0.0, 0.1), Part(0.1, 0.2), Part(1), Part(1, None, True)]
    rows = [row, *({**row, "channel": number} for number in (0, 1)), *({**row, "part": part} for part in parts)]
    rows += [{"path": str(write_wav(tmp_path / "b.wav"))}, {"bytes": b"one"}, {"bytes": b"two"}]
    states = [_file_state(each) for each in rows]
    write_wav(tmp_path / "a.wav", seed=1)
    assert (tmp_path / "a.wav").stat().st_size == size
    states.append(_file_state(row))
    write_wav(tmp_path / "a.wav", seconds=0.3)
    assert len({*states, _file_state(row)}) == len(rows) + 2


def test_a_lossy_copy_of_one_channel_is_found(tmp_path):
    """Two speakers in one file; a copy of the second as MP3 lies in another split."""
    call = stereo(tmp_path / "call.wav")
    soundfile.write(tmp_path / "copy.mp3", noise(0.5, seed=1), 16000, format="MP3")
    rows = [
        {**call, "id": "a", "split": "train", "channel": 0},
        {**call, "id": "b", "split": "train", "channel": 1},
        {"path": str(tmp_path / "copy.mp3"), "id": "c", "split": "test"},
    ]
    scanned = ScannedCorpus([{**row, "emotion": "sad"} for row in rows], "rows", emotions=["sad"])
    report = PreparationReport("toy")
    keep_usable(scanned, list(inspect_recordings(scanned.rows, inspect_recording, 1)), report)
    assert report.audit.recordings == [{"train": ["b"], "test": ["c"]}]


def test_hypotheses_of_an_earlier_preparation(tmp_path):
    """Recognised, recognised as silence, not recognised; two are copies, whose content is that of one of them."""
    known = {"a": ("words", "1"), "b": ("", "2"), "c": (None, "3"), "d": ("so", "4"), "e": ("so", "4")}
    rows = [
        {"id": name, "audio": {"path": name, "bytes": None}, "hypothesis": text, "asr_model": text and "tiny"}
        | {"content": content}
        for name, (text, content) in known.items()
    ]
    save_splits({"train": [{**row, "duration": 1.0, "emotion": "sad"} for row in rows]}, ["sad"], tmp_path)
    path = tmp_path / "train.parquet"
    found = earlier_hypotheses(path)
    told = {name: (row["hypothesis"], row["content"]) for name, row in found.items()}
    assert told == {"a": ("words", "1"), "b": ("", "2"), "d": ("so", None), "e": ("so", None)}
    assert (found["a"]["duration"], found["a"]["asr_model"]) == (1.0, "tiny")
    path.write_bytes(b"PAR1 no longer")
    assert earlier_hypotheses(path) == earlier_hypotheses(tmp_path / "absent.parquet") == {}


def test_a_journal_of_another_version_is_started_anew(tmp_path):
    old = json.dumps([1, "a.wav", 100, 200, {"duration": 3.0, "direct": True}])
    (tmp_path / JOURNAL_NAME).write_text(f"{old}\n")
    with RecordingStore(tmp_path, embed=False) as store:
        assert store._infos == {}
    assert old not in (tmp_path / JOURNAL_NAME).read_text()


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    for name in (".train.parquet.tmp", "audio/.a.flac.tmp", "audio/a.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    with RecordingStore(tmp_path, embed=False):
        pass
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == [JOURNAL_NAME, f"{JOURNAL_NAME}.lock", "a.flac"]
