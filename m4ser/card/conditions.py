"""What is done to sound and words before a model hears and reads them again, and how much that may cost."""

import io
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import fftconvolve

from data_scripts.constants import SAMPLING_RATE
from modeling_m4ser import load_audio
from trainer.inputs.augmentation import load_at_speed

#: What a change is -> the share of accuracy that it may cost, and the share of labels that must stay.
TIERS = {"inaudible": (0.02, 0.95), "light": (0.05, 0.85), "medium": (0.10, 0.70), "heavy": (0.20, 0.50)}
#: What may change nothing at all, and sounds in which nobody speaks.
EXACT, SPEECHLESS = "exact", "speechless"

Texts = list[str | None]


@dataclass(frozen=True)
class Condition:
    """A change of the sound (samples,) at 16 kHz, by a random generator, or of the texts of rows as of `rows_of`."""

    name: str
    tier: str
    sound: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    words: Callable[[pd.DataFrame], Texts] | None = None

    def waveform(self, samples: np.ndarray, identity: str) -> np.ndarray:
        """Return what is heard of an utterance: the same each time, within [-1, 1]."""
        if self.sound is None:
            return samples
        changed = self.sound(samples, np.random.default_rng(zlib.crc32(f"{self.name} {identity}".encode())))
        return np.clip(changed, -1, 1).astype(np.float32)


def all_conditions(rows: pd.DataFrame, hears: bool, reads: bool) -> list[Condition]:
    """Return what a model goes through with these rows that hears, or reads, or both."""
    sounds = [Condition(name, tier, sound=change) for name, tier, change in _sounds()] if hears else []
    return [Condition("one at a time", EXACT), *sounds, *(_words(rows) if reads else [])]


def _audio(samples: np.ndarray, rate: int = SAMPLING_RATE) -> dict[str, Any]:
    return {"array": samples, "sampling_rate": rate}


def _noise(decibels: float, like_speech: bool, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise at a signal-to-noise ratio: white, or with the spectrum of the utterance itself, as babble has it."""
    noise = rng.standard_normal(len(samples))
    if like_speech:
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(np.abs(np.fft.rfft(samples)) * spectrum / np.abs(spectrum), len(samples))
    power = np.mean(np.square(samples)) / max(np.mean(np.square(noise)), 1e-12)
    return samples + noise * np.sqrt(power / 10 ** (decibels / 10))


def _codec(name: str, container: str, rate: int, bit_rate: int, samples: np.ndarray, _: Any) -> np.ndarray:
    """Encode at a rate (and bits a second; 0 where the codec has no choice) and decode."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(name, rate=rate)
        stream.layout = "mono"
        if bit_rate:
            stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(load_audio(_audio(samples), rate)[None], format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(part))
    return load_audio(file.getvalue())


def _speed(factor: float, samples: np.ndarray, _: Any) -> np.ndarray:
    return load_at_speed({"audio": _audio(samples), "speed": factor}, SAMPLING_RATE)


def _room(seconds: float, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add reverberation that falls by 60 dB in so many seconds, as strong as the direct sound."""
    times = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    tail[0] = np.linalg.norm(tail)
    wet = fftconvolve(samples, tail)[: len(samples)]
    return wet * np.linalg.norm(samples) / max(np.linalg.norm(wet), 1e-9)


def _lossy(share: float, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Silence a share of the packets of 20 ms."""
    size = SAMPLING_RATE // 50
    return samples * np.repeat(rng.random(-(-len(samples) // size)) >= share, size)[: len(samples)]


def _trim(start: float, end: float, samples: np.ndarray, _: Any) -> np.ndarray:
    """Cut seconds off both ends, where a fifth of a second is left."""
    first, last = (round(seconds * SAMPLING_RATE) for seconds in (start, end))
    return samples[first : len(samples) - last] if len(samples) - first - last >= SAMPLING_RATE / 5 else samples


def _sounds() -> list[tuple[str, str, Any]]:
    """All changes of the sound: name, tier, change."""
    codecs = [
        ("MP3 64 kbit/s", "light", "libmp3lame", "mp3", 16000, 64000),
        ("MP3 32 kbit/s", "medium", "libmp3lame", "mp3", 16000, 32000),
        ("AAC 48 kbit/s", "light", "aac", "adts", 16000, 48000),
        ("Opus 24 kbit/s", "light", "libopus", "ogg", 16000, 24000),
        ("Opus 8 kbit/s", "medium", "libopus", "ogg", 16000, 8000),
        ("G.722 16 kHz", "light", "g722", "wav", 16000, 0),
        ("A-law 8 kHz", "medium", "pcm_alaw", "wav", 8000, 0),
        ("µ-law 8 kHz", "medium", "pcm_mulaw", "wav", 8000, 0),
        ("AMR 12.2 kbit/s 8 kHz", "medium", "libopencore_amrnb", "amr", 8000, 12200),
    ]
    levels = ((20, "light"), (10, "medium"), (0, "heavy"))
    return [
        *((f"white noise {level} dB", tier, partial(_noise, level, False)) for level, tier in levels),
        *((f"speech-shaped noise {level} dB", tier, partial(_noise, level, True)) for level, tier in levels),
        *((name, tier, partial(_codec, *how)) for name, tier, *how in codecs),
        ("8 kHz band", "medium", lambda x, _: load_audio(_audio(load_audio(_audio(x), 8000), 8000))),
        ("gain −20 dB", "inaudible", lambda x, _: x / 10),
        ("gain −6 dB", "inaudible", lambda x, _: x / 2),
        ("gain +6 dB", "light", lambda x, _: 2 * x),
        ("overdriven by 12 dB", "heavy", lambda x, _: 4 * x / max(np.abs(x).max(), 1e-6)),
        ("polarity", "inaudible", lambda x, _: -x),
        ("constant offset", "light", lambda x, _: x + 0.1 * np.abs(x).max()),
        ("1 s of silence at both ends", "light", lambda x, _: np.pad(x, SAMPLING_RATE)),
        ("0.1 s off both ends", "light", partial(_trim, 0.1, 0.1)),
        ("0.5 s off the start", "medium", partial(_trim, 0.5, 0)),
        ("first half", "medium", lambda x, _: x[: len(x) // 2]),
        ("second half", "medium", lambda x, _: x[len(x) // 2 :]),
        *((f"speed {factor:g}", "light", partial(_speed, factor)) for factor in (0.95, 1.05)),
        *((f"speed {factor:g}", "medium", partial(_speed, factor)) for factor in (0.9, 1.1)),
        ("reverberation 0.3 s", "medium", partial(_room, 0.3)),
        ("reverberation 0.8 s", "heavy", partial(_room, 0.8)),
        ("5 % of packets lost", "medium", partial(_lossy, 0.05)),
        ("silence", SPEECHLESS, lambda x, _: 0 * x),
        ("noise alone", SPEECHLESS, lambda x, rng: 0.05 * rng.standard_normal(len(x))),
        ("a tone of 440 Hz", SPEECHLESS, lambda x, _: 0.3 * np.sin(np.arange(len(x)) * 880 * np.pi / SAMPLING_RATE)),
    ]


def _wrong(share: float, rows: pd.DataFrame) -> Texts:
    """Replace a share of the words by words of these rows."""
    pool = sorted({word for text in rows["text"] for word in (text or "").split()})
    texts: Texts = []
    for identity, text in rows["text"].items():
        rng = random.Random(f"{share} {identity}")
        texts.append(" ".join(rng.choice(pool) if rng.random() < share else word for word in (text or "").split()))
    return texts


def _of_another(rows: pd.DataFrame) -> Texts:
    """Give each row the text of a row of another emotion; none where there is no other."""
    texts = {emotion: list(rows["text"][rows["emotion"] != emotion]) or [""] for emotion in rows["emotion"].unique()}
    return [random.Random(f"another {row}").choice(texts[emotion]) for row, emotion in rows["emotion"].items()]


def _shuffled(rows: pd.DataFrame) -> Texts:
    split = ((identity, (text or "").split()) for identity, text in rows["text"].items())
    return [" ".join(random.Random(identity).sample(words, len(words))) for identity, words in split]


def _words(rows: pd.DataFrame) -> list[Condition]:
    """All changes of the texts that these rows allow."""
    changes: list[tuple[str, str, Any]] = [
        ("no transcript", "heavy", lambda rows: [""] * len(rows)),
        ("transcript of another emotion", "heavy", _of_another),
        ("20 % of words wrong", "light", partial(_wrong, 0.2)),
        ("50 % of words wrong", "medium", partial(_wrong, 0.5)),
        ("all words wrong", "heavy", partial(_wrong, 1.0)),
        ("words shuffled", "medium", _shuffled),
        ("upper case", "light", lambda rows: [(text or "").upper() for text in rows["text"]]),
    ]
    if rows["other_text"].notna().all():
        changes.append((f"the {rows['other'].iloc[0]} instead", "medium", lambda rows: list(rows["other_text"])))
    return [Condition(name, tier, words=change) for name, tier, change in changes]
