"""A user's own data set, read as rows of a prepared corpus: its columns, audio, labels and durations."""

import functools
import logging
import operator
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import datasets
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers.trainer_utils import has_length

from modeling_m4ser import M4SERConfig
from modeling_m4ser.audio_m4ser import audio_duration, audio_name
from modeling_m4ser.parts_m4ser import Part, PartError
from modeling_m4ser.rows_m4ser import (
    COLUMN_NAMES,
    PART_ROLES,
    find_columns,
    is_missing,
    read_audio,
    read_channel,
    read_collection,
    read_part,
    without_decoding,
)
from trainer.errors import TrainingError

logger = logging.getLogger(__name__)

#: What the collator reads of a row, `sampling_rate` as part of its audio.
ROLES = ("id", "audio", "emotion", "transcript", "hypothesis", "channel", "sampling_rate")
DURATION_COLUMN = "duration"


class RowReader:
    """Reads any data set as the rows that [`trainer.M4SERDataCollator`] takes, without copying it.

    * Columns go by their own names or by the usual other ones (`modeling_m4ser.rows_m4ser`): `text` is what the model
      reads, `label` the emotion, `file` the audio … What else a row holds stays.
    * `datasets` does not decode its `Audio` columns: that would need torchcodec.
    * Labels become the model's numbers, see [`LabelIndexer`].
    * A row without an `id` gets one that says where it stands.
    * A row with times (`start` and `end`, `offset` and `duration` …) is that part of its recording.
    * A `datasets.Dataset` or a list without a column `duration`, or whose rows are parts, gets one, measured when it is
      first asked for.

    A prepared corpus is returned as it is.
    """

    def __init__(self, config: M4SERConfig, text_column: str = "hypothesis"):
        self.config = config
        self.text_column = text_column
        self._made: weakref.WeakSet = weakref.WeakSet()

    def read(self, dataset: Any, name: str, training: bool = False) -> Any:
        """Return `dataset`, or what gives its rows in the collator's columns.

        Args:
            dataset: a `datasets.Dataset`, a list of dictionaries or a table (pandas, polars, pyarrow, a dictionary of
                columns), whose labels are checked now; any other data set or stream of dictionaries, whose rows are
                checked as they come.
            name: what messages call it.
            training: whether every row must have a label, and a duration is worth measuring.

        Raises:
            TrainingError: saying what was given in the place of a data set; or naming the column that is missing or
                ambiguous, the row whose label the model does not have, or the only class of what is to be trained on.
        """
        if any(dataset is made for made in self._made):
            return dataset
        dataset = _as_data_set(dataset, name)
        adapter = RowAdapter(self.config, self.text_column, name, training)
        if isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom":
            adapter.learn(dataset.column_names, dataset.features)
            plain = without_decoding(dataset if dataset.format["type"] is None else dataset.with_format(None))
            columns = [column for role, column in adapter.columns.items() if role in ("id", "emotion")]
            columns = list(dict.fromkeys([*columns, *adapter.part_columns]))
            adapted = _read_rows(dataset, adapter, plain, plain.select_columns(columns).to_list())
        elif isinstance(dataset, (list, tuple)):
            adapter.label(dataset[0], 0)  # whatever it is: the columns are known now
            adapted = _read_rows(dataset, adapter, dataset, dataset)
        elif isinstance(dataset, datasets.IterableDataset):
            adapted = _read_stream(dataset, adapter)
        else:
            adapted = (AdaptedStream if isinstance(dataset, IterableDataset) else AdaptedRows)(dataset, adapter)
        if adapted is not dataset:
            self._made.add(adapted)
        return adapted


class RowAdapter:
    """One row of a data set -> the same with the collator's columns. It can go to other processes."""

    def __init__(self, config: M4SERConfig, text_column: str, name: str, training: bool):
        self.config = config
        self.text_column = text_column
        self.name = name
        self.training = training
        self.columns: dict[str, str] = {}
        self.part_columns: list[str] = []  # what decides which part of its recording a row is
        self.labels: LabelIndexer | None = None

    def learn(self, found: Sequence[str], features: Mapping[str, Any] | None = None) -> None:
        """Find out what each column is, and how labels are read; columns that are missing or ambiguous are refused."""
        known = find_columns(found)
        columns = {role: alike for role, alike in known.items() if role in ROLES}
        if known.keys() & {"start", "end"}:
            self.part_columns = [name for role in (*PART_ROLES, "sampling_rate") for name in known.get(role, ())]
        for role, alike in columns.items():
            if len(alike) > 1:
                raise TrainingError(
                    f"{self.name} has several columns for the {role}: {', '.join(alike)}; rename all but the one that "
                    "is meant."
                )
        for role, is_needed in (("audio", self.config.uses_speech), ("emotion", self.training)):
            if is_needed and role not in columns:
                others = ", ".join(name for group in COLUMN_NAMES[role] for name in group)
                raise TrainingError(
                    f"{self.name} has no column for the {role}; its columns: {', '.join(found)}. Rename the one that "
                    f"is meant: dataset.rename_column(…, {role!r}). Other known names: {others}."
                )
        if self.config.uses_text and self.text_column not in {*columns, *found}:
            raise TrainingError(
                f"{self.name} has no column for the {self.text_column}, which the model reads; its columns: "
                f"{', '.join(found)}. Rename the one that is meant, e.g. to 'text'; to train on text that people "
                "wrote, give the collator text_column='transcript'."
            )
        self.columns = {role: alike[0] for role, alike in columns.items()}
        labels = (features or {}).get(self.columns.get("emotion", ""))
        class_names = labels.names if isinstance(labels, datasets.ClassLabel) else None
        self.labels = LabelIndexer(cast(dict[int, str], self.config.id2label or {}), class_names, self.name)
        if self.labels.notice:
            logger.warning(self.labels.notice)

    def unchanged(self) -> bool:
        """Whether the columns have the names that the collator reads, `id` among them."""
        as_read = {"id": "", **self.columns}
        return "sampling_rate" not in as_read and all(role == column for role, column in as_read.items())

    def label(self, row: Mapping[str, Any], index: int) -> int | None:
        """Return the model's index of a row's label, or None where there is none, as training does not allow."""
        if not hasattr(row, "keys"):
            raise TrainingError(
                f"{self.name}[{index}] is of type {type(row).__name__}: a row is a dictionary, such as "
                "{'audio': 'a.wav', 'text': 'so', 'label': 'happy'}."
            )
        if self.labels is None:
            self.learn(list(row))
            return self.label(row, index)
        place, identity = f"{self.name}[{index}]", row.get(self.columns.get("id", ""))
        if identity is not None:
            place += f" (id {identity!r})"
        label = row.get(self.columns.get("emotion", ""))
        label = None if is_missing(label) else label
        if label is None and self.training:
            raise TrainingError(f"{place} has no emotion: training needs one in every row.")
        return self.labels.index(label, place)

    def part(self, row: Mapping[str, Any], index: int) -> Part | None:
        """Return the part of its recording that a row is; times that are none are refused."""
        try:
            return read_part(row)
        except PartError as error:
            raise TrainingError(f"{self.name}[{index}]: {error}") from None

    def audio(self, row: Mapping[str, Any], index: int) -> tuple[Any, str]:
        """Return a row's audio, and what messages call it."""
        audio, place = read_audio(row, self.columns), f"{self.name}[{index}]"
        path = audio_name(audio)
        return audio, f"{place} ({path})" if path else place

    def __call__(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Return row `index` with the collator's columns; a label that the model does not have is refused."""
        label = self.label(row, index)
        self.part(row, index)  # cut where it is loaded; named here
        values = {role: row.get(column) for role, column in self.columns.items()}
        values = {role: None if is_missing(value) else value for role, value in values.items()}
        adapted = {**row, **values, "emotion": label}
        audio, place = self.audio(row, index)
        if "audio" in self.columns:
            adapted["audio"] = audio
        if "channel" in self.columns:
            adapted["channel"] = read_channel(adapted["channel"])
        if adapted.get("id") is None:
            adapted["id"] = place
        return adapted


class AdaptedRows(Dataset):
    """A map-style data set in the collator's columns; `measurable` data, no user's code, has a column `duration`."""

    def __init__(self, rows: Any, adapter: RowAdapter, measurable: bool = False):
        self.rows = rows
        self.adapter = adapter
        known = _column_names(rows) if measurable or isinstance(rows, datasets.Dataset) else []
        measurable = measurable and adapter.config.uses_speech
        self.column_names = list(dict.fromkeys([*known, *([DURATION_COLUMN] if measurable else [])]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row by its number, or a whole column, e.g. `duration`, by its name."""
        if not isinstance(index, str):
            return self.adapter(self.rows[int(index)], int(index))
        if index == DURATION_COLUMN and (self.adapter.part_columns or index not in _column_names(self.rows)):
            return self._measured
        if isinstance(self.rows, datasets.Dataset):
            return self.rows.with_format(None)[index][:]
        return [row.get(index) for row in self.rows]  # what one lacks is named where it is used

    @functools.cached_property
    def _measured(self) -> list[float]:
        """The seconds of every recording, or of the part of it that a row is."""
        durations = []
        for index, row in enumerate(self.rows):
            audio, name = self.adapter.audio(row, index)
            durations.append(audio_duration(audio, name=name, part=self.adapter.part(row, index)))
        if not self.adapter.part_columns:
            logger.warning(
                f"{self.adapter.name} has no column {DURATION_COLUMN!r}: its {len(durations)} recordings were "
                f"measured, {sum(durations):.0f} s in all."
            )
        return durations


class AdaptedStream(IterableDataset):
    """A stream that is not of `datasets`, in the collator's columns."""

    def __init__(self, rows: Any, adapter: RowAdapter):
        self.rows = rows
        self.adapter = adapter

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.adapter(row, index) for index, row in enumerate(self.rows))

    def set_epoch(self, epoch: int) -> None:
        """Tell the stream the epoch, where it wants to know."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)


def _as_data_set(given: Any, name: str) -> Any:
    """Return a data set, that of a table's rows among them; what is none is refused by what it is."""
    if isinstance(given, datasets.IterableDataset):
        return given
    is_table = hasattr(given, "iterrows") or (hasattr(given, "to_pandas") and not isinstance(given, datasets.Dataset))
    if is_table or (isinstance(given, Mapping) and find_columns(given)):
        rows = read_collection(given)
        given = given if rows is None else rows
    remedy = None
    if isinstance(given, Mapping):
        remedy = f"pass one of its parts ({', '.join(map(str, given))}), e.g. data['train']"
    elif isinstance(given, (str, bytes, os.PathLike)):
        remedy = "load it first, e.g. with datasets.load_dataset or data_scripts.load_corpus"
    elif isinstance(given, DataLoader):
        remedy = "pass its dataset, loader.dataset: the trainer makes batches of its own (per_device_train_batch_size)"
    elif not (isinstance(given, IterableDataset) or (hasattr(given, "__len__") and hasattr(given, "__getitem__"))):
        remedy = "pass a list of rows, or datasets.IterableDataset.from_generator(…), which can be read again"
    if remedy is not None:
        raise TrainingError(f"{name} is of type {type(given).__name__}, which is no data set: {remedy}.")
    if has_length(given) and len(given) == 0:
        raise TrainingError(f"{name} is empty: it has no rows.")
    return given


def _read_rows(original: Any, adapter: RowAdapter, rows: Any, labelled: Sequence[Mapping[str, Any]]) -> Any:
    """`original` where its rows, as plain values `rows`, are what the collator reads; else what adapts them."""
    column = adapter.columns.get("emotion", "")
    # Every label and time is looked at, so that a wrong one is named before the first step.
    for index, row in enumerate(labelled if adapter.part_columns else ()):
        adapter.part(row, index)
    labels = [adapter.label(row, index) for index, row in enumerate(labelled)] if column else []
    if adapter.training and len(set(labels)) == 1:
        label = cast(Mapping[int, str], adapter.config.id2label)[labels[0]]
        raise TrainingError(
            f"{adapter.name}: all {len(labels)} rows have one emotion, {label}; training needs at least two classes."
        )
    same_labels = not column or labels == [row.get(column) for row in labelled]
    lacks_duration = bool(adapter.part_columns) or DURATION_COLUMN not in _column_names(rows)
    needs_duration = adapter.training and adapter.config.uses_speech and lacks_duration
    if rows is original and same_labels and adapter.unchanged() and not needs_duration:
        return original
    return AdaptedRows(rows, adapter, measurable=True)


def _read_stream(stream: datasets.IterableDataset, adapter: RowAdapter) -> Any:
    features = stream.features
    if features is not None:
        adapter.learn(list(features), features)
        plain = without_decoding(stream)
        labels = features.get("emotion")
        same_labels = isinstance(labels, datasets.ClassLabel) and labels.names == (adapter.labels or labels).names
        if plain is stream and adapter.unchanged() and same_labels:
            return stream
        stream = plain
    return stream.map(adapter, with_indices=True)


def _column_names(rows: Any) -> list[str]:
    return rows.column_names if isinstance(rows, datasets.Dataset) else list(rows[0])


class LabelIndexer:
    """Turns the labels of a data set into class indices of a model.

    A string is the name of a class. An integer is the model's own index, unless the data set names its integers
    (`datasets.ClassLabel`, `class_names`): then it counts by its name. A model without names (LABEL_0, LABEL_1 …) takes
    the integers of a data set that has as many classes.
    """

    def __init__(self, id2label: Mapping[int, str], class_names: Sequence[str] | None, owner: str):
        self.names = [id2label[index] for index in range(len(id2label))]
        self.class_names = None if class_names is None else list(class_names)
        unnamed = self.names == [f"LABEL_{index}" for index in range(len(self.names))]
        self._hint = (
            f"its labels: {', '.join(self.names)}. Build the model with the classes of the data (id2label, label2id), "
            "or rename them, or leave such rows out."
        )
        #: What the user should know of this data set; None where its labels are the model's.
        self.notice: str | None = None
        if self.class_names is None or self.class_names == self.names:
            self.class_names = None
        elif not unnamed:
            self.notice = (
                f"{owner} numbers its classes in another way than the model ({', '.join(self.class_names)}; the model: "
                f"{', '.join(self.names)}): labels are taken by name."
            )
        elif len(self.class_names) == len(self.names):
            self.notice = (
                f"The model's labels have no names: the classes of {owner}, {', '.join(self.class_names)}, are taken "
                "by number. Build the model with id2label and label2id, so that its predictions have names."
            )
            self.class_names = None
        else:
            raise TrainingError(
                f"{owner} has {len(self.class_names)} classes ({', '.join(self.class_names)}), the model has "
                f"{len(self.names)}. Build the model with id2label=dict(enumerate(names))."
            )

    def index(self, label: Any, row: str) -> int | None:
        """Return the model's index of a label, or None for None; messages call it by its `row`."""
        if label is None:
            return None
        name = label
        if not isinstance(label, str):
            try:
                if isinstance(label, bool):
                    raise TypeError("a truth value, which would be class 0 or 1")
                number = operator.index(label)
            except TypeError as error:
                raise TrainingError(
                    f"{row} has the label {label!r}: a label is the name or the number of a class."
                ) from error
            size = len(self.names if self.class_names is None else self.class_names)
            if not 0 <= number < size:
                raise TrainingError(f"{row} has the label {number}, which is outside the {size} classes; {self._hint}")
            if self.class_names is None:
                return number
            name = self.class_names[number]
        if name not in self.names:
            raise TrainingError(f"{row} has the label {name!r}, which the model does not have; {self._hint}")
        return self.names.index(name)
