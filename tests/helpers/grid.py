"""One finished grid of a tiny corpus, which every test reads that needs finished runs."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from filelock import FileLock

#: Of the grid, in its order.
GRID_ROWS = ("M4SER", "only speech", "only text", "speech & text + concat", "linear probe, both")


class FinishedGrid(NamedTuple):
    """A grid's folder, which no test may change; its corpus, all of it in `train`; and the command's options."""

    folder: Path
    corpus: Path
    arguments: list[Any]


@pytest.fixture(scope="session")
def finished_grid(tmp_path_factory) -> FinishedGrid:
    """Five rows, one fold of three, the seeds 1 and 2, two steps each; the processes of one test run share it."""
    from tests.helpers.experiments import tiny_options, write_manifest
    from tests.helpers.process import run_example_here

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "grid"
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        arguments = ["--data_dir", folder, *tiny_options(folder), "--num_folds", 3, "--folds", 2]
        arguments += ["--seeds", 1, 2, "--rows", *GRID_ROWS]
        if not (folder / "finished").exists():
            write_manifest(folder)
            run_example_here("run_ablation.py", *arguments)
            (folder / "finished").touch()
    return FinishedGrid(folder / "out", folder / "out" / "corpus", arguments)
