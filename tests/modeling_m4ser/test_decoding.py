"""Files that are not what their names say: died recorders, Git LFS pointers, saved web pages, addresses of files."""

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
def test_a_wav_whose_recorder_died_is_read_to_its_end(size, subtype, channels):
    whole = encoded(np.stack([tone()] * channels, axis=1), subtype=subtype)
    for riff in (size, 36):
        died = with_sizes(whole, size, riff)
        np.testing.assert_array_equal(load_audio(died), load_audio(whole))
        assert audio_duration(died) == 0.5


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


def test_a_died_recorder_is_told(tmp_path, caplog):
    path = tmp_path / "died on the bus.wav"
    path.write_bytes(with_sizes(encoded(tone()), 0))
    load_audio(path)
    assert "died on the bus.wav: its header says that it holds no samples, but 16000 bytes follow" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "Git LFS pointer.*`git lfs pull`",
        ),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", r"web page \(HTML\).*download it again"),
        (b"\xef\xbb\xbf \n<HTML><head></head>", r"web page \(HTML\).*download it again"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', r"web page \(XML\).*download it again"),
        (b'{"error": "Repository not found"}', r"web page \(JSON\).*download it again"),
        (b'[\n {"error": "gone"}]', r"web page \(JSON\).*download it again"),
    ],
)
@pytest.mark.parametrize("read", [load_audio, audio_duration])
def test_what_is_saved_in_a_recording_s_place_is_named(tmp_path, data, message, read):
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    for audio in (path, {"path": "clip.wav", "bytes": data}):
        with pytest.raises(AudioError, match=f"clip.wav is a {message}"):
            read(audio)


def test_addresses_of_files_and_the_home_folder(tmp_path, monkeypatch):
    path = tmp_path / "über # 100%.wav"
    path.write_bytes(encoded(tone(), subtype="FLOAT"))
    monkeypatch.setenv("HOME", str(tmp_path))
    address = path.as_uri()
    for audio in (
        address,
        address.replace("file://", "file://localhost"),
        f"~/{path.name}",
        {"path": f"~/{path.name}"},
    ):
        np.testing.assert_array_equal(load_audio(audio), tone())
    with pytest.raises(AudioError, match="of another machine \\(server\\)"):
        load_audio("file://server/share/a.wav")
    with pytest.raises(AudioError, match=r"gone\.wav: no such audio file"):
        load_audio((tmp_path / "gone.wav").as_uri())
