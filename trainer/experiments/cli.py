"""Command lines of the example scripts: dataclasses as arguments, a YAML file under them, errors in one line."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from data_scripts.schema import CorpusError
from data_scripts.transcribe.whisper import RecognizerError
from modeling_m4ser import AudioError
from trainer.experiments.run import ExperimentError


def parse_arguments(dataclasses: Sequence[type], arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
    """
    One object of each dataclass: its defaults, under the file given as `--config FILE.yaml`, under the command line.

    Raises:
        ExperimentError: the file is missing, no mapping, or has a key that is no argument; or an argument has a value
            that it cannot have. The message names it.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = HfArgumentParser(dataclasses)
    parser.add_argument("--config", help="YAML file with any of these arguments; the command line wins over it")
    known, _ = parser.parse_known_args(arguments)
    if known.config:
        settings = _read_yaml(Path(known.config))
        names = {field.name for dataclass in dataclasses for field in fields(dataclass)}
        unknown = sorted(set(settings) - names)
        if unknown:
            raise ExperimentError(f"{known.config}: unknown setting {', '.join(unknown)} (see --help for all of them).")
        parser.set_defaults(**settings)
    try:
        *parsed, rest = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=False)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    del rest  # the namespace with --config alone
    return tuple(parsed)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ExperimentError(f"There is no configuration file {path}.")
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(settings, dict):
        raise ExperimentError(f"{path} must be a mapping of settings (name: value).")
    return settings


def run_main(main: Callable[[], None]) -> None:
    """Run a script; what a user can mend ends it with one line and status 2 instead of a traceback."""
    try:
        main()
    except (AudioError, CorpusError, ExperimentError, RecognizerError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
