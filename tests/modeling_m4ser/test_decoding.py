"""Lengths are those of what is decoded, whatever headers say; files that are no audio; addresses of files."""

import re
import struct

import numpy as np
import pytest

from modeling_m4ser.audio_m4ser import AudioError, audio_duration, load_audio
from tests.modeling_m4ser.test_audio import encoded, tone


def with_sizes(data, size, riff=None):
    """A WAV file with other sizes in its "data" chunk and in its header."""
    data, place = bytearray(data), data.index(b"data") + 4
    struct.pack_into("<I", data, place, size)
    struct.pack_into("<I", data, 4, size if riff is None else riff)
    return bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_whose_recorder_died_is_read_to_its_end(size, subtype, channels, caplog):
    whole = encoded(np.stack([tone()] * channels, axis=1), subtype=subtype)
    for riff in (size, 36):
        died = with_sizes(whole, size, riff)
        np.testing.assert_array_equal(load_audio(died), load_audio(whole))
        assert audio_duration(died) == 0.5
    assert ("its header says that it holds no samples, but" in caplog.text) == (size == 0)


def test_a_died_rf64_is_read_to_its_end():
    whole = encoded(tone(), form="RF64")
    place = whole.index(b"ds64") + 8
    died = bytearray(whole)
    struct.pack_into("<QQQ", died, place, 0, 0, 0)
    struct.pack_into("<I", died, whole.index(b"data") + 4, 0xFFFFFFFF)
    np.testing.assert_array_equal(load_audio(bytes(died)), load_audio(whole))


@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0INFO", b"LIST\x05\0\0\0INFOx"])
def test_a_wav_without_samples_stays_empty(after):
    with pytest.raises(AudioError, match="its length is zero"):
        load_audio(encoded(np.zeros(0)) + after)


@pytest.mark.parametrize("form", ["WAV", "OGG", "MP3"])
def test_joined_files_are_read_to_their_end(form):
    parts = [encoded(tone(0.5), form=form), encoded(tone(0.4, hertz=900), form=form)]
    alone = [load_audio(part) for part in parts]
    joined = b"".join(parts)
    loaded = load_audio(joined)
    slack = 2600 if form == "MP3" else 0  # what each encoder adds to both ends is cut off of one file alone
    assert len(loaded) == pytest.approx(sum(map(len, alone)), abs=slack)
    np.testing.assert_allclose(loaded[: len(alone[0])], alone[0], atol=1e-6)
    if not slack:
        np.testing.assert_array_equal(loaded[len(alone[0]) :], alone[1])
    assert audio_duration(joined) == pytest.approx(len(loaded) / 16000)


@pytest.mark.parametrize("form", ["WAV", "OGG"])
def test_joined_files_that_do_not_fit_are_refused(form):
    other = encoded(np.stack([tone()] * 2, 1), form=form)
    with pytest.raises(AudioError, match="the audio bytes is joined of recordings with different rates or channels"):
        load_audio(encoded(tone(), form=form) + other)


def mp3(seconds=2.0):
    """An MP3 of noise with a changing bit rate, and the place of the tag in its first frame."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, int(16000 * seconds)) * np.linspace(0, 1, int(16000 * seconds))
    data = encoded(noise, form="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    return data, data.index(b"Xing")


def test_an_mp3_without_a_tag_is_read_to_its_end():
    data, place = mp3()
    untagged = data[data.index(data[:2], place) :]
    for cut, seconds in ((len(untagged), 2.0), (len(untagged) // 2, 1.2)):
        assert load_audio(untagged[:cut]).size == pytest.approx(16000 * seconds, abs=2600)
        assert audio_duration(untagged[:cut]) == pytest.approx(seconds, abs=0.17)


@pytest.mark.parametrize("change", [(8, 5), (8, 4000), (0, 0x61626364)], ids=["fewer", "more", "damaged frame"])
def test_an_mp3_whose_tag_is_wrong_is_read_to_its_end(change):
    data, place = mp3()
    wrong = bytearray(data)
    struct.pack_into(">I", wrong, place + change[0], change[1])
    assert load_audio(bytes(wrong)).size == pytest.approx(32000, abs=2600)


def test_an_mp3_shorter_than_its_tag_is_truncated():
    data, _ = mp3()
    pictured = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257) + data
    np.testing.assert_array_equal(load_audio(pictured), load_audio(data))
    for whole in (data, pictured):
        with pytest.raises(AudioError, match=rf"is truncated: {len(data) - 1} of {len(data)} bytes"):
            load_audio(whole[:-1])


@pytest.mark.parametrize("counted", [0, 8])
def test_a_data_size_that_counts_the_header_is_no_cut(counted):
    whole = encoded(tone())
    wrong = with_sizes(whole, len(whole) - counted, len(whole) - 8)
    np.testing.assert_array_equal(load_audio(wrong), load_audio(whole))
    assert audio_duration(wrong) == 0.5
    with pytest.raises(AudioError, match="truncated: 16000 of 16002 bytes"):
        load_audio(with_sizes(whole, 16002))


@pytest.mark.parametrize(
    "data",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        b"<!DOCTYPE html>\n<html><body>404</body></html>",
        b"\xef\xbb\xbf \n<HTML><head></head>" + "é".encode() * 2000,
        b'{"error": "Repository not found"}',
        b"/annex/objects/SHA256E-s12345--4d7a.wav\n",
        b"404: Not Found",
    ],
)
@pytest.mark.parametrize("read", [load_audio, audio_duration])
def test_text_in_a_recording_s_place_is_shown(tmp_path, data, read):
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    begin = data.decode("utf-8-sig").strip()[:12]
    for audio in (path, {"path": "clip.wav", "bytes": data}):
        with pytest.raises(AudioError, match=rf"clip\.wav is text, not audio; it begins with ['\"]{re.escape(begin)}"):
            read(audio)


def test_addresses_of_files_and_the_home_folder(tmp_path, monkeypatch):
    path = tmp_path / "über # 100%.wav"
    path.write_bytes(encoded(tone(), subtype="FLOAT"))
    monkeypatch.setenv("HOME", str(tmp_path))
    there = path.as_uri().replace("file://", "file://localhost")
    for audio in (path.as_uri(), there, f"~/{path.name}", {"path": f"~/{path.name}"}):
        np.testing.assert_array_equal(load_audio(audio), tone())
    for address, message in (
        ("file://server/share/a.wav", r"of another machine \(server\)"),
        ((tmp_path / "gone.wav").as_uri(), r"gone\.wav: no such audio file"),
    ):
        with pytest.raises(AudioError, match=message):
            load_audio(address)
