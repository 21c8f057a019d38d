"""A run is tested on its own test rows; anything else on a split."""

import pandas as pd
import pytest

from data_scripts.errors import CorpusError
from data_scripts.schema import load_prepared, save_prepared
from data_scripts.splits import random_split
from m4ser.card.subjects import find_subjects, in_thirds, rows_of


def test_a_run_is_tested_on_what_it_held_out(finished_grid):
    run = finished_grid.folder / "M4SER" / "fold2" / "seed1"
    (subject,) = find_subjects(str(run), str(finished_grid.corpus))
    held_out = pd.read_parquet(run / "predictions.parquet")
    assert {*subject.test["id"]} == {*held_out["id"]}
    assert not {*subject.test["speaker"]} & {*subject.training["train"]["speaker"]}
    rows = rows_of([subject], str(finished_grid.corpus))
    assert rows["emotion"].to_dict() == held_out.set_index("id")["emotion"].to_dict()
    assert {*rows["length"]} == {"short", "medium", "long"}


def test_several_seeds_of_a_row_are_refused(finished_grid):
    subjects = find_subjects(str(finished_grid.folder / "M4SER"), str(finished_grid.corpus))
    assert len(subjects) == 2
    with pytest.raises(CorpusError, match="tested by two runs"):
        rows_of(subjects, str(finished_grid.corpus))


def test_thirds_are_equal():
    for size in range(3, 100, 3):
        thirds = in_thirds(pd.Series(range(size), dtype=float), ("a", "b", "c"))
        assert [*thirds] == [name for name in "abc" for _ in range(size // 3)]


def test_other_models_are_tested_on_a_split(finished_grid, tmp_path):
    data = load_prepared(finished_grid.corpus)
    save_prepared(random_split(data["train"], 0.6, 0.2, 0.2, by="utterance").select(data), tmp_path)
    run = str(finished_grid.folder / "M4SER" / "fold2" / "seed1")
    (subject,) = find_subjects(run, str(tmp_path))
    assert subject.test["id"] == load_prepared(tmp_path)["test"]["id"]
    assert [*subject.training] == [
        "train",
        "validation",
    ]
    (subject,) = find_subjects(run, str(tmp_path), split="validation")
    assert subject.test["id"] == load_prepared(tmp_path)["validation"]["id"]
    (subject,) = find_subjects(run, str(finished_grid.corpus), train=str(tmp_path))
    assert subject.training["train"]["id"] == load_prepared(tmp_path)["train"]["id"], "as named, not by the run"
    with pytest.raises(CorpusError, match="name one"):
        find_subjects(str(finished_grid.folder / "M4SER"), str(tmp_path))
    with pytest.raises(CorpusError, match="no split nowhere"):
        find_subjects(run, str(tmp_path), split="nowhere")
