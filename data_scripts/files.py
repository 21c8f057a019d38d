"""Writing files whole, and explaining what is wrong where that fails."""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_DISK_FULL_CODES = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# pyarrow and libsndfile pass the system's message on, without its number.
_DISK_FULL_MESSAGES = ("No space left", "Disk quota exceeded")


def write_atomically(path: str | os.PathLike, data: bytes | str) -> None:
    """Write a file (text as UTF-8) and its folder, so that it appears whole or not at all."""
    with replace_together([path]) as (temporary,):
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replace_together(paths: Iterable[str | os.PathLike], durable: bool = False) -> Iterator[list[Path]]:
    """Write several files that appear together, once all of them are whole.

    Yields one temporary path for each, beside it, to be written inside the `with` block. On leaving it they take the
    places of `paths`; if an exception leaves it, they are removed and nothing else has changed. With `durable`, they
    are on the disk then: a power failure cannot leave an empty file in place of one.
    """
    targets = [Path(path) for path in paths]
    temporary = [path.with_name(f".{path.name}.tmp") for path in targets]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        for written, target in zip(temporary, targets, strict=True):
            if durable:
                sync(written)
            os.replace(written, target)
            if durable:
                sync(target.parent)
    finally:
        for written in temporary:
            written.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder; Windows, which opens no folders, keeps those itself."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_name(name: str) -> str:
    """Return any name as that of a file or a folder: letters, digits, `_`, `-` and `.`, no `.` at either end.

    Different names can get the same one: who keeps several side by side has to look.
    """
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "_"


def find_full_disk(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk among an exception and its causes; None where there is none."""
    while error is not None:
        if isinstance(error, OSError) and (
            error.errno in _DISK_FULL_CODES or any(message in str(error) for message in _DISK_FULL_MESSAGES)
        ):
            return error
        error = error.__cause__ or error.__context__
    return None


def explain(error: OSError) -> str:
    """Return one line that says what went wrong and what the user can do about it."""
    full = find_full_disk(error)
    place = (full or error).filename
    place = "the output folder" if place is None else place
    if full is not None:
        return (
            f"the disk is full ({place}): free some space, or choose an --output_dir on another disk, and run the same "
            "command again; what was finished is kept"
        )
    if isinstance(error, PermissionError):
        return f"no permission for {place}: make it readable (an output folder: writable) for your user, e.g. by chmod"
    if error.filename and isinstance(error, FileNotFoundError):
        return f"{place} does not exist; check the path"
    if error.filename and isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{place}: there is a file where a folder should be; choose another place"
    return " ".join(str(error).split())


def fingerprint(value: Any) -> str:
    """Return a short hash of what JSON can hold; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
