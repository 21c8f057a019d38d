"""The documentation agrees with the repository: links, tables, places in the code, scripts and options exist."""

import ast
import importlib
import inspect
import json
import operator
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from transformers import HubertConfig, TrainingArguments, WhisperConfig

from modeling_m4ser import M4SERConfig, M4SERProcessor
from tests.docs.markdown import CURRENT_PAGES, PAGES, anchors, includes, links, name, prose, spans
from tests.helpers import ROOT
from trainer.experiments.cli import FILES

#: Options of other programs that the pages mention.
FOREIGN_OPTIONS = {"--help", "--multi_gpu", "--config_file", "--num_processes", "--exclude"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page):
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken


def test_every_page_stands_in_the_navigation_of_the_site():
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(
        page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_included_tables_are_there(page):
    for path, lines in includes(page):
        assert sum(line.startswith("|") for line in lines) >= 3, f"{path} has no table"
        assert not any(line.startswith("# ") for line in lines), f"{path} brings a second title"


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_places_in_the_code_exist(page):
    for file, symbol in re.findall(r"`([\w/]+\.py):([\w.]+)`", page.read_text(encoding="utf-8")):
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        operator.attrgetter(symbol)(module)


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_files_and_folders_exist(page):
    wanted = re.compile(r"(?:modeling_m4ser|data_scripts|trainer|examples|tests|docs|\.github)/[\w./{},-]*")
    paths = [span for span in spans(prose(page)) if wanted.fullmatch(span)]
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", ["docs/paper/paper-to-code.md", "docs/reference/command-line.md"])
def test_every_script_stands_in(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py")}
    assert not {script for script in scripts if f"`{script}" not in text} - {"examples/speak_meld.py"}


@cache
def known_options() -> frozenset[str]:
    """Every option that our code spells out, or that a field of an argument class gives."""
    known = {*inspect.signature(TrainingArguments).parameters, *FILES}
    for folder in ("data_scripts", "trainer", "m4ser", "examples"):
        nodes = [node for path in (ROOT / folder).rglob("*.py") for node in ast.walk(tree(path))]
        known |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and hasattr(node.target, "id")}
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        known |= {text[2:] for text in texts if re.fullmatch(r"--\w+", text)}
    return frozenset(f"--{option}" for option in known) | FOREIGN_OPTIONS


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_options_in_the_text_exist(page):
    words = [word for span in spans(prose(page)) if "--" in span for word in shlex.split(span)]
    assert not {word for word in words if word.startswith("--")} - known_options()


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_json_options_name_fields(page):
    known = {
        "--model_options": set(M4SERConfig().to_dict()),
        "--processor_options": set(inspect.signature(M4SERProcessor.__init__).parameters),
        "--speech_options": set(WhisperConfig().to_dict()) | set(HubertConfig().to_dict()),
    }
    for option, value in re.findall(r"(--\w+_options) '(\{.*?\})'", page.read_text(encoding="utf-8")):
        assert set(json.loads(value)) <= known[option]


def test_pre_commit_runs_what_is_installed():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    script = str(ROOT / "docs" / "hooks.py")
    for hook in (hook for repository in config["repos"] for hook in repository["hooks"]):
        program, *arguments = shlex.split(hook["entry"])
        assert program == "python"
        subprocess.run([sys.executable, *arguments, script], check=True, cwd=ROOT, timeout=60)
