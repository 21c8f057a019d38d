"""Every option of every command arrives where it acts: what acts is replaced by what remembers its arguments."""

import argparse
import importlib
import re
import runpy
import shlex
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import yaml
from datasets import Dataset, DatasetDict

from data_scripts.corpora import CorpusSelection
from data_scripts.corpora.report import PreparationReport
from data_scripts.parsers import CommandParser
from data_scripts.schema import build_dataset, save_prepared
from tests.helpers import ROOT
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS
from trainer import ExperimentArguments
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments, RunArguments
from trainer.experiments.cli import PRESETS, parse_arguments
from trainer.experiments.run_folder import changed_arguments, command_line
from trainer.studies.text_pairs import CorrectionArguments

RUNS = [SimpleNamespace(name="run", row="M4SER", results={"emotions": []})]
STAND_IN = mock.MagicMock()
TEXTS = SimpleNamespace(path=ROOT / "examples" / "demo" / "sample_corpus" / "manifest.csv")
#: module (or the command's own file): what acts there -> what it returns here.
ACTS = {
    "benchmark.py": {"write_encoders": ("a", "b"), "take_turns": 0, "describe": [{"way": "step"}], "costliest": {}}
    | {"to_markdown": "", "write_atomically": 0, "draw": None},
    "benchmarking.setting": {"find_clips": [{"audio": "a", "text": "b"}]},
    "modeling_m4ser": {"SpeechTextEmotionPipeline": None},
    "modeling_m4ser.export_m4ser": {"export_onnx": None},
    "modeling_m4ser.runtime_m4ser": {"OnnxPipeline": None},
    "modeling_m4ser.recognition_m4ser": {"Recognizer": None},
    "count_parameters.py": {"count_parameters": {}, "table": "", "write_atomically": None},
    "speak_meld.py": {"read_rows": {("a", 1, 1): {"Utterance": ""}}, "choose_rows": [("a", 1, 1)], "_digest": 1}
    | {"sayable": "", "require_programs": None},
    "data_scripts.prepare.folder": {"prepare_folder": STAND_IN, "push_to_hub": ""},
    "data_scripts.schema": {"load_prepared": {}},
    "data_scripts.transcribe.whisper": {"WhisperRecognizer": None},
    "data_scripts.transcribe.faster_whisper": {"FasterWhisperRecognizer": None},
    "data_scripts.transcribe.dataset": {"fill_folder": (None, STAND_IN), "HypothesesFile": TEXTS},
    "trainer.collator": {"M4SERDataCollator": STAND_IN},
    "trainer.evaluation.drawing": {"set_figure_formats": None},
    "trainer.experiments.model": {"build_model": (STAND_IN, STAND_IN)},
    "trainer.experiments.run": {"make_trainer": STAND_IN},
    "trainer.studies.analysis": {"analyze": "", "runs_by_row": {"M4SER": RUNS}},
    "trainer.inputs.asr_noise": {"fit": None},
    "trainer.studies.modality_probe": {"probe_runs": (1, 2), "probe_table": ""},
    "trainer.studies.report": {"update_report": Path("page")},
    "trainer.studies.retest": {"finished_runs": RUNS, "check_runs_unique": None, "retest_runs": {"": {}}},
    "trainer.studies.robustness": {"choose_runs": RUNS, "make_conditions": [], "condition_tables": {}}
    | {"describe_noise": [], "draw": None},
    "trainer.studies.tables": {"make_table": STAND_IN, "join_tables": STAND_IN},
}
#: A command with words that it needs; then its options: words > where they act (= as what). `only` these words are its
#: own, without those of the command; CORPUS stands for the options of `CorpusSelection`.
TABLE = """
analyze.py --prepared_dir FIRST --output_dir OUT
    --prepared_dir x77 > analyze
    --runs x77 > analyze
    --output_dir x77 > analyze
    --split x77 > analyze
    --utterances 77 > analyze
    --utterance x77 > analyze
    --seed 77 > analyze
    --figure_format svg > set_figure_formats
benchmark.py --parts loading
    --parts rows > build_model = only speech
    --size tiny > write_encoders
    --speech_encoder x77 --text_encoder y > build_model
    --text_encoder x77 --speech_encoder y > build_model
    --rows 'only text' --parts rows > build_model
    --repetitions 77 > take_turns
    --utterances 64 --parts grouping > make_trainer = clip63
    --batch_size 77 > make_trainer = 'per_device_train_batch_size': 77
    --clips x77 --parts wav > find_clips
    --asr x77 --parts wav --clips y > Recognizer SpeechTextEmotionPipeline
    --profile > costliest = {}
    --output_dir x77 > write_atomically
count_parameters.py --output_dir OUT
    --size tiny > count_parameters
    --model_options '{"x": 77}' > count_parameters = 'x': 77
    --output_dir x77 > write_atomically
probe_modalities.py --runs RUNS --prepared_dir FIRST --utterances 3
    --runs x77 > runs_by_row
    --prepared_dir OTHER > probe_runs = other1
    --split train > probe_runs = trained4
    --utterances 12 > probe_runs = tested1
    --seed 77 > probe_runs = , 77]
report.py
    --runs x77 > update_report
    --output_dir x77 > update_report
    --paper > update_report = True
retest.py --runs RUNS --prepared_dir FIRST --output_dir OUT
    --runs x77 > finished_runs
    --prepared_dir OTHER > retest_runs = other1
    --split train > retest_runs = trained1
    --output_dir x77 > retest_runs
    --batch_size 77 > retest_runs
    --bf16 > retest_runs = 'bf16': True
    --feature_cache_dir x77 > retest_runs
    --text_column transcript > retest_runs make_table
    --metric wa > make_table = 'wa', [
    --paper > make_table = 'speech & text + concat': {
run_robustness.py --runs RUNS --prepared_dir FIRST --output_dir OUT
    --runs x77 > finished_runs
    --prepared_dir OTHER > make_conditions = other1
    --split train > make_conditions = trained1
    --output_dir x77 > retest_runs draw
    --batch_size 77 > retest_runs
    --bf16 > retest_runs = 'bf16': True
    --feature_cache_dir x77 > retest_runs
    --rows x77 > choose_runs
    --wer 0.77 > make_conditions
    --pairs PAIRS.csv > fit = a pair
    --hypotheses x77=TEXTS.csv > make_conditions = 'x77': {
    --seed 77 > make_conditions describe_noise
speak_meld.py --data_dir FIRST --splits test
    --data_dir x77 > read_rows choose_rows
    --splits dev > read_rows
    --max_rows 77 > choose_rows
    --seed 77 > _digest
data_scripts.prepare dataset --output_dir OUT
    CORPUS
    --data_dir x77 > prepare_folder
    only --sessions 77 --output_dir OUT iemocap > prepare_folder
    --output_dir x77 > prepare_folder
    --embed_audio > prepare_folder = , True
    --push_to_hub x77 > push_to_hub
data_scripts.transcribe --output_dir OUT --dataset_name x --model m
    CORPUS
    only --prepared_dir x77 --model m > fill_folder
    --output_dir x77 > prepare_folder fill_folder
    --model x77 > WhisperRecognizer
    --backend faster-whisper > FasterWhisperRecognizer = 'm'
    --batch_size 77 > fill_folder
    --device x77 > WhisperRecognizer
    --language x77 > WhisperRecognizer
    --max_new_tokens 77 > WhisperRecognizer
    --seed 77 > WhisperRecognizer
    only --hypotheses x77 --asr_model y --output_dir OUT --dataset_name x > HypothesesFile
    --missing_only > fill_folder = , True
    --asr_model x77 > WhisperRecognizer
"""
OF_CORPORA = "".join(
    f"    --{each.name} {'77' if each.type is int else 'x77'} > prepare_folder\n"
    for each in fields(CorpusSelection)
    if each.name not in ("corpus", "data_dir", "sessions", "label_map", "strict")
)
OF_CORPORA += "    --label_map x=x77 > prepare_folder = 'x': 'x77'\n    --strict > prepare_folder = 'strict': True\n"
COMMANDS = {
    block.split()[0]: block.replace("    CORPUS\n", OF_CORPORA).splitlines()
    for block in re.split(r"\n(?=\S)", TABLE)
    if block
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The folders and files that words in capitals stand for."""
    folder = tmp_path_factory.mktemp("options")
    for place, size, names in (("FIRST", 12, ("trained", "tested")), ("OTHER", 3, ("trained", "other"))):
        parts = {}
        for split, name in zip(("train", "test"), names, strict=True):
            rows = tiny_corpus(size).remove_columns("id")
            parts[split] = rows.add_column("id", [f"{name}{number}" for number in range(size)])
        save_prepared(DatasetDict(parts), folder / place)
        PreparationReport("meld").save(folder / place / "report.json")
    rows = [{**row, "emotion": EMOTIONS[row["emotion"]], "session": row["speaker"][-1]} for row in tiny_corpus(12)]
    whole = build_dataset(rows, EMOTIONS)
    save_prepared(DatasetDict(train=whole), folder / "WHOLE")
    (folder / "PAIRS.csv").write_text("hypothesis,reference\na pair,two\n", encoding="utf-8")
    (folder / "TEXTS.csv").write_text("id,hypothesis\ntested0,a\n", encoding="utf-8")
    return lambda words: re.sub("FIRST|OTHER|WHOLE|PAIRS|TEXTS|OUT", lambda found: str(folder / found[0]), words)


def shown(value):
    """An argument as text; a command's own options, handed on as a whole, tell nothing."""
    if isinstance(value, Dataset):
        return shown(value["id"][:])
    if is_dataclass(value) and not isinstance(value, type):
        return shown(vars(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return "" if isinstance(value, argparse.Namespace) or callable(value) else repr(value)


def called(command, words):
    """Run a command; return what acts -> its arguments, as text."""
    # All first: a module that is imported later would keep a stand-in.
    modules = {name: importlib.import_module(name) for name in ACTS if not name.endswith(".py")}
    with pytest.MonkeyPatch.context() as patch:
        script = runpy.run_path(str(ROOT / "examples" / command)) if command.endswith(".py") else None
        spies = {}
        for module, returned in ACTS.items():
            if module.endswith(".py") and module != command:
                continue
            for name, value in returned.items():
                spy = spies[name] = mock.MagicMock(return_value=value)
                if module == command:
                    patch.setitem(script["main"].__globals__, name, spy)
                else:
                    patch.setattr(modules[module], name, spy)
        if script is None:
            assert importlib.import_module(f"{command}.__main__").main(words) == 0
        else:
            script["main"](script["parse_arguments"](words))
    return {name: shown([(call.args, call.kwargs) for call in spy.call_args_list]) for name, spy in spies.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_arrives(command, places, monkeypatch):
    usual, *lines = COMMANDS[command]
    usual = places(usual).split()[1:]
    parsers, parse = [], CommandParser.parse_args
    monkeypatch.setattr(CommandParser, "parse_args", lambda self, words: parsers.append(self) or parse(self, words))
    before, known = called(command, usual), set()
    for line in lines:
        words, _, acting = line.partition(" > ")
        acting, _, seen = acting.partition(" = ")
        alone, words = words.startswith("    only "), [*shlex.split(places(words).removeprefix("    only "))]
        known.add(words[0])
        now = called(command, words if alone else [*usual, *words])
        for name in acting.split():
            assert (seen or words[1]) in now[name], (line, name, now[name][:2000])
            assert (seen or words[1]) not in before[name], (line, name)
    options = {action.option_strings[-1] for action in parsers[0]._actions if action.option_strings}
    assert known == options - {"--help"}, "an option without a line in the table, or a line without an option"


#: Script -> what it needs, and what runs what it has read.
SCRIPTS = {
    **dict.fromkeys(("run_ablation.py", "run_sensitivity.py"), ("--prepared_dir WHOLE --num_folds 3", "run_table")),
    "run_learning_curve.py": ("--prepared_dir WHOLE --num_folds 3", "run_tables"),
    "run_cross_corpus.py": ("--source_dir FIRST --target_dir OTHER", "run_tables"),
    **dict.fromkeys(("run_iemocap.py", "run_meld.py"), ("--prepared_dir WHOLE", "run_folds")),
    "run_custom.py": ("--prepared_dir WHOLE --num_folds 3", "run_folds"),
    "run_correction.py": ("--pairs PAIRS.csv", "run_correction"),
}
RUNNERS = {"run_folds": "experiments", "run_correction": "studies.corrector"}
RUNNERS |= dict.fromkeys(("run_table", "run_tables"), "studies.comparison")


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_said_of_model_runs_and_training_goes_on_as_a_whole(script, places, monkeypatch):
    """No field of it can be lost: what runs gets the object that the command line gave."""
    main = runpy.run_path(str(ROOT / "examples" / script))["main"]
    sections = [each for name, each in main.__annotations__.items() if name not in ("args", "return")]
    needed, runner = SCRIPTS[script]
    words = places(f"{needed} --output_dir OUT --use_cpu").split()
    parts = parse_arguments([*sections, ExperimentArguments], words)
    spy = mock.MagicMock()
    monkeypatch.setattr(importlib.import_module(f"trainer.{RUNNERS[runner]}"), runner, spy)
    monkeypatch.setattr("trainer.studies.corrector.format_table", mock.MagicMock())
    for room in ("experiments", "experiments.checks", "studies.divisions"):  # they need real encoders
        monkeypatch.setattr(f"trainer.{room}.check_experiment", mock.MagicMock())
    monkeypatch.setattr("trainer.experiments.checks.check_setup", mock.MagicMock())
    main(*parts)
    (call,) = spy.call_args_list
    handed = [each for value in call.args for each in (value, *getattr(value, "__dict__", {}).values())]
    whole = (ModelArguments, RunArguments, CorrectionArguments, ExperimentArguments)
    lost = [type(part) for part in parts if isinstance(part, whole) and not any(part is each for each in handed)]
    assert not lost
    assert {ExperimentArguments} < {type(part) for part in parts}


FILES = [
    *sorted((ROOT / "examples" / "configs").glob("[!a]*.yaml")),  # those of accelerate are not ours
    ROOT / "examples" / "demo" / "demo.yaml",
    *PRESETS.values(),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_results_record_every_setting_of_a_file_and_a_command_that_repeats_it(path, tmp_path):
    sections = (CorpusArguments, ModelArguments, GridArguments, ExperimentArguments)
    sections = (CorrectionArguments, ExperimentArguments) if path.stem == "correction" else sections
    words = ["--config", str(path), "--output_dir", str(tmp_path), "--use_cpu"]
    parts = parse_arguments(sections, words)
    recorded = {
        name: value for part in parts for name, value in {**vars(type(part)()), **changed_arguments(part)}.items()
    }
    wanted = yaml.safe_load(path.read_text(encoding="utf-8")) | {"output_dir": str(tmp_path)}
    assert {name: recorded[name] for name in wanted} == wanted
    again = parse_arguments(sections, shlex.split(command_line(parts))[1:])
    assert list(map(changed_arguments, again)) == list(map(changed_arguments, parts))
