"""Speech synthesis with the programs flite and espeak-ng, of which the scripts in `examples` make synthetic corpora."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from data_scripts.constants import SAMPLING_RATE
from data_scripts.errors import CorpusError

INSTALL = "install the voices (Debian: apt install flite espeak-ng)"


def require_programs() -> None:
    """Raise `CorpusError`, which names the packages, where one of both programs is missing or does not run."""
    for program, option in (("flite", "-lv"), ("espeak-ng", "--version")):
        if shutil.which(program) is None:
            raise CorpusError(f"{program} not found: {INSTALL}")
        if subprocess.run([program, option], capture_output=True).returncode:
            raise CorpusError(f"{program} {option} fails: {INSTALL}")


def say(program: str, options: Sequence[str], shift: float = 1.0, margin: float = 0.0) -> np.ndarray:
    """Return what a program says, given voice, prosody and text: float64 mono at 16 kHz, shape (samples,).

    It is played `shift` times faster and higher; `margin` seconds of the silence at either end stay.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wav = str(Path(scratch) / "speech.wav")
        try:
            output = "-o" if program == "flite" else "-w"
            subprocess.run([program, output, wav, *options], check=True, capture_output=True)
            samples, rate = soundfile.read(wav)
        except (OSError, subprocess.CalledProcessError, soundfile.SoundFileError) as error:
            raise CorpusError(f"{program} could not say {options[-1]!r} ({error}): {INSTALL}") from error
    samples = soxr.resample(samples, rate * shift, SAMPLING_RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=0.0))
    if not loud.size:
        raise CorpusError(f"{program} said nothing for {options[-1]!r}: {INSTALL}")
    pad = int(margin * SAMPLING_RATE)
    return samples[max(loud[0] - pad, 0) : loud[-1] + max(pad, 1)]
