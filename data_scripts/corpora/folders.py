"""Reading other people's folders: nothing is passed over silently."""

import os
from collections.abc import Container, Iterator
from pathlib import Path

from data_scripts.corpora.report import PreparationReport

APPLE_DOUBLE = "AppleDouble file of macOS (._*), neither text nor media"


def children(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted; raises where it cannot be read (`Path.glob` would answer with nothing)."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries)


def walk(folder: Path, depth: int = 99, closed: Container[str] = ()) -> Iterator[Path]:
    """Yield every file and folder at most `depth` levels below `folder`, sorted; not what folders named so hold."""
    for path in children(folder):
        yield path
        if depth > 1 and path.name not in closed and path.is_dir() and not path.is_symlink():
            yield from walk(path, depth - 1, closed)


def read_text(path: Path, item: str, report: PreparationReport) -> str:
    """Return a text file's content; one that is not UTF-8 is read as Windows' cp1252 and noted in `report`."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        report.repair(item, "text file is not UTF-8: read as cp1252")
        return data.decode("cp1252", errors="replace")
