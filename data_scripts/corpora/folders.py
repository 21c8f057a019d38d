"""Reading other people's folders: nothing is passed over silently."""

import os
from collections.abc import Container, Iterator
from pathlib import Path

from data_scripts.corpora.report import PreparationReport

#: The names of files that `load_audio` may read.
AUDIO_SUFFIXES = (
    *(".3g2", ".3ga", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au"),
    *(".avi", ".avr", ".caf", ".f4v", ".flac", ".flv", ".htk", ".ircam", ".m4a", ".m4b", ".m4v", ".mat4"),
    *(".mat5", ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp3", ".mp4", ".mpc2k", ".mpg", ".mxf", ".nist"),
    *(".nut", ".oga", ".ogg", ".ogm", ".opus", ".paf", ".pvf", ".raw", ".rf64", ".sd2", ".sds", ".snd"),
    *(".sph", ".svx", ".voc", ".w64", ".wav", ".wave", ".wavex", ".webm", ".wma", ".wmv", ".wv", ".wve"),
    *(".xi"),
)
#: The names of files that may hold others, packed.
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".lz4")
APPLE_DOUBLE = "AppleDouble file of macOS (._*), neither text nor media"


def children(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted; raises where it cannot be read (`Path.glob` would answer with nothing)."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries)


def walk(folder: Path, depth: int = 99, closed: Container[str] = ()) -> Iterator[Path]:
    """Yield every file and folder at most `depth` levels below `folder`, sorted; not what folders named `closed` hold.

    A link to a folder elsewhere is followed, but no folder is entered twice.
    """
    root = folder.resolve()
    return _walk(folder, root, depth, closed, root, {root})


def _walk(
    folder: Path, real: Path, depth: int, closed: Container[str], root: Path, entered: set[Path]
) -> Iterator[Path]:
    """Walk a folder, whose place is `real` when links are resolved."""
    for path in children(folder):
        yield path
        if depth <= 1 or path.name in closed or not path.is_dir():
            continue
        place = path.resolve() if path.is_symlink() else real / path.name
        # What lies below the root is found at its own place, under its own name.
        leads_back = path.is_symlink() and (place.is_relative_to(root) or root.is_relative_to(place))
        if not leads_back and place not in entered:
            entered.add(place)
            yield from _walk(path, place, depth - 1, closed, root, entered)


def read_text(path: Path, item: str, report: PreparationReport) -> str:
    """Return a text file's content; one that is not UTF-8 is read as Windows' cp1252 and noted in `report`."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        report.repair(item, "text file is not UTF-8: read as cp1252")
        return data.decode("cp1252", errors="replace")
