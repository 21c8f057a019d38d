"""Copies of one recording: the same samples in another file, or what a lossy codec made of them.

Exact copies have one `content_digest`, whatever their container. The others (MP3, another rate or level, silence added)
are found in two steps: recordings whose `acoustic_fingerprint` is alike may be copies, and `same_sound` then lays their
waveforms over each other. The same sentence spoken twice by one person is alike too, but its waveform is another one.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from data_scripts.constants import SAMPLING_RATE

_BAND_HZ = np.geomspace(150, 3300, 13)  # edges of 12 bands within what a telephone line keeps
_SEGMENTS = 24
_WINDOW = 512  # samples; each begins in the middle of the one before
_BLOCK = 4096  # windows transformed, or fingerprints compared, at a time
_SPREADS = 1.7  # standard deviations of the energy over time, on either side of its center: of a steady noise, all
_FLOOR_DB = 40.0  # below the loudest part all is silence
_SPREAD_TOLERANCE = 0.05  # seconds
# Measured on 960 recordings of people and 958 of synthetic voices, 100 of each copied: MP3, Vorbis, 8 kHz, another
# level or a shift leave a cosine of at least 0.93 and a correlation of at least 0.989; AAC at 32 and Opus at 24 kbit/s,
# all but one of 400 a cosine of 0.84, and a correlation of 0.90. The highest correlation of two that are no copies and
# whose fingerprints are alike was 0.35 (people) and 0.89 (synthetic voices).
_SIMILAR = 0.7  # cosine of fingerprints
_SAME_WAVEFORM = 0.92  # correlation


def as_16_bit(samples: np.ndarray) -> np.ndarray:
    """Return a waveform (samples,) in [-1, 1] as 16-bit integers; what was 16-bit comes back unchanged."""
    # Scaled here: libsndfile writes 1.0 as 32767 but reads 32768 as 1.0, which would shift loud samples by one step.
    return np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def content_digest(samples: np.ndarray) -> str:
    """Return 16 hexadecimal digits that are equal for equal 16-bit samples of a 16 kHz waveform (samples,)."""
    return hashlib.sha256(as_16_bit(samples).astype("<i2").tobytes()).hexdigest()[:16]


def acoustic_fingerprint(samples: np.ndarray) -> str:
    """Return a small picture of a 16 kHz waveform (samples,), as text: its level in 12 bands over 24 stretches of time.

    Each band counts from its own mean. The stretches lie around the center of the sound's energy, as wide as it is
    spread: silence at either end and the faint noise of a codec change little.
    """
    bands = _band_energies(samples)
    weight, times = bands.sum(axis=1), np.arange(len(bands)) + 0.5
    levels, spread = np.zeros((_SEGMENTS, bands.shape[1])), 0.0
    if weight.any():
        center = weight @ times / weight.sum()
        spread = float(np.sqrt(weight @ (times - center) ** 2 / weight.sum()))
        reach = _SPREADS * max(spread, 1.0)
        edges = np.linspace(center - reach, center + reach, _SEGMENTS + 1)
        sums = np.cumsum(np.pad(bands, ((1, 0), (0, 0))), axis=0)
        until = np.stack([np.interp(edges, np.arange(len(sums)), column) for column in sums.T], axis=1)
        energies = np.diff(until, axis=0)
        levels = 10 * np.log10(np.maximum(energies, energies.max() * 10 ** (-_FLOOR_DB / 10)))
        levels -= levels.mean(axis=0)
    steps = np.rint(levels / max(np.abs(levels).max(), 1e-9) * 127).astype(np.int8)
    seconds = np.array(spread * _WINDOW / 2 / SAMPLING_RATE, "<f4")
    return base64.b64encode(seconds.tobytes() + steps.tobytes()).decode()


def same_sound(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two 16 kHz waveforms (samples,) are one recording but for a shift, the level and a codec."""
    size = 1 << (len(first) + len(second) - 1).bit_length()
    low, high = (round(limit * size / SAMPLING_RATE) for limit in _BAND_HZ[[0, -1]])
    one, other = (np.fft.rfft(samples, size)[low:high] for samples in (first, second))
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    if scale == 0:
        return False
    # At half the rate, which is enough for these frequencies.
    products = np.concatenate([np.zeros(low), one * other.conj()])
    return bool(np.abs(np.fft.irfft(products, size // 2)).max() * size / 4 / scale >= _SAME_WAVEFORM)


def group_copies(digests: Sequence[str], fingerprints: Sequence[str], load: Callable[[int], np.ndarray]) -> list[str]:
    """Return one name for each recording, the same for copies of one another: the lowest of their digests.

    `load` returns the 16 kHz waveform of a recording, given its number; it is called for a few of them.
    """
    first_with = {digest: number for number, digest in reversed(list(enumerate(digests)))}
    different = sorted(first_with.values())
    names = {digest: digest for digest in first_with}
    waveform = lru_cache(16)(load)

    def name_of(digest: str) -> str:
        while names[digest] != digest:
            digest = names[digest]
        return digest

    for one, other in _similar_pairs([fingerprints[number] for number in different]):
        a, b = different[one], different[other]
        low, high = sorted((name_of(digests[a]), name_of(digests[b])))
        if low != high and same_sound(waveform(a), waveform(b)):
            names[high] = low
    return [name_of(digest) for digest in digests]


def _similar_pairs(fingerprints: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The pairs of recordings that may be copies of each other."""
    if not fingerprints:
        return
    data = [base64.b64decode(text) for text in fingerprints]
    spreads = np.array([np.frombuffer(item[:4], "<f4")[0] for item in data])
    order = np.argsort(spreads, kind="stable")  # so that those of a length lie together
    spreads = spreads[order]
    units = np.stack([np.frombuffer(data[number][4:], np.int8) for number in order]).astype(np.float32)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1)
    for start in range(0, len(order), _BLOCK):
        block = slice(start, start + _BLOCK)
        stop = np.searchsorted(spreads, spreads[block][-1] + _SPREAD_TOLERANCE, side="right")
        alike = units[block] @ units[start:stop].T >= _SIMILAR
        alike &= spreads[None, start:stop] - spreads[block, None] <= _SPREAD_TOLERANCE
        for one, other in np.argwhere(np.triu(alike, 1)):
            yield int(order[start + one]), int(order[start + other])


def _band_energies(samples: np.ndarray) -> np.ndarray:
    """The energy (windows, bands) of a waveform in each band of `_BAND_HZ`."""
    edges = np.rint(_BAND_HZ * _WINDOW / SAMPLING_RATE).astype(int)
    padded = np.pad(samples.astype(np.float32), _WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[:: _WINDOW // 2]
    taper, blocks = np.hanning(_WINDOW).astype(np.float32), []
    for start in range(0, len(windows), _BLOCK):
        power = np.abs(np.fft.rfft(windows[start : start + _BLOCK] * taper, axis=1)[:, : edges[-1]]) ** 2
        blocks.append(np.add.reduceat(power, edges[:-1], axis=1))
    return np.concatenate(blocks).astype(np.float64)
