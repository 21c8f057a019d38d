"""Spoken MELD: what is drawn, which rows are spoken, and that a stopped run goes on; with the programs, the clips."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from data_scripts import load_corpus
from data_scripts.errors import CorpusError
from examples import speak_meld
from modeling_m4ser.audio_m4ser import load_audio
from tests.helpers.layouts import MELD_FOLDERS, meld_row, write_bytes, write_meld_csv

ROWS = [
    meld_row(3, 0, "joy", "You’re a genius!", "Joey"),
    meld_row(1, 0, "anger", "Get out of here.", "Mark"),
    meld_row(3, 1, "sadness", "I don’t think so.", "Rachel"),
    meld_row(1, 1, "neutral", "!", "Joey"),
]
needs_programs = pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")), reason="flite and espeak-ng are not installed"
)


@pytest.fixture
def folder(tmp_path):
    """Four rows of test without clips, and complete train and dev."""
    for split in ("train", "dev"):
        write_meld_csv(tmp_path / f"{split}_sent_emo.csv", [meld_row(0, 0, "neutral", speaker="Mark")])
        write_bytes(tmp_path / MELD_FOLDERS[split] / "dia0_utt0.mp4", b"a clip")
    write_meld_csv(tmp_path / "test_sent_emo.csv", ROWS)
    return tmp_path


@pytest.fixture
def voices(monkeypatch):
    """Stand-ins for the programs; what they were asked to say."""
    asked = []

    def synthesize(text, voice, tempo=1.0, semitones=0.0):
        asked.append((text, voice))
        return np.random.default_rng(len(text)).standard_normal(8000)

    speak_meld._babble_line.cache_clear()
    monkeypatch.setattr(speak_meld, "synthesize", synthesize)
    monkeypatch.setattr(speak_meld, "require_programs", lambda: None)
    yield asked
    speak_meld._babble_line.cache_clear()


def speak(folder, *arguments):
    words = ["--data_dir", str(folder), "--splits", "test", *map(str, arguments)]
    speak_meld.main(speak_meld.parse_arguments(words))


def clips(folder):
    return {path.name: path.read_bytes() for path in (folder / MELD_FOLDERS["test"]).iterdir()}


def lines(folder):
    return speak_meld.read_settings(folder / speak_meld.SYNTHESIS_FILE)


@pytest.mark.parametrize("emotion", speak_meld.PROSODY)
def test_draws_follow_the_table(emotion):
    """Means within four standard errors of the table, which was fitted on the earlier part's settings."""
    generator = np.random.default_rng(0)
    drawn = [speak_meld.draw_settings(("test", 0, 0), emotion, "m_rms", generator) for _ in range(2000)]
    values = np.array([(np.log(d.tempo), d.semitones, d.gain_db) for d in drawn])
    mean, deviation = np.array(speak_meld.PROSODY[emotion]).T
    assert (np.abs(values.mean(0) - mean) < 4 * deviation / 2000**0.5 + 0.005).all()
    np.testing.assert_allclose(values.std(0), deviation, rtol=0.06)
    assert (np.abs(values - mean) <= speak_meld.LIMIT * deviation + 0.006).all()
    shares = [np.mean([d.noise == kind for d in drawn]) for kind in speak_meld.NOISES]
    np.testing.assert_allclose(shares, list(speak_meld.NOISES.values()), atol=0.045)
    ratios = [float(d.snr_db) for d in drawn if d.noise != "none"]
    assert all((d.snr_db == "") == (d.noise == "none") for d in drawn)
    assert 10 <= min(ratios) <= max(ratios) <= 30
    assert np.mean(ratios) == pytest.approx(10 + 20 / 3, abs=0.7)  # the mean square of a uniform number is 1/3
    for pauses in ([d.lead_s for d in drawn], [d.tail_s for d in drawn]):
        assert 0.08 <= min(pauses) <= max(pauses) <= 0.35
        assert np.mean(pauses) == pytest.approx(0.215, abs=0.008)


def test_speakers_keep_their_voices():
    assert [speak_meld.choose_voice(name) for name in ("Monica", "Joey")] == ["f_slt_up", "m_rms"]
    guests = [speak_meld.choose_voice(f"Guest {number}") for number in range(200)]
    assert set(guests) == set(speak_meld.VOICES)
    assert guests == [speak_meld.choose_voice(f"Guest {number}") for number in range(200)]


def test_words_are_plain():
    assert speak_meld.sayable("-You’re at the café… “Now”?") == 'You\'re at the cafe... "Now"?'
    assert speak_meld.sayable("!") == speak_meld.sayable("…") == ""


def test_only_missing_clips_are_spoken(folder, voices, capsys):
    write_bytes(folder / MELD_FOLDERS["test"] / "dia3_utt0.mp4", b"mine")
    write_bytes(folder / MELD_FOLDERS["test"] / "final_videos_testdia1_utt0.mp4", b"a twin")
    speak(folder)
    said = clips(folder)
    assert said.pop("dia3_utt0.mp4") == b"mine"
    assert set(said) == {"final_videos_testdia1_utt0.mp4", "dia3_utt1.mp4"}
    assert set(lines(folder)) == {("test", 3, 1)}
    assert "1 clips spoken" in capsys.readouterr().out
    assert ("I don't think so.", "f_slt") in voices


def test_dialogues_are_whole(folder):
    rows = speak_meld.read_rows(folder, "test")
    keys = [("test", 3, 0), ("test", 3, 1), ("test", 1, 0), ("test", 1, 1)]
    assert [speak_meld.choose_rows(folder, rows, count) for count in (None, 3, 1)] == [keys, keys[:2], []]


def test_a_stopped_run_ends_as_an_undisturbed_one(folder, voices, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(folder, other, dirs_exist_ok=True)
    speak(other)
    written = []

    def stop(path, samples):
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        write_clip(path, samples)

    write_clip = speak_meld.write_clip
    with monkeypatch.context() as patch:
        patch.setattr(speak_meld, "write_clip", stop)
        with pytest.raises(KeyboardInterrupt):
            speak(folder)
    first = clips(folder)
    assert list(first) == ["dia3_utt0.mp4"]
    assert set(lines(folder)) == {("test", 3, 0)}
    speak(folder)
    assert lines(folder) == lines(other)
    assert set(clips(folder)) == set(clips(other)) == {"dia3_utt0.mp4", "dia3_utt1.mp4", "dia1_utt0.mp4"}
    assert clips(folder)["dia3_utt0.mp4"] == first["dia3_utt0.mp4"]


def test_a_row_is_its_own_whatever_the_order(folder, voices):
    speak(folder)
    before = lines(folder)
    shutil.rmtree(folder / MELD_FOLDERS["test"])
    (folder / speak_meld.SYNTHESIS_FILE).unlink()
    write_meld_csv(folder / "test_sent_emo.csv", ROWS[::-1][:3])
    speak(folder)
    assert lines(folder) == {key: line for key, line in before.items() if key != ("test", 3, 0)}
    (folder / MELD_FOLDERS["test"] / "dia1_utt0.mp4").unlink()
    speak(folder, "--seed", 1)
    after = lines(folder)
    assert after["test", 1, 0]["tempo"] != before["test", 1, 0]["tempo"]
    assert after["test", 3, 1] == before["test", 3, 1]  # nothing of it was missing


def test_level_pauses_and_noise():
    generator = np.random.default_rng(0)
    words = generator.standard_normal(32000)
    words /= np.sqrt(np.mean(words**2))
    drawn = speak_meld.draw_settings(("test", 0, 0), "joy", "m_rms", generator)
    drawn = replace(drawn, gain_db=3.0, lead_s=0.2, tail_s=0.1, noise="white", snr_db=12.0)
    clip, settings = speak_meld.mix(words, drawn, generator)
    assert len(clip) == 3200 + 32000 + 1600
    assert (settings.duration_s, settings.clip_guard) == (2.3, 0)
    noise = 20 * np.log10(np.sqrt(np.mean(np.concatenate([clip[:3200], clip[-1600:]]) ** 2)))
    assert noise == pytest.approx(-27 + 3 - 12, abs=0.3)
    clean, _ = speak_meld.mix(words, replace(drawn, noise="none", snr_db=""), generator)
    assert 20 * np.log10(np.sqrt(np.mean(clean[3200:-1600] ** 2))) == pytest.approx(-24, abs=0.01)
    assert not clean[:3200].any()
    loud, settings = speak_meld.mix(words, replace(drawn, gain_db=30.0), generator)
    assert (np.abs(loud).max(), settings.clip_guard) == (pytest.approx(0.99), 1)


def test_a_clip_is_aac_at_16_khz(tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    speak_meld.write_clip(tmp_path / "clip.mp4", tone)
    heard = np.asarray(load_audio(str(tmp_path / "clip.mp4")))
    assert 16000 <= len(heard) <= 16000 + 3 * 1024
    assert np.argmax(np.abs(np.fft.rfft(heard[:16000]))) == 440
    assert np.abs(heard[4000:12000]).max() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "test_sent_emo.csv").unlink(), "test_sent_emo.csv is missing"),
        (lambda folder: (folder / "test_sent_emo.csv").write_text("a,b\n1,2\n"), "is not MELD's CSV"),
        (lambda folder: (folder / "synthesis.csv").write_text("a,b\n1,2\n"), "has the columns a, b"),
        (lambda folder: write_meld_csv(folder / "test_sent_emo.csv", [meld_row(0, 0, "bored")]), "no emotion of MELD"),
    ],
    ids=["no csv", "another csv", "other settings", "a label"],
)
def test_what_cannot_be_used_is_told(folder, voices, break_it, message):
    break_it(folder)
    with pytest.raises(CorpusError, match=message):
        speak(folder)


@needs_programs
@pytest.mark.parametrize("voice", ["m_rms", "f_espeak_f4"])
def test_tempo_and_pitch_are_independent(voice):
    text = "I was the point person on the whole transition of the company."
    plain, fast, high = (speak_meld.synthesize(text, voice, *how) for how in ((1.0, 0.0), (1.25, 0.0), (1.0, 4.0)))
    assert len(plain) / len(fast) == pytest.approx(1.25, rel=0.08)
    assert len(plain) / len(high) == pytest.approx(1.0, rel=0.08)
    assert np.sqrt(np.mean(plain**2)) == pytest.approx(1.0)

    def centroid(samples):
        power = np.abs(np.fft.rfft(samples)) ** 2
        low = slice(0, 1000 * len(samples) // 16000)
        return np.average(np.arange(len(power))[low] * 16000 / len(samples), weights=power[low])

    assert centroid(high) / centroid(plain) > 1.05
    assert centroid(fast) / centroid(plain) == pytest.approx(1.0, abs=0.05)


def test_the_spoken_folder_is_a_meld(folder, voices):
    for split in ("train", "dev"):
        (folder / MELD_FOLDERS[split] / "dia0_utt0.mp4").unlink()
    speak(folder, "--splits", "train", "dev", "test")
    corpus = load_corpus("meld", folder)
    assert {split: len(part) for split, part in corpus.dataset.items()} == {"train": 1, "validation": 1, "test": 3}
    told = {f"{split}_dia{d}_utt{u}": float(line["duration_s"]) for (split, d, u), line in lines(folder).items()}
    found = {row["id"]: row["duration"] for row in corpus.dataset["test"]}
    assert found == pytest.approx({name: told[name] for name in found}, abs=0.2)
