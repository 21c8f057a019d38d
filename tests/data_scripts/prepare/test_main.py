"""The command `python -m data_scripts.prepare`: files written, table printed, mistakes reported in one line.

Bad conditions too: killed at any moment, a full disk, no permission, two at once.
"""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_scripts.corpora.report import PreparationReport
from data_scripts.journal import locked
from data_scripts.prepare.__main__ import main
from data_scripts.schema import load_prepared
from tests.helpers.layouts import make_iemocap, make_meld, make_ravdess, write_bytes, write_wav


def test_it_writes_everything(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--data_dir", str(corpus), "--output_dir", str(out), "--emotions", "happy", "angry"]
    assert main(["ravdess", *options]) == 0
    printed = capsys.readouterr().out
    assert "ravdess: 2 utterances kept" in printed
    assert "1  emotion not selected" in printed
    assert str(out) in printed
    assert sorted(os.listdir(out)) == [
        *(".prepare.jsonl", ".prepare.jsonl.lock", "README.md", "report.json", "train.parquet")
    ]
    train = load_prepared(out)["train"]
    assert train.features["emotion"].names == ["happy", "angry"]
    assert list(train["emotion"]) == [0, 1]
    report = PreparationReport.from_json((out / "report.json").read_text(encoding="utf-8"))
    assert report.kept == 2
    assert len(report.dropped) == 2


@pytest.mark.parametrize(
    ("data_dir", "extra", "message"),
    [
        ("ravdess", ["--emotions", "bored"], "RAVDESS speech has no emotion bored"),
        ("nowhere", [], "nowhere does not exist"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(corpus, tmp_path, capsys, data_dir, extra, message):
    options = ["--data_dir", str(tmp_path / data_dir), "--output_dir", str(tmp_path / "out"), *extra]
    assert main(["ravdess", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_sessions_can_be_chosen(tmp_path, capsys):
    release = make_iemocap(tmp_path / "iemocap", sessions="1235", codes=("neu",))
    options = ["--data_dir", str(release), "--output_dir", str(tmp_path / "out"), "--sessions", "1", "2"]
    assert main(["iemocap", *options]) == 0
    printed = capsys.readouterr().out
    assert ["1", "2", "1085", "-1083"] in [line.split() for line in printed.splitlines()]


def test_a_leak_is_a_warning_and_with_strict_an_error(tmp_path, capsys):
    for name, seed in (("a.wav", 1), ("b.wav", 2), ("c.wav", 3)):
        write_wav(tmp_path / "m" / name, seed=seed)
    rows = ["audio,emotion,speaker,split", "a.wav,sad,ann,train", "b.wav,happy,ann,train", "c.wav,sad,ben,test"]
    (tmp_path / "m" / "manifest.csv").write_text("\n".join([*rows, "d.flac,sad,ben,test", ""]))
    samples, rate = soundfile.read(tmp_path / "m" / "a.wav", dtype="int16")
    soundfile.write(tmp_path / "m" / "d.flac", samples, rate)
    out = tmp_path / "out"
    options = ["manifest", "--data_dir", str(tmp_path / "m"), "--output_dir", str(out)]
    assert main([*options, "--strict"]) == 2
    found = "1 recording is in more than one split (train a.wav = test d.flac): keep each in one of them"
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"error: the splits leak: {found}. Without --strict this is only a warning"
    assert not (out / "report.json").exists()
    assert not (out / "train.parquet").exists()
    assert main(options) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == f"warning: {found}"
    assert "leak audit\n  recordings in several splits  1\n" in printed.out
    assert "recordings in several splits  1\n" in (out / "README.md").read_text(encoding="utf-8")
    report = PreparationReport.from_json((out / "report.json").read_text(encoding="utf-8"))
    assert report.audit.recordings == [{"train": ["a.wav"], "test": ["d.flac"]}]
    prepared = load_prepared(out)
    assert prepared["test"]["content"][1] == prepared["train"]["content"][0] != prepared["test"]["content"][0]


def test_the_speakers_of_meld_are_told_but_not_refused(tmp_path, capsys):
    raw = make_meld(tmp_path / "MELD.Raw")
    assert main(["meld", "--data_dir", str(raw), "--output_dir", str(tmp_path / "out"), "--strict"]) == 0
    printed = capsys.readouterr()
    assert "warning" not in printed.err
    assert "  speakers in several splits    2 (the corpus's makers divided it so)" in printed.out.splitlines()


def test_recordings_without_sound_are_dropped(tmp_path, capsys, decoded):
    for name, samples in (("a", np.zeros(1600)), ("b", np.full(1600, 0.5)), ("c", np.ones(800) / 2**16)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000)
    write_wav(tmp_path / "d.wav")
    (tmp_path / "manifest.csv").write_text("audio,emotion\n" + "".join(f"{name}.wav,sad\n" for name in "abcd"))
    out = tmp_path / "out"
    for again in (False, True):
        assert main(["manifest", "--data_dir", str(tmp_path), "--output_dir", str(out)]) == 0
        assert "  1  no sound: constant: every sample is the same" in capsys.readouterr().out.splitlines()
        assert len(decoded) == 4, f"second run: {again}"
    report = PreparationReport.from_json((out / "report.json").read_text(encoding="utf-8"))
    assert [note["id"] for note in report.dropped] == ["a.wav", "b.wav", "c.wav"]
    assert all(note["reason"].startswith("no sound: ") for note in report.dropped)
    assert load_prepared(out)["train"]["id"][:] == ["d.wav"]
    assert not (out / "audio").exists()


def test_foreign_files_are_not_overwritten(corpus, tmp_path, capsys):
    write_bytes(tmp_path / "mine" / "README.md", b"my notes")
    write_bytes(tmp_path / "file", b"")
    messages = {"mine": "README.md was not written by this command", "ravdess": "own folder", "file": "file"}
    for folder, message in messages.items():
        before = sorted(tmp_path.rglob("*"))
        assert main(["ravdess", "--data_dir", str(corpus), "--output_dir", str(tmp_path / folder)]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert sorted(tmp_path.rglob("*")) == before


def test_a_push_that_fails_is_one_line(mixed, tmp_path, capsys):
    options = ["--data_dir", str(mixed), "--output_dir", str(tmp_path / "out"), "--push_to_hub"]
    for repository in ("someone/corpus", "not a repository!"):  # the tests' environment is offline
        assert main(["manifest", *options, repository]) == 2
        expected = f"error: the prepared folder is written, but not pushed to {repository}: "
        assert capsys.readouterr().err.splitlines()[-1].startswith(expected)
    assert load_prepared(tmp_path / "out")["train"].num_rows == 5


# Bad conditions


def prepare(*arguments):
    """Run the command here."""
    return main([str(part) for part in arguments])


def exit_with(arguments):
    """Run the command in a process that may be killed."""
    sys.exit(prepare(*arguments))


@pytest.fixture(scope="module")
def start():
    """Start a process of the command: start(*arguments). One imports everything, and is forked for each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def run(*arguments):
        process = context.Process(target=exit_with, args=(arguments,))
        process.start()
        return process

    run("ravdess", "--output_dir", "out").join()
    return run


def contents(folder):
    """Every file of a prepared folder by content; the journal, which tells its own history, excepted."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".prepare.jsonl")]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def last_line(capsys):
    """The error message, which is one line after the progress bar."""
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    return printed.replace("\r", "\n").strip().splitlines()[-1]


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
def test_killed_three_times_the_output_is_that_of_an_undisturbed_run(start, recordings, tmp_path, options):
    out = tmp_path / "out"
    arguments = ("manifest", "--data_dir", recordings, "--output_dir", out, *options)
    started = time.monotonic()
    start(*arguments).join()
    seconds = time.monotonic() - started
    undisturbed = contents(out)
    assert len(undisturbed) == (3 if options else 3 + 39)
    shutil.rmtree(out)

    moments = random.Random(time.time_ns())
    for _ in range(3):
        moment = moments.uniform(0.1, 0.8) * seconds
        process = start(*arguments)
        time.sleep(moment)
        process.kill()
        process.join()
        print(f"killed after {moment:.3f} of {seconds:.3f} s")
        # Work done is kept, so a later run may end before its kill comes.
        assert process.exitcode in (-signal.SIGKILL, 0)
    assert prepare(*arguments) == 0
    assert contents(out) == undisturbed


def test_what_was_finished_before_a_kill_is_not_done_again(recordings, tmp_path):
    arguments = ("manifest", "--data_dir", recordings, "--output_dir", tmp_path / "out", "--num_workers", "1")
    assert prepare(*arguments) == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "audio").iterdir()}
    journal = tmp_path / "out" / ".prepare.jsonl"
    # A kill inside the write of the 20th of 39 records, of which the first line holds the settings.
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:20]) + b'\n[["torn')
    assert prepare(*arguments) == 0
    assert sum(path.stat().st_mtime_ns == changed for path, changed in made.items()) == 19


def test_two_at_once_are_refused(recordings, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / ".prepare.jsonl.lock", "prepared"):
        assert prepare("manifest", "--data_dir", recordings, "--output_dir", tmp_path / "out") == 2
    assert "is being prepared by another process" in last_line(capsys)


def test_full_disk(recordings, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    arguments = ("manifest", "--data_dir", recordings, "--output_dir", disk / "out")
    try:
        for options in ((), ("--embed_audio",)):
            assert prepare(*arguments, *options) == 2
            message = last_line(capsys)
            assert message.startswith("error: the disk is full (")
            assert "run the same command" in message
            assert not list((disk / "out").rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert prepare(*arguments) == 0
        made = contents(disk / "out")
        shutil.rmtree(disk / "out")
        assert prepare(*arguments) == 0
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


@pytest.fixture
def user():
    """Root may read everything: what it runs becomes that of another user."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield
    if is_root:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("corpus_name", "closed"),
    [
        ("iemocap", "Session2"),
        ("iemocap", "Session3/sentences/wav"),
        ("iemocap", "Session1/dialog/EmoEvaluation"),
        ("iemocap", "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"),
        ("ravdess", "Actor_02"),  # `Path.rglob` would pass it over, and an actor would be missing without a word
    ],
)
def test_no_permission_to_read(open_folder, request, capsys, corpus_name, closed):
    path = {"iemocap": make_iemocap, "ravdess": make_ravdess}[corpus_name](open_folder / "corpus") / closed
    path.chmod(0)
    (open_folder / "out").mkdir()
    (open_folder / "out").chmod(0o777)
    arguments = (corpus_name, "--data_dir", open_folder / "corpus", "--output_dir", open_folder / "out")
    request.getfixturevalue("user")
    assert prepare(*arguments) == 2
    message = last_line(capsys)
    assert message.startswith("error: no permission")
    assert path.name in message
    assert not list((open_folder / "out").glob("*.parquet"))


def test_no_permission_to_write(open_folder, request, capsys):
    release = make_ravdess(open_folder / "ravdess")
    open_folder.chmod(0o555)
    request.getfixturevalue("user")
    assert prepare("ravdess", "--data_dir", release, "--output_dir", open_folder / "out") == 2
    message = last_line(capsys)
    assert message.startswith("error: no permission for ")
    assert "writable" in message
