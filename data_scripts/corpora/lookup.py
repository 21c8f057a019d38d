"""Finding the recordings that a table names, where the names are spelled otherwise or are those of another machine."""

import contextlib
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from data_scripts.corpora.folders import ARCHIVE_SUFFIXES, AUDIO_SUFFIXES, walk
from data_scripts.corpora.report import PreparationReport
from data_scripts.errors import CorpusError
from data_scripts.spellings import did_you_mean

OTHER_SPELLING = "the path of its audio differs from the file's in case or Unicode form"
OTHER_SUFFIX = "the path of its audio ends otherwise than the file's, e.g. in .mp3 for .wav"
OTHER_FOLDER = "its audio lies in another folder than the table says: found by the name of the file"

_MOST_FILES = 1_000_000  # a table may lie at the top of a disk


def locate(folder: Path, name: str) -> str:
    """Return the absolute path of a recording, or of a `file://` address; a table's backslashes work everywhere."""
    if name.lower().startswith("file:"):
        from modeling_m4ser.opening_m4ser import local_path  # late: imports torch

        name = local_path(name)
    name = name.replace("\0", "\N{REPLACEMENT CHARACTER}")  # which Python refuses to look for
    path = folder / Path(name).expanduser()
    if "\\" in name and not path.is_file():
        path = folder / name.replace("\\", "/")
    return str(path.resolve())


def find_places(wanted: Iterable[str], places: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return {name: (place, what differs)} of the wanted names that no place has, where one alone can be meant.

    That is the file of that name in another case, Unicode form or folder, or else one that differs in the suffix. If
    there is a folder of the name that is stated above the file, the file must lie in one. A place that is wanted by its
    own name, or is as near to another name, is not taken.

    Args:
        wanted: paths, relative or of any machine, separated by slashes or backslashes.
        places: paths of files, separated by slashes.
    """
    names = set(wanted)
    parts = {place: _parts(place) for place in places}
    folders = {part for some in parts.values() for part in some[:-1]}
    by_name, by_stem = defaultdict(list), defaultdict(list)  # of files, and of files with the folder above them
    for place in sorted(parts.keys() - names):
        *above, name = parts[place]
        for folder in ((), tuple(above[-1:])) if above else ((),):
            by_name[*folder, name].append(place)
            if PurePosixPath(name).suffix in AUDIO_SUFFIXES:
                by_stem[*folder, PurePosixPath(name).stem].append(place)
    claims: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)  # {place: {what is wanted: folders in common}}
    found = {}
    for name in filter(_parts, names.difference(parts)):
        *above, last = stated = _parts(name)
        folder = above[-1:] if above and above[-1] in folders else []
        stems = [last, *([PurePosixPath(last).stem] if PurePosixPath(last).suffix in AUDIO_SUFFIXES else [])]
        for candidates in (by_name[*folder, last], [place for stem in stems for place in by_stem[*folder, stem]]):
            if candidates:
                common = {place: _common_folders(stated, parts[place]) for place in candidates}
                most = max(common.values())
                nearest = [place for place in candidates if common[place] == most]
                if len(nearest) == 1:
                    found[name] = nearest[0]
                    claims[nearest[0]][tuple(stated)] = most
                break
    mended = {}
    for name, place in found.items():
        stated = _parts(name)
        if not any(most >= claims[place][tuple(stated)] for one, most in claims[place].items() if list(one) != stated):
            mended[name] = place, _difference(stated, parts[place])
    return mended


def locate_recordings(
    items: Sequence[dict[str, Any]], folder: Path | None, owner: object, report: PreparationReport
) -> list[dict[str, Any]]:
    """Return the rows but for those whose file is missing; paths that can be mended are, see `find_places`.

    Args:
        items: rows with the `path` or `bytes` of their audio.
        folder: where relative paths start, and where files are looked for; None: nowhere.
        owner: what names the files, for messages.
        report: takes what was mended and what is missing.

    Raises:
        CorpusError: most of the files are missing.
    """
    named = [item for item in items if item["bytes"] is None and item["path"] is not None]
    absent = [item for item in named if not Path(item["path"]).is_file()]
    if not absent:
        return list(items)
    root = None if folder is None else folder.resolve()
    places = [] if root is None else _files_below(root)
    paths = {item["path"]: _below(item["path"], root) for item in named}
    found = find_places(paths.values(), places)
    missing = []
    for item in absent:
        place, how = found.get(paths[item["path"]], (None, ""))
        if place is None or root is None:
            missing.append(item)
        else:
            item["path"] = str(root / place)
            report.repair(item["id"], how)
    if missing:
        where = _searched(paths[missing[0]["path"]], root, places)
        if len(missing) * 2 > len(named):
            examples = ", ".join(str(paths[item["path"]]) for item in missing[:3])
            raise CorpusError(
                f"{owner}: {len(missing)} of {len(named)} recordings are missing, e.g. {examples}{where}. Write their "
                "paths as they are from that folder on, or put the table beside them"
            )
        for item in missing:
            report.drop(item["id"], f"audio file missing{where}")
    left = {id(item) for item in missing}
    return [item for item in items if id(item) not in left]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _parts(name: str) -> list[str]:
    """The keys of a path's parts, without what begins it."""
    return [_key(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _common_folders(stated: Sequence[str], parts: Sequence[str]) -> int:
    """How many folders above the files are the same."""
    pairs = zip(reversed(stated[:-1]), reversed(parts[:-1]), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(stated), len(parts)) - 1)


def _difference(stated: Sequence[str], parts: Sequence[str]) -> str:
    if stated == parts:
        return OTHER_SPELLING
    return OTHER_SUFFIX if stated[:-1] == parts[:-1] else OTHER_FOLDER


def _files_below(folder: Path) -> list[str]:
    """The places of the files in a folder, as far as it can be read."""
    places = []
    with contextlib.suppress(OSError):
        for path in islice(walk(folder), _MOST_FILES):
            if path.is_file():
                places.append(path.relative_to(folder).as_posix())
    return places


def _below(path: str, root: Path | None) -> str:
    """A path from the root on, where it lies below that."""
    return Path(path).relative_to(root).as_posix() if root and Path(path).is_relative_to(root) else path


def _searched(name: str, root: Path | None, places: Sequence[str]) -> str:
    """Where a file was looked for, and the nearest that is there, as the end of a message."""
    if name.lower().startswith(("http:", "https:")):
        return " (download what is an address, and write the file's name)"
    if root is None:
        return ""
    names = {PurePosixPath(place).name for place in places}
    alike = [place for place in places if _parts(place)[-1:] == _parts(name)[-1:]]
    if len(alike) > 1:
        return f" (looked in {root}, where several files may be meant: {', '.join(alike[:2])})"
    near = did_you_mean(PurePosixPath(name.replace("\\", "/")).name, names)
    packed = sorted(place for place in names if place.lower().endswith(ARCHIVE_SUFFIXES))
    unpack = f"; unpack {packed[0]} if they are in there" if packed else ""
    return f" (looked in {root} and its sub-folders{near}{unpack})"
