"""The house rules: style, import direction, file sizes, no machine's paths, docstrings."""

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
ROOMS = ("modeling_m4ser", "data_scripts", "trainer", "examples")
# What each room may not import: everything above it.
FORBIDDEN = {room: set(ROOMS[i + 1 :]) | {"tests"} for i, room in enumerate(ROOMS)}
# The folders inside a room, from the ground up; None stands for the room's own files. A folder imports no higher one.
FLOORS = {
    "data_scripts": [{None}, {"corpora"}, {"prepare"}, {"transcribe"}],
    "trainer": [{"callbacks"}, {"inputs"}, {None}, {"evaluation"}, {"experiments"}, {"studies"}],
}
# The ground of a room: any of its folders may import these.
GROUND = {"trainer.errors", "trainer.arguments"}
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
        wanted = path.suffix in suffixes or (path.name == "Makefile" and "Makefile" in suffixes)
        if wanted and not hidden and not SKIPPED_FOLDERS.intersection(parts) and path.is_file():
            found.append(path)
    return found


PYTHON_FILES = repository_files(".py")
ROOM_FILES = [path for path in PYTHON_FILES if path.relative_to(ROOT).parts[0] in ROOMS]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_rooms(path: Path) -> set[str]:
    """First names of all absolute imports of a file, those inside functions and try-blocks too."""
    nodes = list(ast.walk(tree(path)))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {module.split(".")[0] for module in found}


def module_name(path: Path) -> str:
    """A file's dotted name; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _checks_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported_modules(path: Path, with_type_checking: bool = True) -> set[str]:
    """Dotted names of our own modules that a file imports, relative imports resolved.

    The `TYPE_CHECKING` blocks of the lazy `__init__` files are left out on request: nothing is imported by them.
    """
    known = {module_name(file) for file in ROOM_FILES}
    nodes = [node for node in tree(path).body if with_type_checking or not _checks_types(node)]
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found = set()
    for node in (each for top in nodes for each in ast.walk(top)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = {f"{module}.{alias.name}" for alias in node.names}
            found.update(names & known or {module})
    return found & known


def floor(module: str) -> tuple[int, str | None]:
    """How high a module stands inside its room, and its folder there."""
    if module in GROUND:
        return -1, None
    room, *rest = module.split(".")
    folder = rest[0] if rest and (ROOT / room / rest[0]).is_dir() else None
    return next(height for height, folders in enumerate(FLOORS[room]) if folder in folders), folder


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids="-".join)
def test_ruff_passes(arguments):
    done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", ROOM_FILES, ids=name)
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    upward = imported_rooms(path) & FORBIDDEN[room]
    assert not upward, f"{name(path)} imports {sorted(upward)}, which stand above {room}/"


FLOORED_FILES = [p for p in ROOM_FILES if p.relative_to(ROOT).parts[0] in FLOORS and p.parent.parent != ROOT.parent]


@pytest.mark.parametrize("path", FLOORED_FILES, ids=name)
def test_folders_inside_a_room_import_nothing_higher(path):
    module = module_name(path)
    if module in FLOORS:
        return  # a room's `__init__` hands on names from all its folders
    height, folder = floor(module)
    for imported in imported_modules(path):
        if imported.split(".")[0] == module.split(".")[0] and imported not in FLOORS:
            higher, other = floor(imported)
            assert higher < height or other == folder, f"{module} imports {imported}, which stands beside or above it"


def test_every_folder_of_a_room_has_a_floor():
    for room, floors in FLOORS.items():
        folders = {path.name for path in (ROOT / room).iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert folders == {folder for some in floors for folder in some if folder is not None}


def test_no_modules_import_each_other_in_a_circle():
    graph = {module_name(path): imported_modules(path, with_type_checking=False) for path in ROOM_FILES}
    TopologicalSorter({module: imported - {module} for module, imported in graph.items()}).prepare()  # names a circle


@pytest.mark.parametrize("path", [p for p in ROOM_FILES if p.parent.name == "modeling_m4ser"], ids=name)
def test_model_folder_is_self_contained(path):
    # transformers' own reading of a file: all imports outside `try`, those inside functions too.
    needed = set(get_imports(path)) - MODEL_IMPORTS - set(sys.stdlib_module_names)
    assert not needed, f"{name(path)} needs {sorted(needed)}: import it inside `try`, or elsewhere"
    # Copied to the Hub, the folder has another name: our own modules are reached relatively, within the folder.
    assert "modeling_m4ser" not in imported_rooms(path), f"{name(path)} imports its own folder by name"
    levels = [node.level for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)]
    assert max(levels, default=0) <= 1, f"{name(path)} imports from outside its folder"


def test_no_file_is_long():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON_FILES}
    assert not {file: lines for file, lines in lengths.items() if lines > 500}


def test_no_function_needs_scrolling():
    long = {}
    for path in ROOM_FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
                first = node.body[1].lineno if documented and len(node.body) > 1 else node.body[0].lineno
                if (lines := node.end_lineno - first + 1) > 50:
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
        "trainer/errors.py": "one exception",
        "trainer/experiments/arguments.py": "test_cli.py, test_model.py",
    }
    missing = set()
    for path in ROOM_FILES:
        parts = path.relative_to(ROOT).parts
        if parts[0] == "examples" or path.name == "__init__.py":
            continue
        stem = path.stem.strip("_").removesuffix("_m4ser") if path.stem != "modeling_m4ser" else "modeling"
        if (
            not (ROOT / "tests" / Path(*parts[:-1]) / f"test_{stem}.py").is_file()
            and name(path) != "trainer/m4ser_trainer.py"
        ):
            missing.add(name(path))
    assert missing == set(elsewhere)


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
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree(path).body if isinstance(node, definitions) and not node.name.startswith("_")]
    missing = [node.name for node in public if not ast.get_docstring(node)]
    if path.name != "__init__.py" and not ast.get_docstring(tree(path)):
        missing.insert(0, "the module")
    assert not missing, f"{name(path)}: no docstring on {missing}"
