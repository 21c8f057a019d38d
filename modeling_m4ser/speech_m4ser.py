"""Turns of speech in recordings of any length: heard, given, or as a Whisper writes them.

What finds them takes a recording block by block and keeps its state: the turns are the same whatever the blocks are,
and no more of the recording is in memory than the turns that go on.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .segments_m4ser import Segment

try:
    import torch
except ImportError:
    torch: Any = None

try:
    import onnxruntime
except ImportError:
    onnxruntime: Any = None

#: The rate in hertz of all samples here.
RATE = 16000
_FRAME = 512  # samples that silero-vad judges at once
# The probability from which on a frame is speech, and under which speech that has begun may end.
_SPEECH, _SILENCE = 0.5, 0.35
_PAUSE = RATE // 2  # silence that ends a turn
_SHORTEST = RATE // 4  # shorter sounds are no speech
_PADDING = RATE // 10  # kept before and after a turn
_WINDOW = 30 * RATE  # what Whisper hears at once
_QUIET = RATE // 10  # how long it should be quiet where speech is cut


@dataclass(frozen=True)
class Turn:
    """A part of one channel: its places, its samples (none past the recording's end), and what is known of it."""

    start: int
    end: int
    samples: np.ndarray
    speaker: str | None = None
    text: str | None = None


class _Memory:
    """The samples of a recording that are still needed, by their places in all of it."""

    def __init__(self) -> None:
        self.samples, self.first = np.zeros(0, np.float32), 0

    @property
    def end(self) -> int:
        return self.first + len(self.samples)

    def add(self, samples: np.ndarray) -> None:
        self.samples = np.concatenate([self.samples, samples])

    def take(self, start: int, end: int) -> np.ndarray:
        return self.samples[start - self.first : end - self.first].copy()  # the rest may be let go of

    def forget(self, place: int) -> None:
        """Let go of what lies before a place."""
        drop = min(max(place - self.first, 0), len(self.samples))
        self.samples, self.first = self.samples[drop:], self.first + drop


def load_silero() -> Callable[[np.ndarray], float]:
    """Load the voice activity detector of silero-vad: from one frame (512,) after another to the probability of speech.

    Its file is read, and the package not imported: that sets the number of torch's threads to one. Where there is no
    torch, its graph runs.

    Raises:
        ImportError: silero-vad is not installed.
    """
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ImportError("finding speech needs silero-vad: pip install silero-vad, or give the segments")
    folder = Path(package.submodule_search_locations[0]) / "data"
    if torch is None:
        return _SileroGraph(folder / "silero_vad.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, in which the package comes
        network = torch.jit.load(folder / "silero_vad.jit").eval()

    def hear(frame: np.ndarray) -> float:
        with torch.inference_mode():
            return float(network(torch.from_numpy(frame[None]), RATE))

    return hear


class _SileroGraph:
    """The detector as a graph, which is given its state and the end of the frame before."""

    def __init__(self, file: Path):
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.before, self.state = np.zeros((1, 64), np.float32), np.zeros((2, 1, 128), np.float32)

    def __call__(self, frame: np.ndarray) -> float:
        heard = np.concatenate([self.before, frame[None]], axis=1)
        found, self.state = self.session.run(None, {"input": heard, "state": self.state, "sr": np.array(RATE)})
        self.before = heard[:, -64:]
        return float(found[0, 0])


class SpeechFinder:
    """Turns where silero-vad hears speech; what is longer than `longest` samples is cut at its quietest place."""

    def __init__(self, longest: int):
        self.network, self.longest = load_silero(), longest
        self.memory, self.heard = _Memory(), 0
        self.start: int | None = None  # of the turn that goes on
        self.quiet: int | None = None  # since when it is quiet in it
        self.cut = 0  # where the turn before ends
        self.enough = 0  # from here on, the turn is long enough to be speech

    def push(self, samples: np.ndarray, last: bool = False) -> list[Turn]:
        """Take the channel's next samples and return the turns that have ended; after the `last`, all that are left."""
        self.memory.add(samples)
        turns: list[Turn] = []
        while self.heard + (0 if last else _FRAME - 1) < self.memory.end:
            frame = self.memory.take(self.heard, self.heard + _FRAME)
            turns += self._step(self.network(np.pad(frame, (0, _FRAME - len(frame)))))
            self.heard += _FRAME
        if last:
            turns += self._close(self.memory.end if self.quiet is None else self.quiet)
        # The next turn may begin a padding before what was heard last, and is never before the cut.
        self.memory.forget(min(self.heard - _PADDING, self.heard if self.start is None else self.start))
        return turns

    def _step(self, probability: float) -> list[Turn]:
        place = self.heard
        if probability >= _SPEECH:
            self.quiet = None
            if self.start is None:
                self.start, self.enough = max(self.cut, place - _PADDING), place + _SHORTEST
        elif self.start is not None and self.quiet is None and probability < _SILENCE:
            self.quiet = place
        if self.start is None:
            return []
        is_full = place + _FRAME - self.start >= self.longest
        if self.quiet is not None and (is_full or place + _FRAME - self.quiet >= _PAUSE):
            return self._close(self.quiet)
        if not is_full:
            return []
        speech = self.memory.take(self.start, self.start + self.longest)
        self.cut = self.start + quietest_place(speech)
        turn = Turn(self.start, self.cut, speech[: self.cut - self.start])
        self.start = self.enough = self.cut  # the rest is speech, however short
        return [turn]

    def _close(self, end: int) -> list[Turn]:
        """End the turn a padding after a place; a sound that is too short is no turn."""
        start, self.start, self.quiet = self.start, None, None
        if start is None or end < self.enough:
            return []
        self.cut = min(end + _PADDING, start + self.longest, self.memory.end)
        return [Turn(start, self.cut, self.memory.take(start, self.cut))]


class GivenSegments:
    """Turns that are known; those that begin after the end of the recording come back without samples."""

    def __init__(self, segments: Iterable[Segment]):
        self.waiting, self.memory = list(segments), _Memory()

    def push(self, samples: np.ndarray, last: bool = False) -> list[Turn]:
        """Take the channel's next samples and return the turns that have ended; after the `last`, all that are left."""
        self.memory.add(samples)
        turns, waiting = [], []
        for segment in self.waiting:
            start, end = round(segment.start * RATE), round(segment.end * RATE)
            if last or end <= self.memory.end:
                found = self.memory.take(start, end)
                # Other programs round the end of a recording up.
                turns.append(
                    Turn(start, start + len(found) if len(found) else end, found, segment.speaker, segment.text)
                )
            else:
                waiting.append(segment)
        self.waiting = waiting
        self.memory.forget(min([self.memory.end, *(round(segment.start * RATE) for segment in waiting)]))
        return turns


class WhisperSegments:
    """Turns and their words as a Whisper writes them, in windows of 30 s: each begins where its last segment did."""

    def __init__(self, transcribe: Callable[[np.ndarray], list[Segment]]):
        self.transcribe, self.memory = transcribe, _Memory()

    def push(self, samples: np.ndarray, last: bool = False) -> list[Turn]:
        """Take the channel's next samples and return the turns that have ended; after the `last`, all that are left."""
        self.memory.add(samples)
        turns = []
        while len(self.memory.samples) >= _WINDOW or (last and len(self.memory.samples)):
            first = self.memory.first
            window = self.memory.take(first, first + _WINDOW)
            segments = self.transcribe(window)
            is_whole = len(segments) < 2 or (last and len(self.memory.samples) <= _WINDOW)
            after = 0 if is_whole else round(segments[-1].start * RATE)
            moves_on = after >= _WINDOW // 6
            for start, end, _, text in segments[:-1] if moves_on else segments:
                place, samples = round(start * RATE), window[round(start * RATE) : round(end * RATE)]
                if len(samples):
                    turns.append(Turn(first + place, first + place + len(samples), samples, text=text))
            self.memory.forget(first + (after if moves_on else len(window)))
        return turns


def quietest_place(samples: np.ndarray) -> int:
    """Return the middle of the quietest 100 ms in the second half of samples (samples,)."""
    half = len(samples) // 2
    power = np.cumsum(np.square(samples[half:], dtype=np.float64))
    return half + int(np.argmin(power[_QUIET:] - power[:-_QUIET])) + _QUIET // 2


def pieces(turn: Turn, longest: int, window: int | None = None, hop: int | None = None) -> Iterator[Turn]:
    """Cut a turn at its quietest places into pieces of at most `longest` samples, or into overlapping windows.

    Its words are shared out as if each took the same time.
    """
    length, places = len(turn.samples), []
    if window is not None:
        last = max(length - window, 0)
        places = [(start, min(start + window, length)) for start in [*range(0, last, hop or window), last]]
    else:
        first = 0
        while length - first > longest:
            cut = first + quietest_place(turn.samples[first : first + longest])
            places, first = [*places, (first, cut)], cut
        places.append((first, length))
    if len(places) == 1:
        yield turn
        return
    words = None if turn.text is None else turn.text.split()
    for start, end in places:
        own = words and [word for n, word in enumerate(words) if start <= (n + 0.5) * length / len(words) < end]
        text = None if own is None else " ".join(own)
        yield replace(turn, start=turn.start + start, end=turn.start + end, samples=turn.samples[start:end], text=text)
