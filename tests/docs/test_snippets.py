"""Every fenced block of the documentation is run, or checked where running it would install or download something.

The pages name real encoders, corpora and recordings; `workspace.py` puts tiny ones in their place. A block in a
language, or a command of a kind, that nothing here knows fails the test.
"""

import ast
import configparser
import functools
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from data_scripts import load_corpus
from tests.docs.markdown import PAGES, Block, blocks, commands, name
from tests.docs.workspace import HUB_NAMES, Encoders, link, make_clips_of, make_materials
from tests.helpers import ROOT
from tests.helpers.tiny import EMOTIONS
from trainer.experiments import cli
from trainer.studies import correction

#: Packages that not every environment has: the blocks that import them are then left out.
OPTIONAL = ("peft",)
LANGUAGES = {"python", "bash", "csv", "bibtex"}
PYTHON_PAGES = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
BASH_PAGES = [page for page in PAGES if any(block.language == "bash" for block in blocks(page))]
#: What the scripts of tables write; the others write a summary.
TABLES = {
    "run_ablation.py": "ablation.json",
    "run_learning_curve.py": "learning_curve.json",
    "run_sensitivity.py": "sensitivity.json",
}
#: Arguments that make a run short; they follow those of the page, and win over them.
SHORT_RUN = "--use_cpu --disable_tqdm true --max_steps 1 --per_device_train_batch_size 2 --seeds 1"


class Parsed(BaseException):
    """A script has taken its arguments, and was stopped before it did anything. No `Exception`: nothing catches it."""


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Encoders:
    return Encoders.make(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Path:
    return make_materials(tmp_path_factory.mktemp("materials"))


@pytest.fixture
def workspace(materials, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(link(materials, tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture(autouse=True)
def one_thread():
    """The models here are so small that threads, on a busy machine, mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---------------------------------------------------------------------- every block


def test_every_block_has_a_test():
    unknown = [f"{name(page)}:{b.line}" for page in PAGES for b in blocks(page) if b.language not in LANGUAGES]
    assert not unknown
    # Fences come in pairs, and none is indented or of another kind, so that no block escapes.
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^[ >]*(?:```|~~~)", text, re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), name(page)
        assert not re.search(r"\n\n(?: {4}|\t)\S", text), f"{name(page)} has an indented block"


# ---------------------------------------------------------------------- python


def shorten(source: str) -> str:
    """One update in place of epochs, and `print(…)  # …` checks what it prints."""
    source = source.replace("num_train_epochs=3", "max_steps=1, use_cpu=True, disable_tqdm=True")
    lines = []
    for line in source.splitlines():
        found = re.fullmatch(r"print\((.*)\)  # (.*)", line)
        lines.append(f"check_printed({found[2]!r}, {found[1]})" if found else line)
    return "\n".join(lines)


def check_printed(expected: str, *values: object) -> None:
    assert " ".join(map(str, values)) == expected


def needs_what_is_absent(block: Block) -> bool:
    return any(f"from {package} import" in block.text and find_spec(package) is None for package in OPTIONAL)


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name)
def test_python_blocks_run_in_order(page, workspace, encoders):
    namespace = {"__name__": "__docs__", "check_printed": check_printed}
    for block in blocks(page):
        if block.language == "python" and not needs_what_is_absent(block):
            source = "\n" * (block.line - 1) + shorten(encoders.substitute(block.text))
            exec(compile(source, name(page), "exec"), namespace)


def test_the_readme_shows_what_the_pipeline_gives():
    (block,) = (block for block in blocks(ROOT / "README.md") if block.language == "python")
    shown = ast.literal_eval(re.search(r"^# (\[\{.*)$", block.text, re.MULTILINE)[1])
    assert [set(answer) for answer in shown] == [{"label", "score"}] * 2
    assert {answer["label"] for answer in shown} <= set(EMOTIONS)
    assert 1 >= shown[0]["score"] > shown[1]["score"] > 0


# ---------------------------------------------------------------------- tables and citations


def test_the_manifest_of_the_readme_is_read(tmp_path):
    (block,) = (block for block in blocks(ROOT / "README.md") if block.language == "csv")
    (tmp_path / "manifest.csv").write_text(block.text, encoding="utf-8")
    make_clips_of(tmp_path / "manifest.csv")
    corpus = load_corpus("manifest", tmp_path)
    assert len(corpus.dataset["train"]) == block.text.count("\n") - 1
    assert not corpus.report.dropped
    assert None not in (*corpus.dataset["train"]["transcript"], *corpus.dataset["train"]["speaker"])


def test_the_citation_is_that_of_the_citation_file():
    (block,) = (block for block in blocks(ROOT / "README.md") if block.language == "bibtex")
    cited = " ".join((ROOT / "CITATION.cff").read_text(encoding="utf-8").split())
    fields = dict(re.findall(r"(\w+)\s+= \{(.*)\}", block.text))
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
        if module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{' '.join(script)} ended with {end.code}")


def parse_only(script: list[str], monkeypatch) -> None:
    """Run an example script until it has taken its arguments."""
    run_script = cli.run_script

    def stop_at_main(main, *sections, **options):
        @functools.wraps(main)
        def parsed(*_):
            raise Parsed

        run_script(parsed, *sections, **options)

    with monkeypatch.context() as patch:
        patch.setattr(cli, "run_script", stop_at_main)
        with pytest.raises(Parsed):
            run(script, patch)


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


def check_pip(words: list[str]) -> None:
    """`pip install [-c FILE] [-e .[EXTRA]]`."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert words[:2] == ["pip", "install"]
    rest = iter(words[2:])
    for word in rest:
        if word == "-c":
            assert (ROOT / next(rest)).is_file()
        elif word == "-e":
            extras = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", next(rest))[1]
            assert not extras or set(extras.split(",")) <= set(setup["options.extras_require"])
        else:
            pytest.fail(f"nothing here knows pip's {word!r}")


def check_hf(words: list[str]) -> None:
    assert words[1] in ("download", "upload")
    assert words[2] in HUB_NAMES or words[1] == "upload"
    assert shutil.which("hf", path=Path(sys.executable).parent)


def check_source(words: list[str]) -> None:
    assert words == ["source", ".venv/bin/activate"]
    assert "VENV := .venv" in (ROOT / "Makefile").read_text(encoding="utf-8")


def check_pre_commit(words: list[str]) -> None:
    assert words == ["pre-commit", "install"]
    assert (ROOT / ".pre-commit-config.yaml").is_file()


def check_pytest(words: list[str]) -> None:
    """`-m pytest FILE… [-k WORD]`: the files and a test of that name are there."""
    files, word = words[2:], None
    if "-k" in files:
        files, word = files[: files.index("-k")], files[files.index("-k") + 1]
    assert files
    assert all((ROOT / file).is_file() for file in files)
    assert word is None or any(re.search(rf"def test_\w*{word}", (ROOT / f).read_text("utf-8")) for f in files)


CHECKED = {"make": check_make, "pip": check_pip, "hf": check_hf, "pre-commit": check_pre_commit, "source": check_source}


def python_command(words: list[str]) -> list[str] | None:
    """What follows `python`, or `accelerate launch` and its options, in a command; None for another program."""
    if words[:2] == ["accelerate", "launch"]:
        return words[words.index(next(word for word in words if word.endswith(".py"))) :]
    return words[1:] if Path(words[0]).name == "python" else None


def follow(block: Block, encoders: Encoders, monkeypatch, in_full: bool) -> None:
    """Check the commands of a block, or run them; the example scripts only `in_full`."""
    for words in commands(block):
        while re.fullmatch(r"\w+=.*", words[0]):
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        script = python_command(words)
        if script is None:
            assert words[0] in CHECKED, f"nothing here knows {words[0]!r}"
            CHECKED[words[0]](words)
            continue
        script = list(map(encoders.substitute, script))
        if script[:2] == ["-m", "pytest"]:
            check_pytest(script)
        elif script[0] == "-m" or "--help" in script:
            run(script, monkeypatch)
        elif own_parser := runpy.run_path(script[0]).get("parse_arguments"):
            own_parser(script[1:])  # the scripts that train nothing: their own tests run them
        elif in_full and script[0].endswith("run_correction.py"):
            run([*script, *SHORT_RUN.split()[:-2], "--text_encoder", str(encoders.text)], monkeypatch)
            assert (Path(_option(script, "--output_dir")) / correction.TABLE_FILE).is_file()
        elif in_full and not script[0].endswith("run_cross_corpus.py"):  # the tiny corpora have no 60 shots
            run([*script, *SHORT_RUN.split(), *small_models(script, encoders)], monkeypatch)
            written = TABLES.get(Path(script[0]).name, "summary.json")
            assert (Path(_option(script, "--output_dir")) / written).is_file()
        else:
            parse_only(script, monkeypatch)


def small_models(script: list[str], encoders: Encoders) -> list[str]:
    """Tiny models also where a page leaves them to the script's defaults or to a configuration file; one fold."""
    config = _option(script, "--config")
    settings = yaml.safe_load(Path(config).read_text(encoding="utf-8")) if config else {}
    speech = _option(script, "--speech_encoder") or settings.get("speech_encoder", "")
    arguments = {
        "--speech_encoder": encoders.whisper if "whisper" in speech or "recogniser" in speech else encoders.hubert,
        "--text_encoder": encoders.text,
        "--asr_model": encoders.recogniser,
        "--folds": 1,
    }
    if _option(script, "--protocol") == "dialogue_folds":
        arguments["--num_folds"] = 3  # the tiny MELD has no more dialogues
    if "--dataset_name" in script:
        arguments["--split_by"] = "utterance"  # folders say nothing of speakers
    return [str(word) for pair in arguments.items() for word in pair]


def _option(script: list[str], option: str) -> str | None:
    return script[script.index(option) + 1] if option in script else None


@pytest.mark.parametrize("page", BASH_PAGES, ids=name)
def test_commands_are_taken(page, workspace, encoders, monkeypatch):
    for block in blocks(page):
        if block.language == "bash":
            follow(block, encoders, monkeypatch, in_full=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", BASH_PAGES, ids=name)
def test_commands_run(page, workspace, encoders, monkeypatch):
    for block in blocks(page):
        if block.language == "bash":
            follow(block, encoders, monkeypatch, in_full=True)


@pytest.mark.slow
def test_the_demo_gives_what_the_readme_shows(workspace, monkeypatch):
    (workspace / "runs" / "demo" / "model").unlink()
    (workspace / "runs" / "demo").rmdir()
    subprocess.run([sys.executable, ROOT / "examples" / "demo" / "train.py"], check=True, timeout=1200)
    (block,) = (block for block in blocks(ROOT / "README.md") if block.language == "python")
    done = subprocess.run([sys.executable, "-c", block.text], check=True, capture_output=True, text=True, timeout=300)
    given, shown = ast.literal_eval(done.stdout), re.search(r"^# (\[\{.*)$", block.text, re.MULTILINE)[1]
    # Another processor rounds otherwise, and training carries that on: the emotion is the same, the score is near.
    assert [answer["label"] for answer in given] == [answer["label"] for answer in ast.literal_eval(shown)]
