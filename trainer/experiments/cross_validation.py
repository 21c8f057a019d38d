"""Several runs of one protocol: every fold with every seed, then one summary of them all."""

import copy
import dataclasses
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import DatasetDict

from data_scripts.audit import PROTOCOL_SPLIT, Audit, audit_dataset, print_warnings
from data_scripts.files import write_atomically
from trainer.arguments import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.evaluation.linear_probe import FrozenFeatures, fit_probe
from trainer.evaluation.significance import describe_test
from trainer.evaluation.summary import SUMMARY_METRICS, format_row, pool, summarize
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.data import accepted_in_own_split, prepared_folder
from trainer.experiments.model import build_model
from trainer.experiments.protocols import OWN_SPLIT
from trainer.experiments.run import check_run, run_experiment
from trainer.experiments.run_folder import PREDICTIONS_FILE, changed_arguments, corpus_fingerprint
from trainer.inputs.feature_cache import FEATURES_FOLDER

SUMMARY_FILE = "summary.json"
#: What `--linear_probe` measures, and how the summary calls it.
PROBES = {"linear_probe": "linear probe", "linear_probe_own_encoder": "linear probe, encoder changed as in M4SER"}


def run_folds(
    folds: Mapping[str, tuple[DatasetDict, Mapping[str, Any]]],
    corpus: CorpusArguments,
    model: ModelArguments,
    runs: RunArguments,
    args: ExperimentArguments,
    description: str,
) -> dict[str, Any]:
    """Run every fold with every seed, each in `output_dir/FOLD/seedN`; finished ones are not run again.

    Writes `summary.json` with the results and the table below, and prints a line per run and the table.

    Args:
        folds: name -> (splits, what `Fold.describe()` says).
        corpus: what the folds were made from, recorded with each run.
        model: the model of every run.
        runs: the seeds, and whether to measure the linear probe.
        args: training arguments; `output_dir` and `seed` are set for each run.
        description: Markdown about data and protocol, for the model cards.

    Returns:
        The summary: `model` (the ablation), `runs`, `test` (mean, standard deviation and values over runs), `pooled`
        (metrics of all folds' predictions together, for each seed), and each of `PROBES` that is asked for. In the main
        process also what `describe_test` says of all folds' predictions together: `intervals` and `breakdown`.

    Raises:
        ExperimentError: a run directory belongs to other settings, or several runs would be pushed to one repository.
            Nothing has been run then.
        CorpusError: `corpus.strict`, and the splits of a fold leak. Nothing has been run then.
    """
    root = Path(str(args.output_dir))
    arguments = {"corpus": corpus, "model": model, "runs": runs}
    planned = [
        (name, seed, args_for_run(args, root / name / f"seed{seed}", seed))
        for name in folds
        for seed in dict.fromkeys(runs.seeds or [args.seed])
    ]
    if args.push_to_hub and len(planned) > 1:
        raise ExperimentError(
            f"push_to_hub publishes one model, these are {len(planned)} runs: choose one with --folds and --seeds, or "
            "leave it out and upload the folder of one of them (`hf upload`)."
        )
    for name, _, settings in planned:
        check_run({**arguments, "training": settings}, *folds[name], model.text_column)
    audits = audit_folds(folds, corpus, root, tell=args.should_log)
    probes = _measure_probes(folds, model, root) if runs.linear_probe else {}
    finished: dict[int, list[Mapping[str, Any]]] = {}
    for name, seed, settings in planned:
        data, split = folds[name]
        results = run_experiment(
            partial(build_model, model),
            data,
            settings,
            description=f"{description} Fold: {name}.",
            split=split,
            text_column=model.text_column,
            arguments=arguments,
            audit=audits[name],
            corpus=corpus.record,
            features_folder=prepared_folder(corpus, root / "corpus") / FEATURES_FOLDER,
        )
        finished.setdefault(seed, []).append(results)
        if args.should_log:
            print(f"{name} seed {seed}: {format_row(summarize([results]))}", flush=True)
    every = [results for runs in finished.values() for results in runs]
    summary: dict[str, Any] = {"model": model.ablation, "runs": len(every), "folds": list(folds)}
    summary |= {"seeds": list(finished), "test": summarize(every)}
    if len(folds) > 1:
        pooled = [{"metrics": {"test": pool(runs)}} for runs in finished.values()]
        summary["pooled"] = summarize(pooled, ("wa", "ua"))
    for key, measured in probes.items():
        summary[key] = summarize([{"metrics": {"test": metrics}} for metrics in measured])
    if args.should_save:
        summary |= _uncertainty(root, folds, list(finished), corpus.record.sex_of)
    if args.should_log:
        print(format_summary(summary), flush=True)
        print("\n".join(closing_lines(summary, every, root, str(planned[-1][2].output_dir))), flush=True)
        write_atomically(root / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    return summary


def audit_folds(
    folds: Mapping[str, tuple[DatasetDict, Mapping[str, Any]]], corpus: CorpusArguments, root: Path, tell: bool
) -> dict[str, Audit]:
    """Return the leak audit of each fold. `data_scripts.splits` kept apart the speakers that a protocol keeps apart."""
    accepted = dict.fromkeys(folds, PROTOCOL_SPLIT) | {OWN_SPLIT: accepted_in_own_split(corpus, root / "corpus")}
    audits = {name: audit_dataset(data, accepted[name]) for name, (data, _) in folds.items()}
    for name, audit in audits.items():
        if corpus.strict:
            audit.refuse()
        if tell:
            print_warnings(audit, name)
    return audits


def args_for_run(args: ExperimentArguments, folder: Path, seed: int) -> ExperimentArguments:
    """Return the training arguments of one run: a copy with its folder and seed."""
    settings = copy.copy(args)
    settings.output_dir, settings.seed, settings.hub_token = str(folder), seed, args.hub_token  # a copy has no token
    return settings


def _uncertainty(
    root: Path, folds: Iterable[str], seeds: Sequence[int], sex_of: Callable[[str], str | None] | None
) -> dict[str, Any]:
    """`describe_test` of all folds' predictions together, with all seeds."""
    tables = [
        pd.concat([pd.read_parquet(root / name / f"seed{seed}" / PREDICTIONS_FILE) for name in folds]) for seed in seeds
    ]
    speakers = [speaker if isinstance(speaker, str) else None for speaker in tables[0]["speaker"]]
    predicted = np.stack([table["predicted"].to_numpy(str) for table in tables])
    return describe_test(tables[0]["emotion"].to_numpy(str), predicted, speakers, sex_of)


def format_summary(summary: Mapping[str, Any]) -> str:
    """The lines printed at the end of `run_folds`."""
    lines = [f"{summary.get('model', 'M4SER')}, {summary['runs']} runs: {format_row(summary['test'])}"]
    if "pooled" in summary:
        lines.append(f"all folds pooled: {format_row(summary['pooled'])}")
    if "intervals" in summary:
        method, measured = summary["intervals"]["method"], {key: summary["intervals"][key] for key in SUMMARY_METRICS}
        who = f"{measured['wa']['clusters']} {method['clusters']}s"
        if any(interval["low"] is None for interval in measured.values()):
            lines.append(f"no 95 % interval: {method.get('no_interval', f'all draws of the {who} are alike')}")
        else:
            cells = (f"{key} {100 * part['low']:.1f} to {100 * part['high']:.1f}" for key, part in measured.items())
            lines.append(f"95 % interval over {who}: {'  '.join(cells)}")
    for key, label in PROBES.items():
        if key in summary:
            lines.append(f"{label}, {len(summary[key]['ua']['values'])} folds: {format_row(summary[key])}")
    return "\n".join(lines)


def closing_lines(
    summary: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], root: Path, last_run: str | Path
) -> list[str]:
    """Return what a finished training ends with: what is wrong with its numbers, where they are, what comes next."""
    ua, lines = summary["test"]["ua"]["mean"], []
    matrices = np.array([run["metrics"]["test"]["confusion_matrix"] for run in runs])
    classes = np.count_nonzero(matrices.sum((0, 2)))
    low = summary.get("intervals", {}).get("ua", {}).get("low")
    if ua <= 1 / classes + 0.02 or (low is not None and low <= 1 / classes):
        lines.append(f"Warning: UA {100 * ua:.1f} of {classes} classes is chance ({100 / classes:.1f}).")
    answers = zip(runs, matrices.sum(1), strict=True)
    single = [run["emotions"][counts.argmax()] for run, counts in answers if np.count_nonzero(counts) == 1]
    if single:
        which = "" if len(single) == len(runs) else f" in {len(single)} of {len(runs)} runs"
        lines.append(f"Warning: predicts one class only{which}: {', '.join(dict.fromkeys(single))}.")
    probe = summary.get("linear_probe", {}).get("ua", {}).get("mean")
    if probe is not None and ua < probe:
        lines.append(f"Warning: UA {100 * ua:.1f} is below the linear probe ({100 * probe:.1f}).")
    use = ["m4ser", "predict", "RECORDINGS", "--model", str(last_run), "--output_dir", "predictions"]
    if (recognizer := runs[-1]["arguments"].get("corpus", {}).get("asr_model")) is not None:
        use += ["--asr", recognizer]  # the model has learned its errors
    return [
        *lines,
        f"Results: {root / SUMMARY_FILE}",
        f"Use the model: {shlex.join(use)}",
        f"See all runs: python examples/report.py --runs {root}",
    ]


def _measure_probes(
    folds: Mapping[str, tuple[DatasetDict, Mapping[str, Any]]], model: ModelArguments, root: Path
) -> dict[str, list[dict[str, Any]]]:
    """The test metrics of each probe on each fold, kept in a file and measured again where settings or data differ."""
    measured: dict[str, list[dict[str, Any]]] = {}
    for key, probed in _probed_models(model).items():
        features, measured[key] = FrozenFeatures(partial(build_model, probed)), []
        for name, (data, _) in folds.items():
            path = root / name / f"{key}.json"
            settings = {"model": changed_arguments(probed), "fingerprint": corpus_fingerprint(data)}
            kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if kept.get("settings") != settings:
                fitted = fit_probe(features.of(data, shared=len(folds) > 1), data)
                metrics = {**fitted.metrics["test"], "regularisation": fitted.regularisation}
                kept = {"settings": settings, "metrics": metrics, "rows": fitted.rows}
                write_atomically(path, json.dumps(kept, indent=2) + "\n")
            measured[key].append(kept["metrics"])
    return measured


def _probed_models(model: ModelArguments) -> dict[str, ModelArguments]:
    """The keys of `PROBES` that apply, and whose speech encoder each measures."""
    published = dataclasses.replace(model, speech_options={}, freeze_speech_layers=0)
    both = {"linear_probe": published, "linear_probe_own_encoder": model}
    return both if model.speech_options else {"linear_probe": published}
