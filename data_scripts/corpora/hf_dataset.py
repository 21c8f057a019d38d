"""A dataset as the Hugging Face world keeps them: from the Hub, in a folder, saved with `save_to_disk`, or in memory.

    user/name                                             on the Hub, with `--dataset_config_name` where it has several
    folder/[train/]CLASS/*.wav, [train/]metadata.csv      AudioFolder, see `audio_folder`
    folder/*.parquet …                                    whatever `datasets.load_dataset(folder)` opens
    folder/dataset_dict.json or state.json                what `save_to_disk` wrote

Its columns are read as those of a manifest are, see `columns`. Audio is never decoded by `datasets`, which would need
torchcodec.
"""

import glob
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data_scripts.constants import SPLITS
from data_scripts.corpora.audio_folder import download, find_audio_folder, read_audio_folder
from data_scripts.corpora.base import CorpusRecord, ScannedCorpus
from data_scripts.corpora.folders import walk
from data_scripts.corpora.lookup import locate, locate_recordings
from data_scripts.corpora.options import SPLIT_OPTIONS, CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import (
    Row,
    as_utterance,
    check_ids,
    drop_unusable,
    forget_times_of_clips,
    read_columns,
    recording_name,
)
from data_scripts.corpora.split_names import canonical_splits, split_word
from data_scripts.errors import CorpusError
from data_scripts.tables import TABLE_SUFFIXES

if TYPE_CHECKING:
    from datasets import Dataset

DATASET_LAYOUT = "rows with a recording and a label: a dataset of the Hub, an AudioFolder, or what save_to_disk wrote"


def scan(selection: CorpusSelection, report: PreparationReport) -> ScannedCorpus:
    """Read a dataset; rows without a label or audio go into `report`, by their id.

    `data_dir` is a name on the Hub, a folder, or a `Dataset` or `DatasetDict`. Without `split_names`, its splits must
    have their usual names; a single one is training data whatever its name.
    """
    from modeling_m4ser.rows_m4ser import find_columns  # imports torch

    loaded = open_dataset(selection, report)
    divided = _split_by_column(loaded)
    parts = _choose_splits(divided, selection, report)
    found = list(dict.fromkeys(column for part in parts.values() for column in part.column_names))
    if not any(len(part) for part in parts.values()):
        raise CorpusError(f"{selection.where} has no rows")
    columns = read_columns(found, selection, selection.where, report)
    if divided is loaded and (other := columns.pop("split", None)):  # a dataset states its splits by its own means
        report.unread_columns.append(other)
    rate_column = next(iter(find_columns(found).get("sampling_rate", [])), None)
    items: list[Row] = []
    for split, part in parts.items():
        some = _with_ids(list(_read_rows(part, split, columns, rate_column, selection)), split)
        check_ids(some, f"{selection.where}, split {split},")
        items += some
    if len({item["id"] for item in items}) < len(items):  # numbered anew in each split
        for item in items:
            item["id"] = f"{item['split']}/{item['id']}"
    folder = selection.place if isinstance(selection.place, Path) and selection.place.is_dir() else None
    items = locate_recordings(drop_unusable(items, report), folder, selection.where, report)
    forget_times_of_clips(items, report)
    return ScannedCorpus(items, search_hint=DATASET_LAYOUT)


def open_dataset(selection: CorpusSelection, report: PreparationReport) -> "Mapping[str, Dataset]":
    """A dataset's splits by their own names, their audio undecoded; `report` takes what an AudioFolder leaves out."""
    from datasets import Dataset, DatasetDict

    from modeling_m4ser.rows_m4ser import without_decoding

    source = selection.place
    if isinstance(source, Dataset):
        return {"train": without_decoding(source).with_format(None)}
    if isinstance(source, (DatasetDict, dict)):
        return {str(name): without_decoding(part).with_format(None) for name, part in source.items()}
    if not isinstance(source, Path):
        raise CorpusError(
            f"a dataset is a folder, a name on the Hub, a Dataset or a DatasetDict, not {type(source).__name__}"
        )
    if source.is_file():
        raise CorpusError(f"{source} is a file: a table goes in as a manifest, --data_dir {source}")
    loaded: Mapping[str, Any] = _load_saved(source) or _load(source, selection, report)
    return {str(name): without_decoding(part) for name, part in loaded.items()}


def _load_saved(folder: Path) -> Mapping[str, Any] | None:
    """What `save_to_disk` wrote into a folder; None where it wrote nothing there."""
    from datasets import DatasetDict, load_from_disk

    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"{folder} was written by save_to_disk, but cannot be read: {error}") from error
    return cast(Mapping[str, Any], loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}


def _load(source: Path, selection: CorpusSelection, report: PreparationReport) -> Mapping[str, Any]:
    """What lies in a folder or is a name on the Hub."""
    from datasets import load_dataset_builder
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder

    name = str(source) if source.exists() else source.as_posix()
    # A folder that is not there looks like a name on the Hub.
    if not source.exists() and (source.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise CorpusError(f"{name} does not exist: give a folder, or the name of a dataset on the Hub (user/name)")
    try:
        if source.exists() and not _is_configured(source) and (found := find_audio_folder(source)) is not None:
            return read_audio_folder({"train": found}, selection, report)
        builder = load_dataset_builder(name, selection.dataset_config_name, data_files=_without_patterns(source))
        if not isinstance(builder, AudioFolder):
            builder.download_and_prepare()
            return cast(Mapping[str, Any], builder.as_dataset())
        base = str(builder.base_path)
        files = builder.config.data_files or {}
        parts = {str(split): download(list(map(str, some)), base) for split, some in files.items()}
        return read_audio_folder(parts, selection, report)
    except CorpusError:
        raise
    # Everything: what `datasets` and the network raise has no class in common.
    except Exception as error:
        raise CorpusError(f"the dataset {name} cannot be loaded: {_reason(error)}") from error


def _is_configured(folder: Path) -> bool:
    """Whether the card of a folder tells `datasets` which files are what."""
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    return card.is_file() and "configs" in (metadata_load(card) or {})


def _without_patterns(source: Path) -> dict[str, list[str]] | None:
    """The tables of a folder whose path `datasets` would take for a pattern, by their splits; None: it finds them."""
    if glob.escape(str(source)) == str(source) or not source.exists():
        return None
    files: dict[str, list[str]] = {}
    for path in walk(source):
        if path.suffix.lower() in TABLE_SUFFIXES:
            split = split_word(path.parent.name) or split_word(path.stem, alone=False)
            files.setdefault(split or "train", []).append(glob.escape(str(path)))
    return files or None


def _reason(error: BaseException) -> str:
    """What lies at the ground of an error of `datasets`, and the way out where it is known."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if "Config name is missing" in text or "BuilderConfig" in text:
        return f"{text} (name it: --dataset_config_name)"
    if "torchcodec" in text:
        return f"{text} (its format has to be decoded by `datasets`: pip install torchcodec)"
    return text


def _choose_splits(
    parts: "Mapping[str, Dataset]", selection: CorpusSelection, report: PreparationReport
) -> "dict[str, Dataset]":
    """The splits by their canonical names: those that are asked for, or else all."""
    there = ", ".join(parts)
    if chosen := selection.split_names:
        for split, name in chosen.items():
            if name not in parts:
                option = SPLIT_OPTIONS[split]
                raise CorpusError(f"{selection.where} has no split {name} (--{option}); it has {there}")
        for name in parts:
            if name not in chosen.values():
                report.note(name, "split of the dataset that was not asked for")
        return {split: parts[chosen[split]] for split in SPLITS if split in chosen}
    if len(parts) == 1:
        return {"train": next(iter(parts.values()))}
    named: dict[str, Any] = {}
    known = canonical_splits(parts)
    for name, part in parts.items():
        split = known.get(name)
        if split is None or split in named:
            options = " ".join(f"--{option} NAME" for option in SPLIT_OPTIONS.values())
            raise CorpusError(f"{selection.where} has the splits {there}: say which is what, {options}")
        named[split] = part
    return {split: named[split] for split in SPLITS if split in named}


def _split_by_column(parts: "Mapping[str, Dataset]") -> "Mapping[str, Dataset]":
    """The splits as they are, or those in a column of a single one, all of whose values are words for splits."""
    from modeling_m4ser.rows_m4ser import find_columns  # imports torch

    if len(parts) != 1:
        return parts
    (part,) = parts.values()
    columns = find_columns(part.column_names).get("split", [])
    values = part[columns[0]][:] if len(columns) == 1 else []
    words = sorted({value for value in values if isinstance(value, str)})
    if len(words) < 2 or len(canonical_splits(words)) < len(words) or not all(isinstance(each, str) for each in values):
        return parts
    return {word: part.select([row for row, value in enumerate(values) if value == word]) for word in words}


def _read_rows(
    part: "Dataset", split: str, columns: Mapping[str, str], rate_column: str | None, selection: CorpusSelection
) -> Iterator[Row]:
    """The utterances of one split."""
    roles = {role: column for role, column in columns.items() if column in part.column_names}
    feature = part.features[roles["emotion"]] if "emotion" in roles else None
    names = getattr(getattr(feature, "feature", feature), "names", None)  # of a list of labels too
    folder = selection.place if isinstance(selection.place, Path) else Path()
    recordings = AudioColumn(part, roles["audio"], rate_column, folder) if "audio" in roles else None
    for number, row in enumerate(cast(Iterable[dict[str, Any]], part)):
        values = {role: row[column] for role, column in roles.items()}
        values["emotion"] = _named(values.get("emotion"), names)
        try:
            item = as_utterance({**values, "split": None}, row)
            audio = recordings.describe(row, number) if recordings else {"path": None, "bytes": None, "name": None}
        except CorpusError as error:
            raise CorpusError(f"{selection.where}, split {split}, row {number}: {error}") from None
        yield item | audio | {"split": split}


def _named(label: Any, names: Sequence[str] | None) -> Any:
    """A label, or a list of them, by the names of its `ClassLabel`."""
    if isinstance(label, list):
        return [_named(item, names) for item in label]
    if names is None or not isinstance(label, int):
        return label
    return names[label] if label >= 0 else None  # -1 is how `datasets` marks a row of an unlabelled split


def _with_ids(items: list[Row], split: str) -> list[Row]:
    """The rows with an id each: their own, or the names of their recordings where these differ, or their numbers."""
    names = [(name := item.pop("name")) and recording_name(item, name) for item in items]
    distinct = all(names) and len(set(names)) == len(names)
    for number, (item, name) in enumerate(zip(items, names, strict=True)):
        item["id"] = item["id"] or f"{split}/{name if distinct else format(number, '06d')}"
    return items


class AudioColumn:
    """The recordings of one split of a dataset, read one at a time: together they may be more than memory holds.

    `column` holds paths, the bytes of files, arrays, or dictionaries of these; `rate_column`, where there is one, the
    arrays' rates in hertz. Relative paths start from `folder`.
    """

    def __init__(self, part: "Dataset", column: str, rate_column: str | None, folder: Path):
        self.column, self.rate_column, self.folder = column, rate_column, folder
        self.part = part.select_columns([column, *([rate_column] if rate_column else [])])
        # The Python values of numbers do not tell their type.
        self.number_type = _number_type(part.features[column])

    def describe(self, row: Mapping[str, Any], number: int) -> Row:
        """Return the `path` of a row's recording or a function that loads its `bytes`, and a `name` for an id."""
        audio = row[self.column]
        name: Any = audio.get("path") if isinstance(audio, Mapping) else audio if isinstance(audio, str) else None
        data = _data_of(audio)
        if data is None and not name:
            return {"path": None, "bytes": None, "name": None}
        if data is None or isinstance(audio, str):
            place = locate(self.folder, name)
            is_absolute = Path(name).is_absolute() or name.lower().startswith("file:")
            return {"path": place, "bytes": None, "name": Path(place).name if is_absolute else name}
        if not isinstance(data, (bytes, bytearray)) and self._rate(row) is None:
            raise CorpusError("the recording is an array without its rate: add a column sampling_rate, in hertz")
        return {"path": name, "bytes": partial(self.load, number), "name": name and Path(name).name}

    def load(self, number: int) -> bytes:
        """Return the bytes of a row's recording, those of a WAV file where the row holds an array."""
        row = self.part[number]
        data = _data_of(row[self.column])
        return bytes(data) if isinstance(data, (bytes, bytearray)) else self._as_wav(data, self._rate(row))

    def _rate(self, row: Mapping[str, Any]) -> float | None:
        """The rate of a row's array, in hertz."""
        audio = row[self.column]
        stated = audio.get("sampling_rate") if isinstance(audio, Mapping) else None
        return row[self.rate_column] if stated is None and self.rate_column else stated

    def _as_wav(self, samples: Any, rate: Any) -> bytes:
        """An array of samples as a WAV file."""
        import numpy as np
        import soundfile

        from modeling_m4ser.audio_m4ser import AudioError
        from modeling_m4ser.levels_m4ser import channels_last

        buffer = io.BytesIO()
        try:
            waveform = channels_last(np.asarray(samples, dtype=self.number_type), "the recording")
            soundfile.write(buffer, waveform, int(rate), format="WAV", subtype="FLOAT")
        except AudioError:
            raise
        except (ValueError, TypeError, soundfile.SoundFileError) as error:
            raise AudioError(f"the recording is no waveform: {error}") from None
        return buffer.getvalue()


def _data_of(audio: Any) -> Any:
    """The bytes or the array of an audio value; of a path, the path."""
    return audio.get("bytes", audio.get("array")) if isinstance(audio, Mapping) else audio


def _number_type(feature: Any) -> str | None:
    """The type in which a column stores numbers; None where it stores something else."""
    if isinstance(feature, Mapping):
        return _number_type(feature.get("array"))
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    kind = getattr(feature, "dtype", None)
    return kind if isinstance(kind, str) and kind.startswith(("float", "int", "uint")) else None


RECORD = CorpusRecord(
    name="dataset",
    title="Speech emotion dataset",
    license=None,
    about="Made from a dataset.",
    scan=scan,
    has_columns=True,
    has_splits=True,
    takes_name=True,
)
