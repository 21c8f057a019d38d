"""A model that is right passes, one that is wrong and sure of it fails, and few data cannot tell."""

from collections import Counter

import datasets
import numpy as np
import pandas as pd
import pytest

from m4ser.card.checks import FAILED, PASSED, UNKNOWN
from m4ser.card.conditions import all_conditions
from m4ser.card.plan import SECTIONS, plan
from m4ser.card.subjects import Subject

NAMES = ["angry", "happy", "sad"]


def corpus(speakers, prefix, size=240):
    """A prepared split of so many speakers."""
    columns = {
        "id": [f"{prefix}{row}" for row in range(size)],
        "speaker": [f"{prefix}{row % speakers}" for row in range(size)],
        "emotion": [row // speakers % 3 for row in range(size)],
        "content": [f"{prefix}{row}" for row in range(size)],
        "transcript": [f"text {prefix} {row}" for row in range(size)],
        "hypothesis": [None] * size,
    }
    return datasets.Dataset.from_dict(columns).cast_column("emotion", datasets.ClassLabel(names=NAMES))


def rows_for_plan(test):
    """The rows of `rows_of`."""
    rows = pd.DataFrame(test.to_dict()).set_index("id").assign(subject=0, other="hypothesis", other_text=None)
    rows["emotion"], rows["text"] = [NAMES[label] for label in rows["emotion"]], rows["transcript"]
    rows["sex"] = np.where(rows["speaker"].str[1:].astype(int) % 2, "male", "female")
    rows["length"] = np.resize(["short", "medium", "long"], len(rows))
    return rows


def test_bounds_and_leaks_by_hand():
    test, train = corpus(4, "t", 24), corpus(4, "o", 24)
    known = datasets.concatenate_datasets([train.select(range(4)), test.select(range(2))])  # two of the test, four not
    rows = rows_for_plan(test)
    subject = Subject("model", test, datasets.DatasetDict(train=train, validation=known))
    checks = {each.name: each for each in plan(rows, NAMES, all_conditions(rows, True, True), [], [subject])}
    for name, bound in {
        "gain −20 dB: change of WA": "≥ -2.0",
        "gain −20 dB: change of recall of sad": "≥ -4.0",
        "words shuffled: labels that stay": "≥ 70.0",
        "one at a time: largest change of a probability": "≤ 0.001",
    }.items():
        assert checks[name].bound == bound
    assert checks["test recordings in the training data"].measure({}).value == 2


def card(share_right, confidence, speakers=16, train="other", keep=1.0):
    """Verdicts by section of a model that is right, and sure, in so many of cases, and keeps so many labels."""
    generator, test = np.random.default_rng(0), corpus(speakers, "t")
    rows = rows_for_plan(test)
    right = generator.random(len(rows)) < share_right
    wrong = rows["emotion"].map(dict(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True)))
    rows["predicted"] = rows["emotion"].where(right, wrong)
    rows = rows.assign(decision=rows["predicted"], confidence=confidence, held=right, set_size=1.0, outside=False)
    rows = rows.assign(p_true=np.where(right, confidence, (1 - confidence) / 2), error=None)
    rows["sureness"] = np.resize(["least", "middling", "most"], len(rows))
    subject = Subject("model", test, datasets.DatasetDict(train=corpus(8, train)))
    conditions = all_conditions(rows, hears=True, reads=True)
    checks = plan(rows, NAMES, conditions, ["probe"], [subject])
    names = {"probe": rows.assign(predicted=wrong), "": rows}
    for each in conditions:
        changed = rows.assign(predicted=rows["predicted"].where(generator.random(len(rows)) < keep, wrong))
        names[each.name] = changed.assign(decision="uncertain" if each.tier == "speechless" else changed["predicted"])
    assert {check.section for check in checks} == {*SECTIONS}
    assert len(checks) >= 300
    assert len({(check.section, check.name) for check in checks}) == len(checks)
    verdicts: dict[str, Counter] = {}
    for check in checks:
        verdicts.setdefault(check.section, Counter())[check.verdict(check.measure(names))] += 1
    return verdicts


@pytest.mark.slow
def test_a_good_model_passes():
    verdicts = card(0.99, 0.98)
    assert not any(counts[FAILED] for counts in verdicts.values()), verdicts
    for section in ("right", "baselines", "leaks", "sanity"):
        assert {*verdicts[section]} == {PASSED}, section
    assert verdicts["sound"][PASSED] > 0.9 * verdicts["sound"].total()


@pytest.mark.slow
def test_a_bad_model_fails():
    verdicts = card(0.15, 0.95, train="t", keep=0.1)
    assert verdicts["right"][FAILED] >= 7
    assert verdicts["confidence"][FAILED] >= 10
    assert verdicts["groups"][FAILED] > 16
    assert verdicts["words"][FAILED] > 20
    assert verdicts["leaks"][FAILED] == 4  # recordings, speakers, texts, and labels that contradict each other


def test_two_speakers_cannot_tell():
    verdicts = card(0.9, 0.9, speakers=2)
    assert {*verdicts["baselines"]} == {UNKNOWN}
    assert verdicts["sound"][FAILED] == 0
