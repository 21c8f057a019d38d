"""The command `python -m data_scripts.prepare`: files written, table printed, mistakes reported in one line.

Bad conditions too: killed at any moment, a full disk, no permission, two at once.
"""

import codecs
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_scripts.corpora.report import prepared_report
from data_scripts.journal import locked
from data_scripts.prepare.__main__ import main
from data_scripts.schema import load_prepared
from tests.helpers.layouts import drop_reasons, make_iemocap, make_ravdess, write_bytes, write_wav


def prepare(*arguments):
    """Run the command here."""
    return main([str(part) for part in arguments])


def last_line(capsys):
    """The error message, which is one line after the progress bar."""
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    return printed.replace("\r", "\n").strip().splitlines()[-1]


def test_it_writes_everything(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare("ravdess", "--data_dir", corpus, "--output_dir", out, "--emotions", "happy", "angry") == 0
    printed = capsys.readouterr().out
    for expected in ("ravdess: 2 utterances kept", "1  emotion not selected", str(out)):
        assert expected in printed
    written = (".prepare.jsonl", ".prepare.jsonl.lock", "README.md", "report.json", "train.parquet")
    assert sorted(os.listdir(out)) == list(written)
    train = load_prepared(out)["train"]
    assert train.features["emotion"].names == ["happy", "angry"]
    assert list(train["emotion"]) == [0, 1]
    report = prepared_report(out)
    assert (report.kept, len(report.dropped)) == (2, 2)


def test_mistakes_are_one_line_and_exit_2(tmp_path, capsys):
    for extra, message in ((["--emotions", "bored"], "RAVDESS speech has no emotion bored"), ([], "does not exist")):
        assert prepare("ravdess", "--data_dir", tmp_path / "gone", "--output_dir", tmp_path / "out", *extra) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert (error.count("\n"), message in error) == (1, True)
    assert not (tmp_path / "out").exists()


def test_a_leak_is_a_warning_and_with_strict_an_error(tmp_path, capsys):
    for name, seed in (("a.wav", 1), ("b.wav", 2), ("c.wav", 3)):
        write_wav(tmp_path / "m" / name, seed=seed)
    rows = ["audio,emotion,speaker,split", "a.wav,sad,ann,train", "b.wav,happy,ann,train", "c.wav,sad,ben,test"]
    (tmp_path / "m" / "manifest.csv").write_text("\n".join([*rows, "d.flac,sad,ben,test", ""]))
    write_wav(tmp_path / "m" / "d.flac", seed=1)
    out = tmp_path / "out"
    options = ["manifest", "--data_dir", tmp_path / "m", "--output_dir", out]
    assert prepare(*options, "--strict") == 2
    found = "1 recording is in more than one split (train a.wav = test d.flac): keep each in one of them"
    assert last_line(capsys) == f"error: the splits leak: {found}. Without --strict this is only a warning"
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    assert prepare(*options) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == f"warning: {found}"
    assert "leak audit\n  recordings in several splits  1\n" in printed.out
    assert "recordings in several splits  1\n" in (out / "README.md").read_text(encoding="utf-8")
    assert prepared_report(out).audit.recordings == [{"train": ["a.wav"], "test": ["d.flac"]}]
    prepared = load_prepared(out)
    assert prepared["test"]["content"][1] == prepared["train"]["content"][0] != prepared["test"]["content"][0]


def test_recordings_without_sound_are_dropped(tmp_path, capsys, decoded):
    for name, samples in (("a", np.zeros(1600)), ("b", np.full(1600, 0.5)), ("c", np.ones(800) / 2**16)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000)
    write_wav(tmp_path / "d.wav")
    (tmp_path / "manifest.csv").write_text("audio,emotion\n" + "".join(f"{name}.wav,sad\n" for name in "abcd"))
    out = tmp_path / "out"
    for again in (False, True):
        assert prepare("manifest", "--data_dir", tmp_path, "--output_dir", out) == 0
        assert "  1  no sound: constant: every sample is the same" in capsys.readouterr().out.splitlines()
        assert len(decoded) == 4, f"second run: {again}"
    reasons = drop_reasons(prepared_report(out))
    assert list(reasons) == ["a.wav", "b.wav", "c.wav"]
    assert all(reason.startswith("no sound: ") for reason in reasons.values())
    assert load_prepared(out)["train"]["id"][:] == ["d.wav"]
    assert not (out / "audio").exists()


def test_foreign_files_are_not_overwritten(corpus, tmp_path, capsys):
    write_bytes(tmp_path / "mine" / "README.md", b"my notes")
    write_bytes(tmp_path / "file", b"")
    messages = {"mine": "README.md was not written by this command", "ravdess": "own folder", "file": "file"}
    for folder, message in messages.items():
        before = sorted(tmp_path.rglob("*"))
        assert prepare("ravdess", "--data_dir", corpus, "--output_dir", tmp_path / folder) == 2
        assert message in last_line(capsys)
        assert sorted(tmp_path.rglob("*")) == before
    (corpus / "m.csv").write_text("audio,emotion\n")  # the folder of a table, too
    assert prepare("manifest", "--data_dir", corpus / "m.csv", "--output_dir", corpus) == 2
    assert "own folder" in last_line(capsys)


def test_a_push_that_fails_is_one_line(mixed, tmp_path, capsys):
    for repository in ("someone/corpus", "not a repository!"):  # the tests' environment is offline
        out = tmp_path / "out"
        assert prepare("manifest", "--data_dir", mixed, "--output_dir", out, "--push_to_hub", repository) == 2
        expected = f"error: the prepared folder is written, but not pushed to {repository}: "
        assert last_line(capsys).startswith(expected)
    assert load_prepared(tmp_path / "out")["train"].num_rows == 5


# Bad conditions


def contents(folder):
    """Every file of a prepared folder by content; the journal, which tells its own history, excepted."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".prepare.jsonl")]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
def test_killed_half_way_the_output_is_that_of_an_undisturbed_run(recordings, tmp_path, monkeypatch, options):
    out = tmp_path / "out"
    arguments = ("manifest", "--data_dir", recordings, "--output_dir", out, "--num_workers", "1", *options)
    assert prepare(*arguments) == 0
    undisturbed = contents(out)
    assert len(undisturbed) == (3 if options else 3 + 39)
    shutil.rmtree(out)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_scripts.prepare.folder.save_splits", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(*arguments)
    made = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    # A kill inside the write of the 20th of 39 records, of which the first line holds the settings.
    journal = out / ".prepare.jsonl"
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:20]) + b'\n[["torn')
    (out / "audio" / ".30.wav.flac.tmp").write_bytes(b"half")
    assert prepare(*arguments) == 0
    assert contents(out) == undisturbed
    if not options:
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
    codecs.lookup("utf-8-sig")  # Python's own files may be closed to that user, too
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
