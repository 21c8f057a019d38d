"""Single recordings: FLACs that lose nothing, and names that are safe."""

import numpy as np

from data_scripts.prepare.recordings import encode_flac, flac_name
from modeling_m4ser.audio_m4ser import decode_audio


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
