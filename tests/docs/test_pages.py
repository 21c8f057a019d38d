"""The documentation agrees with the repository: links, places in the code, options and error messages exist."""

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import yaml
from transformers import HubertConfig, WhisperConfig

from modeling_m4ser import M4SERConfig, M4SERProcessor
from tests.docs.markdown import CURRENT_PAGES, PAGES, anchors, links, name, prose, spans
from tests.helpers import ROOT
from trainer.arguments import ExperimentArguments
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.studies.correction import CorrectionArguments

ROOMS = ("modeling_m4ser", "data_scripts", "trainer", "examples")
#: Options of other programs that the pages mention.
FOREIGN_OPTIONS = {"--help", "--multi_gpu"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def members(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Name -> statement of everything that a module or class body defines."""
    found = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def strings(path: Path) -> list[str]:
    """Every string of a file; what an f-string fills in is a null character."""
    parts = [node for node in ast.walk(tree(path)) if isinstance(node, (ast.JoinedStr, ast.Constant))]
    texts = []
    for node in parts:
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
        elif isinstance(node.value, str):
            texts.append(node.value)
    return texts


@cache
def code_strings() -> list[str]:
    return [text for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) for text in strings(path)]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page):
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_places_in_the_code_exist(page):
    missing = []
    for file, symbol in re.findall(r"`([\w/]+\.py):([\w.]+)`", page.read_text(encoding="utf-8")):
        scope = members(tree(ROOT / file).body) if (ROOT / file).is_file() else {}
        for part in symbol.split("."):
            node = scope.get(part)
            scope = members(node.body) if isinstance(node, ast.ClassDef) else {}
        if node is None:
            missing.append(f"{file}:{symbol}")
    assert not missing


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_files_and_folders_exist(page):
    wanted = re.compile(r"(?:modeling_m4ser|data_scripts|trainer|examples|tests|docs|\.github)/[\w./{},-]*")
    paths = [span for span in spans(prose(page)) if wanted.fullmatch(span)]
    assert not [path for path in paths if not (ROOT / path).exists()]


@cache
def known_options() -> frozenset[str]:
    """Every option of the scripts and of the two commands of data_scripts."""
    argument_classes = (CorpusArguments, ModelArguments, GridArguments, CorrectionArguments, ExperimentArguments)
    known = {field.name for arguments in argument_classes for field in fields(arguments)} | {"config"}
    for folder in ("data_scripts", "trainer/experiments", "examples"):
        files = (ROOT / folder).rglob("*.py")
        known |= {text[2:] for file in files for text in strings(file) if re.fullmatch(r"--\w+", text)}
    for path in (ROOT / "examples").rglob("*.py"):  # the scripts' own arguments are annotated fields
        known |= {n.target.id for n in ast.walk(tree(path)) if isinstance(n, ast.AnnAssign) and hasattr(n.target, "id")}
    return frozenset(f"--{option}" for option in known) | FOREIGN_OPTIONS


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_options_in_the_text_exist(page):
    mentioned = {
        word for span in spans(prose(page)) if "--" in span for word in shlex.split(span) if word.startswith("--")
    }
    assert not mentioned - known_options()


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_json_options_name_fields(page):
    known = {
        "--model_options": set(M4SERConfig().to_dict()),
        "--processor_options": set(inspect.signature(M4SERProcessor.__init__).parameters),
        "--speech_options": set(WhisperConfig().to_dict()) | set(HubertConfig().to_dict()),
    }
    text = page.read_text(encoding="utf-8")
    for option, value in re.findall(r"(--\w+_options) '(\{.*?\})'", text):
        assert set(json.loads(value)) <= known[option]


def test_messages_of_troubleshooting_are_those_of_the_code():
    text = prose(ROOT / "docs" / "troubleshooting.md")
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(messages) > 15
    missing = []
    for message in messages:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("…")), re.DOTALL)
        if not any(pattern.search(string) for string in code_strings()):
            missing.append(message)
    assert not missing


def test_the_workflow_uses_what_there_is():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    files = {step["with"]["cache-dependency-path"] for step in steps if "cache" in step.get("with", {})}
    files |= set(re.findall(r"-c (\S+)", "\n".join(step.get("run", "") for step in steps)))
    assert not [file for file in files if not (ROOT / file).is_file()]
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert set(re.findall(r"Python :: (3\.\d+)", setup)) <= set(tested)
    assert f">={workflow['jobs']['minimum']['steps'][1]['with']['python-version']}" in setup


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_github_s_files_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_pre_commit_runs_what_is_installed():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    for repository in config["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            program, *arguments = shlex.split(hook["entry"])
            assert program == "python"
            script = str(ROOT / "docs" / "pictures" / "draw_architecture.py")
            subprocess.run([sys.executable, *arguments, script], check=True, cwd=ROOT, timeout=60)


def test_the_script_draws_the_architecture(tmp_path):
    script, picture = ROOT / "docs" / "pictures" / "draw_architecture.py", tmp_path / "architecture.png"
    subprocess.run([sys.executable, str(script), str(picture)], check=True, timeout=120)
    shipped = (ROOT / "docs" / "pictures" / "architecture.png").read_bytes()
    # The pixels may differ with the version of matplotlib; the size, in the bytes 16 to 24, may not.
    assert picture.read_bytes()[:24] == shipped[:24]
