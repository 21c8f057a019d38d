"""Prepare under bad conditions: killed at any moment, a full disk, no permission, two at once.

One helper process imports everything once and forks a child for each run, so that a run starts at once and may be
killed, or lose its rights, without the tests doing so.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.layouts import make_iemocap, write_wav

HELPER = """
import io, json, os, signal, sys, tempfile, time
from contextlib import redirect_stderr, redirect_stdout
from data_scripts.prepare import __main__ as prepare

def run(order):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if order["user"] is not None:
            # Python itself may lie where the other user may not read: let everything be imported first.
            with tempfile.TemporaryDirectory() as other, redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
                prepare.main([*order["arguments"], "--output_dir", other])
            os.setgid(order["user"])
            os.setuid(order["user"])
        said = io.StringIO()
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            status = prepare.main(order["arguments"])
        os.write(writer, said.getvalue().encode()[-60000:])
        os._exit(status)
    os.close(writer)
    started = time.monotonic()
    if order["kill_after"] is not None:
        time.sleep(order["kill_after"])
        os.kill(child, signal.SIGKILL)
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "error": said, "seconds": time.monotonic() - started}

for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
"""


@pytest.fixture(scope="module")
def prepare():
    """Run the command in a process of its own: prepare(*arguments, kill_after=seconds, user=uid)."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELPER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(*arguments, kill_after=None, user=None):
        order = {"arguments": [str(part) for part in arguments], "kill_after": kill_after, "user": user}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(timeout=60)


def contents(folder):
    """Every file of a prepared folder by content; the journal, which tells its own history, excepted."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".prepare.jsonl"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def last_line(result):
    """The error message, which is one line after the progress bar."""
    return result["error"].replace("\r", "\n").strip().splitlines()[-1]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Forty recordings that have to be resampled, one broken, in a manifest."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["audio,emotion"]
    for number in range(40):
        write_wav(folder / f"{number}.wav", seconds=2, rate=44100, seed=number)
        lines.append(f"{number}.wav,{('sad', 'happy')[number % 2]}")
    (folder / "7.wav").write_bytes(b"broken")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("options", [(), ("--embed_audio",)], ids=["paths", "embedded"])
def test_killed_three_times_the_output_is_that_of_an_undisturbed_run(prepare, recordings, tmp_path, options):
    out = tmp_path / "out"
    arguments = ("manifest", "--data_dir", recordings, "--output_dir", out, *options)
    whole = prepare(*arguments)
    assert whole["status"] == 0, whole["error"]
    undisturbed = contents(out)
    shutil.rmtree(out)

    moments = random.Random(time.time_ns())
    for _ in range(3):
        moment = moments.uniform(0.1, 0.8) * whole["seconds"]
        killed = prepare(*arguments, kill_after=moment)
        print(f"killed after {moment:.3f} of {whole['seconds']:.3f} s")
        # Work done is kept, so a later run may end before its kill comes.
        assert killed["status"] in (-signal.SIGKILL, 0)
    last = prepare(*arguments)
    assert last["status"] == 0, last["error"]
    assert contents(out) == undisturbed
    assert len(undisturbed) == (3 if options else 3 + 39)


def test_what_was_finished_before_a_kill_is_not_done_again(prepare, recordings, tmp_path):
    out = tmp_path / "out"
    arguments = ("manifest", "--data_dir", recordings, "--output_dir", out, "--num_workers", "1")
    whole = prepare(*arguments)
    shutil.rmtree(out)
    prepare(*arguments, kill_after=whole["seconds"] * 0.5)
    made = {path.name: path.stat().st_mtime_ns for path in (out / "audio").glob("*.flac")}
    remembered = (out / ".prepare.jsonl").read_bytes()
    assert 0 < len(made) < 39
    # A line torn in the middle is what a kill inside a write would leave.
    (out / ".prepare.jsonl").write_bytes(remembered[:-20])
    assert prepare(*arguments)["status"] == 0
    kept = sum((out / "audio" / name).stat().st_mtime_ns == changed for name, changed in made.items())
    assert kept >= remembered.count(b"\n") - 1 > 0


def test_two_at_once_are_refused(prepare, recordings, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".prepare.jsonl", "ab") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        result = prepare("manifest", "--data_dir", recordings, "--output_dir", tmp_path / "out")
    assert result["status"] == 2 and "is being prepared by another process" in last_line(result)


def test_full_disk(prepare, recordings, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        for options in ((), ("--embed_audio",)):
            arguments = ("manifest", "--data_dir", recordings, "--output_dir", disk / "out", *options)
            full = prepare(*arguments)
            assert full["status"] == 2 and "Traceback" not in full["error"]
            assert last_line(full).startswith("error: the disk is full (") and "run the same command" in last_line(full)
            assert not list((disk / "out").rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        arguments = ("manifest", "--data_dir", recordings, "--output_dir", disk / "out")
        assert prepare(*arguments)["status"] == 0
        made = contents(disk / "out")
        shutil.rmtree(disk / "out")
        assert prepare(*arguments)["status"] == 0
        assert contents(disk / "out") == made
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def open_folder():
    """A temporary folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


# Root may read everything: its runs become those of another user.
USER = 65534 if hasattr(os, "geteuid") and os.geteuid() == 0 else None


@pytest.mark.parametrize("closed", ["Session2", "Session3/sentences/wav", "Session1/dialog/EmoEvaluation", "a wav"])
def test_no_permission_to_read(prepare, open_folder, closed):
    release = make_iemocap(open_folder / "IEMOCAP_full_release")
    path = release / closed
    if closed == "a wav":
        path = release / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
    path.chmod(0)
    (open_folder / "out").mkdir()
    (open_folder / "out").chmod(0o777)
    result = prepare("iemocap", "--data_dir", release, "--output_dir", open_folder / "out", user=USER)
    assert result["status"] == 2 and "Traceback" not in result["error"]
    assert last_line(result).startswith("error: no permission") and path.name in last_line(result)
    assert not list((open_folder / "out").glob("*.parquet"))
    path.chmod(0o755)
    assert prepare("iemocap", "--data_dir", release, "--output_dir", open_folder / "out", user=USER)["status"] == 0


def test_no_permission_to_write(prepare, open_folder):
    release = make_iemocap(open_folder / "IEMOCAP_full_release", codes=("neu",))
    open_folder.chmod(0o555)
    result = prepare("iemocap", "--data_dir", release, "--output_dir", open_folder / "out", user=USER)
    assert result["status"] == 2
    assert last_line(result).startswith("error: no permission for ") and "writable" in last_line(result)
