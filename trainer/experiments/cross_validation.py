"""Several runs of one protocol: every fold with every seed, then one summary of them all."""

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from transformers import set_seed

from data_scripts.splits import Fold
from trainer.arguments import M4SERTrainingArguments
from trainer.evaluation.linear_probe import linear_probe
from trainer.experiments.run import ExperimentError, ModelArguments, run_experiment

SUMMARY = "summary.json"
METRICS = ("wa", "ua", "weighted_f1", "macro_f1")
#: What `--probe` measures, and how the summary calls it.
PROBES = {"probe": "frozen-feature probe", "probe_own_encoder": "frozen-feature probe, encoder changed as in M4SER"}


@dataclass
class RunArguments:
    """Which runs of a protocol to make."""

    folds: list[int] | None = field(default=None, metadata={"help": "Run these folds only, counted from 1."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the division into folds."})
    seeds: list[int] | None = field(default=None, metadata={"help": "Repeat each fold with these training seeds."})
    probe: bool = field(
        default=False, metadata={"help": "Also measure logistic regression on the pretrained encoder's frozen frames."}
    )

    def choose(self, folds: Sequence[Fold], dataset: DatasetDict) -> dict[str, tuple[DatasetDict, dict[str, Any]]]:
        """Name -> (splits, description) of the folds to run."""
        wanted = self.folds or range(1, len(folds) + 1)
        outside = sorted(set(wanted) - set(range(1, len(folds) + 1)))
        if outside:
            raise ExperimentError(f"There is no fold {outside[0]}: folds are counted from 1 to {len(folds)}.")
        chosen = [folds[number - 1] for number in sorted(set(wanted))]
        return {fold.name: (fold.select(dataset), {**fold.describe(), "seed": self.split_seed}) for fold in chosen}


def own_split(dataset: DatasetDict) -> dict[str, tuple[DatasetDict, dict[str, Any]]]:
    """The corpus' own train, validation and test splits as the only fold."""
    counts = {name: {"utterances": len(part)} for name, part in dataset.items()}
    return {"own_split": (dataset, {"name": "own_split", **counts})}


def run_folds(
    folds: Mapping[str, tuple[DatasetDict, Mapping[str, Any]]],
    model: ModelArguments,
    runs: RunArguments,
    args: M4SERTrainingArguments,
    description: str,
) -> dict[str, Any]:
    """
    Every fold with every seed, each in `output_dir/FOLD/seedN`; finished ones are not run again.

    Writes `summary.json` with the results and the table below, and prints a line per run and the table.

    Returns:
        The summary: `runs`, `test` (mean, standard deviation and values over runs), `pooled` (metrics of all folds'
        predictions together, for each seed), and where asked for `probe` (of the speech encoder as it was published)
        and, where `speech_options` change that encoder, `probe_own_encoder`.
    """
    root = Path(args.output_dir)
    finished: dict[int, list[Mapping[str, Any]]] = {seed: [] for seed in runs.seeds or [args.seed]}
    probed = _probed_models(model) if runs.probe else {}
    probes: dict[str, list[dict[str, Any]]] = {key: [] for key in probed}
    for name, (data, split) in folds.items():
        for key, encoder in probed.items():
            probes[key].append(_probe_fold(encoder, data, root / name / f"{key}.json"))
        for seed in finished:
            settings = copy.copy(args)
            settings.output_dir, settings.seed = str(root / name / f"seed{seed}"), seed
            results = run_experiment(
                model.build, data, settings, description=f"{description} Fold: {name}.", split=split,
                text_column=model.text_column,
            )  # fmt: skip
            finished[seed].append(results)
            if args.should_log:
                print(f"{name} seed {seed}: {format_row(summarize([results]))}", flush=True)
    every = [results for results in finished.values() for results in results]
    pooled = [pool(results) for results in finished.values()]
    summary = {"runs": len(every), "folds": list(folds), "seeds": list(finished), "test": summarize(every)}
    if len(folds) > 1:
        summary["pooled"] = summarize([{"metrics": {"test": metrics}} for metrics in pooled], ("wa", "ua"))
    for key, measured in probes.items():
        summary[key] = summarize([{"metrics": {"test": metrics}} for metrics in measured])
    if args.should_log:
        print(format_summary(summary), flush=True)
        (root / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def summarize(runs: Sequence[Mapping[str, Any]], keys: Sequence[str] = METRICS) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (n − 1) of the runs' test metrics, as shares in [0, 1]."""
    summary = {}
    for key in keys:
        values = [run["metrics"]["test"][key] for run in runs]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        summary[key] = {"mean": float(np.mean(values)), "std": deviation, "values": values}
    return summary


def pool(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """WA and UA of all runs' test predictions together, from their confusion matrices."""
    matrix = np.sum([run["metrics"]["test"]["confusion_matrix"] for run in runs], axis=0)
    support = matrix.sum(axis=1)
    recalls = np.diag(matrix)[support > 0] / support[support > 0]
    return {"wa": float(np.trace(matrix) / matrix.sum()), "ua": float(recalls.mean())}


def format_row(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """`summarize` on one line, in percent."""
    cells = []
    for key, value in summary.items():
        spread = "" if value["std"] is None else f" ± {100 * value['std']:.1f}"
        cells.append(f"{key} {100 * value['mean']:.1f}{spread}")
    return "  ".join(cells)


def format_summary(summary: Mapping[str, Any]) -> str:
    """The lines printed at the end of `run_folds`."""
    lines = [f"M4SER, {summary['runs']} runs: {format_row(summary['test'])}"]
    if "pooled" in summary:
        lines.append(f"all folds pooled: {format_row(summary['pooled'])}")
    for key, label in PROBES.items():
        if key in summary:
            lines.append(f"{label}, {len(summary[key]['ua']['values'])} folds: {format_row(summary[key])}")
    return "\n".join(lines)


def _probed_models(model: ModelArguments) -> dict[str, ModelArguments]:
    """The keys of `PROBES` that apply, and whose speech encoder each measures."""
    published = dataclasses.replace(model, speech_options={}, freeze_speech_layers=0)
    return {"probe": published, "probe_own_encoder": model} if model.speech_options else {"probe": published}


def _probe_fold(model: ModelArguments, data: DatasetDict, path: Path) -> dict[str, Any]:
    """The probe's test metrics of one fold, measured once and kept in a file."""
    if not path.is_file():
        emotions = data["train"].features["emotion"].names
        set_seed(0)
        metrics = linear_probe(*model.build(emotions), data, emotions)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
