"""Parts of recordings: the times that a row states, in any of their usual units, and the samples that they mean."""

import datetime
import math
import numbers
from typing import Any, NamedTuple

from .levels_m4ser import AudioError, only_number

#: The units of times, by how many are in a second, None for samples: how the names of columns end that hold them.
TIME_ENDINGS: dict[int | None, tuple[str, ...]] = {
    1: ("", "_s", "_sec", "_secs", "_seconds"),
    1000: ("_ms", "_msec", "_millis", "_milliseconds", "ms"),  # the last as in startMs
    None: ("_sample", "_samples", "_frame", "_frames", "sample", "samples"),
}
_PAST_THE_END = 0.01  # seconds that times may lie past the end of a recording, where they were rounded


class PartError(AudioError):
    """Times that are no part of the recording; `reason` says why, without the values that the message names."""

    def __init__(self, reason: str, found: str = "", label: str = ""):
        super().__init__(f"{label and f'{label}: '}{reason}{found and f' ({found})'}")
        self.reason = reason


class Part(NamedTuple):
    """A part of a recording: from `start` to `end`, None for the recording's end, in seconds or in its samples."""

    start: float = 0.0
    end: float | None = None
    in_samples: bool = False

    def __str__(self) -> str:
        end = "" if self.end is None else f"{self.end:.12g}"
        return f"{self.start:.12g}-{end} {'samples' if self.in_samples else 's'}"

    def frames(self, frames: int, rate: float, label: str) -> slice:
        """Return which frames of a recording, which has so many at `rate` hertz, the part is.

        Its end may lie up to 10 ms past the recording's.

        Raises:
            PartError: the part is not inside the recording.
        """
        scale = 1 if self.in_samples else rate
        start = math.floor(self.start * scale + 0.5)
        end = frames if self.end is None else math.floor(self.end * scale + 0.5)
        if end > frames + _PAST_THE_END * rate or start >= min(end, frames):
            raise PartError(
                "the part is not inside the recording: check the times and their unit, and leave them out where the "
                "file is the part alone",
                f"{self}, of {frames} samples" if self.in_samples else f"{self}, of {frames / rate:g} s",
                label,
            )
        return slice(start, end)


def time_names(*names: str) -> tuple[tuple[str, ...], ...]:
    """Return the names of a time but the first, in groups of one unit each: a row may state it in several."""
    return tuple(
        tuple(name + ending for name in names for ending in endings if name + ending != names[0])
        for endings in TIME_ENDINGS.values()
    )


def time_unit(name: str) -> int | None:
    """Return how many of the unit of a time, by its column's plain name, are in a second; None: it is in samples."""
    units = (unit for unit, endings in TIME_ENDINGS.items() if unit != 1 and name.endswith(endings))
    return next(units, 1)


def read_time(value: Any, column: str, unit: int | None = 1) -> float:
    """Return a time in seconds, or a number of samples; as text, seconds may be "62.5", "62,5" or "00:01:02.5".

    Raises:
        PartError: it is none, or no finite one.
    """
    number = only_number(value)
    if isinstance(number, datetime.timedelta) and unit is not None:
        number, unit = number.total_seconds(), 1
    elif isinstance(number, str):
        number, unit = _read_text(number.strip().replace(",", "."), unit)
    if isinstance(number, bool) or not isinstance(number, numbers.Real) or not math.isfinite(number):
        kind = "a number of samples" if unit is None else "seconds, milliseconds in a column _ms, or hh:mm:ss"
        raise PartError(f"its {column} is no time: give {kind}", f"{value!r:.40}")
    # To the nanosecond, so that a start plus a length is the next one's start.
    return float(number) if unit is None else round(float(number) / unit, 9)


def _read_text(text: str, unit: int | None) -> tuple[float | None, int | None]:
    """A number, None for what is none, and its unit: a clock counts in seconds."""
    *whole, last = text.split(":")
    try:
        number = float(last)
    except ValueError:
        return None, unit
    if not whole:
        return number, unit
    if unit is None or len(whole) > 2 or not all(map(str.isdecimal, whole)) or not 0 <= number < 60:
        return None, unit
    minutes = 0
    for each in whole:
        minutes = 60 * minutes + int(each)
    return 60 * minutes + number, 1
