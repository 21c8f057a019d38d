"""What lies in a recording's place is named as what it is."""

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pandas
import pytest
import torch

from modeling_m4ser.audio_m4ser import AudioError, audio_duration, load_audio
from tests.modeling_m4ser.test_audio import encoded, tone


def archived(pack):
    """The bytes that `pack(file)` writes."""
    target = io.BytesIO()
    pack(target)
    return target.getvalue()


def tar(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.wav"))


def zip_with(name):
    return archived(lambda file: zipfile.ZipFile(file, "w").writestr(name, encoded(tone())))


OTHERS = {
    "a pointer of Git LFS.*git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a pointer of git-annex.*git annex get": b"/annex/objects/SHA256E-s12345--4d7a.wav\n",
    "a pointer of git-annex.*datalad get": b"../.git/annex/objects/Xx/4d/SHA256E-s12345--4d7a.wav",
    "a pointer of DVC.*dvc pull": b"outs:\n- md5: 4d7a\n  size: 12345\n  path: clip.wav\n",
    "a web page": b"<!DOCTYPE html>\n<html><body>404</body></html>",
    "a web page.*download": b"\xef\xbb\xbf \n<HTML><head></head>" + "é".encode() * 2000,
    "a web page or XML": "<html><body>Zugriff verweigert: für Gäste".encode("latin-1"),
    'text, not audio; it begins with .{"error": "Repository not found"}': b'{"error": "Repository not found"}',
    "text, not audio; it begins with .404: Not Found.*download": b"404: Not Found",
    "text, not audio; it begins with .Größe": ("\n" * 4 + "\nGröße" * 3000).encode(),  # ö is cut
    "text, not audio: name": "Größe".encode("utf-16"),
    "a ZIP archive.*unpack": zip_with("b/a.wav"),
    "a file of NumPy.*array": archived(lambda file: np.savez(file, a=tone())),
    "a file of NumPy.*rate": archived(lambda file: np.save(file, tone())),
    "a file of PyTorch": archived(lambda file: torch.save({"a": torch.zeros(9)}, file)),
    "a file of Python's pickle": pickle.dumps(tone()),
    "a gzip archive": gzip.compress(encoded(tone())),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(99),
    "a RAR archive": b"Rar!\x1a\x07\x01\0" + bytes(99),
    "a tar archive": archived(tar),
    "a Parquet table.*datasets": archived(lambda file: pandas.DataFrame({"a": [1]}).to_parquet(file)),
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(99),
    "an image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "an image.*name the recording": b"RIFF\x24\0\0\0WEBPVP8 ",
    "a MIDI file": b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk",
    "a companion file .*macOS": b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + bytes(999),
    "holds zero bytes alone": bytes(30000),
}


@pytest.mark.parametrize("message", OTHERS)
@pytest.mark.parametrize("read", [load_audio, audio_duration])
def test_what_lies_in_a_recording_s_place_is_named(tmp_path, message, read):
    path = tmp_path / "clip.wav"
    path.write_bytes(OTHERS[message])
    for audio in (path, {"path": "clip.wav", "bytes": OTHERS[message]}):
        with pytest.raises(AudioError, match=rf"(?s)^\S*clip\.wav (is )?{message}"):
            read(audio)
