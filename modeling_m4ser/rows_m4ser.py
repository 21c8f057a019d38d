"""One reading of a row: which of its columns is the audio, the text, the label, the channel, the rate, the times.

The pipeline, the trainer and the preparation of a corpus all ask here, so that they understand the same row alike.
Another way of writing a row is understood everywhere once it is understood here.
"""

import numbers
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .levels_m4ser import check_rate, one_line
from .parts_m4ser import Part, PartError, read_time, time_names, time_unit

_AUDIO_KEYS = ("array", "bytes")  # of an audio dictionary, whose keys may be columns of the row
#: What a column may be, and the names it goes by besides the role's own: those of one group are as good as each other,
#: and an earlier group comes first. `text` is what the model reads: it never counts as written by people.
COLUMN_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "audio": (
        _AUDIO_KEYS,
        (
            *("path", "file", "file_name", "filename", "file_path", "filepath", "wav", "wav_path", "wav_file"),
            *("audio_path", "audio_file", "audio_filepath", "audio_filename", "audio_file_path", "recording", "clip"),
            *("waveform", "audio_flac"),
        ),
    ),
    "emotion": (
        (
            *("label", "labels", "class", "category", "target", "emo", "emotion_label", "emotion_class", "emotions"),
            "emoclass",
        ),
    ),
    "id": (("utterance_id", "utt_id", "uttid", "segment_id"),),
    "transcript": (
        ("sentence", "reference", "transcription", "ref", "reference_text", "human_transcript"),
        ("normalized_text",),
        ("raw_text", "raw_transcription"),
    ),
    "hypothesis": (
        (
            *("text", "asr", "asr_text", "asr_transcript", "asr_transcription", "asr_hypothesis", "hyp", "pred_text"),
            "recognized_text",
        ),
    ),
    "asr_model": (("asr_system", "recognizer", "recogniser"),),
    "speaker": (
        ("speaker_id", "spk", "spk_id", "speakerid", "spkrid", "speaker_name", "actor", "actor_id", "client_id"),
    ),
    "session": (("session_id", "sess"),),
    "split": (("subset", "partition", "split_set"),),
    "channel": (("audio_channel",),),
    "sampling_rate": (("sample_rate",),),
    "start": time_names(
        *("start", "begin", "offset", "onset", "start_time", "begin_time", "time_start", "starttime", "segment_start"),
        *("t_start", "xmin", "tmin"),
    ),
    "end": time_names(
        *("end", "stop", "finish", "end_time", "stop_time", "finish_time", "time_end", "endtime", "segment_end"),
        *("t_end", "xmax", "tmax"),
    ),
    # Of the recording; beside a start without an end, of the part that begins there.
    "duration": (*time_names("duration", "dur", "segment_duration", "length"), ("num_samples", "num_frames")),
}
#: Beside any of the first two, a row is a part of its recording.
PART_ROLES = ("start", "end", "duration")
_BETWEEN_WORDS = dict.fromkeys(map(ord, "-_()[]"), " ")
_READ_ROLES = ("audio", "hypothesis", "transcript", "channel", "sampling_rate")
_TEXT_ROLES = ("hypothesis", "transcript")
#: How the names of recordings end: no transcript ends so.
_RECORDING_ENDINGS = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".aif", ".aiff", ".wma", ".amr"),
    *(".caf", ".w64", ".sph", ".webm", ".mkv", ".mov", ".avi"),
)
_TABLE_FORMATS = ("pandas", "polars", "arrow")  # of `datasets`: a row in them is a table
_ADDRESSES = ("http://", "https://", "file:")


class Utterance(NamedTuple):
    """What a model reads of a row: audio, its channel and part as [`load_audio`] takes them, and the transcript."""

    audio: Any
    text: str | None = None
    channel: Any = None
    part: Part | None = None


def is_missing(value: Any) -> bool:
    """Return whether a value is how tables write that there is none: None, NaN, masked, or pandas' NA and NaT."""
    is_nan = isinstance(value, numbers.Real) and value != value
    is_masked = getattr(value, "shape", None) == () and np.ma.is_masked(value)
    return value is None or is_nan or is_masked or type(value).__name__ in ("NAType", "NaTType")


def plain_name(column: Any) -> str:
    """Return a column's name without what differs between habits of writing it."""
    return "_".join(str(column).casefold().translate(_BETWEEN_WORDS).split())


def find_columns(found: Iterable[str]) -> dict[str, list[str]]:
    """Return {role: the columns that may be it}, in the order of `COLUMN_NAMES`; several columns are ambiguous."""
    by_name: dict[str, list[str]] = {}
    for column in found:
        by_name.setdefault(plain_name(column), []).append(column)
    roles = {}
    for role, groups in COLUMN_NAMES.items():
        alike = ([column for name in group for column in by_name.get(name, [])] for group in ((role,), *groups))
        if columns := next(filter(None, alike), None):
            roles[role] = columns
    return roles


def read_collection(inputs: Any) -> list | Iterator | None:
    """Return the inputs of the pipeline that a collection holds: a list, or what streams; None where it is one input.

    Tables and columns of `datasets`, pandas, polars and pyarrow, arrays of paths, dictionaries of columns, tuples of
    rows and whatever can be iterated over are collections; lists and torch's data sets are left to `transformers`.
    """
    if hasattr(inputs, "features") and hasattr(inputs, "column_names"):
        if getattr(inputs, "format", {}).get("type") in _TABLE_FORMATS:
            inputs = inputs.with_format(None)
        return (row for row in without_decoding(inputs))
    if hasattr(inputs, "column_name") and hasattr(inputs.source, "cast_column"):  # one column of such a data set
        return (value for value in without_decoding(inputs.source)[inputs.column_name])
    if hasattr(inputs, "to_pandas"):
        inputs = inputs.to_pandas()
    if hasattr(inputs, "iterrows"):
        return inputs.to_dict("records")
    if isinstance(inputs, Mapping):
        is_columns = all(isinstance(column, list) for column in inputs.values())
        if not is_columns or len({len(column) for column in inputs.values()}) != 1:
            return None
        return [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    if isinstance(inputs, tuple):
        is_rows = not hasattr(inputs, "_asdict") and all(isinstance(row, (tuple, list, Mapping)) for row in inputs)
        return list(inputs) if is_rows else None
    if hasattr(inputs, "keys") and find_columns(inputs.keys()):  # a row of pandas
        return None
    if getattr(getattr(inputs, "dtype", None), "kind", None) in ("O", "U", "T"):
        return inputs.tolist()
    is_one = isinstance(inputs, (str, bytes, bytearray, memoryview)) or hasattr(inputs, "__array__")
    is_left = isinstance(inputs, (list, set, frozenset))  # answers in the order of a set would belong to nothing
    is_iterable = hasattr(inputs, "__iter__") and not hasattr(inputs, "read")
    return (row for row in inputs) if is_iterable and not (is_one or is_left) else None


def read_utterance(inputs: Any) -> Utterance:
    """Read one input of the pipeline: a row, an audio dictionary, a pair (audio, text), or audio alone.

    A missing value (see `is_missing`) counts as not there.

    Raises:
        ValueError: neither audio nor text, several different values for one of them, a transcript that is no string,
            a pair whose text is the path of a recording.
    """
    if hasattr(inputs, "_asdict"):
        inputs = inputs._asdict()
    if isinstance(inputs, Mapping) or (hasattr(inputs, "keys") and find_columns(inputs.keys())):
        return _read_row(dict(inputs))
    clip = _as_clip(inputs)
    # A list is a waveform where it holds no text.
    is_pair = isinstance(clip, tuple) or (isinstance(clip, list) and any(isinstance(item, str) for item in clip))
    if not is_pair:
        return Utterance(clip)
    if len(clip) != 2:
        raise ValueError(f"A tuple input is (audio, text); got {len(clip)} items. Pass several inputs as a list.")
    audio, text = clip
    if _is_path(text):
        raise ValueError(
            f"{os.fspath(text)!r} is a recording in the place of a transcript: pass two clips as a list, [first, "
            "second], and a transcript that looks like a path as {'audio': …, 'text': …}."
        )
    return Utterance(_as_clip(audio), _read_text(text, "second of the pair"))


def _read_row(given: Mapping[str, Any]) -> Utterance:
    row = {name: value for name, value in given.items() if not is_missing(value)}
    found = find_columns(row)
    columns = {role: _only_column(row, names, role) for role, names in found.items()}
    text_column = next((columns[role] for role in _TEXT_ROLES if role in columns), None)
    audio = read_audio(row, columns)
    text = None if text_column is None else _read_text(row[text_column], text_column)
    if audio is None and text is None:
        are_splits = any(hasattr(value, "column_names") for value in row.values())
        remedy = "pass one of these splits" if are_splits else "rename the columns that are meant"
        raise ValueError(f"A row needs 'audio' and 'text'; got values for {sorted(map(str, row))[:20]}: {remedy}.")
    channel = read_channel(row.get(columns.get("channel", "")))
    return Utterance(audio, text, channel, read_part(given))  # a time that is missing is told


def _only_column(row: Mapping[str, Any], names: list[str], role: str) -> str:
    """Return the column of a role; several are one where they say the same."""
    is_dictionary = plain_name(names[0]) in _AUDIO_KEYS
    if role in _READ_ROLES and not is_dictionary and len({repr(row[name]) for name in names}) > 1:
        raise ValueError(
            f"Several columns may be the {role}: {one_line(', '.join(names))}; leave in the one that is meant."
        )
    return names[0]


def _read_text(value: Any, name: str) -> str | None:
    if not (is_missing(value) or isinstance(value, str)):
        raise ValueError(f"A transcript must be a string, not {type(value).__name__} ({one_line(name)}).")
    return value if isinstance(value, str) else None


def _is_path(value: Any) -> bool:
    """Return whether a value names a recording rather than says what was said in one."""
    if not isinstance(value, str):
        return isinstance(value, os.PathLike)
    lower = value.strip().lower()
    return lower.endswith(_RECORDING_ENDINGS) or lower.startswith(_ADDRESSES) or os.path.isfile(value)


def read_audio(row: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    """Return the audio of a row as [`load_audio`] takes it; None where there is none."""
    column, rate = columns.get("audio", ""), row.get(columns.get("sampling_rate", ""))
    stated = {} if is_missing(rate) else {"sampling_rate": rate}
    by_key = {plain_name(name): value for name, value in row.items()}
    is_raw = plain_name(column) != "audio" and "raw" in by_key and stated
    value, key = row.get(column), plain_name(column)
    is_swapped = isinstance(value, Mapping) or (key == "array") != _is_waveform(value)  # a path in a column of arrays
    if is_raw or (key in _AUDIO_KEYS and not is_swapped):
        return {name: by_key[name] for name in ("raw", "path", *_AUDIO_KEYS) if name in by_key} | stated
    audio = _as_clip(value)
    return {"array": audio} | stated if _is_waveform(audio) and stated else audio


def _is_waveform(audio: Any) -> bool:
    return isinstance(audio, (list, tuple)) or (hasattr(audio, "__array__") and not isinstance(audio, (str, bytes)))


def _as_clip(audio: Any) -> Any:
    """Return audio as [`load_audio`] takes it: (rate, waveform) and (waveform, rate) as a dictionary, NaN as None."""
    if isinstance(audio, Mapping) and (found := find_columns(audio)).get("audio"):
        return read_audio(audio, {role: names[0] for role, names in found.items()})
    if isinstance(audio, (tuple, list)) and len(audio) == 2:
        for rate, waveform in (audio, audio[::-1]):
            is_number = isinstance(rate, numbers.Real) or getattr(rate, "shape", None) in ((), (1,))
            if is_number and (isinstance(waveform, (tuple, list)) or getattr(waveform, "shape", ())):
                return {"array": waveform, "sampling_rate": rate}
    return None if is_missing(audio) else audio


def read_channel(value: Any) -> Any:
    """Return a channel as a number where a table has it as text or as a float; None where there is none.

    What is no number comes back as it is: [`load_audio`] refuses it by name.
    """
    if isinstance(value, str):
        value = value.strip() or None
        return int(value) if value is not None and value.isdecimal() else value
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    return value


def read_part(row: Mapping[str, Any]) -> Part | None:
    """Return the part of its recording that a row is; None where the row names neither a start nor an end.

    Samples are counted at the rate that the row states, or at the recording's own.

    Raises:
        PartError: what is no time, a negative start, an end that is not after the start, or times in several ways.
    """
    audio = row.get("audio")
    row = {**audio, **row} if isinstance(audio, Mapping) else row
    found = find_columns(
        name for name, value in row.items() if value is not None and not (isinstance(value, str) and not value.strip())
    )
    if not found.keys() & {"start", "end"}:
        return None
    times: dict[str, float] = {}
    in_samples = set()
    for role in ("start", "end" if "end" in found else "duration"):
        if role not in found:
            continue
        if len(found[role]) > 1:
            raise PartError(f"the row has several columns for its {role}: keep one", ", ".join(found[role]))
        (column,) = found[role]
        unit = time_unit(plain_name(column))
        times[role] = read_time(row[column], column, unit)
        if unit is None and "sampling_rate" in found:
            name = found["sampling_rate"][0]
            times[role], unit = times[role] / check_rate(read_time(row[name], name), name, "the row"), 1
        in_samples.add(unit is None)
    if len(in_samples) > 1:
        raise PartError("the part is given in seconds and in samples: add the column sampling_rate, or use one of them")
    start = times.get("start", 0.0)
    end = times.get("end", round(start + times["duration"], 9) if "duration" in times else None)
    if start < 0:
        raise PartError("a part starts at 0 or later", f"its start is {start:g}")
    if end is not None and end <= start:
        raise PartError("a part ends after its start", f"{start:g} to {end:g}")
    return Part(start, end, in_samples == {True})


def without_decoding(dataset: Any, columns: Iterable[str] | None = None) -> Any:
    """Return a dataset whose audio columns give {"path", "bytes"} instead of decoding, which would need torchcodec."""
    features = dataset.features or {}
    for name in features if columns is None else columns:
        feature: Any = features.get(name)
        if type(feature).__name__ == "Audio" and feature.decode:
            dataset = dataset.cast_column(name, replace(feature, decode=False))
    return dataset
