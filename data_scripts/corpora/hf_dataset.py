"""A dataset as the Hugging Face world keeps them: from the Hub, in a folder, saved with `save_to_disk`, or in memory.

    user/name                                             on the Hub, with `--dataset_config_name` where it has several
    folder/[train|validation|test/]CLASS/*.wav            AudioFolder: a folder for each class
    folder/[train/]metadata.csv, .jsonl or .parquet       AudioFolder: a table with a column `file_name`
    folder/*.parquet …                                    whatever `datasets.load_dataset(folder)` opens
    folder/dataset_dict.json or state.json                what `save_to_disk` wrote

Its columns are read as those of a manifest are, see `columns`. Audio is never decoded by `datasets`, which would need
torchcodec.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.constants import SPLITS
from data_scripts.corpora.audio_folder import read_audio_folder
from data_scripts.corpora.base import CorpusRecord, ScannedCorpus, Selection
from data_scripts.corpora.columns import assign_columns, missing_columns, option_choices
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import REQUIRED_ROLES, SPLIT_NAMES, Row, as_utterance, check_ids, drop_unusable
from data_scripts.errors import CorpusError

if TYPE_CHECKING:
    from datasets import Dataset

DATASET_LAYOUT = "rows with a recording and a label: a dataset of the Hub, an AudioFolder, or what save_to_disk wrote"
#: The command-line options that choose a split of a dataset.
SPLIT_OPTIONS = {"train": "train_split_name", "validation": "eval_split_name", "test": "test_split_name"}
#: What each further option of a dataset says, for the help of the commands.
DATASET_HELP = {
    "dataset_name": "a dataset: its name on the Hub, its folder (AudioFolder too), or one written by save_to_disk",
    "dataset_config_name": "its configuration, where it has several",
    "train_split_name": "its split to train on",
    "eval_split_name": "its split to validate on",
    "test_split_name": "its split to test on",
}


def split_choices(options: object) -> dict[str, str]:
    """Return {split: name} of the split options that are given, see `columns.column_choices`."""
    return option_choices(options, SPLIT_OPTIONS)


def scan(selection: Selection, report: PreparationReport) -> ScannedCorpus:
    """Read a dataset; rows without a label or audio go into `report`, by their id.

    Args:
        selection: `data_dir` is a name on the Hub, a folder, or a `Dataset` or `DatasetDict`. Without `split_names`,
            its splits must have their usual names; a single one is training data whatever its name.
        report: takes the drops, and what the columns were read as.

    Returns:
        The rows with their labels as they stand; no classes yet.

    Raises:
        CorpusError: it cannot be opened, has splits of unknown names or none that is asked for, columns are missing or
            ambiguous, or an id occurs twice in a split.
    """
    parts = _choose_splits(open_dataset(selection, report), selection, report)
    found = list(dict.fromkeys(column for part in parts.values() for column in part.column_names))
    if not any(len(part) for part in parts.values()):
        raise CorpusError(f"{selection.where} has no rows")
    # A dataset states its split by its own means; a column of that name is one like any other.
    readable = [column for column in found if column != "split"]
    columns = assign_columns(readable, dict(selection.columns), selection.where)
    if missing := [role for role in REQUIRED_ROLES if role not in columns]:
        raise missing_columns(missing, found, selection.where)
    report.columns = columns
    report.unread_columns = [column for column in found if column not in columns.values()]
    rate_column = next((column for column in found if column in ("sampling_rate", "sample_rate")), None)
    rows = []
    for split, part in parts.items():
        items = _with_ids(list(_read_rows(part, split, columns, rate_column, selection)), split)
        check_ids(items, f"{selection.where}, split {split},")
        rows += drop_unusable(items, report)
    return ScannedCorpus(emotions=[], rows=rows, looked_for=DATASET_LAYOUT)


# Opening


def open_dataset(selection: Selection, report: PreparationReport) -> "Mapping[str, Dataset]":
    """Return a dataset's splits by their own names, their audio undecoded.

    Args:
        selection: see `scan`.
        report: takes what an AudioFolder leaves out.

    Raises:
        CorpusError: there is no such dataset, it cannot be reached or read, or needs a configuration named.
    """
    from datasets import Dataset, DatasetDict

    source = selection.data_dir
    if isinstance(source, Dataset):
        return {"train": _undecoded(source)}
    if isinstance(source, (DatasetDict, dict)):
        return {str(name): _undecoded(part) for name, part in source.items()}
    if not isinstance(source, Path):
        raise CorpusError(
            f"a dataset is a folder, a name on the Hub, a Dataset or a DatasetDict, not {type(source).__name__}"
        )
    if source.is_file():
        raise CorpusError(f"{source} is a file: a table goes in as a manifest, --data_dir {source}")
    loaded = _load_saved(source) or _load(source, selection.config_name, report)
    return {str(name): _undecoded(part) for name, part in loaded.items()}


def _load_saved(folder: Path) -> "Mapping[str, Dataset] | None":
    """What `save_to_disk` wrote into a folder; None where it wrote nothing there."""
    from datasets import DatasetDict, load_from_disk

    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"{folder} was written by save_to_disk, but cannot be read: {error}") from error
    return loaded if isinstance(loaded, DatasetDict) else {"train": loaded}


def _load(source: Path, config_name: str | None, report: PreparationReport) -> "Mapping[str, Dataset]":
    """What `datasets` finds under a folder or a name on the Hub."""
    from datasets import load_dataset_builder
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder

    name = str(source) if source.exists() else source.as_posix()
    # A folder that is not there looks like a name on the Hub.
    if not source.exists() and (source.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise CorpusError(f"{name} does not exist: give a folder, or the name of a dataset on the Hub (user/name)")
    try:
        builder = load_dataset_builder(name, config_name)
        if isinstance(builder, AudioFolder):
            return read_audio_folder(builder.config.data_files or {}, str(builder.base_path), name, report)
        builder.download_and_prepare()
        return builder.as_dataset()
    except CorpusError:
        raise
    # Everything: what `datasets` and the network raise has no class in common.
    except Exception as error:
        raise CorpusError(f"the dataset {name} cannot be loaded: {_reason(error)}") from error


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


def _undecoded(part: "Dataset") -> "Dataset":
    """A split whose audio columns give their files instead of decoding them."""
    from datasets import Audio

    for name, feature in (part.features or {}).items():
        if isinstance(feature, Audio) and feature.decode:
            part = part.cast_column(name, Audio(sampling_rate=feature.sampling_rate, decode=False))
    return part


# Splits


def _choose_splits(
    parts: "Mapping[str, Dataset]", selection: Selection, report: PreparationReport
) -> "dict[str, Dataset]":
    """The splits by their canonical names: those that are asked for, or else all."""
    there = ", ".join(parts)
    if chosen := dict(selection.split_names):
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
    for name, part in parts.items():
        split = SPLIT_NAMES.get(name.lower())
        if split is None or split in named:
            options = " ".join(f"--{option} NAME" for option in SPLIT_OPTIONS.values())
            raise CorpusError(f"{selection.where} has the splits {there}: say which is what, {options}")
        named[split] = part
    return {split: named[split] for split in SPLITS if split in named}


# Rows


def _read_rows(
    part: "Dataset", split: str, columns: Mapping[str, str], rate_column: str | None, selection: Selection
) -> Iterator[Row]:
    """The utterances of one split."""
    roles = {role: column for role, column in columns.items() if column in part.column_names}
    names = getattr(part.features[roles["emotion"]], "names", None) if "emotion" in roles else None
    folder = selection.data_dir if isinstance(selection.data_dir, Path) else Path()
    stored = _number_type(part.features[roles["audio"]]) if "audio" in roles else None
    for number, row in enumerate(part):
        values = {role: row[column] for role, column in roles.items()}
        label = values.get("emotion")
        # -1 is how `datasets` marks a row of an unlabelled split.
        if names is not None and isinstance(label, int):
            values["emotion"] = names[label] if label >= 0 else None
        try:
            item = as_utterance({**values, "split": None})
            item |= _audio_of(values.get("audio"), row.get(rate_column) if rate_column else None, stored, folder)
        except CorpusError as error:
            raise CorpusError(f"{selection.where}, split {split}, row {number}: {error}") from None
        yield item | {"split": split}


def _with_ids(items: list[Row], split: str) -> list[Row]:
    """The rows with an id each: their own, or else the names of their files where these differ, or their numbers."""
    names = [item.pop("name") for item in items]
    distinct = all(names) and len(set(names)) == len(names)
    for number, (item, name) in enumerate(zip(items, names, strict=True)):
        item["id"] = item["id"] or f"{split}/{name if distinct else format(number, '06d')}"
    return items


def _number_type(feature: Any) -> str | None:
    """The type in which a column stores numbers, which their Python values do not tell."""
    if isinstance(feature, Mapping):
        return _number_type(feature.get("array"))
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    return getattr(feature, "dtype", None)


def _audio_of(audio: Any, rate: float | None, stored: str | None, folder: Path) -> Row:
    """`path`, `bytes` and a `name` for an id, of an audio value of any kind."""
    if isinstance(audio, Mapping) and audio.get("array") is not None:
        audio, rate, name = audio["array"], audio.get("sampling_rate", rate), audio.get("path")
        return {"path": name, "bytes": _as_wav(audio, rate, stored), "name": name and Path(name).name}
    if isinstance(audio, Mapping):
        data, name = audio.get("bytes"), audio.get("path")
    elif isinstance(audio, (bytes, bytearray)):
        data, name = bytes(audio), None
    elif isinstance(audio, str):
        data, name = None, audio
    elif audio is None:
        data = name = None
    else:
        data, name = _as_wav(audio, rate, stored), None
    if data is None and name:
        place = folder / Path(name).expanduser()
        return {
            "path": str(place.resolve()),
            "bytes": None,
            "name": name if not Path(name).is_absolute() else place.name,
        }
    return {"path": name, "bytes": data, "name": name}


def _as_wav(samples: Any, rate: float | None, stored: str | None) -> bytes:
    """An array of samples as the bytes of a WAV file that holds the same numbers."""
    import numpy as np
    import soundfile

    if rate is None:
        raise CorpusError("the recording is an array without its rate: add a column sampling_rate, in hertz")
    try:
        array = np.asarray(samples, dtype=stored)
        array = array.T if array.ndim == 2 and array.shape[0] < array.shape[1] else array
        subtypes = {"int16": "PCM_16", "int32": "PCM_32", "float64": "DOUBLE", "float32": "FLOAT"}
        buffer = io.BytesIO()
        soundfile.write(buffer, array, int(rate), format="WAV", subtype=subtypes[array.dtype.name])
    except (KeyError, ValueError, TypeError, soundfile.SoundFileError) as error:
        raise CorpusError(f"the recording is no array of samples ({error})") from None
    return buffer.getvalue()


RECORD = CorpusRecord(
    name="dataset",
    title="Speech emotion dataset",
    licence=None,
    about="Made from a dataset.",
    scan=scan,
    has_columns=True,
    has_splits=True,
    takes_name=True,
)
