"""Every check with its bound: what a model has to show, stated before anything is measured."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from data_scripts.audit import Audit, audit_dataset
from m4ser.card.checks import Answers, Check, Measured, change, counted, gap, mean, metric, share
from m4ser.card.conditions import EXACT, SPEECHLESS, TIERS, Condition
from m4ser.card.subjects import Subject
from modeling_m4ser.decisions_m4ser import NO_SPEECH, UNCERTAIN
from trainer.evaluation.significance import REPORTED_METRICS

#: Sections in order, with their titles.
SECTIONS = {
    "right": "How often it is right",
    "baselines": "Against baselines",
    "groups": "For whom it is right",
    "sound": "When the sound changes",
    "words": "When the words change",
    "confidence": "Whether its confidence is right",
    "leaks": "Whether the test leaks",
    "sanity": "Whether it keeps its word",
}
TITLES = {"wa": "WA", "ua": "UA", "weighted_f1": "weighted F1", "macro_f1": "macro F1"}
#: Speakers of fewer utterances have no checks of their own, and no more speakers than these, the largest, have.
MIN_UTTERANCES, MAX_SPEAKERS = 10, 50

Measure = Callable[..., Measured]  # of rows and the column of what is drawn
Where = tuple[str, str] | None  # a column and its value in the rows that are meant; None: all rows
WA, UA = partial(metric, "wa"), partial(metric, "ua")


def plan(
    rows: pd.DataFrame, names: Sequence[str], conditions: Sequence[Condition], rivals: Sequence[str], subjects: Any
) -> list[Check]:
    """Return all checks, section by section.

    Args:
        rows: see `rows_of`.
        names: the model's classes.
        conditions: what it goes through.
        rivals: baselines, whose predictions are among the answers by these names.
        subjects: see `find_subjects`.
    """
    parts = (_right(rows, names), _confidence(names), _groups(rows, names), _changed(conditions, names))
    found = [*_baselines(rivals), *(check for part in parts for check in part), *_leaks(subjects), *_sanity(conditions)]
    return sorted(found, key=lambda check: list(SECTIONS).index(check.section))


def _some(rows: pd.DataFrame, where: Where) -> pd.DataFrame:
    return rows if where is None else rows[rows[where[0]] == where[1]]


def _of(measure: Measure, where: Where = None, condition: str = "", **options: Any) -> Callable[[Answers], Measured]:
    return lambda answers: measure(_some(answers[condition], where), **options)


def _between(measure: Measure, first: Where, second: Where, **options: Any) -> Callable[[Answers], Measured]:
    """A number of some rows minus that of others; `second` None means all but the first."""

    def found(answers: Answers) -> Measured:
        rows = answers[""]
        chosen = _some(rows, first)
        return gap(*(measure(part, **options) for part in (chosen, _some(rows.drop(chosen.index), second))))

    return found


def _changes(
    after: str, measure: Measure, where: Where = None, before: str = "", **options: Any
) -> Callable[[Answers], Measured]:
    """A number of the rows that two have answered, by the answers after a change, or of the model, and before."""

    def found(answers: Answers) -> Measured:
        later, earlier = _some(answers[after], where), answers[before]
        shared = later.index.intersection(earlier.index, sort=False)
        return measure(later.loc[shared], earlier.loc[shared], **options)

    return found


def _surplus(rows: pd.DataFrame, clusters: str | None = "speaker") -> Measured:
    """By how much mean confidence is above the share that is right."""
    return mean(rows, rows["confidence"] - (rows["predicted"] == rows["emotion"]), clusters)


def _holds(column: str, rows: pd.DataFrame, clusters: str | None = "speaker") -> Measured:
    """In how many rows a column says yes; it says nothing where the model was never given the threshold."""
    if rows[column].isna().any():
        return Measured(None, note="the model has no such threshold")
    return share(rows, rows[column].astype(bool), clusters)


_HELD = partial(_holds, "held")


def _right(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[Check]:
    add, chance = partial(Check, "right"), 1 / len(names)
    majority = float(rows["emotion"].value_counts(normalize=True).iloc[0])
    for name, least in zip(REPORTED_METRICS, (majority, chance + 0.1, chance, chance), strict=True):
        yield add(TITLES[name], _of(partial(metric, name)), least)

    for name in names:
        excess = _of(lambda some, name=name: mean(some, 1.0 * (some["predicted"] == name) - (some["emotion"] == name)))
        yield add(f"recall of {name}", _of(WA, ("emotion", name)), chance)
        yield add(f"precision of {name}", _of(WA, ("predicted", name)), chance)
        yield add(f"{name}: answered more often than true", excess, -0.15, 0.15)
        for other in {*names} - {name}:
            taken = _of(lambda some, other=other: share(some, some["predicted"] == other), ("emotion", name))
            yield add(f"{name} taken for {other}", taken, most=0.3)


def _baselines(rivals: Sequence[str]) -> Iterator[Check]:
    for rival, name in product(rivals, REPORTED_METRICS):
        better = _changes("", change, before=rival, name=name)
        yield Check("baselines", f"{TITLES[name]} minus that of {rival}", better, least=0.0)


def _groups(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[Check]:
    add, counts = partial(Check, "groups"), rows["speaker"].value_counts()
    for who in sorted(counts[counts >= MIN_UTTERANCES].index[:MAX_SPEAKERS]):
        here: Where = ("speaker", who)
        for title, measure in (("WA", WA), ("UA", UA)):
            yield add(f"speaker {who}: {title}", _of(measure, here, clusters=None), 1 / len(names))
        yield add(f"speaker {who}: WA minus the others'", _between(WA, here, None, clusters=None), -0.2, 0.2)
        yield add(f"speaker {who}: confidence minus right", _of(_surplus, here, clusters=None), -0.2, 0.2)
        yield add(f"speaker {who}: sets hold the label", _of(_HELD, here, clusters=None), 0.75)
    kinds = [("sex", pair) for pair in [sorted(rows["sex"].dropna().unique())] if len(pair) == 2]
    for column, (first, second) in [*kinds, ("length", ("short", "long"))]:
        pair: Any = (column, first), (column, second)
        title = f"{first} minus {second}"
        for what, measure in (("WA", WA), ("UA", UA), ("confidence minus right", _surplus), ("in the set", _HELD)):
            yield add(f"{title}: {what}", _between(measure, *pair), -0.1, 0.1)
        for name in names:
            recall = _between(lambda some, name=name: WA(_some(some, ("emotion", name))), *pair)
            yield add(f"{title}: recall of {name}", recall, -0.15, 0.15)


def _changed(conditions: Sequence[Condition], names: Sequence[str]) -> Iterator[Check]:
    for condition in (each for each in conditions if each.tier in TIERS):
        (loss, kept), title = TIERS[condition.tier], condition.name
        add = partial(Check, "sound" if condition.words is None else "words")
        same = _changes(title, lambda after, before: share(after, after["predicted"] == before["predicted"]))
        yield add(f"{title}: change of UA", _changes(title, change, name="ua"), -loss)
        yield add(f"{title}: change of WA", _changes(title, change, name="wa"), -loss)
        for name in names:
            recall = _changes(title, change, ("emotion", name), name="wa")
            yield add(f"{title}: change of recall of {name}", recall, -2 * loss)
        yield add(f"{title}: labels that stay", same, kept)
        yield add(f"{title}: confidence minus right", _of(_surplus, None, title), most=0.15)
        yield add(f"{title}: sets hold the label", _of(_HELD, None, title), 0.75)


def _confidence(names: Sequence[str]) -> Iterator[Check]:
    add = partial(Check, "confidence")
    yield add("confidence minus right", _of(_surplus), -0.05, 0.05)
    yield add("sets hold the label", _of(_HELD), 0.85)
    for name in names:
        yield add(f"answers {name}: confidence minus right", _of(_surplus, ("predicted", name)), -0.15, 0.15)
        yield add(f"{name}: sets hold it", _of(_HELD, ("emotion", name)), 0.75)
    for third in ("least", "middling", "most"):
        yield add(f"{third} sure third: confidence minus right", _of(_surplus, ("sureness", third)), -0.1, 0.1)

    informed = _of(lambda rows: mean(rows, np.log(len(names) * rows["p_true"].clip(1e-12))))
    yield add("log-likelihood above that of a guess (nats)", informed, 0.0, percent=False)
    sizes = _of(lambda rows: mean(rows, rows["set_size"]))
    yield add("labels in a set", sizes, most=(len(names) + 1) / 2, percent=False)
    yield add("rows that get a label", _of(lambda rows: share(rows, _is_label(rows))), 0.6)
    yield add("flagged as unlike the training data", _of(partial(_holds, "outside")), most=0.05)

    selective = _of(lambda rows: gap(*(WA(rows[_is_label(rows) == kept]) for kept in (True, False))))
    yield add("WA of rows that get a label minus the others'", selective, 0.0)


def _is_label(rows: pd.DataFrame) -> Any:
    return ~rows["decision"].isin([UNCERTAIN, NO_SPEECH])


def _leaks(subjects: Sequence[Subject]) -> Iterator[Check]:
    @cache
    def audits() -> list[Audit]:
        return [audit_dataset({**each.training, "test": each.test}) for each in subjects]

    def count(number: Callable[[Audit], int], _: Answers) -> Measured:
        if not all(each.training for each in subjects):
            return Measured(None, note="the training data are not known: --train FOLDER")
        return counted(sum(map(number, audits())))

    def known_texts(answers: Answers) -> Measured:
        rows = answers[""].dropna(subset="text")
        if rows.empty or not all(each.training for each in subjects):
            return Measured(None, note="no texts, or the training data are not known")
        texts = [{*each.training["train"]["transcript"], *each.training["train"]["hypothesis"]} for each in subjects]
        known = [text in texts[number] for text, number in zip(rows["text"], rows["subject"], strict=True)]
        return counted(float(np.mean(known)))

    kinds: dict[str, Callable[[Audit], int]] = {
        "test recordings in the training data": lambda audit: sum("test" in each for each in audit.recordings),
        "test speakers in the training data": lambda audit: sum("test" in each for each in audit.speakers.values()),
        "test classes that training never shows": lambda audit: len(audit.classes.get("test", ())),
        "recordings with several labels": lambda audit: len(audit.relabelled),
        "copies within the test": lambda audit: audit.repeated.get("test", 0),
        "rows not looked at for copies or speakers": lambda audit: sum(audit.unchecked.values()),
    }
    for title, number in kinds.items():
        yield Check("leaks", title, partial(count, number), most=0, percent=False)
    yield Check("leaks", "rows whose text is in the training data", known_texts, most=0.2)


def _sanity(conditions: Sequence[Condition]) -> Iterator[Check]:
    add = partial(Check, "sanity")
    for name in ("", *(condition.name for condition in conditions)):
        errors = _of(lambda rows: counted(int(rows["error"].notna().sum())), None, name)
        yield add(f"{name or 'as it is'}: recordings without an answer", errors, most=0, percent=False)
    for name in (each.name for each in conditions if each.tier == SPEECHLESS):
        yield add(f"{name}: no label is given", _of(lambda rows: share(rows, ~_is_label(rows)), None, name), 0.9)
    for name in (each.name for each in conditions if each.tier == EXACT):
        largest = _changes(name, lambda after, before: counted(float((after["p_true"] - before["p_true"]).abs().max())))
        yield add(f"{name}: largest change of a probability", largest, most=1e-3, percent=False)
