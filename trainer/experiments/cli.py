"""Command lines of the example scripts: dataclasses as arguments, a YAML file under them, errors in one line.

A script's `--help` answers without importing torch: its own arguments are light dataclasses, and those of training are
read from the source files that define them.
"""

import ast
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import yaml

from data_scripts.errors import run_command
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments

_TRAINING_ARGUMENTS = Path(__file__).parents[1] / "arguments.py"
#: Classes of training arguments, from the special to the general: (title, class, its file).
_TRAINING_SECTIONS = (
    ("experiment", "ExperimentArguments", _TRAINING_ARGUMENTS),
    ("training", "M4SERTrainingArguments", _TRAINING_ARGUMENTS),
    ("further training arguments, of transformers.TrainingArguments", "TrainingArguments", None),
)
_CONFIG_HELP = "YAML file with any of these arguments; the command line wins over it."


def run_script(main: Callable[..., None], *dataclasses: type, config: str | Path | None = None) -> NoReturn:
    """Run an example script with the arguments of its command line, and exit.

    `--help` prints the script's own arguments first. What a user can mend ends the script with one line on stderr and
    status 2, see `data_scripts.errors`.

    Args:
        main: takes one object of each of `dataclasses`, and the `ExperimentArguments`. Its module's docstring is the
            script's description.
        dataclasses: the script's own arguments.
        config: a YAML file under the one that `--config` names.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(format_help(dataclasses, sys.modules[main.__module__].__doc__ or ""))
        sys.exit(0)

    def parse_and_run() -> None:
        from trainer.arguments import ExperimentArguments  # imports torch

        main(*parse_arguments((*dataclasses, ExperimentArguments), config=config))

    sys.exit(run_command(parse_and_run))


def parse_arguments(
    dataclasses: Sequence[Any], arguments: Sequence[str] | None = None, config: str | Path | None = None
) -> tuple[Any, ...]:
    """Return one object of each dataclass: its defaults, under the YAML files, under the command line.

    A file's settings of a corpus (those of `CorpusArguments`) are passed over by a script that takes none, which says
    so: one file serves all scripts.

    Args:
        dataclasses: the arguments.
        arguments: of the command line; by default the process's own. `--config FILE.yaml` among them names a file.
        config: a YAML file under that one.

    Raises:
        ExperimentError: a file is missing, no mapping, or has a key that is no argument; or an argument has a value
            that it cannot have. The message names it.
    """
    from transformers import HfArgumentParser

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = HfArgumentParser(list(dataclasses))
    parser.add_argument("--config", help=_CONFIG_HELP)
    known, _ = parser.parse_known_args(arguments)
    names = {field.name for dataclass in dataclasses for field in fields(dataclass)}
    for path in filter(None, (config, known.config)):
        settings = _read_yaml(Path(path))
        passed_over = sorted({field.name for field in fields(CorpusArguments)}.intersection(settings) - names)
        if passed_over:
            print(f"{path}: not used by this script: {', '.join(passed_over)}", flush=True)
        settings = {name: value for name, value in settings.items() if name not in passed_over}
        if unknown := sorted(set(settings) - names):
            raise ExperimentError(f"{path}: unknown setting {', '.join(unknown)} (see --help for all of them).")
        parser.set_defaults(**settings)
    try:
        parsed = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=False)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    return tuple(parsed[: len(dataclasses)])  # the last one is the namespace of --config


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ExperimentError(f"There is no configuration file {path}.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ExperimentError(f"{path} must be a mapping of settings (name: value).")
    return settings


def format_help(dataclasses: Sequence[type], description: str) -> str:
    """Return the text of `--help`: the script's own arguments, then those of training, then the library's.

    Args:
        dataclasses: the script's own arguments.
        description: of the script.
    """
    script = Path(sys.argv[0]).name
    lines = [f"usage: {script} [--config FILE.yaml] [--ARGUMENT VALUE ...]", "", description.strip(), ""]
    lines += ["  --config FILE", *_wrapped(_CONFIG_HELP)]
    listed: set[str] = set()
    for dataclass in dataclasses:
        title = (dataclass.__doc__ or dataclass.__name__).strip().splitlines()[0]
        own = [(field.name, _default_text(field), field.metadata.get("help", "")) for field in fields(dataclass)]
        lines += _section(title, own)
        listed.update(name for name, *_ in own)
    for title, name, path in _TRAINING_SECTIONS:
        options = [option for option in _source_options(name, path) if option[0] not in listed]
        lines += _section(title, options)
        listed.update(name for name, *_ in options)
    return "\n".join(lines)


def _default_text(field: Field) -> str:
    """A field's default as one would type it; empty where there is none."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _section(title: str, options: Sequence[tuple[str, str, str]]) -> list[str]:
    """The lines of one group of arguments: (name, default, help) each."""
    lines = ["", f"{title.rstrip('.')}:"]
    for name, default, text in options:
        lines += [f"  --{name}", *_wrapped(f"{text} (default: {default})" if default not in ("", "None") else text)]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _source_options(name: str, path: Path | None) -> Iterator[tuple[str, str, str]]:
    """Yield (name, default, help) of a dataclass's fields as its source file states them."""
    if path is None:
        spec = find_spec("transformers")
        if spec is None or not spec.submodule_search_locations:
            return
        path = Path(spec.submodule_search_locations[0]) / "training_args.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.target.id, *_default_and_help(statement.value)


def _default_and_help(value: ast.expr | None) -> tuple[str, str]:
    """The default and the help text of one field, as text; empty where the source computes them."""
    if not isinstance(value, ast.Call):
        return ("" if value is None else ast.unparse(value)), ""
    parts = {keyword.arg: keyword.value for keyword in value.keywords}
    default = ast.unparse(parts["default"]).strip("'") if "default" in parts else ""
    metadata = parts.get("metadata")
    if isinstance(metadata, ast.Dict):
        for key, text in zip(metadata.keys, metadata.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "help":
                try:
                    return default, " ".join(str(ast.literal_eval(text)).split())
                except ValueError:
                    return default, ""
    return default, ""
