"""Command lines that train: dataclasses as arguments, YAML files under them, errors in one line."""

import argparse
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments

if TYPE_CHECKING:
    from transformers import HfArgumentParser

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}
#: What every script takes beside its dataclasses: name -> (metavar, help).
FILES = {
    "config": ("FILE", "YAML file with any of these arguments; the command line wins over it."),
    "preset": ("NAME", f"Settings that go together: {', '.join(PRESETS)}. Every other argument, and --config, win."),
}
#: How other programs call what has another name here.
_OTHER_NAMES = {"batch_size": "per_device_train_batch_size", "lr": "learning_rate", "epochs": "num_train_epochs"}
_METAVARS = {"int": "N", "float": "X", "bool": "true|false"}
_USUAL_TRAINING_ARGUMENTS = """\
training, the most usual (--help all lists every one, also those of transformers.TrainingArguments):
  --output_dir FOLDER   Where the results go. Needed.
  --num_train_epochs N  --learning_rate X  --per_device_train_batch_size N  --seed N  --bf16 true|false"""


def run_script(main: Callable[..., None], *dataclasses: type, config: str | Path | None = None) -> NoReturn:
    """Run an example script with the arguments of its command line, and exit; see `run_words`."""
    sys.exit(run_words(main, *dataclasses, words=sys.argv[1:], prog=Path(sys.argv[0]).name, config=config))


def run_words(
    main: Callable[..., None], *dataclasses: type, words: Sequence[str], prog: str, config: str | Path | None = None
) -> int:
    """Run what trains with the words of a command line, and return the exit status; `prog` is its name in the help.

    `--help` shows the command's own arguments, `--help all` those of training too. What a user can correct ends it
    with one line on stderr and status 2, see `data_scripts.errors`.

    `main` takes one object of each of `dataclasses`, and the `ExperimentArguments`; its module's docstring is the
    command's description, with examples of its use. `config` is a YAML file under those that the command line names.
    """

    def parse_and_run() -> None:
        if {"-h", "--help"} & set(words):
            every = dataclasses
            if "all" in words:
                from trainer.arguments import ExperimentArguments  # imports torch

                every = (*dataclasses, ExperimentArguments)
            print(format_help(every, sys.modules[main.__module__].__doc__ or "", prog), flush=True)
            return
        from trainer.arguments import ExperimentArguments
        from trainer.evaluation.drawing import set_figure_formats

        parsed = parse_arguments((*dataclasses, ExperimentArguments), words, config)
        set_figure_formats(parsed[-1].figure_format)
        main(*parsed)

    return run_command(parse_and_run)


def parse_arguments(
    dataclasses: Sequence[Any], arguments: Sequence[str], config: str | Path | None = None
) -> tuple[Any, ...]:
    """Return one object of each dataclass: its defaults, under the YAML files, under the command line.

    Values of a YAML file are read as on the command line. A file's settings of a corpus (those of `CorpusArguments`)
    are passed over by a script that takes none, which says so: one file serves all scripts. The file of `--config` wins
    over that of `--preset`, and both over `config`.

    Raises:
        ExperimentError: an argument or a file's key that does not exist, a value that cannot be, or no `--output_dir`.
    """
    parser = _make_parser(dataclasses)
    _refuse_unknown(parser, [word.partition("=")[0][2:] for word in arguments if re.match(r"--\w", word)], "")
    named = parser.parse_known_args(arguments)[0]
    if named.preset is not None and named.preset not in PRESETS:
        raise ExperimentError(f"--preset {named.preset!r} is none of: {', '.join(PRESETS)}.")
    words: list[str] = []
    for path in filter(None, (config, PRESETS.get(named.preset or ""), named.config)):
        words += _yaml_words(parser, Path(path))
    if "output_dir" in _names(parser) and parser.parse_known_args([*words, *arguments])[0].output_dir is None:
        raise ExperimentError("Say where the results go: --output_dir FOLDER.")
    try:
        parsed = parser.parse_args_into_dataclasses([*words, *arguments], return_remaining_strings=True)
    except ValueError as error:
        raise ExperimentError(str(error)) from error
    if parsed[-1]:
        raise ExperimentError(f"Not understood: {' '.join(parsed[-1])} (an option begins with --).")
    return tuple(parsed[: len(dataclasses)])  # after them come the namespace of FILES and the remaining words


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a script that tests finished runs on a prepared folder and trains nothing."""
    add = parser.add_argument
    add("--runs", required=True, nargs="+", metavar="FOLDER", help="of a grid, of folds and seeds, or of one run")
    add("--prepared_dir", required=True, metavar="FOLDER", help="corpus of data_scripts.prepare")
    add("--split", default="test", help="split to test on (default test)")
    add("--output_dir", required=True, metavar="FOLDER", help="where predictions, table and figure are kept")
    add("--batch_size", type=int, default=32)
    add("--bf16", action="store_true", help="run in half precision")
    add("--feature_cache_dir", help="keep the states of frozen speech encoders there, for all runs")


def _make_parser(dataclasses: Sequence[Any]) -> "HfArgumentParser":
    from transformers import HfArgumentParser

    class Parser(CommandParser, HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            # The library gives each option a second name, with hyphens.
            message = re.sub(r"(--\w+)/--[\w-]+", r"\1", message).rstrip(".")
            raise ExperimentError(f"{message[0].upper()}{message[1:]}.")

    parser = Parser(list(dataclasses), allow_abbrev=False)
    for name, (metavar, text) in FILES.items():
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.set_defaults(**({"output_dir": None} if "output_dir" in _names(parser) else {}))
    return parser


def _names(parser: "HfArgumentParser") -> set[str]:
    return {option[2:] for action in parser._actions for option in action.option_strings if option.startswith("--")}


def _refuse_unknown(parser: "HfArgumentParser", names: Iterable[str], place: str) -> None:
    """Raise for a name that is no argument, with the nearest one."""
    every = _names(parser)
    known = sorted(name for name in every if "-" not in name)
    for name in names:
        if name in every:
            continue
        begun = sorted((each for each in known if each.startswith(name)), key=len)
        alike = [*filter(None, [_OTHER_NAMES.get(name)]), *begun, *difflib.get_close_matches(name, known, 1)]
        hint = f": did you mean --{alike[0]}?" if alike else " (--help all lists all of them)."
        raise ExperimentError(f"{place}There is no argument --{name}{hint}")


def _yaml_words(parser: "HfArgumentParser", path: Path) -> list[str]:
    """The settings of a YAML file as words of a command line, which types them."""
    if not path.is_file():
        raise ExperimentError(f"There is no configuration file {path}.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ExperimentError(f"{path} must be a mapping of settings (name: value).")
    unused = sorted({field.name for field in fields(CorpusArguments)}.intersection(settings) - _names(parser))
    if unused and path not in PRESETS.values():
        print(f"{path}: not used by this script: {', '.join(unused)}", flush=True)
    _refuse_unknown(parser, (name for name in settings if name not in unused), f"{path}: ")
    words = []
    for name, value in settings.items():
        if name in unused:
            continue
        if value is None or value == []:
            parser.set_defaults(**{name: value})  # no command line can say so
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words.append(f"--{name}={json.dumps(value) if isinstance(value, (dict, bool)) else value}")
    try:
        parser.parse_known_args(words)
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error
    return words


def format_help(dataclasses: Sequence[type], description: str, prog: str) -> str:
    """Return the text of `--help`: the description of the command `prog`, with examples, and these arguments."""
    lines = [f"usage: {prog} [--config FILE] [--preset NAME] [--ARGUMENT VALUE ...]", "", description.strip(), ""]
    for name, (metavar, text) in FILES.items():
        lines += _option_lines(name, metavar, text)
    listed: set[str] = set()
    for dataclass in dataclasses:
        title = (dataclass.__doc__ or dataclass.__name__).strip().splitlines()[0]
        lines += ["", f"{title.rstrip('.')}:"]
        for field in fields(dataclass):
            if field.init and field.name not in listed:
                default = _default_text(field)
                text = " ".join(field.metadata.get("help", "").replace("%%", "%").split())
                lines += _option_lines(field.name, _metavar(field), f"{text} (default: {default})" if default else text)
                listed.add(field.name)
    if "output_dir" not in listed:
        lines += ["", _USUAL_TRAINING_ARGUMENTS]
    return "\n".join(lines)


def _metavar(field: Field) -> str:
    """What stands for a value of an argument: its own `metavar`, or by its type and name."""
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    one = field.metadata.get("metavar") or next((_METAVARS[each] for each in _METAVARS if each in kind), None)
    if one is None:
        ending = field.name.rpartition("_")[2]
        one = {"dir": "FOLDER", "options": "JSON", "name": "NAME", "encoder": "MODEL", "model": "MODEL"}.get(
            ending, "TEXT"
        )
    return f"{one} [{one} ...]" if "list" in kind else one


def _default_text(field: Field) -> str:
    """A field's default as one would type it; empty where there is none."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _option_lines(name: str, metavar: str, text: str) -> list[str]:
    return [f"  --{name} {metavar}", *textwrap.wrap(text, 110, initial_indent=" " * 8, subsequent_indent=" " * 8)]
