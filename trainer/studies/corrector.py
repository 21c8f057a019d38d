"""Error detection and correction alone, without speech or emotion: training on pairs, and results by source."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, Wav2Vec2FeatureExtractor, set_seed
from transformers.trainer_utils import get_last_checkpoint

from data_scripts.files import fingerprint, write_atomically
from data_scripts.versions import collect_versions
from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.encoders_m4ser import TextEncoder
from trainer.arguments import ExperimentArguments
from trainer.collator import M4SERDataCollator
from trainer.errors import ExperimentError
from trainer.evaluation.decoding_cost import compare_decoding
from trainer.evaluation.prediction import rows_read
from trainer.evaluation.summary import markdown_table
from trainer.evaluation.transcript_correction import choose_threshold, correct_rows, describe_correction
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.hub import push_trained
from trainer.experiments.run import finished_run
from trainer.experiments.run_folder import (
    RESULTS_FILE,
    changed_arguments,
    claim_folder,
    command_line,
    decides,
    model_defaults,
)
from trainer.m4ser_trainer import M4SERTrainer
from trainer.studies.text_pairs import CorrectionArguments, divide_pairs, read_pairs

TABLE_FILE = "correction.md"


def build_corrector(text_encoder: str) -> tuple[M4SERForEmotionClassification, M4SERProcessor]:
    """Return a model of text alone, with new heads for errors on a pretrained encoder, and its processor.

    The decoder's output layer is the encoder's word embedding: a few thousand pairs do not teach a new one.
    """
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


def run_correction(arguments: CorrectionArguments, args: ExperimentArguments) -> dict[str, Any]:
    """Train, choose the threshold on the validation part, measure every source, and write the run directory.

    `args.output_dir` then holds the model and its processor, `checkpoint-*`, `results.json`, whose content is returned,
    and `correction.md`. It belongs to its settings and pairs; a finished one is read, an interrupted one resumed.
    """
    folder = Path(str(args.output_dir))
    rows = read_pairs(arguments)
    parts = divide_pairs(rows, arguments)
    claim_folder(folder, _settings(arguments, args, rows))
    if (folder / RESULTS_FILE).is_file():
        return finished_run(folder, args)
    set_seed(args.seed)
    model, processor = build_corrector(arguments.text_encoder)
    trainer = M4SERTrainer(
        model=model,
        args=args,
        # As a plain function: the rows need no emotion.
        data_collator=M4SERDataCollator(processor, model.config).__call__,
        train_dataset=Dataset.from_list(parts["train"]),
        eval_dataset=Dataset.from_list(parts["validation"]),
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
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
        "rows": {
            "epoch": rows_read(cast(Dataset, trainer.eval_dataset)["id"]),
            "threshold": rows_read(each.id for each in corrected["validation"]),
            **{name: rows_read(each.id for each in some) for name, some in corrected.items() if name != "validation"},
        },
        "metrics": {name: describe_correction(some, processor, threshold) for name, some in corrected.items()},
        "command": command_line([arguments, args]),
        "arguments": {"correction": changed_arguments(arguments), "training": changed_arguments(args)},
        "versions": collect_versions(),
    }
    if arguments.compare_decoding:
        texts = [row["hypothesis"] for row in parts["test"]]
        results["decoding"] = compare_decoding(model, processor, texts, batch_size=args.per_device_eval_batch_size)
    trainer.save_model(str(folder), _internal_call=True)  # it is pushed with all that tells of it
    write_atomically(folder / TABLE_FILE, format_table(results))
    write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    if args.push_to_hub and trainer.is_world_process_zero():
        trainer.create_model_card()
        push_trained(folder, trainer)
    return results


def _settings(arguments: CorrectionArguments, args: ExperimentArguments, rows: Sequence[Any]) -> dict[str, Any]:
    """What decides a run; the pairs count by what they say, wherever they lie."""
    return {
        "correction": {name: value for name, value in changed_arguments(arguments).items() if name != "pairs"},
        "training": {name: value for name, value in changed_arguments(args).items() if decides(name)},
        "pairs": fingerprint([[row[name] for name in ("hypothesis", "transcript", "source")] for row in rows]),
        "defaults": model_defaults(),
    }


def format_table(results: Mapping[str, Any]) -> str:
    """Return the Markdown table of a run: one line for each source of the test part and each held-out one."""
    counts, rows = results["pairs"], []
    for part, title in (("test", "test"), ("held_out", "never trained on")):
        measured = results["metrics"].get(part) or {"groups": {}}
        for name, found in [*measured["groups"].items(), *([("**all**", measured)] if len(measured) > 1 else [])]:
            change, low, high = (100 * found["wer_change"][key] for key in ("estimate", "low", "high"))
            scores = [found["detection"][kind]["f1"] for kind in ("keep", "delete", "change")]
            rows.append(
                [
                    f"{name} ({title})",
                    found["utterances"],
                    f"{100 * found['wer_before']:.2f}",
                    f"{100 * found['wer_after']:.2f}",
                    f"{change:+.2f} ({low:+.2f} to {high:+.2f})",
                    f"{100 * found['edit_rate']:.2f} %",
                    *("-" if value is None else f"{value:.2f}" for value in scores),
                ]
            )
    header = ["Source", "n", "WER before", "after", "change", "edit rate", "F1 keep", "delete", "change"]
    lines = [
        f"**{results['name']}**: trained on {counts['train']} pairs of ASR and human text, seed {results['seed']}; "
        f"{counts['validation']} validate.",
        "",
        f"Edits below a confidence of {results['threshold']:.2f} (chosen on the validation part) are not made. WER in "
        "%, its change in points with the 95 % interval over utterances; F1 of detection by class.",
        "",
        markdown_table(header, rows),
    ]
    decoding = results.get("decoding")
    if decoding and decoding["fewer_steps"] is not None:
        lines += [
            "",
            f"Decoding the {decoding['places']} places of {decoding['utterances']} transcripts in parallel took "
            f"{decoding['parallel']['steps']} decoder steps against {decoding['rewriting']['steps']} for whole "
            f"sentences (1/{decoding['fewer_steps']:.1f}), and 1/{decoding['faster']:.1f} of the time, in batches of "
            f"{decoding['batch_size']}.",
        ]
    return "\n".join(lines) + "\n"
