"""Every fenced block of the documentation is run, or checked where running it would install or download something.

The pages name real encoders, corpora and recordings; `workspace.py` puts tiny ones in their place. A block in a
language, or a command of a kind, that nothing here knows fails the test.
"""

import ast
import configparser
import csv
import functools
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from data_scripts import load_corpus
from m4ser.__main__ import VERBS, main
from modeling_m4ser import export_m4ser
from tests.docs.markdown import PAGES, Block, blocks, commands, name
from tests.docs.workspace import make_materials
from tests.helpers import ROOT
from tests.helpers.layouts import write_wav
from trainer.experiments import cli

LANGUAGES = {"python", "bash", "csv", "bibtex", "yaml"}
# Their own tests, in tests/m4ser/, start a server or a page, and run them.
SERVED = ("docs/how-to/server.md", "docs/how-to/app.md")
PYTHON_PAGES = [
    page for page in PAGES if name(page) not in SERVED and any(block.language == "python" for block in blocks(page))
]
BASH_PAGES = [page for page in PAGES if any(block.language == "bash" for block in blocks(page))]
#: What a script writes that ends well; the others write a summary.
WRITTEN = {
    "run_ablation.py": "ablation.json",
    "run_learning_curve.py": "learning_curve.json",
    "run_sensitivity.py": "sensitivity.json",
    "run_correction.py": "correction.md",
}


class Parsed(BaseException):
    """A script has taken its arguments, and was stopped before it did anything. No `Exception`: nothing catches it."""


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Path:
    return make_materials(tmp_path_factory.mktemp("materials"))


@pytest.fixture(scope="module")
def trace_once(tmp_path_factory) -> Callable[[Any, Path], int]:
    """In the place of an export's trace, which takes torch seconds: of the one model that pages export, it is kept."""
    graph, trace = tmp_path_factory.mktemp("graph") / "model.onnx", export_m4ser._trace
    opsets: list[int] = []

    def write(model: Any, path: Path) -> int:
        if not opsets:
            opsets.append(trace(model, graph))
        shutil.copyfile(graph, path)
        return opsets[0]

    return write


@pytest.fixture
def workspace(materials, trace_once, tmp_path, monkeypatch) -> Path:
    shutil.copytree(materials, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(export_m4ser, "_trace", trace_once)
    return tmp_path


def readme(language: str) -> Block:
    """The one block of the README in a language."""
    (block,) = (block for block in blocks(ROOT / "README.md") if block.language == language)
    return block


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_test(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    # Fences come in pairs, and none is indented or of another kind, so that no block escapes.
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^[ >]*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(blocks(page))
    indented = re.search(r"\n\n(?: {4}|\t)\S", text)
    assert not indented, "an indented block"


# ---------------------------------------------------------------------- python


def shorten(source: str) -> str:
    """One update in place of epochs, and `print(…)  # …` checks what it prints."""
    source = source.replace("num_train_epochs=3", "max_steps=1, use_cpu=True, disable_tqdm=True")
    return re.sub(r"^print\((.*)\)  # (.*)$", lambda m: f"check_printed({m[2]!r}, {m[1]})", source, flags=re.MULTILINE)


def check_printed(expected: str, *values: object) -> None:
    assert " ".join(map(str, values)) == expected


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name)
def test_python_blocks_run_in_order(page, workspace):
    namespace = {"__name__": "__docs__", "check_printed": check_printed}
    if page.stem == "onnx":
        pytest.importorskip("onnxscript")
        assert main(["export", "runs/demo/model", "--output_dir", "onnx"]) == 0
    extras = {"peft": r"from peft|PeftModel", "fastapi": "from fastapi", "sounddevice": "import sounddevice"}
    absent = "|".join(names for package, names in extras.items() if find_spec(package) is None)
    for block in blocks(page):
        if block.language == "python" and not (absent and re.search(absent, block.text)):
            source = "\n" * (block.line - 1) + shorten(block.text)
            exec(compile(source, name(page), "exec"), namespace)


# ---------------------------------------------------------------------- tables and citations


def test_the_manifest_of_the_readme_is_read(tmp_path):
    (tmp_path / "manifest.csv").write_text(readme("csv").text, encoding="utf-8")
    for row in csv.DictReader(readme("csv").text.splitlines()):
        write_wav(tmp_path / row["audio"])
    corpus = load_corpus("manifest", tmp_path)
    assert len(corpus.dataset["train"]) == readme("csv").text.count("\n") - 1
    assert not corpus.report.dropped
    assert None not in (*corpus.dataset["train"]["transcript"], *corpus.dataset["train"]["speaker"])


def test_the_citation_is_that_of_the_citation_file():
    cited = " ".join((ROOT / "CITATION.cff").read_text(encoding="utf-8").split())
    fields = dict(re.findall(r"(\w+)\s+= \{(.*)\}", readme("bibtex").text))
    plain = {key: value.replace("{", "").replace("}", "") for key, value in fields.items()}
    assert all(text in cited for text in (plain["title"], plain["journal"], f"year: {plain['year']}"))
    for author in plain["author"].split(" and "):
        family, given = author.split(", ")
        assert f"given-names: {given} family-names: {family}" in cited


# ---------------------------------------------------------------------- bash


def run(script: list[str], monkeypatch) -> None:
    """Run a Python command (`script.py …` or `-m module …`) in this process; any exit status but 0 fails."""
    module = script[0] == "-m"
    target, arguments = (script[1], script[2:]) if module else (script[0], script[1:])
    monkeypatch.setattr(sys, "argv", [target, *arguments])
    try:
        if target == "m4ser":
            sys.exit(main(arguments))
        if module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{' '.join(script)} ended with {end.code}")


def parse_only(script: list[str], monkeypatch) -> None:
    """Run a command that trains until it has taken its arguments."""
    run_words = cli.run_words

    def stop_at_main(main, *sections, **options):
        @functools.wraps(main)
        def parsed(*_):
            raise Parsed

        return run_words(parsed, *sections, **options)

    with monkeypatch.context() as patch:
        patch.setattr(cli, "run_words", stop_at_main)
        with pytest.raises(Parsed):
            run(script, patch)


def check_only(words: list[str]) -> None:
    """Check a command that is not run: what it names is there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    match words:
        case ["make", *targets]:
            assert set(targets) <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
        case ["pip", "install", *_]:
            setup = configparser.ConfigParser()
            setup.read(ROOT / "setup.cfg", encoding="utf-8")
            found = re.fullmatch(r"pip install (?:-c (\S+) )?-e \.(?:\[([\w,-]+)\])?", " ".join(words))
            assert found is not None or "-e" not in words  # other packages, or this one without what it needs
            assert not (found and found[1]) or (ROOT / found[1]).is_file()
            assert not (found and found[2]) or set(found[2].split(",")) <= set(setup["options.extras_require"])
        case ["hf", "download", model]:
            assert Path(model).is_dir()
        case ["python", "-m", "pytest", file, "-k", word]:
            assert re.search(rf"def test_\w*{word}", (ROOT / file).read_text("utf-8"))
        case ["source", ".venv/bin/activate"]:
            assert "VENV := .venv\n" in makefile
        case ["hf", "upload", *_] | ["pre-commit", "install"] | ["curl", *_] | ["docker", *_]:
            pass
        case _:
            pytest.fail(f"nothing here knows {words}")


def python_command(words: list[str]) -> list[str] | None:
    """What follows `python`, or `accelerate launch` and its options, in a command; None for another program."""
    if words[0] == "m4ser":
        return ["-m", *words]
    if words[:2] == ["accelerate", "launch"]:
        return words[words.index(next(word for word in words if word == "-m" or word.endswith(".py"))) :]
    return words[1:] if words[0] == "python" else None


def own_names(script: list[str]) -> dict:
    """What the module of a verb, or a script, defines."""
    if script[:2] == ["-m", "m4ser"]:
        return vars(importlib.import_module(VERBS[script[2]][0]))
    return runpy.run_path(script[0])


def follow(block: Block, monkeypatch, in_full: bool) -> None:
    """Check the commands of a block, or run them; the example scripts only `in_full`."""
    for words in commands(block):
        while re.fullmatch(r"\w+=.*", words[0]):
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        words[0] = Path(words[0]).name  # .venv/bin/python
        script = python_command(words)
        if script is None or script[:2] == ["-m", "pytest"]:
            check_only(words)
            continue
        is_verb = script[:2] == ["-m", "m4ser"]
        if "--help" in script or (script[0] == "-m" and not is_verb):
            run(script, monkeypatch)
        elif own_parser := own_names(script).get("parse_arguments"):
            own_parser(script[3 if is_verb else 1 :])  # what trains nothing: its own tests run it
        elif is_verb and script[2] != "train":
            run(script, monkeypatch)
        elif in_full and not script[0].endswith("run_cross_corpus.py"):  # the tiny corpora have no 60 shots
            run([*script, *short_run(script)], monkeypatch)
            assert (Path(option(script, "--output_dir")) / WRITTEN.get(Path(script[0]).name, "summary.json")).is_file()
        else:
            parse_only(script, monkeypatch)


def short_run(script: list[str]) -> list[str]:
    """Arguments that make a run short; they follow those of the page, and win over them."""
    arguments = ["--use_cpu", "--disable_tqdm", "true", "--max_steps", "1", "--per_device_train_batch_size", "2"]
    if script[0].endswith("run_correction.py"):
        return arguments
    arguments += ["--folds", "1", "--seeds", "1"]
    if not {"--prepared_dir", "--asr_model"} & set(script):
        arguments += ["--asr_model", "openai/whisper-tiny.en"]
    if "--asr_language" in script:
        arguments += ["--asr_language", "en"]  # all that the tiny recogniser knows
    if option(script, "--protocol") == "dialogue_folds":
        arguments += ["--num_folds", "3"]  # the tiny MELD has no more dialogues
    return arguments


def option(script: list[str], name: str) -> str | None:
    return script[script.index(name) + 1] if name in script else None


@pytest.mark.parametrize("in_full", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["parsed", "run"])
@pytest.mark.parametrize("page", BASH_PAGES, ids=name)
def test_commands(page, in_full, workspace, monkeypatch):
    for block in blocks(page):
        if block.language == "bash":
            follow(block, monkeypatch, in_full)


@pytest.mark.slow
def test_the_demo_gives_what_the_readme_shows(workspace):
    subprocess.run([sys.executable, ROOT / "examples" / "demo" / "train.py"], check=True, timeout=1200)
    source = readme("python").text
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=300)
    given, shown = ast.literal_eval(done.stdout), re.search(r"^# (\[\{.*)$", source, re.MULTILINE)[1]
    # Another processor rounds otherwise, and training carries that on: the emotion is the same, the score is near.
    assert [answer["label"] for answer in given] == [answer["label"] for answer in ast.literal_eval(shown)]
