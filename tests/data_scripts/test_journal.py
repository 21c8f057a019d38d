"""The journal: whole records after any kill, one process at a time, and no records of other settings."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from data_scripts.journal import Journal, JournalError, locked
from tests.helpers import ROOT

SETTINGS = {"model": "tiny", "sizes": (1, 2)}


def records(path, settings=SETTINGS, **options):
    """What a journal holds."""
    with Journal(path, settings, **options) as journal:
        return journal.records


def test_records_come_back(tmp_path):
    path = tmp_path / "new" / "journal.jsonl"
    values = [{"a": "naïve 漢 \udcff"}, [1, None, 2.5], "text", {}]
    with Journal(path, SETTINGS) as journal:
        assert journal.records == []
        for value in values:
            journal.append(value)
            assert json.loads(path.read_bytes().splitlines()[-1]) == value, "it is with the system at once"
        assert journal.records == values
    with Journal(path, SETTINGS) as journal:
        journal.append("more")
    assert records(path) == [*values, "more"]
    assert json.loads(path.read_bytes().splitlines()[0]) == {"settings": {"model": "tiny", "sizes": [1, 2]}}


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_is_repaired(tmp_path, cut):
    path = tmp_path / "journal"
    with Journal(path, SETTINGS) as journal:
        journal.append({"a": 1})
        journal.append({"b": 22})
    path.write_bytes(path.read_bytes()[:-cut])
    left = [{"a": 1}] if cut <= len('{"b": 22}\n') else []
    with Journal(path, SETTINGS) as journal:
        assert journal.records == left
        journal.append("after")
    assert records(path) == [*left, "after"]
    assert all(json.loads(line) is not None for line in path.read_bytes().splitlines())


def test_a_line_damaged_in_the_middle_loses_only_itself(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, SETTINGS) as journal:
        for number in range(3):
            journal.append({"number": number})
    path.write_bytes(path.read_bytes().replace(b'{"number": 1}', b"\0" * 13))
    assert records(path) == [{"number": 0}, {"number": 2}]


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    path = tmp_path / "folder" / "journal"
    script = (
        "import sys; from data_scripts.journal import Journal\n"
        "with Journal(sys.argv[1], {}): print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    before = path.read_bytes()
    for restart in (False, True):
        with pytest.raises(JournalError, match=r"folder is being prepared by another process: wait until it has ended"):
            Journal(path, SETTINGS, restart=restart, activity="prepared")
    assert path.read_bytes() == before
    other.communicate()
    assert records(path, {}) == []


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, SETTINGS) as journal:
        journal.append(1)
    with pytest.raises(JournalError, match=r"journal was written with other settings .*'tiny'.*now .*'large'.*delete"):
        Journal(path, {"model": "large"})
    assert records(path) == [1]  # the lock was given back


@pytest.mark.parametrize(
    "content", [b'{"settings": {"version": 1}}\n1\n', b"[1, 2]\n", b"no journal\n1\n", b'{"settings": {"mo']
)
def test_other_settings_start_anew_on_request(tmp_path, content):
    path = tmp_path / "journal"
    path.write_bytes(content)
    with Journal(path, SETTINGS, restart=True) as journal:
        assert journal.records == []
        journal.append("first")
    assert records(path) == ["first"]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_a_file_stands_for_one(tmp_path, monkeypatch, number):
    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with Journal(tmp_path / "journal", SETTINGS) as journal:
        journal.append(1)
        with pytest.raises(JournalError, match=r"by another process: wait.*where that was killed on another.*delete"):
            Journal(tmp_path / "journal", SETTINGS)
    killed = "import os, filelock, sys; held = filelock.SoftFileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, tmp_path / "lock.process"])
    assert list(tmp_path.glob("lock*"))
    with locked(tmp_path / "lock", "written"):  # of a process that is no more
        pass
    assert records(tmp_path / "journal") == [1]


def test_a_lock_that_cannot_be_taken_for_another_reason_is_an_error(tmp_path):
    (tmp_path / "journal.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        Journal(tmp_path / "journal", SETTINGS)


def test_a_full_disk_is_an_error_and_the_torn_record_is_lost_alone(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "journal"
    with Journal(path, SETTINGS) as journal:
        journal.append("fits")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
        with pytest.raises(OSError, match="File too large"), Journal(path, SETTINGS) as journal:
            journal.append("x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert records(path) == ["fits"]
