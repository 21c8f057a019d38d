"""Segmentations in files: who speaks from when to when, and what is said, as SRT, VTT, RTTM or Audacity's labels.

Every format is read into the same segments, and a timeline's rows are written with the emotion beside the words. What
is written can be read again: the emotion is left out then.
"""

import html
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .levels_m4ser import AudioError
from .parts_m4ser import PartError, read_time

#: format -> how its files end
FORMATS = {"srt": ".srt", "vtt": ".vtt", "rttm": ".rttm", "audacity": ".txt"}
_TIMES = re.compile(r"\s*([\d:.,]+)\s*-->\s*([\d:.,]+)(?:\s.*)?")
_EMOTION = re.compile(r"(?:\[[^\]\[]+ [01]\.\d\d\] ?)?")  # [angry 0.81], as `write_segments` puts it before the words
_SPEAKER = re.compile(r"\[([^\]\[]+)\]: ?")
_VOICE = re.compile(r"<v(?:\.\S*)?\s+([^>]+)>")
_TAG = re.compile(r"</?(?:[bciuv]|font|lang|ruby|rt)\b[^>]*>|<[\d:.]+>")
_NOTHING = "<NA>"  # of RTTM


class Segment(NamedTuple):
    """A part of a recording, in seconds, and what is known of it."""

    start: float
    end: float
    speaker: str | None = None
    text: str | None = None


def read_segments(source: Any) -> list[Segment]:
    """Read segments, sorted by their start; their times are rounded to the millisecond.

    Args:
        source: a file that ends in .srt, .vtt, .rttm or .txt (Audacity's labels); or a list: dictionaries with `start`,
            `end` and perhaps `speaker` and `text`, as the rows of a timeline are, or tuples in that order.
            Captions name a speaker as `[NAME]: words` or, in VTT, as `<v NAME>words`.

    Raises:
        AudioError: the file is of another format, cannot be read as text, holds no segment or those of several
            recordings; or a segment ends before it starts. The message names the file and the line or number.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _sorted(((f"segment {number}", _fields(item)) for number, item in enumerate(source, 1)), "segments")
    path = Path(source)
    form = {ending: form for form, ending in FORMATS.items()}.get(path.suffix.lower())
    if form is None:
        raise AudioError(f"{path}: a segmentation ends in {', '.join(FORMATS.values())}; rename or convert it")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AudioError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    reader = {"rttm": _read_rttm, "audacity": _read_audacity}.get(form, _read_captions)
    return _sorted(reader(lines, str(path)), str(path))


def write_segments(rows: Iterable[Mapping[str, Any]], form: str, recording: str = "recording") -> str:
    """Return the rows of a timeline as a file of a format of `FORMATS`, the emotion and its confidence in each.

    Captions and labels begin with the speaker and the emotion, `[NAME]: [angry 0.81] words`; RTTM has the emotion in
    the place of the speaker's type, and its confidence. RTTM names the `recording`, holds no words, and has `_` for the
    spaces in names.
    """
    cues = [(row, speaker_of(row), _plain(row.get("text"))) for row in rows]
    if form == "rttm":
        return "".join(_rttm_line(row, speaker, recording) for row, speaker, _ in cues)
    written = "WEBVTT\n\n" if form == "vtt" else ""
    for number, (row, speaker, text) in enumerate(cues, 1):
        times = f"{_clock(row['start'])} --> {_clock(row['end'])}"
        if form == "audacity":
            written += f"{row['start']:.3f}\t{row['end']:.3f}\t{_tagged(row, speaker, text)}\n"
        elif form == "srt":
            written += f"{number}\n{times.replace('.', ',')}\n{_tagged(row, speaker, text)}\n\n"
        else:
            voice = f"<v {html.escape(speaker, quote=False)}>" if speaker else ""
            written += f"{times}\n{voice}{html.escape(_tagged(row, None, text), quote=False)}\n\n"
    return written


def speaker_of(row: Mapping[str, Any]) -> str | None:
    """Return what a row's speaker is called: by name, or by channel where only that is known."""
    if row.get("speaker") is None and row.get("channel") is not None:
        return f"channel_{row['channel']}"
    return row.get("speaker")


def _sorted(found: Iterable[tuple[str, tuple]], label: str) -> list[Segment]:
    segments = []
    for place, (start, end, speaker, text) in found:
        try:
            start, end = round(read_time(start, "start"), 3), round(read_time(end, "end"), 3)
        except PartError as error:
            raise AudioError(f"{label}, {place}: {error}") from error
        if not 0 <= start < end:
            raise AudioError(f"{label}, {place}: a segment ends after its start, which is 0 or later: {start} to {end}")
        segments.append(Segment(start, end, speaker or None, text))
    if not segments:
        raise AudioError(f"{label}: there is no segment; leave the segmentation out to let speech be found")
    return sorted(segments, key=lambda segment: segment[:2])


def _fields(item: Any) -> tuple:
    if isinstance(item, Mapping):
        return item.get("start"), item.get("end"), item.get("speaker"), item.get("text")
    return (*item, None, None)[:4]


def _read_captions(lines: list[str], label: str) -> Iterable[tuple[str, tuple]]:
    """Read SRT or VTT: after a line with times come lines of text, up to an empty one."""
    place = 0
    while place < len(lines):
        times, place = _TIMES.fullmatch(lines[place]), place + 1
        if times is None:
            continue
        first, words = place, []
        while place < len(lines) and lines[place].strip():
            words.append(lines[place])
            place += 1
        text = " ".join(words)
        voice = _VOICE.search(text)
        text = _TAG.sub("", text)
        speaker, text = _untagged(html.unescape(text) if label.lower().endswith(".vtt") else text)
        yield f"line {first}", (times[1], times[2], html.unescape(voice[1]).strip() if voice else speaker, text)


def _read_audacity(lines: list[str], label: str) -> Iterable[tuple[str, tuple]]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("\\"):  # a range of frequencies of the label before
            continue
        fields = line.split("\t", 2)
        if len(fields) == 1:
            raise AudioError(f"{label}, line {number}: labels of Audacity are START, a tab, END, a tab and the words")
        yield f"line {number}", (*fields[:2], *_untagged("".join(fields[2:])))


def _read_rttm(lines: list[str], label: str) -> Iterable[tuple[str, tuple]]:
    turns = [(number, line.split()) for number, line in enumerate(lines, 1) if line.startswith("SPEAKER ")]
    if short := [number for number, turn in turns if len(turn) < 8]:
        raise AudioError(f"{label}, line {short[0]}: a SPEAKER line of RTTM has at least 8 fields")
    if len(recordings := sorted({turn[1] for _, turn in turns})) > 1:
        raise AudioError(f"{label} has turns of several recordings ({', '.join(recordings[:5])}): keep those of one")
    for number, turn in turns:
        start, length = (read_time(value, f"time in line {number} of {label}") for value in turn[3:5])
        yield f"line {number}", (start, start + length, None if turn[7] == _NOTHING else turn[7], None)


def _rttm_line(row: Mapping[str, Any], speaker: str | None, recording: str) -> str:
    channel = (row.get("channel") or 0) + 1
    emotion = row.get("decision") or _NOTHING
    confidence = _NOTHING if row.get("confidence") is None else f"{row['confidence']:.2f}"
    recording, speaker = ("_".join(name.split()) for name in (recording, speaker or _NOTHING))
    times = f"{row['start']:.3f} {row['end'] - row['start']:.3f}"
    return f"SPEAKER {recording} {channel} {times} {_NOTHING} {emotion} {speaker} {confidence} {_NOTHING}\n"


def _tagged(row: Mapping[str, Any], speaker: str | None, text: str) -> str:
    emotion = f"[{row['decision']} {row['confidence']:.2f}] " if row.get("confidence") is not None else ""
    return f"{f'[{speaker}]: ' if speaker else ''}{emotion}{text}".strip()


def _untagged(text: str) -> tuple[str | None, str | None]:
    """Return the speaker and the words of a caption; None for words that are not there."""
    named = _SPEAKER.match(text)
    emotion = _EMOTION.match(text, named.end() if named else 0)
    return named[1].strip() if named else None, _plain(text[emotion.end() if emotion else 0 :]) or None


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
