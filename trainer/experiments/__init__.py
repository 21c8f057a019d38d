"""Whole experiments, from a command line to a run directory."""

from typing import TYPE_CHECKING

from data_scripts.lazy import lazy_exports

if TYPE_CHECKING:
    from trainer.experiments.cross_validation import format_row, own_split, run_folds, summarize
    from trainer.experiments.data import prepare_corpus
    from trainer.experiments.model import build_model
    from trainer.experiments.run import load_results, run_experiment

__all__ = [
    "build_model",
    "format_row",
    "load_results",
    "own_split",
    "prepare_corpus",
    "run_experiment",
    "run_folds",
    "summarize",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "trainer.experiments.cross_validation": ["format_row", "own_split", "run_folds", "summarize"],
        "trainer.experiments.data": ["prepare_corpus"],
        "trainer.experiments.model": ["build_model"],
        "trainer.experiments.run": ["load_results", "run_experiment"],
    },
)
