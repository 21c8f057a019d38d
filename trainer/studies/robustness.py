"""How much trained models lose by recognition errors: the same speech with transcripts of rising word error rate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset, DatasetDict

from data_scripts.errors import CorpusError
from data_scripts.files import folder_name
from data_scripts.transcribe.dataset import Hypotheses, import_hypotheses, word_error_rates
from trainer.errors import ExperimentError
from trainer.evaluation.figures import plot_robustness
from trainer.evaluation.significance import Interval
from trainer.inputs.asr_noise import NoiseModel
from trainer.studies.retest import Cluster, FinishedRun, table_rows
from trainer.studies.tables import TITLES, Table, make_table, names_in_figures
from trainer.studies.text_pairs import read_columns

#: The first one is that of intervals, differences and figure.
METRICS = ("weighted_f1", "ua")
#: The row that is compared with the references, at each condition.
COMPARED, REFERENCES = "M4SER", ("speech & text + concat", "w/o AED & AEC")


@dataclass(frozen=True)
class Condition:
    """A test split whose `hypothesis` are transcripts of one kind (`human`, `noise` or `recogniser`), with its errors.

    Attributes:
        wer: word error rate, measured (`data_scripts.transcribe`): a share.
        with_error: the share of utterances with an error.
    """

    name: str
    kind: str
    data: Dataset
    wer: float
    with_error: float


def read_pairs(path: str | Path | None, dataset: Mapping[Any, Any], folder: str | Path) -> list[tuple[str, str]]:
    """Return the (hypothesis, reference) pairs of the table `path`, or of the train split of `folder`'s dataset."""
    if path is None:
        if "train" not in dataset:
            raise CorpusError(f"{folder} has no train split to fit the noise model on: give --pairs FILE")
        pairs = zip(dataset["train"]["hypothesis"], dataset["train"]["transcript"], strict=True)
    else:
        pairs = read_columns(Path(path), ["hypothesis", "reference"])
    return [(hypothesis, reference) for hypothesis, reference in pairs if None not in (hypothesis, reference)]


def choose_runs(runs: Sequence[FinishedRun], rows: Iterable[str]) -> list[FinishedRun]:
    """Return the runs of these rows, in the rows' order; rows without one are printed."""
    there = {run.row for run in runs}
    chosen = [run for row in rows for run in runs if run.row == row]
    if not chosen:
        raise ExperimentError(f"--rows: no finished run is of {', '.join(rows)}; there are {', '.join(sorted(there))}.")
    if missing := [row for row in rows if row not in there]:
        print(f"no finished run of: {', '.join(missing)}", flush=True)
    return chosen


def make_conditions(
    data: Dataset,
    noise: NoiseModel,
    levels: Sequence[float],
    recognised: Mapping[str, Hypotheses],
    seed: int = 0,
) -> list[Condition]:
    """Return human text, text with errors of the noise model, the corpus' own hypotheses, and further ones.

    Levels are word error rates, shares; 0 is human text, which is always there. The corpus' own hypotheses are a
    condition where every utterance has one. `recognised` is name -> what `read_hypotheses` gives.
    """
    ids, human = data["id"][:], data["transcript"][:]
    if without := human.count(None):
        raise CorpusError(f"{without} of {len(data)} utterances have no human text to make errors in")
    found = [("human text", "human", human)]
    for level in sorted({level for level in levels if level}):
        noisy = [noise.corrupt(text, level, f"{seed} {name}") for name, text in zip(ids, human, strict=True)]
        found.append((f"noise {100 * level:g} %", "noise", noisy))
    own = data["hypothesis"][:]
    if None not in own:
        models = sorted({str(name) for name in data["asr_model"] if name is not None})
        found.append((", ".join(models) or "own hypotheses", "recogniser", own))
    keys: list[tuple[str | None, str]] = [(None, name) for name in ids]
    conditions = [(name, kind, dict(zip(keys, texts, strict=True))) for name, kind, texts in found]
    conditions += [(name, "recogniser", texts) for name, texts in recognised.items()]
    names = [folder_name(name) for name, *_ in conditions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ExperimentError(f"Two conditions are called {twice}: give the hypotheses another NAME.")
    return [_condition(data, *each) for each in conditions]


def condition_tables(
    conditions: Sequence[Condition],
    tables: Mapping[str, Mapping[FinishedRun, pd.DataFrame]],
    emotions: Sequence[str],
    cluster: Cluster,
) -> dict[str, Table]:
    """Return the table of each condition, by its name and in the order of the WER; `join_tables` makes one of them."""
    made = {}
    for condition in sorted(conditions, key=lambda each: each.wer):
        rates = {"WER": round(100 * condition.wer, 1), "utterances with errors": round(100 * condition.with_error, 1)}
        rows = [
            replace(row, facts=rates, compared=row.name == COMPARED)
            for row in table_rows(tables[condition.name], cluster)
        ]
        made[condition.name] = make_table(rows, emotions, METRICS, METRICS[0], REFERENCES, {}, condition.name)
    return made


def draw(conditions: Sequence[Condition], tables: Mapping[str, Table], path: Path) -> None:
    """Draw the curves of human text and noise, the first difference below them, and the recognisers as marks."""
    curves: dict[str, list[tuple[float, Interval]]] = {}
    difference: list[tuple[float, Interval]] = []
    markers: dict[str, tuple[float, dict[str, float]]] = {}
    by_name = {condition.name: condition for condition in conditions}
    shown = names_in_figures(tables.values())
    for name, table in tables.items():
        wer, kind = by_name[name].wer, by_name[name].kind
        intervals = {record["row"]: _interval(record["interval"]) for record in table.records}
        if kind == "recogniser":
            markers[name] = wer, {shown[row]: interval.estimate for row, interval in intervals.items()}
            continue
        for record in table.records:
            curves.setdefault(shown[record["row"]], []).append((wer, intervals[record["row"]]))
            if REFERENCES[0] in record["differences"]:
                difference.append((wer, _interval(record["differences"][REFERENCES[0]])))
    subtracted = (f"{COMPARED} − {REFERENCES[0]}", difference) if difference else None
    plot_robustness(curves, subtracted, markers, TITLES[METRICS[0]], path)


def describe_noise(noise: NoiseModel, seed: int) -> list[str]:
    """Return what is said of the transcripts below a table."""
    kinds = ", ".join(
        f"{100 * noise.errors[kind] / sum(noise.errors.values()):.0f} % {title}"
        for kind, title in (("replace", "substitutions"), ("delete", "deletions"), ("insert", "insertions"))
    )
    return [
        "WER is measured on these transcripts, after Whisper's English normaliser.",
        f"The noise model was fitted on {noise.words} words of human text with a WER of {100 * noise.wer:.1f} %: "
        f"{kinds}; correlation of errors within an utterance {noise.correlation:.2f}. Its seed is {seed}.",
    ]


def _condition(data: Dataset, name: str, kind: str, texts: Hypotheses) -> Condition:
    filled, report = import_hypotheses(DatasetDict({"test": data}), texts, name)
    if missing := report["without_hypothesis"]:
        raise CorpusError(f"{name} lacks {len(missing)} of {len(data)} utterances, e.g. {missing[0].partition('/')[2]}")
    rates = word_error_rates(filled)["test"]
    if rates["wer"] is None:
        raise CorpusError("no utterance has a word of human text, so there is no word error rate")
    return Condition(name, kind, filled["test"], rates["wer"], rates["with_error"])


def _interval(numbers: Mapping[str, Any]) -> Interval:
    return Interval(**{name: numbers[name] for name in Interval.__dataclass_fields__})
