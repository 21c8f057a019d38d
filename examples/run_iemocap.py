r"""IEMOCAP as the paper uses it: 4 emotions, leave one session out, ASR text (Tables II and IV).

    accelerate launch examples/run_iemocap.py --config examples/configs/iemocap_hubert_base.yaml \
        --data_dir IEMOCAP_full_release --output_dir runs/iemocap [--folds 1]

`--data_dir` is the official release, or with `--corpus prepared` a folder written by `python -m data_scripts.prepare`.
The best epoch is chosen on a speaker held out of the training sessions; the test session is used once, at the end.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import data_scripts
from trainer import experiments
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments


@dataclass
class IemocapArguments(CorpusArguments):
    """Where IEMOCAP lies and how it is divided."""

    corpus: str = field(default="iemocap", metadata={"help": "iemocap, or prepared (a prepared folder)."})
    validation: str = field(
        default="speaker",
        metadata={"help": "'speaker' holds out one speaker of the training sessions, 0.1 a tenth of their utterances."},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.validation != "speaker" and not 0 < _as_number(self.validation) < 1:
            raise ExperimentError(
                f"validation must be 'speaker' or a share between 0 and 1 such as 0.1, not {self.validation!r}."
            )


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def main(corpus: IemocapArguments, model: ModelArguments, runs: RunArguments, args: "ExperimentArguments") -> None:
    """Run one fold per session."""
    dataset = experiments.prepare_corpus(corpus, Path(args.output_dir) / "corpus")
    validation = corpus.validation if corpus.validation == "speaker" else float(corpus.validation)
    folds = data_scripts.leave_one_session_out(dataset, validation, runs.split_seed)
    held_out = "one speaker" if validation == "speaker" else f"{validation:.0%}"
    description = (
        f"IEMOCAP, leave one session out; validation on {held_out} of the training sessions, never the test session."
    )
    experiments.run_folds(runs.choose(folds, dataset), corpus, model, runs, args, description)


if __name__ == "__main__":
    run_script(main, IemocapArguments, ModelArguments, RunArguments)
