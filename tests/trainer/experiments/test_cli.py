"""Command lines: YAML under arguments, help that answers at once, mistakes in one line, the shipped configurations."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest
import yaml

from data_scripts.corpora.iemocap import DEFAULT_EMOTIONS
from modeling_m4ser import M4SERConfig
from tests.helpers import ROOT
from tests.helpers.experiments import write_manifest
from tests.helpers.process import run_example, run_example_here
from trainer import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cli import format_help, parse_arguments

SECTIONS = (CorpusArguments, ModelArguments, RunArguments, ExperimentArguments)
SCRIPTS = ("run_custom.py", "run_iemocap.py", "run_meld.py", "demo/train.py")


def parse(folder, written, *words, sections=SECTIONS):
    """What these words mean under this YAML file."""
    config = folder / "config.yaml"
    config.write_text(f"{written}\n")
    return parse_arguments(sections, ["--config", str(config), "--output_dir", str(folder), "--use_cpu", *words])


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("seeds: 42", {"seeds": [42]}),
        ("seeds: [1, 2]", {"seeds": [1, 2]}),
        ("emotions: happy", {"emotions": ["happy"]}),
        ("corpus: iemocap\nsessions: [1, '2']", {"sessions": ["1", "2"]}),
        ("learning_rate: 1e-4", {"learning_rate": 1e-4}),
        ("learning_rate: -1", {"learning_rate": -1.0}),
        ("balance_classes: yes", {"balance_classes": True}),
        ("freeze_feature_encoder: false", {"freeze_feature_encoder": False}),
        ("model_options: {fusion_dropout: 0.3}", {"model_options": {"fusion_dropout": 0.3}}),
        ("feature_cache_dir: null", {"feature_cache_dir": None}),
        ("speed_perturbation: [0.9, 1]", {"speed_perturbation": [0.9, 1.0]}),
        ("seeds: []", {"seeds": []}),
    ],
)
def test_values_of_a_file_are_read_as_on_the_command_line(tmp_path, written, read):
    parsed = parse(tmp_path, written)
    values = {name: value for part in parsed for name, value in vars(part).items()}
    assert {name: values[name] for name in read} == read
    assert all(type(values[name]) is type(value) for name, value in read.items())


@pytest.mark.parametrize("word", ["--data_dir=~/x", "--prepared_dir=~/x", "--hypotheses=~/x", "data_dir: ~/x"])
def test_a_tilde_is_the_home_folder_where_no_shell_expands_it(tmp_path, monkeypatch, word):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "c.yaml").write_text("" if word.startswith("--") else f"{word}\n")
    words = ["--config=~/c.yaml", "--output_dir=~/out", "--use_cpu", *([word] if word.startswith("--") else [])]
    corpus, args = parse_arguments((CorpusArguments, ExperimentArguments), words)
    assert args.output_dir == str(tmp_path / "out")
    assert str(tmp_path / "x") in (corpus.data_dir, corpus.prepared_dir, corpus.hypotheses)


@pytest.mark.parametrize(
    ("written", "words", "message"),
    [
        ("freeze_speech_layers: 1.5", [], "config.yaml: Argument --freeze_speech_layers: invalid int value: '1.5'"),
        ("learning_rat: 1", [], "config.yaml: There is no argument --learning_rat: did you mean --learning_rate"),
        ("- a list", [], "config.yaml must be a mapping"),
        ("a: [", [], "config.yaml is no YAML"),
        ("", ["--num_epochs", "3"], "no argument --num_epochs: did you mean --num_train_epochs"),
        ("", ["--batch_size=3"], "no argument --batch_size: did you mean --per_device_train_batch_size"),
        ("", ["--learn", "3"], "no argument --learn: did you mean --learning_rate"),
        ("", ["--qqq", "3"], "no argument --qqq .--help all lists"),
        ("", ["--seeds", "one"], "--seeds: invalid int value: 'one'"),
        ("", ["--ema_decay", "2"], "ema_decay"),
        ("", ["--seed", "1", "runs/mine"], "Not understood: runs/mine"),
        ("", ["--config", "absent.yaml"], "no configuration file absent.yaml"),
    ],
)
def test_what_cannot_be_is_named_with_a_way_out(tmp_path, written, words, message):
    with pytest.raises(ExperimentError, match=message):
        parse(tmp_path, written, *words)


def test_the_folder_of_the_results_is_needed():
    with pytest.raises(ExperimentError, match="Say where the results go: --output_dir FOLDER"):
        parse_arguments(SECTIONS, ["--seed", "3"])


def test_settings_of_a_corpus_are_passed_over_where_none_is_prepared(tmp_path, capsys):
    written = "asr_model: openai/whisper-tiny.en\nlearning_rate: 2.0e-4"
    (args,) = parse(tmp_path, written, sections=SECTIONS[-1:])
    assert args.learning_rate == 2e-4
    assert capsys.readouterr().out == f"{tmp_path / 'config.yaml'}: not used by this script: asr_model\n"
    assert parse(tmp_path, written)[0].asr_model == "openai/whisper-tiny.en"
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("run_custom.py", [], "--data_dir"),
        ("run_custom.py", ["--data_dir", "no/such/folder"], "no/such/folder"),
        ("run_custom.py", ["--config", "absent.yaml"], "absent.yaml"),
        ("run_iemocap.py", ["--data_dir", ".", "--validation", "foo"], "validation must be 'speaker' or a share"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_prepared(tmp_path, script, arguments, message, capsys):
    run_example_here(script, *arguments, "--output_dir", tmp_path / "out", status=2)
    printed = capsys.readouterr().err
    assert message in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_in_one_line(tmp_path):
    write_manifest(tmp_path)
    done = run_example("run_custom.py", "--data_dir", tmp_path, "--output_dir", "/dev/full/out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_torch_and_shows_the_script_s_own_arguments(script):
    watched = f"""
import runpy, sys
sys.argv = [{script!r}, "--help"]
try:
    runpy.run_path({str(ROOT / "examples" / script)!r}, run_name="__main__")
except SystemExit as stop:
    assert stop.code == 0
print("LOADED", sorted({{"torch", "transformers", "datasets"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert "examples/" in done.stdout, "an example of its use"
    assert "--output_dir FOLDER" in done.stdout
    if script != "demo/train.py":
        assert "  --data_dir FOLDER\n" in done.stdout
        assert done.stdout.index("--data_dir FOLDER") < done.stdout.index("--speech_encoder MODEL")
        assert "  --seeds N [N ...]\n" in done.stdout
        assert "w/o AED & AEC" in done.stdout


def test_help_all_lists_every_argument_once_as_people_write_it(capsys):
    text = format_help(SECTIONS, "Some script.")
    listed = re.findall(r"^  --(\w+)", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    fields = {name for name, field in ExperimentArguments.__dataclass_fields__.items() if field.init}
    assert fields <= set(listed)
    assert "%%" not in text
    assert "  --balance_classes true|false\n" in text
    assert "  --learning_rate X\n        Learning rate, Table I. (default: 1e-05)" in text


def test_a_reader_that_has_seen_enough_ends_the_help_quietly():
    command = f"{sys.executable} examples/run_custom.py --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("usage: run_custom.py")
    assert done.stderr == ""


def test_the_command_line_wins_over_a_file_that_over_a_preset_and_that_over_the_script_s_own_file(tmp_path):
    own, config = tmp_path / "own.yaml", tmp_path / "config.yaml"
    own.write_text("learning_rate: 1.0e-3\nencoder_learning_rate: 1.0e-3\nseed: 7\n")
    config.write_text("learning_rate: 3e-5\nnum_train_epochs: 9\n")
    words = f"--preset small --config {config} --num_train_epochs 2 --output_dir out --use_cpu".split()
    corpus, model, args = parse_arguments((CorpusArguments, ModelArguments, ExperimentArguments), words, config=own)
    assert (args.num_train_epochs, args.learning_rate, args.encoder_learning_rate, args.seed) == (2, 3e-5, 1e-4, 7)
    assert model.speech_encoder == corpus.asr_model == "openai/whisper-tiny.en"
    with pytest.raises(ExperimentError, match="'tiny' is none of: small"):
        parse_arguments((ModelArguments,), ["--preset", "tiny"])


#: What the paper's Table I (and the text on recipe A and B) says of the two corpora: everything that a YAML may break.
PAPER = {
    "iemocap_hubert_base": ("facebook/hubert-base-ls960", "openai/whisper-medium.en", 1e-5, "ua"),
    "iemocap_hubert_large": ("facebook/hubert-large-ll60k", "openai/whisper-medium.en", 1e-5, "ua"),
    "meld_hubert_base": ("facebook/hubert-base-ls960", "openai/whisper-large-v2", 1e-4, "weighted_f1"),
}
SMALL = {
    "iemocap_small": "ua",
    "meld_grid": "weighted_f1",
    "meld_small": "weighted_f1",
    "ravdess4_whisper_tiny": "ua",
    "ravdess8_whisper_tiny": "ua",
}


@dataclass
class AnyRun(RunArguments):
    """The run arguments of any script."""

    num_folds: int = 6


def shipped(tmp_path, name):
    config = ROOT / "examples" / "configs" / f"{name}.yaml"
    arguments = ["--config", str(config), "--output_dir", str(tmp_path)]
    return parse_arguments((CorpusArguments, ModelArguments, AnyRun, ExperimentArguments), arguments)


def test_every_configuration_is_known_here():
    configs = {path.stem for path in (ROOT / "examples" / "configs").glob("*.yaml")}
    assert configs == {*PAPER, *SMALL, "correction"}, "the last is run_correction.py's: test_correction.py"


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_configurations_are_the_paper_s(tmp_path, name):
    corpus, model, _, args = shipped(tmp_path, name)
    speech_encoder, asr_model, learning_rate, metric = PAPER[name]
    assert model == ModelArguments(speech_encoder=speech_encoder)
    assert model.text_encoder == "google-bert/bert-base-uncased"
    assert corpus.asr_model == asr_model
    assert (args.learning_rate, args.metric_for_best_model) == (learning_rate, metric)
    assert (args.num_train_epochs, args.per_device_train_batch_size) == (100, 16)
    assert (args.lr_scheduler_type, args.weight_decay, args.gradient_accumulation_steps) == ("constant", 0, 1)
    assert (args.load_best_model_at_end, args.eval_strategy, args.save_total_limit) == (True, "epoch", 1)


@pytest.mark.parametrize("name", SMALL)
def test_the_small_configurations_are_what_their_comments_and_the_pages_say(tmp_path, name):
    """Whisper tiny.en and MiniLM, that recogniser's text, small batches, and a rate that rises and falls."""
    corpus, model, runs, args = shipped(tmp_path, name)
    assert (model.speech_encoder, corpus.asr_model) == ("openai/whisper-tiny.en", "openai/whisper-tiny.en")
    assert model.text_encoder == "sentence-transformers/all-MiniLM-L6-v2"
    assert (args.per_device_train_batch_size, args.lr_scheduler_type, args.warmup_steps) == (8, "linear", 0.1)
    assert (args.load_best_model_at_end, args.eval_strategy, args.save_total_limit) == (True, "epoch", 1)
    assert args.metric_for_best_model == SMALL[name]
    if name.startswith("ravdess"):
        assert (corpus.corpus, runs.num_folds, runs.split_seed, args.balance_classes) == ("ravdess", 6, 0, True)
        assert set(corpus.emotions or ()) == (set(DEFAULT_EMOTIONS) if name.startswith("ravdess4") else set())
        assert model.processor_options["trim_silence_db"] == 40
        assert model.speech_options["apply_spec_augment"] is True
    M4SERConfig(**ABLATIONS[model.ablation], **model.model_options)
    # Of Whisper tiny's four layers the lower half stays frozen, but where all are summed.
    assert model.freeze_speech_layers == {"meld_small": 2, "ravdess8_whisper_tiny": 2}.get(name, 0)
    rates = args.encoder_learning_rate, args.learning_rate, args.classifier_learning_rate
    if name in ("meld_small", "ravdess8_whisper_tiny"):
        assert rates[0] < rates[1], "new layers move faster than pretrained ones"
    if name == "ravdess4_whisper_tiny":
        assert rates[1] < rates[0] < rates[2], "the classifier learns fast, the new fusion slowly"


#: Numbers that pages, comments and kept results stand on, by file.
NUMBERS = {
    "configs/correction": {"num_train_epochs": 4, "learning_rate": 1e-3, "encoder_learning_rate": 2e-4},
    "configs/iemocap_small": {"num_train_epochs": 6, "learning_rate": 1e-4},
    "configs/meld_grid": {
        "model_options": {"frame_pooling": 4, "auxiliary_weight": 0.5, "tie_correction_output": True},
        **{"num_train_epochs": 4, "learning_rate": 2e-4, "encoder_learning_rate": 5e-5},
        **{"bf16": True, "use_cpu": True},
    },
    "configs/meld_small": {"num_train_epochs": 4, "learning_rate": 2e-4, "encoder_learning_rate": 5e-5},
    "demo/demo": {"num_train_epochs": 50, "learning_rate": 5e-4, "discriminator_learning_rate": 2e-4},
}


@pytest.mark.parametrize("file", NUMBERS)
def test_the_numbers_of_a_configuration(file):
    written = yaml.safe_load((ROOT / "examples" / f"{file}.yaml").read_text(encoding="utf-8"))
    assert {name: written.get(name) for name in NUMBERS[file]} == NUMBERS[file]


def test_the_page_on_little_data_and_the_preset_give_the_settings_of_that_configuration(tmp_path):
    page = (ROOT / "docs" / "how-to" / "little-data.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"run_custom\.py (.*?)\n```", page, re.DOTALL)
    words = [*shlex.split(command.replace("\\\n", " ")), "--use_cpu"]
    sections = (CorpusArguments, ModelArguments, AnyRun, ExperimentArguments)
    page, ours = parse_arguments(sections, words), shipped(tmp_path, "ravdess4_whisper_tiny")
    preset = parse_arguments(sections, ["--preset", "small", "--output_dir", str(tmp_path), "--use_cpu"])
    known = ("asr_model", "speech_encoder", "text_encoder", "processor_options", "model_options")
    known += ("speed_perturbation", "balance_classes", "ema_decay", "train_sampling_strategy", "lr_scheduler_type")
    known += ("learning_rate", "encoder_learning_rate", "classifier_learning_rate", "warmup_steps", "num_train_epochs")
    known += ("per_device_train_batch_size",)
    values = [{key: value for part in parts for key, value in vars(part).items()} for parts in (page, preset, ours)]
    first, second, third = ({name: each[name] for name in known} for each in values)
    assert first == second == third
