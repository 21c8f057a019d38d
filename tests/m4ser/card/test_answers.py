"""Answers are those of the run itself, and what is broken counts as wrong."""

from dataclasses import replace

import pandas as pd
import pytest
from datasets import DatasetDict

from data_scripts.errors import CorpusError
from m4ser.card.answers import NO_ANSWER, PROBE, answer, baseline, repeatable
from m4ser.card.conditions import EXACT, Condition
from m4ser.card.subjects import find_subjects, rows_of
from modeling_m4ser.answering_m4ser import Answering


@pytest.fixture(scope="module")
def tested(finished_grid):
    """A run with its rows."""
    run, data = finished_grid.folder / "M4SER" / "fold2" / "seed1", str(finished_grid.corpus)
    subjects = find_subjects(str(run), data)
    return run, subjects, rows_of(subjects, data)


def test_answers_are_those_of_the_run(tested):
    run, subjects, rows = tested
    fails = Condition("too short", "light", sound=lambda samples, _: samples[:0])
    answers = answer(subjects, rows, rows[:2], [Condition("again", EXACT), fails])
    known = pd.read_parquet(run / "predictions.parquet").set_index("id").loc[rows.index]
    probabilities = known.filter(like="probability_")
    assert answers[""]["predicted"].tolist() == known["predicted"].tolist()
    pd.testing.assert_frame_equal(answers[""][probabilities.columns], probabilities, atol=1e-5, check_names=False)
    assert answers[""]["confidence"].tolist() == pytest.approx(probabilities.max(axis=1).tolist(), abs=1e-5)
    true = [probabilities.at[row, f"probability_{emotion}"] for row, emotion in rows["emotion"].items()]
    assert answers[""]["p_true"].tolist() == pytest.approx(true, abs=1e-5)
    assert answers["again"]["p_true"].tolist() == pytest.approx(answers[""]["p_true"][:2].tolist(), abs=1e-5)
    assert {*answers["too short"]["predicted"]} == {NO_ANSWER}
    assert answers["too short"]["error"].notna().all()
    assert answers[PROBE].index.equals(rows.index)
    assert {*answers[PROBE]["predicted"]} <= {"neutral", "happy", "sad", "angry"}


def test_each_row_is_answered_by_the_model_that_it_tests_and_where_it_says_so_alone(tested, monkeypatch):
    _, (subject,), rows = tested
    some = rows[:4].assign(subject=[0, 1, 0, 1])
    without = replace(subject, training=DatasetDict())
    sizes, collate = [], Answering._collate
    monkeypatch.setattr(Answering, "_collate", lambda self, clips: sizes.append(len(clips)) or collate(self, clips))
    found = answer([without, without], some, some, [Condition("alone", EXACT)])[""]
    assert sizes == [2, 1, 1] * 2
    assert sorted(found.index) == sorted(some.index)
    assert (found["subject"] == some["subject"].loc[found.index]).all()


def test_a_baseline_answers_the_same_rows(tested, finished_grid):
    _, _, rows = tested
    other = finished_grid.folder / "speech-text-concat" / "fold2" / "seed1"
    other = other if other.is_dir() else next(finished_grid.folder.glob("*concat*/fold2/seed1"))
    assert baseline(str(other), rows).index.equals(rows.index)
    with pytest.raises(CorpusError, match="no prediction of these rows"):
        baseline(str(other), rows.rename(index=lambda name: f"x{name}"))


def test_rows_are_spread_evenly():
    table = pd.DataFrame({"emotion": ["a"] * 30 + ["b"] * 30, "speaker": ["x", "y", "z"] * 20}, map(str, range(60)))
    assert repeatable(table, 12).groupby(["emotion", "speaker"]).size().tolist() == [2] * 6
    assert len(repeatable(table, 100)) == 60
