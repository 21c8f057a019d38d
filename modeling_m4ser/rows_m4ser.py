"""One reading of a row: which of its columns is the audio, the text, the label, the channel, the rate, the times.

The pipeline, the trainer and the preparation of a corpus all ask here, so that they understand the same row alike.
Another way of writing a row is understood everywhere once it is understood here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from .levels_m4ser import check_rate
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
        ),
    ),
    "emotion": (
        (
            *("label", "labels", "class", "category", "target", "emo", "emotion_label", "emotion_class", "emotions"),
            "emoclass",
        ),
    ),
    "id": (("utterance_id", "utt_id", "uttid", "segment_id"),),
    "transcript": (("sentence", "reference", "transcription", "ref", "reference_text", "human_transcript"),),
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
        *("start", "begin", "offset", "onset", "start_time", "begin_time", "time_start", "starttime", "segment_start")
    ),
    "end": time_names("end", "stop", "end_time", "stop_time", "time_end", "endtime", "segment_end"),
    # Of the recording; beside a start without an end, of the part that begins there.
    "duration": (*time_names("duration", "dur", "segment_duration", "length"), ("num_samples", "num_frames")),
}
#: Beside any of the first two, a row is a part of its recording.
PART_ROLES = ("start", "end", "duration")
_BETWEEN_WORDS = dict.fromkeys(map(ord, "-_()[]"), " ")
_TEXT_ROLES = ("hypothesis", "transcript")


class Utterance(NamedTuple):
    """What a model reads of a row: audio, its channel and part as [`load_audio`] takes them, and the transcript."""

    audio: Any
    text: str | None = None
    channel: Any = None
    part: Part | None = None


def plain_name(column: str) -> str:
    """Return a column's name without what differs between habits of writing it."""
    return "_".join(column.casefold().translate(_BETWEEN_WORDS).split())


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


def read_utterance(inputs: Any) -> Utterance:
    """Read one input of the pipeline: a row, an audio dictionary, a tuple (audio, text), or audio alone."""
    if isinstance(inputs, tuple):
        if len(inputs) != 2:
            raise ValueError(f"A tuple input is (audio, text); got {len(inputs)} items.")
        utterance = Utterance(*inputs)
    elif isinstance(inputs, Mapping):
        found = find_columns(name for name, value in inputs.items() if value is not None)
        columns = {role: names[0] for role, names in found.items()}
        text = next((inputs[columns[role]] for role in _TEXT_ROLES if role in columns), None)
        channel = read_channel(inputs.get(columns.get("channel", "")))
        utterance = Utterance(read_audio(inputs, columns), text, channel, read_part(inputs))
        if utterance.audio is None and text is None:
            raise ValueError(f"A dict input needs 'audio' and 'text'; got the keys {sorted(inputs)}.")
    else:
        utterance = Utterance(inputs)
    if utterance.text is not None and not isinstance(utterance.text, str):
        raise ValueError(f"A transcript must be a string, not {type(utterance.text).__name__}.")
    return utterance


def read_audio(row: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    """Return the audio of a row as [`load_audio`] takes it; None where there is none."""
    column = columns.get("audio", "")
    is_raw = plain_name(column) != "audio" and "raw" in row and "sampling_rate" in row
    if is_raw or plain_name(column) in _AUDIO_KEYS:
        return {key: row[key] for key in ("raw", "path", "sampling_rate", *_AUDIO_KEYS) if key in row}
    audio, rate = row.get(column), row.get(columns.get("sampling_rate", ""))
    is_waveform = isinstance(audio, (list, tuple)) or hasattr(audio, "__array__")
    return {"array": audio, "sampling_rate": rate} if is_waveform and rate is not None else audio


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
