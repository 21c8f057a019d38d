"""The notebook is a valid one without outputs, and its cells run in order."""

import json
import re
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch

from tests.helpers import ROOT

NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))


def test_it_is_a_notebook_of_format_4_5_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    for cell in NOTEBOOK["cells"]:
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the examples in it, and something to listen with."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(version_info=(9, 0), get_ipython=lambda: None))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(Audio=lambda filename: open(filename).close()))
    yield
    plt.close("all")


def test_its_cells_run_in_order(place):
    namespace = {"__name__": "__main__"}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            assert ("num_train_epochs=1" in source) == (cell["id"] == "training")
            source = source.replace("num_train_epochs=1", "max_steps=2, disable_tqdm=True")
            exec(compile(source, f"quickstart.ipynb:{cell['id']}", "exec"), namespace)
    trainer, answer = namespace["trainer"], namespace["answer"]
    assert trainer.state.global_step == len(namespace["log"]) == 2
    assert [entry["eval_ua"] for entry in trainer.state.log_history if "eval_ua" in entry]
    given = {item["label"]: item["score"] for item in answer}
    assert sum(given.values()) == pytest.approx(1)
    scores = trainer.predict(namespace["ds"]["test"].select([0])).predictions[0]
    (expected,) = torch.tensor(scores[None]).softmax(-1).tolist()
    assert [given[name] for name in namespace["labels"]] == pytest.approx(expected, abs=1e-5)
    assert [len(plt.figure(number).axes) for number in plt.get_fignums()] == [1, 1], "losses and the answer are drawn"
