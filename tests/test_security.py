"""Nothing that is read is run: no pickle, no shell, no code beside a model; and no archive is unpacked here."""

import ast

import pytest

from tests.test_architecture import ROOM_FILES, name, tree

#: What runs code that lies in data, or writes where data say: the dotted ends of calls.
FORBIDDEN = (
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load", "marshal.loads", "shelve.open"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "pd.read_pickle"),
    *("extractall", "unpack_archive", "os.system", "os.popen", "torch.hub.load", "torch.jit.load"),
)
#: Where one stands all the same.
KNOWN = {
    "m4ser/predict/engines.py: pickle.loads": "between this process and its own workers in Ray",
    "modeling_m4ser/speech_m4ser.py: torch.jit.load": "of the installed package silero-vad",
}


def calls(path):
    """A file's calls, each with its dotted name and its keywords."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def functions(path):
    """The dotted names that are called in a file, or are handed to what calls them."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield from map(ast.unparse, (node.func, *node.args))


def named(function: str) -> str | None:
    """Which of FORBIDDEN a function is."""
    if function in ("eval", "exec"):
        return function
    return next((bad for bad in FORBIDDEN if function == bad or function.endswith(f".{bad}")), None)


def test_nothing_that_is_read_is_run():
    found = {f"{name(path)}: {bad}" for path in ROOM_FILES for function in functions(path) if (bad := named(function))}
    assert found == set(KNOWN)


@pytest.mark.parametrize(
    ("function", "keyword", "allowed"),
    [
        ("torch.load", "weights_only", {"True"}),
        ("np.load", "allow_pickle", {None, "False"}),
        ("subprocess.run", "shell", {None, "False"}),
        ("subprocess.Popen", "shell", {None, "False"}),
    ],
)
def test_options_that_let_data_run_code_are_off(function, keyword, allowed):
    for path in ROOM_FILES:
        assert {words.get(keyword) for called, words in calls(path) if called == function} <= allowed, name(path)


def test_code_beside_a_model_is_run_where_its_owner_says_so_alone():
    """The handler runs in the container of its own repository; the demo loads what it has just trained."""
    trusting = {
        name(path) for path in ROOM_FILES for _, words in calls(path) if words.get("trust_remote_code") == "True"
    }
    assert trusting == {"modeling_m4ser/handler_m4ser.py", "examples/demo/use.py"}
