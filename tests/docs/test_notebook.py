"""The notebook is a valid one without outputs, and its cells run in order."""

import json
import re

import pytest
import torch

from tests.helpers import ROOT

CELLS = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]


def test_it_is_a_notebook_of_format_4_5_without_outputs():
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in CELLS]
    assert len(set(names)) == len(names)
    for cell in CELLS:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        fields = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            fields |= {"outputs", "execution_count"}
        assert set(cell) == fields


@pytest.fixture
def two_steps(tmp_path, monkeypatch):
    """A folder with the examples in it, and one thread, which is fastest for a small model on a busy machine."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_its_cells_run_in_order(two_steps):
    namespace = {"__name__": "__main__"}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            assert ("num_train_epochs=1" in source) == (cell["id"] == "training")
            source = source.replace("num_train_epochs=1", "max_steps=2, disable_tqdm=True")
            exec(compile(source, f"quickstart.ipynb:{cell['id']}", "exec"), namespace)
    trainer, answer = namespace["trainer"], namespace["answer"]
    assert namespace["ds"]["train"].column_names == ["file", "text", "label"]
    assert trainer.state.global_step == 2
    assert [entry["eval_ua"] for entry in trainer.state.log_history if "eval_ua" in entry]
    assert {item["label"] for item in answer} == {"angry", "happy", "neutral", "sad"}
    assert sum(item["score"] for item in answer) == pytest.approx(1)
    row = namespace["ds"]["test"][0]
    scores = trainer.predict(namespace["ds"]["test"].select([0])).predictions[0]
    (expected,) = torch.tensor(scores[None]).softmax(-1).tolist()
    given = {item["label"]: item["score"] for item in answer}
    assert [given[name] for name in namespace["labels"]] == pytest.approx(expected, abs=1e-5), row["file"]
