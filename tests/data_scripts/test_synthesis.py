"""Running the programs that speak: what they say is resampled and trimmed; missing and broken ones are named."""

import os

import numpy as np
import pytest
import soundfile

from data_scripts import synthesis
from data_scripts.errors import CorpusError
from tests.helpers.layouts import write_bytes


def fake(folder, name, script):
    """A program of this name."""
    write_bytes(folder / name, f"#!/bin/sh\n{script}\n".encode()).chmod(0o755)


@pytest.mark.parametrize("program", ["flite", "espeak-ng"])
def test_what_is_said_is_resampled_and_trimmed(tmp_path, monkeypatch, program):
    tone = np.sin(2 * np.pi * 400 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "said.wav", np.concatenate([np.zeros(4000), tone, np.zeros(4000)]), 8000)
    fake(tmp_path, program, f'[ "$1" = {"-o" if program == "flite" else "-w"} ] && cp {tmp_path}/said.wav "$2"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    plain, high, wide = (synthesis.say(program, ["Hello"], **how) for how in ({}, {"shift": 2.0}, {"margin": 0.25}))
    assert [len(samples) for samples in (plain, high, wide)] == pytest.approx([16000, 8000, 24000], abs=60)
    assert [np.argmax(np.abs(np.fft.rfft(samples, 16000))) for samples in (plain, high)] == [400, 800]
    assert np.abs(wide[:3000]).max() < 0.02
    soundfile.write(tmp_path / "said.wav", np.zeros(4000), 8000)
    with pytest.raises(CorpusError, match=rf"{program} said nothing for 'Hello': install the voices"):
        synthesis.say(program, ["Hello"])


def test_missing_and_broken_programs_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match=r"flite not found: .*apt install flite espeak-ng"):
        synthesis.require_programs()
    fake(tmp_path, "flite", "exit 0")
    fake(tmp_path, "espeak-ng", "exit 3")
    with pytest.raises(CorpusError, match=r"espeak-ng --version fails: .*apt install"):
        synthesis.require_programs()
    with pytest.raises(CorpusError, match=r"flite could not say 'Hello'.*apt install"):
        synthesis.say("flite", ["Hello"])
