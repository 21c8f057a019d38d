r"""Train ASR error detection and correction alone, on pairs of texts: no speech, no emotion.

    accelerate launch examples/run_correction.py --pairs pairs.jsonl --output_dir runs/correction \
        --held_out_sources podcasts calls

`--pairs` is a table (CSV, TSV, JSONL, Parquet) with the columns `hypothesis`, `reference` and `source`, or a prepared
corpus. The held-out sources show what becomes of text of a kind that was never trained on. The confidence below which
an edit is not made is chosen on validation data, so that no source gets worse there, and is saved with the model.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.experiments.cli import run_script
from trainer.studies.text_pairs import CorrectionArguments

if TYPE_CHECKING:
    from trainer import ExperimentArguments

CONFIG = Path(__file__).parent / "configs" / "correction.yaml"


def main(arguments: CorrectionArguments, args: "ExperimentArguments") -> None:
    """Run, then print the table by source."""
    from trainer.studies.corrector import format_table, run_correction  # late: --help needs no torch

    print(format_table(run_correction(arguments, args)))


if __name__ == "__main__":
    run_script(main, CorrectionArguments, config=CONFIG)
