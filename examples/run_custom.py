"""Train and test M4SER on your own corpus, or on RAVDESS, with speakers held out.

    accelerate launch examples/run_custom.py --corpus manifest --data_dir my_corpus --output_dir runs/mine \\
        --asr_model openai/whisper-small.en

A manifest is a CSV, JSONL or Parquet file with the columns `audio` and `emotion`, optionally `transcript`,
`hypothesis`, `speaker` and `split`. Missing hypotheses are written by `--asr_model`. A corpus with its own
train/validation/test splits keeps them; any other is divided into speaker-independent folds.
"""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

from transformers import set_seed

from data_scripts.ravdess import voice
from data_scripts.splits import speaker_folds
from trainer import M4SERTrainingArguments
from trainer.cli import parse_arguments, run_main
from trainer.corpus import CorpusArguments, prepare_corpus
from trainer.experiment import ExperimentError, ModelArguments, format_summary, run_experiment, summarize
from trainer.probe import frozen_feature_probe


@dataclass
class SplitArguments:
    """Which runs to make."""

    num_folds: int = field(default=6, metadata={"help": "Speaker-independent folds."})
    folds: list[int] | None = field(default=None, metadata={"help": "Run these folds only, counted from 1."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the division into folds."})
    seeds: list[int] | None = field(default=None, metadata={"help": "Repeat each fold with these training seeds."})
    probe: bool = field(default=False, metadata={"help": "Also measure logistic regression on frozen features."})


def main() -> None:
    """Every fold with every seed, then the summary."""
    corpus, model, split, args = parse_arguments(
        (CorpusArguments, ModelArguments, SplitArguments, M4SERTrainingArguments)
    )
    root = Path(args.output_dir)
    dataset = prepare_corpus(corpus, root / "corpus")
    if set(dataset) == {"train"}:
        # RAVDESS numbers tell the speakers' sex: each fold then hears as many women as men.
        kind = voice if corpus.corpus == "ravdess" else None
        folds = speaker_folds(dataset, split.num_folds, split.split_seed, stratify=kind)
        wanted = split.folds or range(1, split.num_folds + 1)
        if not set(wanted) <= set(range(1, split.num_folds + 1)):
            raise ExperimentError(f"folds must lie between 1 and {split.num_folds}, got {sorted(wanted)}.")
        parts = [(fold.name, fold.select(dataset), fold.describe()) for fold in folds if int(fold.name[4:]) in wanted]
    else:
        described = {name: {"utterances": len(part)} for name, part in dataset.items()}
        parts = [("own_split", dataset, {"name": "own_split", **described})]

    runs, probes = [], []
    for name, data, description in parts:
        if split.probe:
            probes.append(probe_fold(model, data, root / name / "probe.json"))
        for seed in split.seeds or [args.seed]:
            settings = copy.copy(args)
            settings.output_dir, settings.seed = str(root / name / f"seed{seed}"), seed
            results = run_experiment(
                model.build,
                data,
                settings,
                description=f"Corpus: {corpus.corpus}, {name}.",
                split={**description, "seed": split.split_seed},
                text_column=model.text_column,
            )
            runs.append(results)
            if settings.should_log:
                print(f"{name} seed {seed}: {format_summary(summarize([results]))}", flush=True)
    if args.should_log:
        report = {"runs": len(runs), "test": summarize(runs)}
        print(f"M4SER, {len(runs)} runs: {format_summary(report['test'])}")
        if probes:
            report["probe"] = summarize([{"metrics": {"test": probe}} for probe in probes])
            print(f"frozen-feature probe, {len(probes)} folds: {format_summary(report['probe'])}")
        (root / "summary.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def probe_fold(model: ModelArguments, data, path: Path) -> dict:
    """The probe's test metrics of one fold, measured once and kept in a file."""
    if not path.is_file():
        emotions = data["train"].features["emotion"].names
        set_seed(0)
        metrics = frozen_feature_probe(*model.build(emotions), data, emotions)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_main(main)
