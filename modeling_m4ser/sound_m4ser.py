"""What a recording sounds like, whatever is said in it and wherever it was recorded: how its spectrum moves.

Noise, tones, music and clicks move otherwise than speech. Neither the words nor the mean spectrum, which microphones
and rooms change, are in it.
"""

import numpy as np
from numpy.typing import ArrayLike

#: Of the descriptions: the deviations of 24 cepstra, and their changes.
SOUND_SIZE = 48
_RATE, _WINDOW, _HOP, _FFT, _BANDS = 16000, 400, 160, 512, 40
_LONGEST = 60 * _RATE
_EDGES = 700 * (10 ** np.linspace(*np.log10(1 + np.array([60, 7600]) / 700), _BANDS + 2) - 1)  # mel
_BINS = np.linspace(0, _RATE / 2, _FFT // 2 + 1)[:, None]
_WIDTHS = np.diff(_EDGES)
_FILTERS = np.minimum((_BINS - _EDGES[:-2]) / _WIDTHS[:-1], (_EDGES[2:] - _BINS) / _WIDTHS[1:]).clip(0)
_COSINES = np.cos(np.pi / _BANDS * np.outer(np.arange(_BANDS) + 0.5, np.arange(SOUND_SIZE // 2))) / _BANDS


def describe_sound(waveform: np.ndarray) -> np.ndarray:
    """Return what a waveform (samples,) at 16 kHz sounds like, (48,), float32: of its first minute.

    That is the deviation over time of each of 24 cepstra (of 40 mel bands, in decibels), and the mean size of its
    change in 20 ms; over frames that are at most 30 dB below the loudest twentieth. Of digital silence it is zero.
    """
    padded = np.pad(waveform[:_LONGEST], _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), _FFT)) ** 2 @ _FILTERS
    energy = power.sum(-1)
    loud = np.sort(energy)[-max(1, len(energy) // 20)]
    if not loud > 0:
        return np.zeros(SOUND_SIZE, np.float32)
    cepstra = 10 * np.log10(np.maximum(power, 1e-5 * loud)) @ _COSINES
    is_heard = energy >= 1e-3 * loud
    changes = np.abs(cepstra[2:] - cepstra[:-2])[is_heard[2:] & is_heard[:-2]]
    change = changes.mean(0) if len(changes) else np.zeros(SOUND_SIZE // 2)
    return np.concatenate([cepstra[is_heard].std(0), change]).astype(np.float32)


def domain_distance(sounds: ArrayLike, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Return how far descriptions (B, 48) lie from those of the training data, (B,): Mahalanobis distance / √48.

    On the training data it is about 1. `mean`, (48,), is theirs, and `whitening`, (48, 48), whitens them.
    """
    whitened = (np.asarray(sounds, np.float32) - mean) @ whitening
    return np.sqrt(np.square(whitened).mean(-1))
