"""One experiment from data to a finished run directory; every example script is built on it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from data_scripts.audit import Audit, audit_dataset, print_warnings
from data_scripts.constants import SPLITS
from data_scripts.corpora.base import CorpusRecord
from data_scripts.files import write_atomically
from data_scripts.splits import evenly_spaced
from data_scripts.versions import collect_versions
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from trainer.arguments import ExperimentArguments
from trainer.callbacks.checkpoints import trained_into
from trainer.callbacks.measuring import MeasuringCallback, measure_discriminator
from trainer.callbacks.progress import EpochLinesCallback
from trainer.callbacks.sharding import gathered
from trainer.collator import M4SERDataCollator
from trainer.errors import ExperimentError
from trainer.evaluation.calibration import calibrated_probabilities, describe_calibration, reliability_curve
from trainer.evaluation.decisions import (
    MAX_DOMAIN_CLIPS,
    describe_decisions,
    describe_sounds,
    fit_decisions,
    risk_coverage,
)
from trainer.evaluation.figures import (
    plot_confusion_matrix,
    plot_label_distribution,
    plot_loss_curves,
    plot_reliability,
    plot_risk_coverage,
)
from trainer.evaluation.linear_probe import BuildModel
from trainer.evaluation.metrics import compute_emotion_metrics, emotion_metrics
from trainer.evaluation.prediction import answer_with, logits_of, longest_first, rows_read, with_probabilities
from trainer.evaluation.significance import describe_test
from trainer.evaluation.transcript_correction import choose_threshold, correct_rows, correction_for_log
from trainer.experiments.hub import push_line, push_trained
from trainer.experiments.model_card import write_model_card
from trainer.experiments.run_folder import (
    LOG_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    changed_arguments,
    check_settings,
    claim_folder,
    command_line,
    load_results,
    run_settings,
)
from trainer.inputs.asr_noise import training_noise
from trainer.inputs.augmentation import with_speeds
from trainer.inputs.feature_cache import FEATURES_FOLDER, cache_features
from trainer.losses import BalancedCrossEntropy
from trainer.m4ser_trainer import M4SERTrainer

logger: Any = logging.get_logger(__name__)


RUN_LOCK = ".run.lock"
_PROCESSOR_PARTS = ("feature_extractor", "tokenizer", "processor_class", "auto_map")


def run_experiment(
    build: BuildModel,
    data: DatasetDict,
    args: ExperimentArguments,
    *,
    description: str,
    split: Mapping[str, Any],
    text_column: str = "hypothesis",
    arguments: Mapping[str, Any] | None = None,
    audit: Audit | None = None,
    corpus: CorpusRecord | None = None,
    features_folder: str | Path | None = None,
) -> dict[str, Any]:
    """Train on `train`, keep the best epoch on `validation`, measure on `test`, and write the run directory.

    The temperature that calibrates the model's probabilities and the thresholds of its decisions are fitted on
    `validation` too, and saved with the model; so is the confidence below which no transcript is corrected, unless the
    model is built with one.

    `args.output_dir` then holds the model with its code, processor and card, `checkpoint-*`, `results.json`,
    `predictions.parquet` and figures. A directory with a `results.json` is finished: its results are returned. One with
    checkpoints is resumed from the last, or trained again where `args.save_only_model`. Either must have been started
    with the same settings.

    Args:
        build: emotions -> model and processor; called after seeding.
        data: prepared splits `train`, `validation`, `test` (rows of `data_scripts.schema`).
        args: training arguments.
        description: Markdown about data and protocol, for the model card.
        split: what `Fold.describe()` says, for the results.
        text_column: `hypothesis` or `transcript`.
        arguments: section -> further argument objects that decide the run, e.g. {"model": ModelArguments}.
        audit: of the splits; by default they are audited here, and what leaks is printed.
        corpus: what is known of it: the results are broken down by sex where it tells, and the card states its license.
        features_folder: where `args.cache_features` keeps features without `args.feature_cache_dir`; by default in
            `args.output_dir`.

    Returns:
        What `results.json` holds.

    Raises:
        ExperimentError: see `check_run`; or the finished run could not be pushed to the Hub (`args.push_to_hub`).
        JournalError: another process is running the same.
    """
    folder, arguments = Path(str(args.output_dir)), {**(arguments or {}), "training": args}
    settings = check_run(arguments, data, split, text_column)
    if (folder / RESULTS_FILE).is_file():
        return finished_run(folder, args)
    with trained_into(folder, args.should_save, RUN_LOCK):
        if args.should_save:
            claim_folder(folder, settings)
        if audit is None:
            audit = audit_dataset(data)
            if args.should_log:
                print_warnings(audit, folder.name)
        set_seed(args.seed)
        model, processor = build(data["train"].features["emotion"].names)
        trainer = make_trainer(model, processor, data, args, text_column, features_folder)
        if wer := getattr(arguments.get("model"), "transcript_noise", None):
            texts = (data["train"][column][:] for column in ("hypothesis", "transcript"))
            cast(M4SERDataCollator, trainer.data_collator).transcript_noise = training_noise(*texts, wer)
        started = time.time()
        # Weights alone are no place to go on from: Adam and the schedule would start anew.
        resumes = folder.is_dir() and not args.save_only_model
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if resumes else None)
        train_seconds = time.time() - started
        test, measured = _measure(trainer, data, args, corpus and corpus.sex_of)
        measured["rows"] |= _choose_correction_threshold(trainer, processor, data["validation"], text_column)
        trainer.save_model(str(folder), _internal_call=True)  # other arguments, made below, end the sharding
        results = {
            **measured,
            "emotions": data["train"].features["emotion"].names,
            "split": dict(split),
            "audit": vars(audit),
            "train_seconds": round(train_seconds, 1),
            "command": command_line(list(arguments.values())),
            "arguments": {name: changed_arguments(part) for name, part in arguments.items()},
            "corpus_fingerprint": settings["data"]["fingerprint"],
            "text_column": text_column,
            **_describe_trained(trainer, processor),
            "versions": collect_versions(),
            "description": description,
        }
        if trainer.is_world_process_zero():
            _write_run(folder, results, test, data, trainer, corpus)
            if args.push_to_hub:
                push_trained(folder, trainer)
        trainer.accelerator.wait_for_everyone()
        return results


def _describe_trained(trainer: M4SERTrainer, processor: M4SERProcessor) -> dict[str, Any]:
    """What `results.json` says of the model, and of how far it was trained."""
    model, best = trainer.model, trainer.state.best_model_checkpoint
    return {
        "seed": trainer.args.seed,
        "best_checkpoint": best and Path(best).name,
        "epochs": trainer.state.epoch,
        "processes": trainer.args.world_size,
        "model_config": json.loads(model.config.to_json_string(use_diff=False)),
        "processor": {key: value for key, value in processor.to_dict().items() if key not in _PROCESSOR_PARTS},
        "frozen_parameters": _frozen_parts(model),
    }


def finished_run(folder: Path, args: ExperimentArguments) -> dict[str, Any]:
    """Return what a run found that is not made again, and so not pushed, which is told."""
    if args.push_to_hub and args.should_log:
        logger.warning(
            f"{folder} is finished, and not pushed now: {push_line(folder, str(args.hub_model_id), args.hub_all_heads)}"
        )
    return load_results(folder)


def _frozen_parts(model: M4SERForEmotionClassification) -> list[str]:
    """The parts with parameters that are not trained, two levels deep: "m4ser.speech_encoder"."""
    frozen = (name for name, parameter in model.named_parameters() if not parameter.requires_grad)
    return sorted({".".join(name.split(".")[:-1][:2]) for name in frozen})


def check_run(
    arguments: Mapping[str, Any], data: DatasetDict, split: Mapping[str, Any], text_column: str
) -> dict[str, Any]:
    """Check, before anything is loaded, that a run can be made in its directory; return the settings that decide it.

    Raises:
        ExperimentError: a split is missing, the training data have nothing to tell apart, or an utterance lacks the
            text that the model reads; or the directory belongs to other settings.
    """
    model = arguments.get("model")
    check_data(data, text_column if model is None or model.reads_text else None)
    settings = run_settings(arguments, data, split, text_column)
    check_settings(str(arguments["training"].output_dir), settings)
    return settings


def check_data(data: DatasetDict, text_column: str | None) -> None:
    """Raise `ExperimentError` where a run's splits cannot be trained on; `text_column` is what the model reads."""
    if missing := [name for name in SPLITS if name not in data]:
        raise ExperimentError(f"The data has no {' and no '.join(missing)} split; it has: {', '.join(map(str, data))}.")
    labels = set(data["train"]["emotion"][:])
    if len(labels) == 1:
        name = data["train"].features["emotion"].int2str(*labels)
        raise ExperimentError(
            f"All training rows have one emotion, {name}; at least two classes are needed. Use one sub-folder per "
            "class, or pass a label table with --data_dir."
        )
    if text_column is not None:
        _check_texts(data, text_column)


def _check_texts(data: DatasetDict, text_column: str) -> None:
    """Raise where an utterance of a split lacks the text that the model reads."""
    lacking = [
        identity
        for name in SPLITS
        for identity, text in zip(data[name]["id"][:], data[name][text_column][:], strict=True)
        if text is None
    ]
    if not lacking:
        return
    remedy = (
        "write them with --asr_model MODEL, import them with --hypotheses FILE, train on human text with --text_column "
        'transcript, or on speech alone with --ablation "only speech"'
    )
    if text_column == "transcript":
        remedy = "complete them, or train on ASR text with --text_column hypothesis"
    total = sum(len(data[name]) for name in SPLITS)
    raise ExperimentError(f"{len(lacking)} of {total} utterances have no {text_column}, first {lacking[0]}: {remedy}.")


def make_trainer(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    data: DatasetDict,
    args: ExperimentArguments,
    text_column: str = "hypothesis",
    features_folder: str | Path | None = None,
) -> M4SERTrainer:
    """Return the trainer of an experiment: on the splits `train` and `validation`, with what `args` asks for."""
    emotions = data["train"].features["emotion"].names
    train, loss = data["train"], None
    if args.should_log:
        _warn_if_text_encoder_frozen(model)
    if args.balance_classes:
        loss = BalancedCrossEntropy(train["emotion"][:], len(emotions))
    if args.speed_perturbation and model.config.uses_speech:
        train = with_speeds(train, args.speed_perturbation)
    trainer = M4SERTrainer(
        model=model,
        args=args,
        data_collator=M4SERDataCollator(processor, model.config, text_column),
        train_dataset=train,
        eval_dataset=data["validation"].select(longest_first(data["validation"])),
        processing_class=processor,
        compute_metrics=compute_emotion_metrics(emotions),
        emotion_loss_func=loss,
    )
    _add_measurements(trainer, processor, data["validation"], text_column)
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(EpochLinesCallback)
    if args.cache_features and model.config.uses_speech:
        with trainer.accelerator.main_process_first():
            cast(M4SERDataCollator, trainer.data_collator).feature_cache = cache_features(
                model,
                processor,
                [train, *(part for name, part in data.items() if name != "train")],
                args.feature_cache_dir or features_folder or Path(str(args.output_dir)) / FEATURES_FOLDER,
                batch_size=args.per_device_eval_batch_size,
                num_workers=args.dataloader_num_workers,
                show_progress=not args.disable_tqdm and args.should_log,
            )
    return trainer


def _add_measurements(trainer: M4SERTrainer, processor: M4SERProcessor, validation: Dataset, text_column: str) -> None:
    """Let the discriminator and error correction be measured with each evaluation, where the model has them."""
    measuring = partial(MeasuringCallback, accelerator=trainer.accelerator)
    if trainer.adversary is not None:
        batches = partial(DataLoader, batch_size=trainer.args.eval_batch_size, collate_fn=trainer.data_collator)
        trainer.add_callback(
            measuring(
                "discriminator",
                validation,
                lambda model, rows: measure_discriminator(model, batches(cast(Any, rows))),
            )
        )
    if _learns_errors(trainer.model, text_column):
        texts = _with_texts(validation)
        both = texts.select([n for n, row in enumerate(texts) if None not in (row["hypothesis"], row["transcript"])])
        # Not by `add_callback`, which warns of the second one of a class.
        trainer.callback_handler.callbacks.append(
            measuring("correction", both, lambda model, rows: correction_for_log(model, processor, rows))
        )


def _measure(
    trainer: M4SERTrainer,
    data: DatasetDict,
    args: ExperimentArguments,
    sex_of: Callable[[str], str | None] | None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Answer every split and give the model its thresholds; return the test's answers, and what `results.json` says.

    That is metrics, intervals, breakdown, calibration, decisions, and the rows read.
    """
    model, emotions = trainer.model, data["train"].features["emotion"].names
    parts = {"validation": data["validation"], "test": data["test"]}
    domain = data["train"].select(evenly_spaced(len(data["train"]), MAX_DOMAIN_CLIPS))
    answers = {name: answer_with(trainer, part) for name, part in parts.items()}
    labels = {name: np.asarray(part["emotion"][:]) for name, part in parts.items()}
    logits = {name: logits_of(answers[name]) for name in parts}
    sounds = dict.fromkeys((*parts, "domain"))
    if model.config.uses_speech:
        sounds = {name: describe_sounds(part) for name, part in {**parts, "domain": domain}.items()}
    found = {name: (logits[name], sounds[name], labels[name]) for name in parts}
    fit_decisions(model, sounds["domain"], *found["validation"], args.decision_coverage, args.set_coverage)
    watched = [call for call in trainer.callback_handler.callbacks if isinstance(call, MeasuringCallback)]
    rows = {"epoch": trainer.eval_dataset, **{call.name: call.rows for call in watched}}
    rows |= {"temperature": data["validation"], "decisions": data["validation"], "domain": domain, "test": data["test"]}
    return answers["test"], {
        "rows": {use: rows_read(cast(Any, read)["id"]) for use, read in rows.items()},
        "metrics": {split: emotion_metrics(logits[split].argmax(-1), labels[split], emotions) for split in parts},
        **describe_test(labels["test"], logits["test"].argmax(-1), data["test"]["speaker"][:], sex_of),
        "calibration": describe_calibration(logits["test"], labels["test"], model.config.calibration_temperature),
        "decisions": describe_decisions(model, *found["test"]),
    }


def _learns_errors(model: M4SERForEmotionClassification, text_column: str) -> bool:
    """Whether a run trains error detection or correction."""
    return (model.detector is not None or model.corrector is not None) and text_column == "hypothesis"


def _choose_correction_threshold(
    trainer: M4SERTrainer, processor: M4SERProcessor, validation: Dataset, text_column: str
) -> dict[str, Any]:
    """Set the confidence below which no edit is made, where edits are learned and the model was built without one.

    Returns what is said of the rows that it was chosen on.
    """
    model = trainer.model
    if not _learns_errors(model, text_column) or model.config.correction_threshold != 0:
        return {}
    with gathered(model, trainer.accelerator):
        texts = correct_rows(model, processor, _with_texts(validation).to_list())
    model.config.correction_threshold = choose_threshold(texts, processor)
    return {"threshold": rows_read(each.id for each in texts)}


def _with_texts(data: Dataset) -> Dataset:
    """Rows without what only costs time where texts alone are read."""
    return data.select_columns(["id", "hypothesis", "transcript"])


def _warn_if_text_encoder_frozen(model: M4SERForEmotionClassification) -> None:
    """Print where error detection and correction can teach nothing to what recognises emotions."""
    encoder, projection = model.m4ser.text_encoder, model.m4ser.text_projection
    trains_errors = model.config.use_error_detection or model.config.use_error_correction
    learns = any(p.requires_grad for part in (encoder, projection) if part is not None for p in part.parameters())
    if encoder is not None and trains_errors and not learns:
        logger.warning_once(
            "The text encoder is frozen: error detection and correction give nothing back to the emotion path.",
        )


def _test_title(results: Mapping[str, Any], utterances: int) -> str:
    """What was tested, on how much, and how well, for a figure."""
    corpus = results["arguments"].get("corpus", {}).get("corpus")
    metrics, interval = results["metrics"]["test"], results["intervals"]["wa"]
    ends = "" if interval["low"] is None else f" [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"
    wa, ua = f"WA {100 * metrics['wa']:.1f} %{ends}", f"UA {100 * metrics['ua']:.1f} %"
    return f"{corpus + ', ' if corpus else ''}{utterances:,} test utterances: {wa}, {ua}"


def _write_run(
    folder: Path,
    results: dict[str, Any],
    test: pd.DataFrame,
    data: DatasetDict,
    trainer: M4SERTrainer,
    corpus: CorpusRecord | None,
) -> None:
    """Everything of a run directory but the weights. `results.json` comes last: it says that the run is finished."""
    emotions, logits = results["emotions"], logits_of(test)
    labels = np.asarray(data["test"]["emotion"][:])
    temperature = results["calibration"]["temperature"]
    with_probabilities(test, emotions, temperature).to_parquet(folder / PREDICTIONS_FILE, index=False)
    log = trainer.state.log_history
    write_atomically(folder / LOG_FILE, json.dumps(log) + "\n")
    metrics = results["metrics"]["test"]
    plot_loss_curves(log, folder / "loss_curves.png", results["best_checkpoint"] and trainer.state.best_global_step)
    title = _test_title(results, len(data["test"]))
    plot_confusion_matrix(metrics["confusion_matrix"], emotions, folder / "confusion_matrix.png", title)
    curves = {
        name: reliability_curve(calibrated_probabilities(logits, value), labels)
        for name, value in {"as trained": 1.0, "calibrated": temperature}.items()
    }
    plot_reliability(curves, folder / "reliability.png")
    curve = risk_coverage(calibrated_probabilities(logits, temperature), labels)
    plot_risk_coverage(curve, results["decisions"]["test"], folder / "risk_coverage.png")
    counts = {
        str(name): dict(Counter(emotions[index] for index in part["emotion"]).most_common())
        for name, part in data.items()
    }
    plot_label_distribution(counts, folder / "label_distribution.png")
    write_model_card(folder, results, cast(ExperimentArguments, trainer.args), corpus, trainer.hub_model_id)
    write_atomically(folder / RESULTS_FILE, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
