"""Error detection and correction alone, without speech or emotion: pairs of texts, training, and results by source."""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_scripts.files import write_atomically
from trainer.errors import ExperimentError

PARTS = ("train", "validation", "test")
RESULTS_FILE, TABLE_FILE = "results.json", "correction.md"


@dataclass
class CorrectionArguments:
    """Which pairs of texts, and what is left out of training."""

    pairs: str | None = field(
        default=None, metadata={"help": "CSV, TSV, JSONL or Parquet of pairs, or the folder of a prepared corpus."}
    )
    hypothesis_column: str = field(default="hypothesis", metadata={"help": "Column of the ASR text."})
    reference_column: str = field(
        default="reference", metadata={"help": "Column of the human text (of a prepared corpus: transcript)."}
    )
    source_column: str = field(
        default="source", metadata={"help": "Column of the source (of a prepared corpus: asr_model)."}
    )
    held_out_sources: list[str] = field(
        default_factory=list, metadata={"help": "Sources that are left out of training as a whole, and tested."}
    )
    validation_share: float = field(default=0.1, metadata={"help": "Share of the other pairs to validate on."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the other pairs to test on."})
    split_seed: int = field(default=0, metadata={"help": "Seed of that division."})
    text_encoder: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "Hub name or folder of a BERT-like model."}
    )
    compare_decoding: bool = field(
        default=False, metadata={"help": "Also time the parallel decoding against rewriting whole sentences."}
    )

    def __post_init__(self):
        shares = self.validation_share, self.test_share
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ExperimentError(
                f"validation_share and test_share must be positive and leave some to train on, not {shares[0]} and "
                f"{shares[1]}."
            )


def read_pairs(arguments: CorrectionArguments) -> list[dict[str, Any]]:
    """Return rows with `id`, `hypothesis`, `transcript`, `source` and `characters`, those without either text left out.

    Raises:
        ExperimentError: a column is missing, or no row has both texts.
        CorpusError: the table or the prepared folder cannot be read.
    """
    from data_scripts.schema import load_prepared
    from data_scripts.tables import read_table

    if arguments.pairs is None:
        raise ExperimentError("Name a table of pairs or a prepared corpus: --pairs FILE_OR_FOLDER.")
    path, columns = Path(str(arguments.pairs)), [arguments.hypothesis_column, arguments.reference_column]
    if path.is_dir():
        columns[1] = "transcript" if columns[1] == "reference" else columns[1]
        columns.append("asr_model" if arguments.source_column == "source" else arguments.source_column)
        read = [row for part in load_prepared(path).values() for row in part.select_columns(columns).to_list()]
    else:
        columns.append(arguments.source_column)
        read = read_table(path, empty_cell="")
    missing = [column for column in columns if read and column not in read[0]]
    if missing:
        raise ExperimentError(f"{path} has no column {missing[0]!r}; its columns: {', '.join(read[0])}.")
    rows = []
    for number, row in enumerate(read):
        hypothesis, reference, source = (row[column] for column in columns)
        if hypothesis is not None and reference is not None:
            texts = {"hypothesis": hypothesis, "transcript": reference, "source": str(source)}
            rows.append({"id": f"{path.name}:{number}", **texts, "characters": len(hypothesis)})
    if not rows:
        raise ExperimentError(f"{path} has no row with both texts.")
    return rows


def divide_pairs(rows: Sequence[Mapping[str, Any]], arguments: CorrectionArguments) -> dict[str, list[Any]]:
    """Divide pairs into `train`, `validation` and `test` at random, and `held_out`, whole sources.

    Pairs with the same human text, but for case and punctuation, come into the same part. A held-out source's pair with
    the text of a training pair stays held out.

    Raises:
        ExperimentError: a held-out source does not exist, or a part is empty.
    """
    sources = {row["source"] for row in rows}
    if unknown := sorted(set(arguments.held_out_sources) - sources):
        raise ExperimentError(f"There is no source {', '.join(unknown)} to hold out; there are {', '.join(sources)}.")
    parts: dict[str, list[Any]] = {name: [] for name in (*PARTS, "held_out")}
    dice, chosen = random.Random(arguments.split_seed), {}
    for row in rows:
        if row["source"] in arguments.held_out_sources:
            parts["held_out"].append(row)
            continue
        key = " ".join(re.findall(r"\w+", row["transcript"].lower()))
        if key not in chosen:
            place = dice.random()
            in_test = place < arguments.test_share
            in_validation = place < arguments.test_share + arguments.validation_share
            chosen[key] = "test" if in_test else "validation" if in_validation else "train"
        parts[chosen[key]].append(row)
    if empty := [name for name in PARTS if not parts[name]]:
        raise ExperimentError(
            f"The {empty[0]} part is empty: {arguments.pairs} has too few pairs that are not held out."
        )
    return parts


def build_corrector(text_encoder: str) -> tuple[Any, Any]:
    """Return a model of text alone, with new detection and correction heads on a pretrained encoder, and its processor.

    The decoder's output layer is the encoder's word embedding: a few thousand pairs do not teach a new one.

    Raises:
        ExperimentError: the encoder cannot be loaded.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer, Wav2Vec2FeatureExtractor

    from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification, M4SERProcessor
    from modeling_m4ser.encoders_m4ser import TextEncoder
    from trainer.experiments.ablations import ABLATIONS

    try:
        config = M4SERConfig(
            text_config=AutoConfig.from_pretrained(text_encoder),
            tie_correction_output=True,
            auxiliary_weight=1.0,
            **{**ABLATIONS["only text"], "use_error_detection": True, "use_error_correction": True},
        )
        model = M4SERForEmotionClassification(config)
        model.m4ser.text_encoder = TextEncoder.from_pretrained(
            text_encoder, config=config.text_config, dtype=torch.float32
        )
        # No speech is read; the processor is that of any M4SER.
        processor = M4SERProcessor(Wav2Vec2FeatureExtractor(), AutoTokenizer.from_pretrained(text_encoder))
    except (OSError, ValueError) as error:
        raise ExperimentError(str(error)) from error
    return model, processor


def train_corrector(model: Any, processor: Any, parts: Mapping[str, Sequence[Any]], args: Any) -> Any:
    """Train both heads and the encoder; return the trainer, whose model is the best epoch's.

    Training that was interrupted is resumed from its last checkpoint.

    Args:
        model: to train.
        processor: of the model.
        parts: what `divide_pairs` returns.
        args: `ExperimentArguments`.
    """
    from datasets import Dataset
    from transformers.trainer_utils import get_last_checkpoint

    from trainer import M4SERDataCollator, M4SERTrainer

    collator = M4SERDataCollator(processor, model.config)
    trainer = M4SERTrainer(
        model=model,
        args=args,
        # As a plain function: the rows need no emotion.
        data_collator=collator.__call__,
        train_dataset=Dataset.from_list(list(parts["train"])),
        eval_dataset=Dataset.from_list(list(parts["validation"])),
        processing_class=processor,
    )
    folder = Path(str(args.output_dir))
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.is_dir() else None)
    return trainer


def run_correction(arguments: CorrectionArguments, args: Any) -> dict[str, Any]:
    """Train, choose the threshold on the validation part, measure every source, and write the run directory.

    `args.output_dir` then holds the model and its processor, `checkpoint-*`, `results.json` and `correction.md`. It
    belongs to its settings and pairs; a finished one is read, an interrupted one resumed.

    Args:
        arguments: the pairs.
        args: `ExperimentArguments`.

    Returns:
        What `results.json` holds.

    Raises:
        ExperimentError: as the functions above, or the directory belongs to other settings.
    """
    from transformers import set_seed

    from data_scripts.versions import collect_versions
    from trainer.evaluation.correction import choose_threshold, correct_rows, describe_correction
    from trainer.evaluation.decoding_cost import compare_decoding
    from trainer.experiments.run_folder import changed_arguments, command_line

    folder = Path(str(args.output_dir))
    rows = read_pairs(arguments)
    parts = divide_pairs(rows, arguments)
    if _claim(folder, arguments, args, rows):
        return json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    set_seed(args.seed)
    model, processor = build_corrector(arguments.text_encoder)
    trainer = train_corrector(model, processor, parts, args)
    corrected = {
        name: correct_rows(model, processor, part, group_column="source")
        for name, part in parts.items()
        if part and name != "train"
    }
    threshold = choose_threshold(corrected["validation"], processor)
    model.config.correction_threshold = threshold
    results = {
        "name": Path(str(arguments.pairs)).name,
        "seed": args.seed,
        "threshold": threshold,
        "pairs": {name: len(part) for name, part in parts.items()},
        "metrics": {name: describe_correction(some, processor, threshold) for name, some in corrected.items()},
        "command": command_line([arguments, args]),
        "arguments": {"correction": changed_arguments(arguments), "training": changed_arguments(args)},
        "versions": collect_versions(),
    }
    if arguments.compare_decoding:
        texts = [row["hypothesis"] for row in parts["test"]]
        results["decoding"] = compare_decoding(model, processor, texts, batch_size=args.per_device_eval_batch_size)
    trainer.save_model(str(folder))
    write_atomically(folder / TABLE_FILE, format_table(results))
    write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return results


def _claim(folder: Path, arguments: CorrectionArguments, args: Any, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Make the directory this run's, and say whether it is finished already."""
    from trainer.experiments.run_folder import PRESENTATION_ARGUMENTS, changed_arguments, claim_folder, model_defaults

    settings = {
        "correction": changed_arguments(arguments, ["pairs"]),
        "training": changed_arguments(args, PRESENTATION_ARGUMENTS),
        "pairs": hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16],
        "defaults": model_defaults(),
    }
    claim_folder(folder, settings)
    return (folder / RESULTS_FILE).is_file()


def format_table(results: Mapping[str, Any]) -> str:
    """Return the Markdown table of a run: one line for each source of the test part and each held-out one."""
    counts = results["pairs"]
    lines = [
        f"**{results['name']}**: trained on {counts['train']} pairs of ASR and human text, seed {results['seed']}; "
        f"{counts['validation']} validate.",
        "",
        f"Edits below a confidence of {results['threshold']:.2f} (chosen on the validation part) are not made. WER in "
        "%, its change in points with the 95 % interval over utterances; F1 of detection by class.",
        "",
        "| Source | n | WER before | after | change | edit rate | F1 keep | delete | change |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for part, title in (("test", "test"), ("held_out", "never trained on")):
        measured = results["metrics"].get(part)
        if measured is None:
            continue
        for name, found in [*measured["groups"].items(), ("**all**", measured)]:
            change = [100 * found["wer_change"][key] for key in ("estimate", "low", "high")]
            f1s = [found["detection"][kind]["f1"] for kind in ("keep", "delete", "change")]
            shown = " | ".join("-" if f1 is None else f"{f1:.2f}" for f1 in f1s)
            lines.append(
                f"| {name} ({title}) | {found['utterances']} | {100 * found['wer_before']:.2f} | "
                f"{100 * found['wer_after']:.2f} | {change[0]:+.2f} ({change[1]:+.2f} to {change[2]:+.2f}) | "
                f"{100 * found['edit_rate']:.2f} % | {shown} |"
            )
    if decoding := results.get("decoding"):
        ratios = [decoding[key] for key in ("fewer_steps", "faster")]
        if None not in ratios:
            lines += [
                "",
                f"Decoding the {decoding['places']} places of {decoding['utterances']} transcripts in parallel took "
                f"{decoding['parallel']['steps']} decoder steps against {decoding['rewriting']['steps']} for whole "
                f"sentences (1/{ratios[0]:.1f}), and 1/{ratios[1]:.1f} of the time, in batches of "
                f"{decoding['batch_size']}.",
            ]
    return "\n".join(lines) + "\n"
