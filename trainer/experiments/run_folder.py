"""One run directory: the settings it belongs to, and what it holds.

A directory belongs to its settings: every one that decides a result and is no default, and the data by their content.
They are written when the run starts; a later start with others is refused, so that no old result passes for a new one.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_scripts.files import write_atomically
from trainer.errors import ExperimentError

# Folders of predictions are claimed here too, also where there is no torch.
if TYPE_CHECKING:
    from datasets import DatasetDict

SETTINGS_FILE = "settings.json"
RESULTS_FILE = "results.json"
PREDICTIONS_FILE = "predictions.parquet"
LOG_FILE = "log_history.json"
#: What decides a result among the arguments of transformers; of our own, everything but `PRESENTATION_ARGUMENTS`.
DECIDING_ARGUMENTS = frozenset(
    {
        *("num_train_epochs", "max_steps", "seed", "data_seed", "train_sampling_strategy", "length_column_name"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "auto_find_batch_size", "dataloader_drop_last"),
        *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args"),
        *("optim_target_modules", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
        *("bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "tf32", "neftune_noise_alpha"),
        *("eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps"),
        *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    }
)
#: Our own arguments that say where and how runs are made, not what they compute.
PRESENTATION_ARGUMENTS = frozenset(
    {"strict", "folds", "seeds", "linear_probe", "rows", "learning_rates", "paper"}
    | {"cache_features", "feature_cache_dir", "figure_format", "hub_all_heads"}
)
_SHOWN = 6  # differences in one message: of another model, every file differs
_ENCODERS = ("speech_encoder", "text_encoder")
_FINGERPRINT_COLUMNS = ("id", "duration", "speaker", "session", "emotion", "transcript", "hypothesis", "asr_model")


def decides(name: str) -> bool:
    """Whether an argument of this name decides what a run computes."""
    from transformers import TrainingArguments

    is_library_s = name in TrainingArguments.__dataclass_fields__
    return name in DECIDING_ARGUMENTS if is_library_s else name not in PRESENTATION_ARGUMENTS


def changed_arguments(arguments: Any) -> dict[str, Any]:
    """Return the arguments of a dataclass that differ from its defaults, as JSON gives them back; no `*_token`."""
    # Compared with an object made without arguments, since many defaults are only resolved when it is made.
    default = type(arguments)()
    values = {field.name: _as_json(getattr(arguments, field.name)) for field in fields(arguments) if field.init}
    # D's rate is learning_rate where it is left out, so that one which equals the default is a choice, too.
    chosen = set() if getattr(arguments, "discriminator_follows", True) else {"discriminator_learning_rate"}
    return {
        name: value
        for name, value in values.items()
        if not name.endswith("_token") and (name in chosen or value != _as_json(getattr(default, name)))
    }


def command_line(arguments: Sequence[Any]) -> str:
    """Return the command that repeats this run without its YAML file: every argument that is not a default."""
    words = _program()
    for part in arguments:
        for name, value in changed_arguments(part).items():
            if value is None:
                continue  # no command line can say so
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(json.dumps(v) if isinstance(v, (dict, bool)) else str(v) for v in values)]
    return shlex.join(words)


def _program() -> list[str]:
    """What was typed before the arguments: a script's name, or `m4ser` and its verb."""
    path = Path(sys.argv[0])
    is_m4ser = path.stem == "m4ser" or path.parts[-2:] == ("m4ser", "__main__.py")
    return ["m4ser", *sys.argv[1:2]] if is_m4ser else [path.name]


def corpus_fingerprint(data: "DatasetDict") -> str:
    """Return a short hash of what a run reads: every split's rows in order, with labels and both texts.

    Recordings count by id and duration, not by their path: a moved corpus is the same corpus.
    """
    digest = hashlib.sha256()
    for split in sorted(data):
        part = data[split]
        emotion = part.features.get("emotion")
        names = getattr(emotion, "names", [])
        digest.update(json.dumps([split, names, len(part)]).encode())
        for column in _FINGERPRINT_COLUMNS:
            if column in part.column_names:
                digest.update(json.dumps([column, part[column][:]], ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def run_settings(
    arguments: Mapping[str, Any], data: "DatasetDict", split: Mapping[str, Any], text_column: str
) -> dict[str, Any]:
    """Return what must be equal for two runs to be the same run; `arguments` are dataclasses by section."""
    described = {"fingerprint": corpus_fingerprint(data), "split": split, "text_column": text_column}
    return _as_json({**arguments_settings(arguments), "data": described})


def arguments_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of `run_settings` before there are data."""
    sections = {
        section: {name: value for name, value in changed_arguments(part).items() if decides(name)}
        for section, part in arguments.items()
    }
    return _as_json({**sections, "defaults": model_defaults()})


def model_defaults() -> dict[str, Any]:
    """Return what the fields of M4SERConfig are by default, but for encoders, what follows from them, and thresholds.

    The thresholds of decisions are fitted to a finished training: older folders do not have them.
    """
    from transformers import PreTrainedConfig

    from modeling_m4ser import M4SERConfig

    inherited = {field.name for field in fields(PreTrainedConfig)} | {"reject_below"}
    own = {field.name: field.default for field in fields(M4SERConfig) if field.name not in inherited}
    return {name: value for name, value in own.items() if isinstance(value, (str, int, float))}


def check_settings(folder: str | Path, settings: Mapping[str, Any], file: str = SETTINGS_FILE) -> None:
    """Check that a directory is new, or was started with these settings.

    The data count by their fingerprint and not by the section `corpus`, which says where they came from; encoders in
    folders count by where those lie, however that is spelled. Settings without `data` are of any data.

    Raises:
        ExperimentError: it was started with others; the message names those that differ.
    """
    path = Path(folder) / file
    if not path.is_file():
        if (Path(folder) / RESULTS_FILE).is_file():
            raise ExperimentError(f"{folder} holds results without their {file}: choose another --output_dir.")
        return
    earlier, now = json.loads(path.read_text(encoding="utf-8")), _as_json(settings)
    if "data" not in now:
        earlier.pop("data", None)
    found = list(settings_differences(_comparable(earlier), _comparable(now)))
    if any(difference.startswith("data.") for difference in found):
        found += settings_differences(earlier.get("corpus"), now.get("corpus"), "corpus")
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ExperimentError(
            f"{folder} belongs to a run with other settings: {'; '.join(found[:_SHOWN])}{more}. Choose another "
            "--output_dir, repeat the earlier settings, or delete that folder to start over."
        )


def claim_folder(folder: str | Path, settings: Mapping[str, Any], file: str = SETTINGS_FILE) -> None:
    """Make a directory belong to these settings, see `check_settings`."""
    check_settings(folder, settings, file)
    write_atomically(Path(folder) / file, json.dumps(_as_json(settings), indent=2, ensure_ascii=False) + "\n")


def load_results(folder: str | Path) -> dict[str, Any]:
    """`results.json` of a finished run directory.

    Raises:
        ExperimentError: there is none.
    """
    path = Path(folder) / RESULTS_FILE
    if not path.is_file():
        raise ExperimentError(f"{folder} is no finished run: it has no {RESULTS_FILE}.")
    return json.loads(path.read_text(encoding="utf-8"))


def load_log(folder: str | Path) -> list[dict[str, Any]]:
    """What a run logged, by step: its `log_history.json`, or of an older run as much as its last checkpoint knows.

    Raises:
        ExperimentError: there is neither.
    """
    from transformers import TrainerState
    from transformers.trainer import TRAINER_STATE_NAME
    from transformers.trainer_utils import get_last_checkpoint

    path = Path(folder) / LOG_FILE
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    checkpoint = get_last_checkpoint(str(folder))
    if checkpoint is None:
        raise ExperimentError(f"{folder} has no log: neither {LOG_FILE} nor a checkpoint.")
    return TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME)).log_history


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of settings: every model option by its value, so that another version's default is another."""
    compared = {name: part for name, part in settings.items() if name not in ("corpus", "defaults")}
    if "defaults" not in settings:
        return compared
    model = dict(compared.get("model") or {})
    for name in _ENCODERS:
        if name in model and Path(model[name]).is_dir():
            model[name] = str(Path(model[name]).resolve())
    model["model_options"] = {**settings["defaults"], **(model.get("model_options") or {})}
    return {**compared, "model": model}


def settings_differences(earlier: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield what differs between two settings, by dotted name."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*earlier, *now]):
            yield from settings_differences(earlier.get(key), now.get(key), f"{name}.{key}" if name else key)
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
