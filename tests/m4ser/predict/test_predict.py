"""`m4ser predict` as a user runs it: again after a stop, beside another run, with other settings."""

import pandas as pd
import pytest

from data_scripts.journal import locked
from m4ser.__main__ import main
from m4ser.predict import predictor
from tests.helpers.layouts import write_wav


@pytest.fixture
def run(model, table, tmp_path, capsys):
    """Run the command on the table; the exit status and what it printed."""

    def run(*words):
        status = main(["predict", str(table), "--model", str(model), "--output_dir", str(tmp_path / "out"), *words])
        return status, *capsys.readouterr()

    return run


def test_one_row_an_input_and_failures_are_tried_again(run, tmp_path):
    (torn := tmp_path / "out" / "parts" / ".part-1.parquet.tmp").parent.mkdir(parents=True)
    torn.touch()
    status, shown, _ = run()
    assert not torn.exists()
    counts = "8 of 16 rows answered; 8 AudioError: why is in the column error\n"
    assert (status, shown) == (0, f"{tmp_path / 'out' / 'predictions.parquet'}: {counts}")
    write_wav(tmp_path / "missing.wav")
    assert run("--format", "csv")[0] == 0
    first, second = (
        pd.read_parquet(tmp_path / "out" / "predictions.parquet"),
        pd.read_csv(tmp_path / "out" / "predictions.csv"),
    )
    assert list(first["id"]) == list(second["id"]) == [f"r{row}" for row in range(16)]
    assert list(first["tries"]) == [1] * 16
    assert list(second["tries"]) == [1, 2] * 8
    assert list(second["ok"]) == [row % 2 == 0 or row == 11 for row in range(16)]
    pd.testing.assert_series_equal(first["probability_sad"][::2], second["probability_sad"][::2])


def test_what_was_answered_before_a_stop_is_not_asked_again(run, tmp_path, monkeypatch):
    asked = []
    answer = predictor.Predictor.__call__

    def stop_later(self, rows):
        if len(asked) == 9:
            raise KeyboardInterrupt
        asked.extend(row["id"] for row in rows)
        return answer(self, rows)

    monkeypatch.setattr(predictor.Settings, "chunk_size", 3)
    monkeypatch.setattr(predictor.Predictor, "__call__", stop_later)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "out" / "predictions.parquet").exists()
    asked.append("stop")
    assert run()[0] == 0
    assert [name for name in asked if asked.count(name) > 1] == [f"r{row}" for row in (1, 3, 5, 7)] * 2
    assert len(pd.read_parquet(tmp_path / "out" / "predictions.parquet")) == 16


def test_the_second_run_in_a_folder_says_so(run, tmp_path):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / ".lock", "filled"):
        status, _, error = run()
    assert (status, error) == (
        2,
        f"error: {tmp_path / 'out'} is being filled by another process: wait until it has ended\n",
    )


def test_other_settings_in_a_folder_are_named(run):
    run("--channel", "0")
    status, _, error = run("--embeddings")
    assert status == 2
    assert "options.channel 0 before, the default now; options.embeddings false before, true now" in error


@pytest.mark.parametrize("words", [("--batch_size", "0"), ("--num_workers", "x"), ("--format", "xlsx")])
def test_impossible_options_end_at_once(run, words):
    with pytest.raises(SystemExit):
        run(*words)


def test_a_try_that_answered_nothing_binds_no_later_one(run, model, tmp_path):
    status, _, error = run("--asr", str(model))
    assert status == 2
    assert error.splitlines()[-1].startswith(f"error: asr={str(model)!r} is no recognizer that can be loaded: ")
    assert run("--device", "no_device")[2].splitlines()[-1].startswith("error: --device no_device: ")
    assert run()[0] == 0
