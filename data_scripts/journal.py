"""An append-only journal: what long work has finished so far, so that the same command takes it up after a crash.

A journal is a file of JSON lines. Its first line holds the settings of the work, every further one a record. A kill of
the process at any moment loses at most the record being written.
"""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, SoftFileLock, Timeout

from data_scripts.errors import UserError

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)  # of some network file systems


class JournalError(UserError):
    """A journal cannot be used: another process is using it, or it belongs to work with other settings."""


@contextlib.contextmanager
def locked(path: str | os.PathLike, activity: str, wait: bool = False) -> Iterator[None]:
    """Keep other processes from doing the same to a folder.

    `path` is the lock file, made in the folder, which must exist. `activity` is what is done to it ("prepared"), for
    the message that another process does so already; with `wait`, it is waited for. A process that was killed holds no
    lock. Where the file system has none, a file with the process's number stands for it.

    Raises:
        JournalError: another process holds the lock, and `wait` is not asked for.
    """
    lock, folder, remedy = FileLock(path), Path(path).parent, ""
    try:
        try:
            lock.acquire(timeout=0)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            lock = SoftFileLock(f"{path}.process")
            remedy = f", or, where that was killed on another machine, delete {lock.lock_file}"
            lock.acquire(timeout=0)
    except Timeout:
        busy = f"{folder} is being {activity} by another process: "
        if not wait:
            raise JournalError(f"{busy}wait until it has ended{remedy}") from None
        print(f"{busy}waiting for it{remedy}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Journal:
    """A journal, open for appending and locked against other processes until it is closed.

    Args:
        path: the file; made, with its folder, where absent.
        settings: what decides the records, JSON-ready: records made under other settings must not be used.
        restart: start over where the file was written under other settings, instead of refusing.
        activity: as in `locked`.

    Raises:
        JournalError: another process has it open; or, without `restart`, it was written under other settings.
    """

    def __init__(
        self, path: str | os.PathLike, settings: dict[str, Any], restart: bool = False, activity: str = "used"
    ):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.enter_context(locked(f"{self.path}.lock", activity))
            self._file = held.enter_context(open(self.path, "ab+"))
            self.records: list[Any] = self._read(settings, restart)
            self._held = held.pop_all()

    def append(self, record: Any) -> None:
        """Add a record (any JSON-ready value); on return a kill of the process cannot lose it."""
        self._write(record)
        self.records.append(record)

    def close(self) -> None:
        """Let other processes have the journal."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, settings: dict[str, Any], restart: bool) -> list[Any]:
        """The records that are there, once a torn last line is cut off and the settings are checked."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)  # or the next record would be joined to the torn one and lost with it
        # A line that is no JSON was damaged by a power failure: it is as good as not written.
        values = []
        for line in content[:whole].splitlines():
            with contextlib.suppress(ValueError):
                values.append(json.loads(line))
        found = values[0].get("settings") if values and isinstance(values[0], dict) else None
        # As the file gives them back: JSON has no tuples, and only text as keys.
        if values and found == json.loads(json.dumps(settings)):
            return values[1:]
        if values and not restart:
            raise JournalError(
                f"{self.path} was written with other settings ({found}, now {settings}): delete it, or use another one"
            )
        self._file.truncate(0)
        self._write({"settings": settings})
        return []

    def _write(self, value: Any) -> None:
        """Write one line, and hand it to the system, where a kill of this process cannot reach it."""
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()
