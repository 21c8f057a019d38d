"""From the rows of any table or dataset to utterances: text values, ids, splits, and what cannot be used."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_scripts.constants import SPLITS
from data_scripts.corpora.columns import COLUMN_OPTIONS, assign_columns
from data_scripts.corpora.options import SPLIT_OPTIONS, CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.split_names import canonical_splits
from data_scripts.errors import CorpusError, check_known

Row = dict[str, Any]

REQUIRED_ROLES = ("audio", "emotion")
TEXT_ROLES = ("id", "transcript", "hypothesis", "asr_model", "speaker", "session", "split")
_LOOKED_AT, _FEW = 50, 2  # rows
_SECONDS_OF_A_CODEC = 0.1  # that it adds to a clip
_TRIMMED_ROLES = ("id", "speaker", "session", "split", "asr_model")


def read_columns(
    found: Sequence[str],
    selection: CorpusSelection,
    owner: Any,
    report: PreparationReport,
) -> dict[str, str]:
    """Return {role: column}, see `assign_columns`, and say it in the report."""
    columns = assign_columns(found, selection.columns, owner)
    if missing := [role for role in REQUIRED_ROLES if role not in columns]:
        hint = f". If one of them is meant, say so: {' '.join(f'--{COLUMN_OPTIONS[role]} NAME' for role in missing)}"
        if len(found) == 1:
            hint = "; separate the columns by commas, semicolons or tabs"
        raise CorpusError(f"{owner} lacks the columns {', '.join(missing)}; its columns: {', '.join(found)}{hint}")
    report.columns = columns
    report.unread_columns = [column for column in found if column and column not in columns.values()]
    return columns


def as_utterance(values: Mapping[str, Any], row: Mapping[str, Any]) -> Row:
    """Return a row's values {role: value}: `TEXT_ROLES` as text, a channel where there is one, the label as it is.

    The `row` as it stands, whose columns name the units of its times, says which `part` of its recording it is; where
    its times are none, the row is `unusable`, for a reason.
    """
    from modeling_m4ser.audio_m4ser import AudioError  # imports torch
    from modeling_m4ser.rows_m4ser import read_part

    item: Row = {name: _as_text(values.get(name)) for name in TEXT_ROLES}
    for name in _TRIMMED_ROLES:
        item[name] = (item[name] or "").strip() or None
    item["emotion"] = values.get("emotion")  # not text yet: a list or a rating is no label, see `assign_classes`
    if (channel := values.get("channel")) is not None:
        item["channel"] = _as_channel(channel)
    try:
        if (part := read_part(row)) is not None:
            item["part"] = part
    except AudioError as error:
        item["unusable"] = getattr(error, "reason", str(error))
    return item


def recording_name(item: Row, name: str) -> str:
    """Return what tells a row's recording, by the name of its file, from other channels and parts of the file."""
    channel = f" channel {item['channel']}" if item.get("channel") is not None else ""
    return f"{name}{channel}" + (f" {item['part']}" if "part" in item else "")


def _as_text(value: Any) -> str | None:
    """A value as text; a table that writes whole numbers as floats (pandas, where some are missing) means those."""
    if isinstance(value, float):
        if value != value:
            return None
        value = int(value) if value.is_integer() else value
    return None if value is None else str(value)


def _as_channel(value: Any) -> int | None:
    """A channel's number, counted from 0."""
    from modeling_m4ser.rows_m4ser import read_channel  # imports torch

    channel = read_channel(value)
    if channel is not None and not (isinstance(channel, int) and channel >= 0):
        raise CorpusError(
            f"the channel {value!r} is no number: channels are counted 0, 1, …; if that column is something "
            "else, rename it"
        )
    return channel


def name_rows(items: Iterable[Row]) -> None:
    """Give rows without an id that of their recording, which is their `name`; of several such rows, numbered."""
    rows_of: Counter[str] = Counter()
    for item in items:
        name = item.pop("name")
        if item["id"] is None:
            rows_of[name] += 1
            item["id"] = name if rows_of[name] == 1 else f"{name} ({rows_of[name]})"


def check_ids(items: Iterable[Row], owner: object) -> None:
    """Raise where an id occurs twice: results and hypotheses are joined on it."""
    twice = [name for name, count in Counter(item["id"] for item in items).items() if count > 1]
    if twice:
        names = ", ".join(twice[:5]) + (" …" if len(twice) > 5 else "")
        raise CorpusError(f"{owner} has {len(twice)} ids more than once: {names}. Give every row an id of its own")


def set_splits(items: Sequence[Row], chosen: Mapping[str, str], owner: object, report: PreparationReport) -> list[Row]:
    """Return the rows with the canonical names of their splits; without any, all are training data.

    Where splits are chosen, {split: name}, the rows of others go into the report.
    """
    if not any(item["split"] for item in items) and not chosen:
        return [{**item, "split": "train"} for item in items]
    names = list(dict.fromkeys(item["split"] for item in items if item["split"]))
    known = {name: split for split, name in chosen.items()} or canonical_splits(names)
    check_known(owner, "split", chosen.values(), names)
    kept = []
    for item in items:
        name = item["split"]
        if name in known:
            kept.append({**item, "split": known[name]})
        elif chosen:
            report.drop(item["id"], f"split not selected: {name or 'none'}")
        else:
            problem = f"the unknown split {name!r}" if name else "no split, though other rows have one"
            options = ", ".join(f"--{option} NAME" for option in SPLIT_OPTIONS.values())
            raise CorpusError(
                f"{owner}: {item['id']} has {problem}; use {', '.join(SPLITS)}, or say which is what: {options}"
            )
    return kept


def forget_times_of_clips(items: Sequence[Row], report: PreparationReport) -> None:
    """Take files whole that were cut already: the times of most are not inside them, and say how long they are.

    The tables of such corpora tell where in a longer recording, which is not there, the clips come from.
    """
    from modeling_m4ser.audio_m4ser import AudioError, audio_duration  # imports torch

    rows = [item for item in items if "part" in item]
    alike = outside = 0
    for item in (looked_at := rows[:_LOOKED_AT]):
        data, part = item["bytes"], item["part"]
        if part.end is None or part.in_samples:
            continue
        try:
            audio = item["path"] if data is None else data() if callable(data) else data
            duration = audio_duration(audio)
        except AudioError:  # reported where recordings are inspected
            continue
        alike += abs(part.end - part.start - duration) <= min(_SECONDS_OF_A_CODEC, duration / 10)
        outside += part.end > duration + _SECONDS_OF_A_CODEC
    if outside > max(_FEW, len(looked_at) / 2) and alike >= 0.9 * len(looked_at):
        for item in rows:
            del item["part"]
            report.repair(
                item["id"], "its times are those of a longer recording: its file, as long as they say, is whole"
            )


def drop_unusable(items: Iterable[Row], report: PreparationReport) -> list[Row]:
    """Return the rows that have audio; the others go into the report, by their id."""
    kept = []
    for item in items:
        if "unusable" in item:
            report.drop(item["id"], item["unusable"])
        elif item["bytes"] is None and item["path"] is None:
            report.drop(item["id"], "no audio")
        else:
            kept.append(item)
    return kept
