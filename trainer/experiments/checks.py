"""What a run needs, in one list: checked before the first recording is read or recognised, which may take hours."""

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile
from accelerate import PartialState
from datasets import Dataset, DatasetDict

from data_scripts.corpora.registry import check_place
from data_scripts.prepare.recordings import RecordingInfo, inspect_recording, needs_no_conversion
from data_scripts.splits import evenly_spaced
from modeling_m4ser import M4SERForEmotionClassification
from trainer.arguments import ExperimentArguments
from trainer.compatibility import check_launch
from trainer.errors import ExperimentError
from trainer.evaluation.metrics import emotion_metrics
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cross_validation import args_for_run
from trainer.experiments.data import outline_corpus
from trainer.experiments.model import plan_model
from trainer.experiments.run import check_data
from trainer.experiments.run_folder import RESULTS_FILE, arguments_settings, check_settings
from trainer.inputs.feature_cache import check_cacheable

Folds = Mapping[str, tuple[DatasetDict, Mapping[str, Any]]]

#: Beside our metrics, what an evaluation measures.
_OTHER_METRICS = {"loss", "runtime", "samples_per_second", "steps_per_second"}
_FLAC_BYTES = 16_000  # of a second, about half of 16-bit samples
_SAMPLED = 100  # recordings whose headers tell how long the others are


def check_experiment(
    corpus: CorpusArguments,
    models: Sequence[ModelArguments],
    runs: RunArguments,
    args: ExperimentArguments,
    divide: Callable[[DatasetDict], Folds],
) -> None:
    """Check all that can be known before a corpus is prepared; the main process does it for all.

    Args:
        corpus: what `prepare_corpus` will be given.
        models: of the runs.
        runs: the seeds and learning rates.
        args: of training; `output_dir` is that of all runs.
        divide: a dataset -> the folds to run, as `run_folds` takes them. It gets `outline_corpus`, and must not read
            audio or durations.

    Raises:
        ExperimentError, TrainingError, CorpusError, RecognizerError: with what to change.
    """
    if not PartialState().is_main_process:
        return
    root = Path(str(args.output_dir))
    if corpus.prepared_dir is None:
        check_place(corpus)
    planned = check_setup(models, args)
    outline = outline_corpus(corpus, root / "corpus")
    for column in {model.text_column for model in models if model.reads_text}:
        outline = _without_unusable(outline, column)
    folds = divide(outline)
    for data, _ in folds.values():
        for column in {model.text_column if model.reads_text else None for model in models}:
            check_data(data, column)
        _check_metric(data, args)
    seeds, rates = list(dict.fromkeys(runs.seeds or [args.seed])), getattr(runs, "learning_rates", None) or [None]
    if len(models) == 1:
        for name, seed in ((name, seed) for name in folds for seed in seeds):
            run = args_for_run(args, root / name / f"seed{seed}", seed)
            sections = {"model": models[0], "runs": runs, "training": run}
            check_settings(str(run.output_dir), arguments_settings(sections))
    _check_space(root, planned, len(folds) * (len(seeds) + len(rates) - 1), args, _seconds_to_convert(outline))


def check_setup(models: Sequence[ModelArguments], args: ExperimentArguments) -> list[M4SERForEmotionClassification]:
    """Check what does not depend on a corpus; return the models without their weights."""
    check_launch(args)
    _check_folder(Path(str(args.output_dir)))
    if any(model.transcript_noise is not None for model in models) and not any(model.reads_text for model in models):
        raise ExperimentError(
            "transcript_noise makes errors in texts, and this model reads none: leave it out, or choose another row "
            "with --ablation."
        )
    planned = []
    for arguments in models:
        model, processor = plan_model(arguments, ("one", "another"))
        if args.cache_features and model.config.uses_speech:
            check_cacheable(model, processor)
        planned.append(model)
    return planned


def _check_folder(folder: Path) -> None:
    """Raise where nothing can be written into a folder that may not be there yet."""
    place = _existing(folder)
    if not place.is_dir():
        raise ExperimentError(f"--output_dir {folder}: {place} is a file. Choose another folder.")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror
        raise ExperimentError(f"--output_dir {folder}: nothing can be written into {place} ({reason}).") from None


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _without_unusable(outline: DatasetDict, column: str) -> DatasetDict:
    """The rows that have a text, where no other has a recording that can be used: the preparation drops those."""
    lacking, having = DatasetDict(), DatasetDict()
    for split, part in outline.items():
        texts = part[column][:]
        lacking[split] = part.select([row for row, text in enumerate(texts) if text is None])
        having[split] = part.select([row for row, text in enumerate(texts) if text is not None])
    is_mixed = any(map(len, lacking.values())) and any(map(len, having.values()))
    return having if is_mixed and not any(map(_any_usable, lacking.values())) else outline


def _any_usable(rows: Dataset) -> bool:
    columns = (rows[name][:] for name in ("id", "audio", "duration"))
    return any(map(_is_usable, *columns))


def _is_usable(identity: str, audio: Mapping[str, Any], duration: float | None) -> bool:
    if duration is not None:
        return True
    found = inspect_recording({"id": identity, "path": audio["path"]})
    return isinstance(found, RecordingInfo) and found.silence is None


def _check_metric(data: DatasetDict, args: ExperimentArguments) -> None:
    """Raise where the first validation would not find the metric that chooses the epoch."""
    if args.metric_for_best_model is None:
        return
    labels, names = data["validation"]["emotion"][:], data["validation"].features["emotion"].names
    known = {name for name, value in emotion_metrics(labels, labels, names).items() if isinstance(value, float)}
    if args.metric_for_best_model.removeprefix("eval_") not in known | _OTHER_METRICS:
        raise ExperimentError(
            f"metric_for_best_model {args.metric_for_best_model!r} is not measured; on these validation data are: "
            f"{', '.join(sorted(known))}, loss."
        )


def _seconds_to_convert(outline: DatasetDict) -> float:
    """About how long the recordings of an unprepared corpus are of which a FLAC will be made, by some of their headers.

    What soundfile cannot open, such as video, is not counted.
    """
    paths = [
        audio["path"]
        for part in outline.values()
        for audio, duration in zip(part["audio"][:], part["duration"][:], strict=True)
        if duration is None
    ]
    sampled = [paths[place] for place in evenly_spaced(len(paths), _SAMPLED)]
    seconds = 0.0
    for path in sampled:
        try:
            seconds += 0.0 if path is None or needs_no_conversion(path) else soundfile.info(path).duration
        except soundfile.SoundFileError:
            continue
    return seconds * len(paths) / max(1, len(sampled))


def _check_space(
    root: Path,
    models: Sequence[M4SERForEmotionClassification],
    runs_of_each: int,
    args: ExperimentArguments,
    seconds: float,
) -> None:
    """Raise where the disk has no room for what the runs leave that are not finished, and for one more checkpoint."""
    weights = [4 * sum(parameter.numel() for parameter in model.parameters()) for model in models]
    trained = [4 * sum(p.numel() for p in model.parameters() if p.requires_grad) for model in models]
    copies = 2 * (not args.save_only_model) + (args.ema_decay is not None)  # of Adam, and of the moving weights
    checkpoints = [whole + copies * part for whole, part in zip(weights, trained, strict=True)]
    saves = math.ceil(args.num_train_epochs) if args.save_strategy == "epoch" and args.max_steps <= 0 else 1
    kept = 0 if args.save_strategy == "no" else min(saves, args.save_total_limit or saves)
    of_each = [kept * checkpoint + whole for checkpoint, whole in zip(checkpoints, weights, strict=True)]
    finished = sum(1 for _ in root.rglob(RESULTS_FILE)) if root.is_dir() else 0
    unfinished = max(0, runs_of_each * len(models) - finished)
    needed = sum(of_each) / len(models) * unfinished + (max(checkpoints) if kept and unfinished else 0)
    free, flac = shutil.disk_usage(_existing(root)).free, _FLAC_BYTES * seconds
    if needed + flac > free:
        raise ExperimentError(
            f"--output_dir {root}: about {(needed + flac) / 1e9:.1f} GB will be written (models and checkpoints of "
            f"{unfinished} runs {needed / 1e9:.1f}, converted recordings {flac / 1e9:.1f}), {free / 1e9:.1f} GB are "
            "free. Free some space, choose another disk, or run fewer folds at a time: --folds."
        )
