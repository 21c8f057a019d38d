"""The house rules: style, import direction, file sizes, no machine's paths, docstrings."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("modeling_m4ser", "data_scripts", "trainer", "examples")
# What each room may not import: everything above it.
FORBIDDEN = {room: set(ROOMS[i + 1 :]) | {"tests"} for i, room in enumerate(ROOMS)}
SKIPPED_FOLDERS = {"venv", "runs", "outputs", "build", "dist", "__pycache__"}
TEXT_SUFFIXES = {".py", ".md", ".cfg", ".toml", ".yaml", ".yml", ".cff", ".txt"}
# Relative imports aside, the model's folder may need only these: `trust_remote_code` refuses to load it where one is
# missing. huggingface_hub comes with transformers, which cannot be imported without it.
MODEL_IMPORTS = {"torch", "numpy", "transformers", "huggingface_hub"}


def repository_files(*suffixes: str) -> list[Path]:
    """The repository's own files with one of these suffixes, without environments, caches and what training wrote."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") for part in parts if part != ".ci")
        if not hidden and not SKIPPED_FOLDERS.intersection(parts) and path.is_file():
            if path.suffix in suffixes or ("Makefile" in suffixes and path.name == "Makefile"):
                found.append(path)
    return found


PYTHON_FILES = repository_files(".py")
ROOM_FILES = [path for path in PYTHON_FILES if path.relative_to(ROOT).parts[0] in ROOMS]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_rooms(path: Path) -> set[str]:
    """First names of all absolute imports of a file, those inside functions and try-blocks too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_ruff_passes():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", ROOM_FILES, ids=name)
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    upward = imported_rooms(path) & FORBIDDEN[room]
    assert not upward, f"{name(path)} imports {sorted(upward)}, which stand above {room}/"


@pytest.mark.parametrize("path", [p for p in ROOM_FILES if p.parent.name == "modeling_m4ser"], ids=name)
def test_model_folder_is_self_contained(path):
    # transformers' own reading of a file: all imports outside `try`, those inside functions too.
    needed = set(get_imports(path)) - MODEL_IMPORTS - set(sys.stdlib_module_names)
    assert not needed, f"{name(path)} needs {sorted(needed)}: import it inside `try`, or elsewhere"
    # Copied to the Hub, the folder has another name: our own modules are reached relatively, within the folder.
    assert "modeling_m4ser" not in imported_rooms(path), f"{name(path)} imports its own folder by name"
    levels = [node.level for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert max(levels, default=0) <= 1, f"{name(path)} imports from outside its folder"


def test_no_file_is_long():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert not {file: lines for file, lines in lengths.items() if lines > 500}


def test_no_machine_paths():
    # A leading word character or dot means a part of a URL or of a relative path.
    machine_path = re.compile(r"(?<![\w.~])/(?:work|root|home|Users|mnt)/")
    hits = []
    for path in [*repository_files(*TEXT_SUFFIXES, "Makefile"), ROOT / ".ci" / "run"]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if machine_path.search(line):
                hits.append(f"{name(path)}:{number}: {line.strip()}")
    assert not hits, "\n".join(hits)


@pytest.mark.parametrize("path", ROOM_FILES, ids=name)
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, definitions) and not node.name.startswith("_")]
    missing = [node.name for node in public if not ast.get_docstring(node)]
    if path.name != "__init__.py" and not ast.get_docstring(tree):
        missing.insert(0, "the module")
    assert not missing, f"{name(path)}: no docstring on {missing}"
