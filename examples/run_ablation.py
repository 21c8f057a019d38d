r"""The paper's ablations (Table IV, and the rows that only Table V has) and linear probes, as one resumable table.

    accelerate launch examples/run_ablation.py --config examples/configs/meld_hubert_base.yaml --corpus meld \
        --data_dir MELD.Raw --output_dir runs/ablation --seeds 1 2 3
    accelerate launch examples/run_ablation.py ... --protocol dialogue_folds --rows M4SER "speech & text + concat"

Every row gets the same data, seeds and epochs, and where --learning_rates are given, the same choice of one on
validation data. Rows without a module really lack it. A launch that was stopped, however hard, goes on at the cell
(row, fold, seed) where it stood, by the same command. `ablation.md`, `.csv` and `.json` in the output folder hold the
table of what is finished, the paper's numbers beside it.
"""

from typing import TYPE_CHECKING

from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments
    from trainer.studies.comparison import RowSpec

#: Table VI's second row; it runs where --rows name it.
HUMAN_TEXT = "M4SER, human text"


def table_rows(model: ModelArguments, runs: GridArguments) -> "list[RowSpec]":
    """Return the rows of the table, in the order of `--rows` or in the usual one."""
    from trainer.studies.comparison import PROBE_ROWS, RowSpec, choose_rows

    usual = [*(RowSpec(name, {"ablation": name}) for name in ABLATIONS), *PROBE_ROWS]
    every = [*usual, RowSpec(HUMAN_TEXT, {"text_column": "transcript"})]
    rows = choose_rows(every, runs.rows or [row.name for row in usual])
    decided = {name for row in ABLATIONS.values() for name in row}
    if undone := sorted(decided & set(model.options("model_options"))):
        raise ExperimentError(f"model_options sets {', '.join(undone)}, which the rows decide: leave it out.")
    if model.ablation != "M4SER" and runs.rows != [model.ablation]:
        raise ExperimentError(f"The rows of this table are chosen by --rows: leave --ablation {model.ablation!r} out.")
    return rows


def main(corpus: CorpusArguments, model: ModelArguments, runs: GridArguments, args: "ExperimentArguments") -> None:
    """Choose the rows, run them, and keep the table up to date."""
    rows = table_rows(model, runs)
    from trainer.studies import paper  # late: --help needs no torch
    from trainer.studies.comparison import GridSetup, TableSpec, run_table
    from trainer.studies.divisions import prepare_inputs

    setup = GridSetup(rows, corpus, model, runs, args)
    inputs = prepare_inputs(corpus, setup.models, runs, args)
    run_table(TableSpec("Ablations", "ablation", paper.ABLATION_TABLE.get(inputs.name, {})), inputs, setup)


if __name__ == "__main__":
    run_script(main, CorpusArguments, ModelArguments, GridArguments)
