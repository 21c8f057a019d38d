"""How a command ends: one line for what the user can correct, a traceback for a bug."""

import io

import pytest

from data_scripts.errors import CorpusError, UserError, run_command
from data_scripts.journal import JournalError
from data_scripts.splits import SplitError
from data_scripts.transcribe.dataset import TranscriptionError
from data_scripts.transcribe.whisper import RecognizerError
from modeling_m4ser.audio_m4ser import AudioError


def raising(error):
    """A command that ends in this error."""

    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("give\n another folder"), "error: give another folder\n"),
        *((kind("no"), "error: no\n") for kind in (CorpusError, SplitError, TranscriptionError, RecognizerError)),
        *((kind("no"), "error: no\n") for kind in (JournalError, AudioError)),
        (FileNotFoundError(2, "No such file", "a.csv"), "error: a.csv does not exist; check the path\n"),
        (OSError(28, "No space left on device", "x"), "error: the disk is full (x): free some space, or choose an"),
        (PermissionError(13, "Permission denied", "x"), "error: no permission for x: make it readable"),
    ],
)
def test_what_the_user_can_correct_is_one_line_and_status_2(capsys, error, line):
    assert run_command(raising(error)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(line)
    assert printed.err.count("\n") == 1


def test_under_a_launcher_the_line_says_whose_traceback_follows(capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert run_command(raising(UserError("no corpus"))) == 2
    assert capsys.readouterr().err.startswith("error: no corpus (The traceback below is of accelerate launch")


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_bug_is_not_hidden(capsys, error):
    with pytest.raises(type(error)):
        run_command(raising(error))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_is_that_of_the_command(returned, status):
    assert run_command(lambda: returned) == status


def test_a_console_without_the_letters_of_a_label_shows_their_codes(monkeypatch):
    for encoding in ("cp1252", "ascii"):
        written = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding))
        assert run_command(lambda: print("\u6124 sad", flush=True)) == 0
        assert written.getvalue().strip() == rb"\u6124 sad"
