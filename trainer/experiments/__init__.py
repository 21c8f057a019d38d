"""Whole experiments, from a command line to a run directory."""

from typing import TYPE_CHECKING

from data_scripts.lazy import lazy_exports

if TYPE_CHECKING:
    from trainer.evaluation.summary import format_row as format_row
    from trainer.evaluation.summary import summarize as summarize
    from trainer.experiments.checks import check_experiment as check_experiment
    from trainer.experiments.cross_validation import run_folds as run_folds
    from trainer.experiments.data import prepare_corpus as prepare_corpus
    from trainer.experiments.model import build_model as build_model
    from trainer.experiments.protocols import own_split as own_split
    from trainer.experiments.run import run_experiment as run_experiment
    from trainer.experiments.run_folder import load_results as load_results

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
