"""What every test shares: the repository on the path, no network, fixed seeds, and the optional data folder."""

import gc
import logging
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Set before any Hugging Face library is imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Read by NumPy and torch when they are imported, here and in the processes that tests start: threads of matrices as
# small as these only take time from the tests beside them.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import transformers.utils.logging  # noqa: E402, F401  gives loggers `warning_once`

from tests.helpers.grid import finished_grid  # noqa: E402, F401  a fixture

torch.set_num_threads(1)  # fastest for models as small as these, and leaves the other cores alone
hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no deadline")


def pytest_collection_finish():
    """Each training begins by collecting garbage, and what is imported is none: looking through it took longer."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Start every test from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def forgotten_warnings():
    """Let every test see what is warned of once in a process."""
    logging.Logger.warning_once.cache_clear()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The `shared/` folder beside the repository (recordings, encoders, ASR pairs); skips where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared folder beside the repository")
    return folder
