"""Command lines: YAML under arguments, help that answers at once, mistakes in one line, the shipped configurations."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest
import yaml

from modeling_m4ser import M4SERConfig
from tests.helpers import ROOT
from tests.helpers.experiments import write_manifest
from tests.helpers.process import run_example_here
from trainer import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cli import PRESETS, format_help, parse_arguments
from trainer.studies.text_pairs import CorrectionArguments

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


def test_a_full_disk_ends_in_one_line(tmp_path, capsys):
    write_manifest(tmp_path)
    run_example_here("run_custom.py", "--data_dir", tmp_path, "--output_dir", "/dev/full/out", status=2)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("error: ")


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
    assert "examples/" in done.stdout or "m4ser train --" in done.stdout, "an example of its use"
    assert "--output_dir FOLDER" in done.stdout
    if script != "demo/train.py":
        assert "  --data_dir FOLDER\n" in done.stdout
        assert done.stdout.index("--data_dir FOLDER") < done.stdout.index("--speech_encoder MODEL")
        assert "  --seeds N [N ...]\n" in done.stdout
        assert "w/o AED & AEC" in done.stdout


def test_help_all_lists_every_argument_once_as_people_write_it(capsys):
    text = format_help(SECTIONS, "Some script.", "m4ser train")
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
    with pytest.raises(ExperimentError, match="'tiny' is none of: ravdess4, small"):
        parse_arguments((ModelArguments,), ["--preset", "tiny"])


WHISPER = {
    **dict.fromkeys(("speech_encoder", "asr_model"), "openai/whisper-tiny.en"),
    **{"text_encoder": "sentence-transformers/all-MiniLM-L6-v2", "per_device_train_batch_size": 8},
    **{"lr_scheduler_type": "linear", "warmup_steps": 0.1},
}
MELD = WHISPER | {"num_train_epochs": 4, "learning_rate": 2e-4, "encoder_learning_rate": 5e-5}
RAVDESS = WHISPER | {"corpus": "ravdess", "num_folds": 6, "split_seed": 0, "balance_classes": True}
#: What the paper's Table I (and the text on recipe A and B) says of the two corpora.
PAPER = {"text_encoder": "google-bert/bert-base-uncased", "num_train_epochs": 100, "per_device_train_batch_size": 16}
PAPER |= {"lr_scheduler_type": "constant", "weight_decay": 0, "gradient_accumulation_steps": 1}
BASE, LARGE = "facebook/hubert-base-ls960", "facebook/hubert-large-ll60k"
MEDIUM, V2 = "openai/whisper-medium.en", "openai/whisper-large-v2"
F1 = "weighted_f1"
#: Everything that paper, pages, comments and kept results say of a file.
SHIPPED = {
    "iemocap_hubert_base": PAPER | {"speech_encoder": BASE, "asr_model": MEDIUM, "learning_rate": 1e-5},
    "iemocap_hubert_large": PAPER | {"speech_encoder": LARGE, "asr_model": MEDIUM, "learning_rate": 1e-5},
    "meld_hubert_base": PAPER
    | {"speech_encoder": BASE, "asr_model": V2, "learning_rate": 1e-4, "metric_for_best_model": F1},
    "iemocap_small": WHISPER | {"num_train_epochs": 6, "learning_rate": 1e-4},
    "meld_grid": MELD
    | {"model_options": {"frame_pooling": 4, "auxiliary_weight": 0.5, "tie_correction_output": True}}
    | {"bf16": True, "use_cpu": True, "metric_for_best_model": F1},
    "meld_small": MELD | {"freeze_speech_layers": 2, "metric_for_best_model": F1},
    "ravdess4": RAVDESS
    | {"emotions": ["neutral", "happy", "sad", "angry"]}
    | {"learning_rate": 2e-5, "encoder_learning_rate": 1e-4, "classifier_learning_rate": 1e-2},
    "ravdess8_whisper_tiny": RAVDESS
    | {"freeze_speech_layers": 2, "learning_rate": 2e-4, "encoder_learning_rate": 1e-4, "emotions": None},
    "ravdess_frozen": RAVDESS
    | {"text_column": "transcript", "freeze_encoders": True, "cache_features": True, "emotions": None}
    | {"learning_rate": 3e-3, "per_device_train_batch_size": 16, "num_train_epochs": 8, "asr_model": None},
    "correction": {"num_train_epochs": 4, "learning_rate": 1e-3, "encoder_learning_rate": 2e-4},
    "demo": {"num_train_epochs": 50, "learning_rate": 5e-4, "discriminator_learning_rate": 2e-4},
}
USUAL = {"freeze_speech_layers": 0, "metric_for_best_model": "ua"}
USUAL |= {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_total_limit": 1}


@dataclass
class AnyRun(RunArguments):
    """The run arguments of any script."""

    num_folds: int = 6


def shipped(folder, name):
    """What a shipped file means, by argument."""
    (config,) = [PRESETS[name]] if name in PRESETS else (ROOT / "examples").glob(f"*/{name}.yaml")
    sections = (CorpusArguments, ModelArguments, AnyRun, ExperimentArguments)
    sections = (CorrectionArguments, ExperimentArguments) if name == "correction" else sections
    parts = parse_arguments(sections, ["--config", str(config), "--output_dir", str(folder)])
    return {key: value for part in parts for key, value in vars(part).items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_file_is_what_paper_comments_and_pages_say(tmp_path, name):
    values = shipped(tmp_path, name)
    wanted = SHIPPED[name] if name in ("correction", "demo") else USUAL | SHIPPED[name]
    assert {key: values[key] for key in wanted} == wanted
    if "hubert" in name:
        model = {key: values[key] for key in vars(ModelArguments())}
        assert model == vars(ModelArguments(speech_encoder=wanted["speech_encoder"]))
    elif name != "correction":
        M4SERConfig(**ABLATIONS[values["ablation"]], **values["model_options"])
    if name.startswith("ravdess"):
        assert values["processor_options"]["trim_silence_db"] == 40
        # It blurs what the encoder hears: one that is frozen gives what it gave before.
        assert values["speech_options"].get("apply_spec_augment", False) is not values["freeze_encoders"]


def test_every_shipped_file_is_known_here():
    assert {path.stem for path in (ROOT / "examples" / "configs").glob("[!a]*.yaml")} == SHIPPED.keys() - {
        "demo",
        "ravdess4",
    }


def test_the_page_on_little_data_and_the_preset_give_the_settings_of_that_configuration(tmp_path):
    page = (ROOT / "docs" / "how-to" / "little-data.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"m4ser train (.*?)\n```", page, re.DOTALL)
    words = [*shlex.split(command.replace("\\\n", " ")), "--use_cpu"]
    sections = (CorpusArguments, ModelArguments, AnyRun, ExperimentArguments)
    preset = ["--preset", "small", "--output_dir", str(tmp_path), "--use_cpu"]
    known = yaml.safe_load(PRESETS["small"].read_text(encoding="utf-8")).keys() - {"speech_options"}
    expected = {name: value for name, value in shipped(tmp_path, "ravdess4").items() if name in known}
    for given in (words, preset):
        values = {name: value for part in parse_arguments(sections, given) for name, value in vars(part).items()}
        assert {name: values[name] for name in known} == expected
