"""One finished grid of a tiny corpus, which every test reads that needs finished runs."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

#: Of the grid, in its order.
GRID_ROWS = ("M4SER", "only speech", "only text", "speech & text + concat", "linear probe, both")


class FinishedGrid(NamedTuple):
    """A grid's folder, which no test may change; its corpus, all of it in `train`; and the command's options."""

    folder: Path
    corpus: Path
    arguments: list[Any]


@pytest.fixture(scope="session")
def finished_grid(tmp_path_factory) -> FinishedGrid:
    """Five rows, one fold of three, the seeds 1 and 2, two steps each."""
    from tests.helpers.experiments import tiny_options, write_manifest
    from tests.helpers.process import run_example_here

    folder = tmp_path_factory.mktemp("grid")
    write_manifest(folder)
    arguments = ["--data_dir", folder, *tiny_options(folder), "--num_folds", 3, "--folds", 2]
    arguments += ["--seeds", 1, 2, "--rows", *GRID_ROWS]
    run_example_here("run_ablation.py", *arguments)
    return FinishedGrid(folder / "out", folder / "out" / "corpus", arguments)
