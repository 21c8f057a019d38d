"""Audio is opened wherever it lies; what is not there says how to get it."""

import numpy as np
import pytest

from modeling_m4ser.audio_m4ser import AudioError, load_audio
from tests.modeling_m4ser.test_audio import encoded, tone


@pytest.mark.parametrize(("target", "pointer", "way_out"), [("x", "", "git annex get"), (None, ".dvc", "dvc pull")])
def test_what_is_not_fetched_yet_says_how(tmp_path, target, pointer, way_out):
    path = tmp_path / "clip.wav"
    if target:
        path.symlink_to(target)
    else:
        path.with_name(path.name + pointer).write_text("outs:\n")
    with pytest.raises(AudioError, match=rf"clip\.wav: no such audio file; .*{way_out}"):
        load_audio(path)


def test_addresses_of_files_and_the_home_folder(tmp_path, monkeypatch):
    path = tmp_path / "über # 100%.wav"
    path.write_bytes(encoded(tone(), subtype="FLOAT"))
    monkeypatch.setenv("HOME", str(tmp_path))
    there = path.as_uri().replace("file://", "file://localhost")
    for audio in (path.as_uri(), there, f"~/{path.name}", {"path": f"~/{path.name}"}):
        np.testing.assert_array_equal(load_audio(audio), tone())
    for address, message in (
        ("file://server/share/a.wav", "file://server/share/a.wav names a file of another machine"),
        ((tmp_path / "gone.wav").as_uri(), r"gone\.wav: no such audio file"),
    ):
        with pytest.raises(AudioError, match=message):
            load_audio(address)
