"""An append-only journal: what long work has finished so far, so that the same command takes it up after a crash.

A journal is a file of JSON lines. Its first line holds the settings of the work, every further one a record. A kill of
the process at any moment loses at most the record being written; a power failure, those of about the last second.
"""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Self

from data_scripts.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two processes at once are then not noticed
    fcntl = None

_SECONDS_BETWEEN_SYNCS = 1.0


class JournalError(UserError):
    """A journal cannot be used: another process is using it, or it belongs to work with other settings."""


class Journal:
    """A journal, open for appending and locked against other processes until it is closed.

    Args:
        path: the file; made, with its folder, where absent.
        settings: what decides the records, JSON-ready: records made under other settings must not be used.
        restart: start anew where the file was written under other settings, instead of refusing.
        activity: what its user is doing to the folder, for the error that another process does so already.

    Attributes:
        records: all records, the oldest first: those found in the file and those appended since.

    Raises:
        JournalError: another process has it open; or, without `restart`, it was written under other settings.
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike, settings: dict[str, Any], restart: bool = False, activity: str = "used"
    ):
        self.path = Path(path)
        self.records: list[Any] = []
        self._last_sync = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what has been written is with the system, where a kill of this process cannot reach it.
        self._file = open(self.path, "ab+", buffering=0)  # noqa: SIM115 (it stays open, and locked, until close)
        try:
            self._lock(activity)
            self._open(settings, restart)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Any) -> None:
        """Add a record (any JSON-ready value); on return a kill of the process cannot lose it.

        Raises:
            OSError: the record cannot be written; the file is then as it was before.
        """
        self._write(record)
        self.records.append(record)
        if time.monotonic() - self._last_sync >= _SECONDS_BETWEEN_SYNCS:
            self._sync()

    def close(self) -> None:
        """Write everything to the disk and let other processes have the journal."""
        if not self._file.closed:
            try:
                self._sync()
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self, activity: str) -> None:
        """Keep other processes out until the file is closed."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(
                f"{self.path.parent} is being {activity} by another process: wait until it has ended"
            ) from None

    def _open(self, settings: dict[str, Any], restart: bool) -> None:
        """Read what is there, cut a torn last line off, and check the settings."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)  # or the next record would be joined to the torn one and lost with it
        # A line that is no JSON was damaged by a power failure: it is as good as not written.
        values = [value for line in content[:whole].splitlines() if (value := _parse(line)) is not None]
        header = values[0] if values else None
        found = header.get("settings") if isinstance(header, dict) else None
        # As the file gives them back: JSON has no tuples, and only text as keys.
        wanted = json.loads(json.dumps(settings))
        if values and found != wanted and not restart:
            raise JournalError(
                f"{self.path} was written with other settings ({found}, now {settings}): delete it, or use another one"
            )
        if found == wanted:
            self.records = values[1:]
        else:
            self._file.truncate(0)
            self._write({"settings": settings})

    def _write(self, value: Any) -> None:
        """Write one line, all of it or nothing."""
        line = memoryview(json.dumps(value).encode() + b"\n")
        end = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def _sync(self) -> None:
        """Have the system write what it holds to the disk."""
        os.fsync(self._file.fileno())
        self._last_sync = time.monotonic()


def _parse(line: bytes) -> Any:
    """The JSON value of a line; None where it is none."""
    try:
        return json.loads(line)
    except ValueError:
        return None
