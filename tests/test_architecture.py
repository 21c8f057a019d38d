"""The house rules: style, import direction, file sizes, no machine's paths."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("modeling_m4ser", "data_scripts", "trainer", "m4ser", "examples")
# Folders and modules from the ground up: each imports its own layer and those before it. What stands in a folder that
# is not here is of its parent; a room's `__init__`, which hands on names from all its folders, is of the room's last.
LAYERS = [
    "modeling_m4ser",
    *("data_scripts", "data_scripts.corpora", "data_scripts.prepare", "data_scripts.transcribe"),
    *("trainer.errors", "trainer.arguments", "trainer.callbacks", "trainer.inputs", "trainer"),
    *("trainer.evaluation", "trainer.experiments", "trainer.studies"),
    *("m4ser.runtimes", "m4ser.predict", "m4ser", "m4ser.serve", "m4ser.app", "m4ser.card", "examples", "tests"),
]
SKIPPED_FOLDERS = {"venv", "runs", "outputs", "build", "dist", "__pycache__"}
TEXT_FILES = {".py", ".md", ".cfg", ".toml", ".yaml", ".yml", ".cff", ".txt", "Makefile", "run"}
# Relative imports aside, the model's folder may need only these: `trust_remote_code` refuses to load it where one is
# missing. huggingface_hub comes with transformers, which cannot be imported without it.
MODEL_IMPORTS = {"torch", "numpy", "transformers", "huggingface_hub"}


def repository_files(*suffixes: str) -> list[Path]:
    """The repository's own files with these suffixes or names, without environments, caches and what training wrote."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") for part in parts if part != ".ci")
        if (path.suffix or path.name) in suffixes and not hidden and not SKIPPED_FOLDERS & {*parts} and path.is_file():
            found.append(path)
    return found


PYTHON_FILES = repository_files(".py")
ROOM_FILES = [path for path in PYTHON_FILES if path.relative_to(ROOT).parts[0] in ROOMS]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    """A file's dotted name; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


OUR_MODULES = {module_name(path) for path in PYTHON_FILES}


def imported_modules(path: Path, lazily: bool = True) -> set[str]:
    """Dotted names of our own modules that a file imports, relative imports resolved, those inside functions too.

    Those of `TYPE_CHECKING` blocks, by which the `__init__` files load nothing, come only with `lazily`.
    """
    nodes = [node for node in tree(path).body if lazily or "TYPE_CHECKING" not in ast.dump(getattr(node, "test", node))]
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found = set()
    for node in (each for top in nodes for each in ast.walk(top)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, (package if node.level else "", node.module)))
            names = {f"{module}.{alias.name}" for alias in node.names}
            found.update(names & OUR_MODULES or {module})
    return found & OUR_MODULES


def height(module: str) -> int:
    """The place of a module's layer."""
    if module in ROOMS:
        return max(place for place, layer in enumerate(LAYERS) if layer.split(".")[0] == module)
    while module not in LAYERS:
        module = module.rpartition(".")[0]
    return LAYERS.index(module)


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids="-".join)
def test_ruff_passes(arguments):
    done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", ROOM_FILES, ids=name)
def test_imports_point_one_way(path):
    own = height(module_name(path))
    higher = {module for module in imported_modules(path) if height(module) > own}
    assert not higher, f"{name(path)} stands below {sorted(higher)}, which it imports"


def test_every_folder_of_a_room_has_a_layer():
    folders = {module_name(path) for path in ROOM_FILES if path.name == "__init__.py"}
    assert not folders - set(LAYERS)


def test_no_modules_import_each_other_in_a_circle():
    graph = {module_name(path): imported_modules(path, lazily=False) for path in ROOM_FILES}
    TopologicalSorter({module: imported - {module} for module, imported in graph.items()}).prepare()  # names a circle


@pytest.mark.parametrize("path", [p for p in ROOM_FILES if p.parent.name == "modeling_m4ser"], ids=name)
def test_model_folder_is_self_contained(path):
    # transformers' own reading of a file: all imports outside `try`, those inside functions too. Copied to the Hub, the
    # folder has another name, so an import of its own by name is one too many.
    needed = set(get_imports(path)) - MODEL_IMPORTS - set(sys.stdlib_module_names)
    assert not needed, f"{name(path)} needs {sorted(needed)}: import it inside `try`, or elsewhere"


def test_no_file_is_long():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert not {file: lines for file, lines in lengths.items() if lines > 500}


def test_no_function_needs_scrolling():
    long = {}
    for path in ROOM_FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[ast.get_docstring(node) is not None :]
                if body and (lines := node.end_lineno - body[0].lineno + 1) > 50:
                    long[f"{name(path)}:{node.name}"] = lines
    assert not long


def test_there_is_one_version():
    from modeling_m4ser import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "version = attr: modeling_m4ser.__version__" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_tests_mirror_the_rooms():
    """Every module has a test file of its name in the folder of its name, or the place of its tests stands here."""
    elsewhere = {
        "data_scripts/constants.py": "two constants and a rule of ids",
        "data_scripts/corpora/base.py": "test_registry.py, test_labels.py",
        "modeling_m4ser/answering_m4ser.py": "test_pipeline.py, test_runtime.py",
        "modeling_m4ser/saving_m4ser.py": "test_hub.py, trainer/experiments/test_hub.py",
        "trainer/errors.py": "one exception",
        "trainer/experiments/arguments.py": "test_cli.py, test_model.py",
        "trainer/experiments/custom.py": "test_examples.py",
    }
    missing = set()
    for path in ROOM_FILES:
        place = path.relative_to(ROOT)
        test = ROOT / "tests" / place.with_name(f"test_{path.stem.strip('_').removesuffix('_m4ser')}.py")
        if not (place.parts[0] == "examples" or path.name == "__init__.py" or test.is_file()):
            missing.add(name(path))
    assert missing == set(elsewhere)


def test_no_machine_paths():
    # A leading word character or dot means a part of a URL or of a relative path.
    machine_path = re.compile(r"(?<![\w.~])/(?:work|root|home|Users|mnt)/")
    hits = []
    for path in repository_files(*TEXT_FILES):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if machine_path.search(line):
                hits.append(f"{name(path)}:{number}: {line.strip()}")
    assert not hits, "\n".join(hits)
