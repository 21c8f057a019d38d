"""What decides a run: every setting that is not a default, and the data.

A run directory belongs to its settings. They are written when the run starts; a later start with others is refused, so
that no old result passes for a new one.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from datasets import ClassLabel, DatasetDict
from transformers import PreTrainedConfig

from data_scripts.files import write_atomically
from modeling_m4ser import M4SERConfig
from trainer.errors import ExperimentError

SETTINGS_FILE = "settings.json"
#: Arguments that say where and how a run shows itself, not what it computes.
PRESENTATION_ARGUMENTS = frozenset(
    {
        *("output_dir", "config", "num_workers", "strict", "folds", "seeds", "linear_probe"),
        *("rows", "learning_rates", "paper"),
        *("do_train", "do_eval", "do_predict", "cache_features", "feature_cache_dir"),
        *("disable_tqdm", "report_to", "run_name", "project", "log_level", "log_level_replica", "log_on_each_node"),
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter", "logging_dir"),
        *("push_to_hub", "hub_token", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push"),
        *("hub_revision", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order"),
        *("use_cpu", "local_rank", "ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb", "ddp_find_unused_parameters"),
        *("save_total_limit", "save_on_each_node", "enable_jit_checkpoint", "resume_from_checkpoint", "debug"),
        *("skip_memory_metrics", "eval_accumulation_steps", "eval_use_gather_object", "torch_empty_cache_steps"),
    }
)
_FINGERPRINT_COLUMNS = ("id", "duration", "speaker", "session", "emotion", "transcript", "hypothesis", "asr_model")


def changed_arguments(arguments: Any, skip: Iterable[str] = ()) -> dict[str, Any]:
    """Return the arguments of a dataclass that differ from its defaults, as JSON would give them back.

    Args:
        arguments: an object of a dataclass. Secrets (names that end in `_token`) are left out.
        skip: names to leave out.
    """
    left_out = set(skip)
    # Compared with an object made without arguments, since many defaults are only resolved when it is made.
    default = type(arguments)()
    values = {field.name: _as_json(getattr(arguments, field.name)) for field in fields(arguments) if field.init}
    return {
        name: value
        for name, value in values.items()
        if name not in left_out and not name.endswith("_token") and value != _as_json(getattr(default, name))
    }


def command_line(arguments: Sequence[Any]) -> str:
    """Return the command that repeats this run without its YAML file: every argument that is not a default."""
    words = [Path(sys.argv[0]).name]
    for part in arguments:
        for name, value in changed_arguments(part).items():
            if value is None:
                continue  # no command line can say so
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(json.dumps(v) if isinstance(v, (dict, bool)) else str(v) for v in values)]
    return shlex.join(words)


def corpus_fingerprint(data: DatasetDict) -> str:
    """Return a short hash of what a run reads: every split's rows in order, with labels and both texts.

    Recordings count by id and duration, not by their path: a moved corpus is the same corpus.
    """
    digest = hashlib.sha256()
    for split in sorted(data):
        part = data[split]
        emotion = part.features.get("emotion")
        names = emotion.names if isinstance(emotion, ClassLabel) else []
        digest.update(json.dumps([split, names, len(part)]).encode())
        for column in _FINGERPRINT_COLUMNS:
            if column in part.column_names:
                digest.update(json.dumps([column, part[column][:]], ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def run_settings(
    arguments: Mapping[str, Any], data: DatasetDict, split: Mapping[str, Any], text_column: str
) -> dict[str, Any]:
    """Return what must be equal for two runs to be the same run.

    Args:
        arguments: section -> object of a dataclass, e.g. {"model": ModelArguments, "training": ExperimentArguments}.
        data: the splits.
        split: what `Fold.describe()` says.
        text_column: the text that the model reads.
    """
    sections = {name: changed_arguments(part, PRESENTATION_ARGUMENTS) for name, part in arguments.items()}
    described = {"fingerprint": corpus_fingerprint(data), "split": split, "text_column": text_column}
    return _as_json({**sections, "data": described, "defaults": model_defaults()})


def model_defaults() -> dict[str, Any]:
    """Return what the fields of M4SERConfig are by default, encoders and what follows from them left out."""
    inherited = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name: field.default for field in fields(M4SERConfig) if field.name not in inherited}
    return {name: value for name, value in own.items() if isinstance(value, (str, int, float))}


def check_settings(folder: str | Path, settings: Mapping[str, Any], file: str = SETTINGS_FILE) -> None:
    """Check that a run directory is new, or was started with these settings.

    Raises:
        ExperimentError: it was started with others; the message names those that differ. Or by a version that did not
            record the model's defaults, which may have been others.
    """
    path = Path(folder) / file
    if not path.is_file():
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    if "defaults" in settings and "defaults" not in earlier:
        raise ExperimentError(
            f"{folder} belongs to a run of a version that did not record its defaults, and others may hold now. Choose "
            "another --output_dir, or delete that folder to run anew."
        )
    differences = list(_differences(_with_defaults(earlier), _with_defaults(_as_json(settings))))
    if differences:
        raise ExperimentError(
            f"{folder} belongs to a run with other settings: {'; '.join(differences)}. Choose another --output_dir, "
            "repeat the earlier settings, or delete that folder to run anew."
        )


def claim_folder(folder: str | Path, settings: Mapping[str, Any], file: str = SETTINGS_FILE) -> None:
    """Make a run directory belong to these settings.

    Raises:
        ExperimentError: it belongs to others, see `check_settings`.
    """
    check_settings(folder, settings, file)
    write_atomically(Path(folder) / file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def _with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose model options name every field, so that another version's default is another setting."""
    if "defaults" not in settings:
        return dict(settings)
    model = settings.get("model") or {}
    options = {**settings["defaults"], **(model.get("model_options") or {})}
    return {**settings, "defaults": None, "model": {**model, "model_options": options}}


def _differences(earlier: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield what differs between two settings, by dotted name."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*earlier, *now]):
            yield from _differences(earlier.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif earlier != now:
        yield f"{name} {_shown(earlier)} before, {_shown(now)} now"


def _shown(value: Any) -> str:
    """A setting's value for a message; what is absent has its default."""
    text = "the default" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_json(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists, enumerations their values, other objects their text."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return _as_json(value.value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_as_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
