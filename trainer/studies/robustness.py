"""How much trained models lose by recognition errors: the same speech with transcripts of rising word error rate."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from sklearn.metrics import f1_score

from data_scripts.errors import CorpusError
from data_scripts.files import folder_name, write_atomically
from data_scripts.transcribe.dataset import Hypotheses, import_hypotheses, word_error_rates
from trainer.errors import ExperimentError
from trainer.evaluation.figures import plot_robustness
from trainer.evaluation.significance import Interval, bootstrap_interval, holm
from trainer.studies.asr_noise import NoiseModel
from trainer.studies.retest import Cluster, FinishedRun, refuse_doubles, retest_run, table_rows
from trainer.studies.tables import TITLES, compare

METRIC = "weighted_f1"
HUMAN = "human text"
#: What is tested: the first row against each of the others, at each condition.
DIFFERENCES = (("M4SER", "speech & text + concat"), ("M4SER", "w/o AED & AEC"))


@dataclass(frozen=True)
class Condition:
    """A test split with transcripts of one kind.

    Attributes:
        name: of the condition.
        kind: `human`, `noise` or `recogniser`.
        data: the split, its column `hypothesis` filled with these transcripts.
        wer: their word error rate, measured (`data_scripts.transcribe`): a share.
        with_error: the share of utterances with an error.
    """

    name: str
    kind: str
    data: Dataset
    wer: float
    with_error: float

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return folder_name(self.name)


def make_conditions(
    data: Dataset,
    noise: NoiseModel,
    levels: Sequence[float],
    recognised: Mapping[str, Hypotheses],
    seed: int = 0,
) -> list[Condition]:
    """Return human text, text with errors of the noise model, the corpus' own hypotheses, and further ones.

    Args:
        data: a split of a prepared corpus. Its own hypotheses are a condition where every utterance has one.
        noise: makes errors in the human text.
        levels: word error rates, shares; 0 is human text, which is always there.
        recognised: name -> hypotheses, as `read_hypotheses` gives them, of all utterances.
        seed: of the errors.

    Raises:
        CorpusError: an utterance has no human text, an id is there twice, or hypotheses lack an utterance.
        ExperimentError: two conditions have one name.
        ValueError: a level is not in [0, 1].
    """
    ids, human = data["id"][:], data["transcript"][:]
    if without := human.count(None):
        raise CorpusError(f"{without} of {len(data)} utterances have no human text to make errors in")
    texts: list[tuple[str, str, Hypotheses]] = [
        (HUMAN, "human", {(None, name): text for name, text in zip(ids, human, strict=True)})
    ]
    for level in sorted({level for level in levels if level}):
        noisy: Hypotheses = {
            (None, name): noise.corrupt(text, level, f"{seed} {name}") for name, text in zip(ids, human, strict=True)
        }
        texts.append((f"noise {100 * level:g} %", "noise", noisy))
    own = data["hypothesis"][:]
    if None not in own:
        models = sorted({str(name) for name in data["asr_model"] if name is not None})
        name = ", ".join(models) or "own hypotheses"
        texts.append((name, "recogniser", {(None, name): text for name, text in zip(ids, own, strict=True)}))
    texts += [(name, "recogniser", found) for name, found in recognised.items()]
    names = [folder_name(name) for name, *_ in texts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ExperimentError(f"Two conditions are called {twice}: give the hypotheses another NAME.")
    return [_condition(data, *each) for each in texts]


def retest_conditions(
    runs: Sequence[FinishedRun], conditions: Sequence[Condition], folder: Path, **options: Any
) -> dict[str, dict[FinishedRun, pd.DataFrame]]:
    """Test runs on all conditions; what is there already is read back. Models of speech alone are tested once.

    Args:
        runs: of different rows, folds or seeds.
        conditions: to test on.
        folder: predictions are kept in CONDITION/ROW/FOLD/SEED there.
        options: of `retest_run`.

    Returns:
        Name of the condition -> run -> its predictions.

    Raises:
        ExperimentError: see `refuse_doubles` and `retest_run`.
    """
    refuse_doubles(runs)
    tables: dict[str, dict[FinishedRun, pd.DataFrame]] = {condition.name: {} for condition in conditions}
    for number, run in enumerate(runs, 1):
        place = Path(folder_name(run.row)) / run.name
        for condition in conditions:
            # Speech is the same in all conditions.
            tested = conditions[0] if run.results["model_config"].get("modalities") == "speech" else condition
            kept = tables[tested.name].get(run)
            if kept is None:
                kept = retest_run(run, tested.data, folder / tested.folder / place, **options)
            tables[condition.name][run] = kept
        print(f"{number} of {len(runs)}: {run.row}, {run.name}", flush=True)
    return tables


def measure(
    conditions: Sequence[Condition],
    tables: Mapping[str, Mapping[FinishedRun, pd.DataFrame]],
    cluster: Cluster,
) -> list[dict[str, Any]]:
    """Return what is known of each condition, in the order of their WER.

    Args:
        conditions: tested on.
        tables: what `retest_conditions` gave.
        cluster: maps an id and a speaker to what is drawn together in a bootstrap.

    Returns:
        Of each condition `condition`, `kind`, `wer`, `with_error`; `rows` (row -> its interval, with the `runs` and
        their `values`); and `differences` ("first − second" -> what `compare` gives, with `p_holm`, corrected for the
        number of differences in the table). Shares in [0, 1].
    """
    records = []
    for condition in sorted(conditions, key=lambda each: each.wer):
        rows = {row.name: row for row in table_rows(tables[condition.name], cluster)}
        differences = {}
        for first, second in DIFFERENCES:
            compared = compare(rows[first], rows[second], METRIC) if {first, second} <= set(rows) else None
            if compared is not None:
                differences[f"{first} − {second}"] = compared
        records.append(
            {
                "condition": condition.name,
                "kind": condition.kind,
                "wer": condition.wer,
                "with_error": condition.with_error,
                "rows": {name: _measure(row.predictions) for name, row in rows.items()},
                "differences": differences,
            }
        )
    everything = [compared for record in records for compared in record["differences"].values()]
    for compared, p_value in zip(everything, holm([each["p_value"] for each in everything]), strict=True):
        compared["p_holm"] = p_value
    return records


def write(
    records: Sequence[Mapping[str, Any]], noise: NoiseModel, heading: str, notes: Sequence[str], folder: Path
) -> None:
    """Write `robustness.md`, `.csv`, `.json` and `.png`.

    Args:
        records: what `measure` returns.
        noise: the noise model.
        heading: what was tested on what.
        notes: further sentences below the table.
        folder: where to.
    """
    path = folder / "robustness"
    counts = {"words": noise.words, "wer": noise.wer, "errors": dict(noise.errors), "gathering": noise.gathering}
    content = {"heading": heading, "metric": METRIC, "conditions": list(records), "noise_model": counts}
    notes = [*_notes(records, noise), *notes]
    text = json.dumps({**content, "notes": notes}, indent=2, ensure_ascii=False)
    write_atomically(path.with_suffix(".json"), text + "\n")
    write_atomically(path.with_suffix(".csv"), pd.DataFrame(_flat(records)).to_csv(index=False))
    write_atomically(
        path.with_suffix(".md"), "\n".join([heading, "", *_lines(records), "", *(f"* {note}" for note in notes)]) + "\n"
    )
    draw(records, path.with_suffix(".png"))


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw what `measure` returns: rows and differences over human text and noise, recognisers as marks."""
    spoken = [record for record in records if record["kind"] != "recogniser"]

    def curve(part: str, name: str) -> list[tuple[float, Interval]]:
        return [(record["wer"], _interval(record[part][name])) for record in spoken]

    difference = next(((name, curve("differences", name)) for name in records[0]["differences"]), None)
    markers = {
        record["condition"]: (record["wer"], {name: row["estimate"] for name, row in record["rows"].items()})
        for record in records
        if record["kind"] == "recogniser"
    }
    plot_robustness(
        {name: curve("rows", name) for name in records[0]["rows"]}, difference, markers, TITLES[METRIC], path
    )


def _condition(data: Dataset, name: str, kind: str, texts: Hypotheses) -> Condition:
    filled, report = import_hypotheses(DatasetDict({"test": data}), texts, name)
    if missing := report["without_hypothesis"]:
        raise CorpusError(f"{name} lacks {len(missing)} of {len(data)} utterances, e.g. {missing[0].partition('/')[2]}")
    rates = word_error_rates(filled)["test"]
    if rates["wer"] is None:
        raise CorpusError("no utterance has a word of human text, so there is no word error rate")
    return Condition(name, kind, filled["test"], rates["wer"], rates["with_error"])


def _measure(predictions: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    tables = list(predictions.values())
    labels, clusters = tables[0]["emotion"].to_numpy(), list(tables[0]["cluster"])
    predicted = np.stack([table["predicted"].to_numpy() for table in tables])
    undefined: Any = 0  # sklearn's annotations know only the default
    values = [float(f1_score(labels, part, average="weighted", zero_division=undefined)) for part in predicted]
    interval = bootstrap_interval(labels, predicted, METRIC, clusters)
    return {**interval.to_json(), "runs": list(predictions), "values": values}


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(**{name: row[name] for name in Interval.__dataclass_fields__})


def _flat(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line for each row or difference of each condition."""
    columns = ("estimate", "low", "high", "standard_error", "p_value", "p_holm")
    return [
        {
            **{name: record[name] for name in ("condition", "kind", "wer", "with_error")},
            "row": name,
            **{column: numbers.get(column) for column in columns},
            "runs": len(numbers.get("runs", ())) or None,
        }
        for record in records
        for name, numbers in {**record["rows"], **record["differences"]}.items()
    ]


def _lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table in Markdown, in percent."""
    rows, differences = list(records[0]["rows"]), list(records[0]["differences"])
    cells = [["transcripts", "WER", "utterances with errors", *rows, *(f"{name} (p)" for name in differences)]]
    cells.append(["---"] * len(cells[0]))
    for record in records:
        line = [record["condition"], f"{100 * record['wer']:.1f}", f"{100 * record['with_error']:.1f}"]
        line += [_with_ends(record["rows"][name], "") for name in rows]
        for name in differences:
            compared = record["differences"][name]
            p = compared["p_holm"]
            line.append(f"{_with_ends(compared, '+')}, p {'–' if p is None else '<0.001' if p < 0.001 else f'{p:.3f}'}")
        cells.append(line)
    return [f"| {' | '.join(line)} |" for line in cells]


def _with_ends(numbers: Mapping[str, Any], sign: str) -> str:
    estimate = f"{100 * numbers['estimate']:{sign}.1f}"
    if numbers["low"] is None:
        return estimate
    return f"{estimate} ({100 * numbers['low']:{sign}.1f} to {100 * numbers['high']:{sign}.1f})"


def _notes(records: Sequence[Mapping[str, Any]], noise: NoiseModel) -> list[str]:
    comparisons = sum(len(record["differences"]) for record in records)
    seeds = ", ".join(f"{name}: {len(row['runs'])}" for name, row in records[0]["rows"].items())
    kinds = ", ".join(
        f"{100 * noise.errors[kind] / sum(noise.errors.values()):.0f} % {title}"
        for kind, title in (("replace", "substitutions"), ("delete", "deletions"), ("insert", "insertions"))
    )
    return [
        f"{TITLES[METRIC]} in percent, its mean over runs ({seeds}) with the 95 % interval; differences are paired, in "
        f"points, their p values corrected by Holm's method for {comparisons} comparisons.",
        "WER is measured on these transcripts, after Whisper's English normaliser.",
        f"The noise model was fitted on {noise.words} words of human text with a WER of {100 * noise.wer:.1f} %: "
        f"{kinds}; correlation of errors within an utterance {noise.gathering:.2f}.",
    ]
