"""What to predict: recordings, folders, patterns, tables, data sets, lhotse cuts and tar archives, as rows with ids.

Everything is listed before any work, by its id; a row is read when its turn comes, so that no more recordings than
those being worked on are in memory.
"""

import bisect
import glob
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from data_scripts.corpora.columns import assign_columns
from data_scripts.corpora.folders import AUDIO_SUFFIXES, walk
from data_scripts.corpora.manifest import locate
from data_scripts.corpora.report import PreparationReport
from data_scripts.corpora.rows import as_utterance, check_ids, name_rows, recording_name
from data_scripts.errors import CorpusError
from data_scripts.files import fingerprint
from data_scripts.spellings import did_you_mean
from data_scripts.tables import TABLE_SUFFIXES, read_table

if TYPE_CHECKING:
    from datasets import Dataset

#: What `Predictor` takes: `id`, `file`, `asr_model` (of a text that is given) and the `utterance` for the pipeline.
Row = dict[str, Any]

_SAVED = ("dataset_dict.json", "state.json", *(f"{split}.parquet" for split in ("train", "validation", "test")))
_CUTS = (".jsonl.gz", ".jsonl.zst")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Source(NamedTuple):
    """One input: {id: digest of what is read}, in order; the row at a place; whether any may come with its text."""

    digests: dict[str, str]
    read: Callable[[int], Row]
    has_text: bool = False


class Inputs(Sequence[Row]):
    """The rows of all inputs, in order.

    Args:
        places: recordings, folders, patterns, tables, names of data sets, saved or prepared ones, cuts, tars.

    Attributes:
        digests: {id: digest}, in order: of two inputs with one id, what is read differs where the digest does.
        has_text: whether any may come with its text.

    Raises:
        CorpusError: a place is not there or is nothing that can be read; two inputs have one id.
    """

    def __init__(self, places: Sequence[str]):
        self._sources = [source for place in places for source in open_place(place)]
        self._ids = [name for source in self._sources for name in source.digests]
        check_ids(({"id": name} for name in self._ids), " and ".join(places))
        self.digests = {name: digest for source in self._sources for name, digest in source.digests.items()}
        self.has_text = any(source.has_text for source in self._sources)
        self._ends = list(accumulate(len(source.digests) for source in self._sources))
        if not self._ids:
            raise CorpusError(f"there is nothing to predict in {' and '.join(places)}")

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: int) -> Row:  # pyright: ignore (no slices)
        number = bisect.bisect_right(self._ends, place)
        source = self._sources[number]
        return {"id": self._ids[place], **source.read(place - self._ends[number] + len(source.digests))}


def open_place(place: str) -> list[Source]:
    """Return what lies at a place; see `Inputs`."""
    path = Path(place)
    if path.is_dir():
        if any((path / name).is_file() for name in _SAVED):
            return _open_dataset(place)
        shards = sorted(path.glob("*.parquet"))
        if shards and not any(map(_is_recording, walk(path))):
            return [_open_parquet(shard) for shard in shards]
        return [_open_folder(path)]
    if path.is_file():
        return [_open_table(path) or _from_files([path], [path.as_posix()])]
    if found := sorted(glob.glob(place, recursive=True)):
        files = [path for path in map(Path, found) if _is_recording(path)]  # a million of them are one input
        others = (source for each in found if not _is_recording(Path(each)) for source in open_place(each))
        return [_from_files(files, [path.as_posix() for path in files]), *others]
    if _HUB_NAME.fullmatch(place) and not path.parent.exists():
        return _open_dataset(place)
    near = [str(path.parent / each.name) for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise CorpusError(f"{place} does not exist{did_you_mean(place, near)}")


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._") and not path.is_dir()


def _open_table(path: Path) -> Source | None:
    """What a file lists or holds by its name; None where it is a recording."""
    if path.name.endswith(_CUTS):
        return _open_cuts(path)
    if path.suffix == ".tar":
        return _open_tar(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return None
    if path.suffix == ".parquet":
        return _open_parquet(path)
    rows = read_table(path)
    return _from_table(rows, list(dict.fromkeys(name for row in rows for name in row)), path.parent, path)


def _open_parquet(path: Path) -> Source:
    from datasets import Dataset

    try:  # mapped, not read: its recordings may be more than memory holds
        table = cast("Dataset", Dataset.from_parquet(glob.escape(str(path))))
    except Exception as error:  # what datasets and pyarrow raise for a damaged file has no class in common
        raise CorpusError(f"{path} cannot be read as Parquet: {error.__cause__ or error}") from error
    return _from_table(table, table.column_names, path.parent, path)


def _open_folder(folder: Path) -> Source:
    """The recordings below a folder; what else lies there is counted."""
    files = [path for path in walk(folder) if not path.is_dir()]
    taken = list(filter(_is_recording, files))
    if other := Counter(path.suffix or path.name for path in set(files) - set(taken)):
        kinds = ", ".join(f"{count} {kind}" for kind, count in other.most_common(5))
        print(f"{folder}: {len(taken)} recordings; {other.total()} other files are left out ({kinds})")
    return _from_files(taken, [path.relative_to(folder).as_posix() for path in taken])


def _from_files(files: Sequence[Path], ids: list[str]) -> Source:
    names = [str(path.resolve()) for path in files]
    return Source(dict(zip(ids, map(fingerprint, names), strict=True)), partial(_file_row, names))


def _file_row(files: Sequence[str], place: int) -> Row:
    return {"file": files[place], "asr_model": None, "utterance": {"audio": files[place]}}


def _open_dataset(place: str) -> list[Source]:
    """A data set of the Hub, a saved one, or a prepared corpus: its splits one after the other."""
    from data_scripts.corpora.hf_dataset import open_dataset
    from data_scripts.corpora.options import CorpusSelection

    parts = open_dataset(CorpusSelection(dataset_name=place), PreparationReport("dataset"))
    sources = {
        split: _from_table(part, part.column_names, Path(place), f"{place}, {split}") for split, part in parts.items()
    }
    if len({name for source in sources.values() for name in source.digests}) < sum(map(len, parts.values())):
        for split, source in sources.items():
            digests = {f"{split}/{name}": digest for name, digest in source.digests.items()}
            sources[split] = source._replace(digests=digests)
    return list(sources.values())


def _from_table(table: "Sequence[Row] | Dataset", names: Sequence[str], folder: Path, owner: object) -> Source:
    """The rows of a table; recordings lie in it, or below its folder."""
    columns = assign_columns(names, {}, str(owner))
    if "audio" not in columns:
        raise CorpusError(f"{owner} has no column of recordings (audio, file, …); it has {', '.join(names)}")
    listed: Iterable[Mapping[str, Any]] = table
    if not isinstance(table, list):
        from modeling_m4ser.rows_m4ser import without_decoding

        table = without_decoding(table).with_format(None)
        flat = table.flatten()  # pyright: ignore (a data set)
        wanted = {*columns.values(), f"{columns['audio']}.path"} & {*flat.column_names}
        heavy = (None, "binary", "large_binary")  # samples and bytes of recordings
        listed = flat.select_columns(
            [name for name in wanted if getattr(flat.features[name], "dtype", None) not in heavy]
        )
    table_name = f"{owner.stem}, " if isinstance(owner, Path) else ""  # rows of several shards are not one
    items, where = [], str(folder.resolve() if folder.exists() else folder)
    for number, row in enumerate(listed, 1):
        try:
            item = as_utterance({role: row.get(column) for role, column in columns.items()}, row)
        except CorpusError as error:
            raise CorpusError(f"{owner}, row {number}: {error}") from None
        name = _file_name(row, columns["audio"])
        told = [str(item.get(role)) for role in ("hypothesis", "transcript", "channel", "part", "unusable")]
        named = {"id": item["id"], "name": recording_name(item, name) if name else f"{table_name}row {number}"}
        items.append(named | {"digest": fingerprint([where, name, *told])})
    name_rows(items)
    check_ids(items, owner)
    digests = {item["id"]: item["digest"] for item in items}
    has_text = bool(columns.keys() & {"hypothesis", "transcript"})
    return Source(digests, partial(_table_row, table, columns, folder), has_text)


def _file_name(row: Mapping[str, Any], column: str) -> str | None:
    """The path of a row's recording, as the row has it; None of bytes or samples without one."""
    value = row.get(f"{column}.path", row.get(column))
    value = value.get("path") if isinstance(value, Mapping) else value
    return value.strip() or None if isinstance(value, str) else None


def _table_row(table: Any, columns: Mapping[str, str], folder: Path, place: int) -> Row:
    row = dict(table[place])
    audio, name = row.get(columns["audio"]), _file_name(row, columns["audio"])
    is_named = isinstance(audio, str) or (isinstance(audio, Mapping) and audio.get("bytes", audio.get("array")) is None)
    if name and is_named and not name.lower().startswith(("http:", "https:")):
        name = row[columns["audio"]] = locate(folder, name)
    asr_model = row.get(columns.get("asr_model", "")) or None
    if isinstance(table, list) and asr_model and "hypothesis" in columns and row[columns["hypothesis"]] is None:
        row[columns["hypothesis"]] = ""  # a CSV knows no null: a recognizer that is named has heard no words
    return {"file": name, "asr_model": asr_model, "utterance": row}


def _open_cuts(path: Path) -> Source:
    """The cuts of a lhotse manifest, each a part of one file."""
    try:
        from lhotse import CutSet
    except ImportError:
        raise CorpusError(f"{path}: reading lhotse manifests needs `pip install lhotse`") from None
    rows = []
    for cut in CutSet.from_file(path):
        source = cut.recording.sources[0] if getattr(cut, "recording", None) else None
        if source is None or source.type != "file" or not isinstance(cut.channel, int):
            raise CorpusError(f"{path}: cut {cut.id} is not of one channel of a file: cuts.save_audios makes it so")
        text = " ".join(each.text for each in cut.supervisions if each.text) or None
        times = {"start": cut.start, "end": cut.end}
        rows.append({"id": cut.id, "audio": source.source, "text": text, "channel": cut.channel, **times})
    return _from_table(rows, ["id", "audio", "text", "channel", "start", "end"], path.parent, path)


def _open_tar(path: Path) -> Source:
    """The samples of a webdataset shard: files of one name up to its first dot, one of them a recording."""
    samples: dict[str, dict[str, tuple[str, int, int]]] = defaultdict(dict)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in filter(tarfile.TarInfo.isfile, archive):
                place = PurePosixPath(member.name)
                stem, _, ending = place.name.partition(".")
                found = (member.name, member.offset_data, member.size)
                samples[(place.parent / stem).as_posix()]["text" if ending == "txt" else f".{ending.lower()}"] = found
    except tarfile.TarError as error:
        raise CorpusError(f"{path} cannot be read as a tar archive: {error}") from None
    taken = {key: sample for key, sample in samples.items() if sample.keys() & {*AUDIO_SUFFIXES}}
    if left := len(samples) - len(taken):
        print(f"{path}: {left} samples without a recording are left out")
    digests = {key: fingerprint([str(path.resolve()), key]) for key in taken}
    samples_read = partial(_tar_row, path, list(taken.values()))
    return Source(digests, samples_read, any("text" in sample for sample in taken.values()))


def _tar_row(path: Path, samples: Sequence[Mapping[str, tuple[str, int, int]]], place: int) -> Row:
    sample, data = samples[place], {}
    with open(path, "rb") as file:
        for ending, (_, offset, size) in sample.items():
            if ending == "text" or ending in AUDIO_SUFFIXES:
                file.seek(offset)
                data[ending] = file.read(size)
    utterance: Row = {"text": data.pop("text").decode("utf-8", errors="replace").strip()} if "text" in data else {}
    ending, found = data.popitem()
    name = sample[ending][0]
    utterance["audio"] = {"path": name, "bytes": found}
    return {"file": f"{path.resolve()}/{name}", "asr_model": None, "utterance": utterance}
