"""A user's own data set, read as rows of a prepared corpus: its columns, audio, labels and durations."""

import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import datasets
from torch.utils.data import Dataset, IterableDataset

from data_scripts.corpora.columns import SYNONYMS, assign_columns
from data_scripts.errors import CorpusError
from data_scripts.schema import without_decoding
from modeling_m4ser import M4SERConfig
from modeling_m4ser.audio_m4ser import audio_duration
from trainer.inputs.labels import LabelMap

logger = logging.getLogger(__name__)

#: What the collator reads of a row.
ROLES = ("id", "audio", "emotion", "transcript", "hypothesis")
DURATION_COLUMN = "duration"


class RowReader:
    """Reads any data set as the rows that [`trainer.M4SERDataCollator`] takes, without copying it.

    * Columns go by their own names or by the usual other ones (`data_scripts.corpora.columns.SYNONYMS`): `text` is
      what the model reads, `label` the emotion, `file` the audio … What else a row holds stays.
    * `datasets` does not decode its `Audio` columns: that would need torchcodec.
    * Labels become the model's numbers, see [`trainer.inputs.labels.LabelMap`].
    * A row without an `id` gets one that says where it stands.
    * A `datasets.Dataset` or a list without a column `duration` gets one, measured when it is first asked for.

    A prepared corpus is returned as it is.

    Args:
        config: of the model.
        text_column: of the collator.
    """

    def __init__(self, config: M4SERConfig, text_column: str = "hypothesis"):
        self.config = config
        self.text_column = text_column
        self._made: weakref.WeakSet = weakref.WeakSet()

    def read(self, dataset: Any, name: str, training: bool = False) -> Any:
        """Return `dataset`, or what gives its rows in the collator's columns.

        Args:
            dataset: a `datasets.Dataset` or a list of dictionaries, whose labels are checked now; any other data set or
                stream of dictionaries, whose rows are checked as they come.
            name: what messages call it.
            training: whether every row must have a label, and a duration is worth measuring.

        Raises:
            ValueError: naming the column that is missing or ambiguous, or the row whose label the model does not have.
        """
        if any(dataset is made for made in self._made):
            return dataset
        adapter = RowAdapter(self.config, self.text_column, name, training)
        if isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom":
            adapted = _read_table(dataset, adapter)
        elif isinstance(dataset, (list, tuple)) and dataset:
            adapter.learn(list(dataset[0]))
            adapted = _read_rows(dataset, adapter, dataset, dataset)
        elif isinstance(dataset, datasets.IterableDataset):
            adapted = _read_stream(dataset, adapter)
        elif isinstance(dataset, IterableDataset):
            adapted = AdaptedStream(dataset, adapter)
        else:
            adapted = AdaptedRows(dataset, adapter)
        if adapted is not dataset:
            self._made.add(adapted)
        return adapted


class RowAdapter:
    """One row of a data set -> the same with the collator's columns. It can go to other processes.

    Args:
        config: of the model.
        text_column: of the collator.
        name: what messages call the data set.
        training: whether every row must have a label.
    """

    def __init__(self, config: M4SERConfig, text_column: str, name: str, training: bool):
        self.config = config
        self.text_column = text_column
        self.name = name
        self.training = training
        self.columns: dict[str, str] | None = None
        self.labels: LabelMap | None = None

    def learn(self, found: Sequence[str], features: Mapping[str, Any] | None = None) -> None:
        """Find out what each column is, and how labels are read.

        Args:
            found: the columns.
            features: their types, where known.

        Raises:
            ValueError: a column that is needed is missing, or two may be the same; or the number of classes is wrong.
        """
        self.columns = self._find_columns(found)
        labels = (features or {}).get(self.columns.get("emotion", ""))
        class_names = labels.names if isinstance(labels, datasets.ClassLabel) else None
        self.labels = LabelMap(cast(dict[int, str], self.config.id2label or {}), class_names, self.name)
        if self.labels.notice:
            logger.warning(self.labels.notice)

    def _find_columns(self, found: Sequence[str]) -> dict[str, str]:
        """{role: column} of the roles of `ROLES` that have a column."""
        try:
            # Two columns for something that is not read here are no reason to stop.
            wanted = [column for column in found if assign_columns([column], {}, self.name).keys() & set(ROLES)]
            columns = assign_columns(wanted, {}, self.name)
        except CorpusError as error:
            # The way out that it names is an option of the commands.
            raise ValueError(f"{str(error).partition(';')[0]}; rename all but the one that is meant.") from error
        for role, is_needed in (("audio", self.config.uses_speech), ("emotion", self.training)):
            if is_needed and role not in columns:
                raise ValueError(
                    f"{self.name} has no column for the {role}; its columns: {', '.join(found)}. Rename the one that "
                    f"is meant: dataset.rename_column(…, {role!r}). Other known names: {', '.join(SYNONYMS[role])}."
                )
        if self.config.uses_text and self.text_column not in {*columns, *found}:
            raise ValueError(
                f"{self.name} has no column for the {self.text_column}, which the model reads; its columns: "
                f"{', '.join(found)}. Rename the one that is meant, e.g. to 'text'; to train on text that people "
                "wrote, give the collator text_column='transcript'."
            )
        return columns

    @property
    def audio_columns(self) -> list[str]:
        """The column of recordings, in a list, which is empty where there is none."""
        return [column for role, column in (self.columns or {}).items() if role == "audio"]

    def unchanged(self) -> bool:
        """Whether the columns have the names that the collator reads, `id` among them."""
        return self.columns is not None and all(role == name for role, name in {"id": "", **self.columns}.items())

    def label(self, row: Mapping[str, Any], index: int) -> int | None:
        """Return the model's index of a row's label, or None where there is none.

        Raises:
            ValueError: the model does not have it; or there is none, in training.
        """
        if self.columns is None or self.labels is None:
            self.learn(list(row))
            return self.label(row, index)
        place, identity = f"{self.name}[{index}]", row.get(self.columns.get("id", ""))
        if identity is not None:
            place += f" (id {identity!r})"
        label = row.get(self.columns.get("emotion", ""))
        if label is None and self.training:
            raise ValueError(f"{place} has no emotion: training needs one in every row.")
        return self.labels.index(label, place)

    def __call__(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Return row `index` with the collator's columns.

        Raises:
            ValueError: as `learn`, at the first row of a data set whose columns were not known; or the row has a label
                that the model does not have.
        """
        label = self.label(row, index)
        roles = {role: row.get(column) for role, column in (self.columns or {}).items()}
        adapted = {**row, **roles, "emotion": label}
        if adapted.get("id") is None:
            path = _path(adapted.get("audio"))
            adapted["id"] = f"{self.name}[{index}]" + (f" ({path})" if path else "")
        return adapted


class AdaptedRows(Dataset):
    """A map-style data set in the collator's columns.

    Args:
        rows: the data set.
        adapter: of its rows.
        measurable: whether its rows are data, not the result of a user's code: it then has a column `duration`.
    """

    def __init__(self, rows: Any, adapter: RowAdapter, measurable: bool = False):
        self.rows = rows
        self.adapter = adapter
        self._durations: list[float] | None = None
        known = _column_names(rows) if measurable or isinstance(rows, datasets.Dataset) else []
        measurable = measurable and adapter.config.uses_speech
        self.column_names = list(dict.fromkeys([*known, *([DURATION_COLUMN] if measurable else [])]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row by its number, or a whole column, e.g. `duration`, by its name."""
        if not isinstance(index, str):
            return self.adapter(self.rows[int(index)], int(index))
        if index == DURATION_COLUMN and index not in _column_names(self.rows):
            if self._durations is None:
                self._durations = self._measure()
            return self._durations
        if isinstance(self.rows, datasets.Dataset):
            return self.rows.with_format(None)[index][:]
        return [row[index] for row in self.rows]

    def _measure(self) -> list[float]:
        """The seconds of every recording."""
        column = (self.adapter.columns or {})["audio"]
        rows = self.rows.select_columns(column) if isinstance(self.rows, datasets.Dataset) else self.rows
        durations = []
        for index, row in enumerate(cast(Sequence[dict[str, Any]], rows)):
            place, path = f"{self.adapter.name}[{index}]", _path(row[column])
            durations.append(audio_duration(row[column], name=f"{place} ({path})" if path else place))
        logger.warning(
            "%s has no column %r: its %d recordings were measured, %.0f s in all.",
            self.adapter.name,
            DURATION_COLUMN,
            len(durations),
            sum(durations),
        )
        return durations


class AdaptedStream(IterableDataset):
    """A stream that is not of `datasets`, in the collator's columns.

    Args:
        rows: the stream.
        adapter: of its rows.
    """

    def __init__(self, rows: Any, adapter: RowAdapter):
        self.rows = rows
        self.adapter = adapter

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.adapter(row, index) for index, row in enumerate(self.rows))

    def set_epoch(self, epoch: int) -> None:
        """Tell the stream the epoch, where it wants to know."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)


def _read_table(table: datasets.Dataset, adapter: RowAdapter) -> Any:
    adapter.learn(table.column_names, table.features)
    plain = table if table.format["type"] is None else table.with_format(None)
    plain = without_decoding(plain, adapter.audio_columns)
    columns = [column for role, column in (adapter.columns or {}).items() if role in ("id", "emotion")]
    return _read_rows(table, adapter, plain, plain.select_columns(columns).to_list())


def _read_rows(original: Any, adapter: RowAdapter, rows: Any, labelled: Sequence[Mapping[str, Any]]) -> Any:
    """`original` where its rows, `rows`, are what the collator reads; else what adapts them.

    Args:
        original: the data set as it was given.
        adapter: that has learnt its columns.
        rows: its rows as plain values.
        labelled: the same, or their ids and labels alone.
    """
    column = (adapter.columns or {}).get("emotion")
    same_labels = True
    for index, row in enumerate(labelled):
        # Every label is looked at, so that a wrong one is told before the first step.
        if column is not None and adapter.label(row, index) != row.get(column):
            same_labels = False
    needs_duration = adapter.training and adapter.config.uses_speech and DURATION_COLUMN not in _column_names(rows)
    if rows is original and same_labels and adapter.unchanged() and not needs_duration:
        return original
    return AdaptedRows(rows, adapter, measurable=True)


def _read_stream(stream: datasets.IterableDataset, adapter: RowAdapter) -> Any:
    features = stream.features
    if features is not None:
        adapter.learn(list(features), features)
        plain = without_decoding(stream, adapter.audio_columns)
        labels = features.get("emotion")
        same_labels = isinstance(labels, datasets.ClassLabel) and labels.names == (adapter.labels or labels).names
        if plain is stream and adapter.unchanged() and same_labels:
            return stream
        stream = plain
    return stream.map(adapter, with_indices=True)


def _column_names(rows: Any) -> list[str]:
    return rows.column_names if isinstance(rows, datasets.Dataset) else list(rows[0])


def _path(audio: Any) -> str | None:
    """The path of audio that has one."""
    path = audio.get("path") if isinstance(audio, Mapping) else audio
    return path if isinstance(path, str) else None
