r"""Train on one corpus, test on another: the paper's Table VIII, and with a few utterances of the other its Table IX.

    accelerate launch examples/run_cross_corpus.py --source_dir runs/iemocap/corpus --target_dir runs/meld/corpus \
        --label_map joy=happy anger=angry sadness=sad --output_dir runs/iemocap_to_meld --shots 0 5 10 20 60

Both corpora are folders that `data_scripts.prepare` made. The whole source is training data; 30 % of the target choose
the epoch, 70 % are the test, the same for all numbers of shots. Classes that only one of them has are left out. Swap
the two for the other direction. Rows, seeds and shots are cells of grids: the same command goes on where it was
stopped. The tables are `shots0/transfer.md` and so on; `transfer.md`, `.csv` and `.json` above them hold all.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data_scripts.corpora.labels import check_label_map, parse_label_map
from data_scripts.corpora.options import LABEL_MAP_HELP
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments

#: Rows of Table VIII that are made of M4SER's parts.
ROWS = ("speech & text + concat", "+ MSR & MIR", "w/o AED & AEC", "M4SER")


@dataclass
class TransferArguments:
    """From which corpus to which."""

    source_dir: str | None = field(default=None, metadata={"help": "Prepared folder to train on.", "metavar": "FOLDER"})
    target_dir: str | None = field(
        default=None, metadata={"help": "Prepared folder to validate and test on.", "metavar": "FOLDER"}
    )
    shots: list[int] = field(
        default_factory=lambda: [0],
        metadata={"help": "Utterances of each class of the target that training gets, e.g. 0 5 10 20 60 (Table IX)."},
    )
    label_map: list[str] | None = field(default=None, metadata={"help": f"Of both corpora: {LABEL_MAP_HELP}"})

    def __post_init__(self):
        for name in ("source", "target"):
            if getattr(self, f"{name}_dir") is None:
                raise ExperimentError(f"Say which corpus is the {name}: --{name}_dir FOLDER.")
        if min(self.shots) < 0:
            raise ExperimentError(f"shots must be at least 0, not {min(self.shots)}.")


def main(transfer: TransferArguments, model: ModelArguments, runs: GridArguments, args: "ExperimentArguments") -> None:
    """Run a table for each number of shots, and write them as one."""
    from trainer.experiments.checks import check_setup
    from trainer.studies import paper
    from trainer.studies.comparison import GridSetup, TableSpec, ablation_rows, run_tables
    from trainer.studies.divisions import WholeCorpus, transfer_inputs

    if runs.folds or runs.protocol:
        raise ExperimentError("A transfer has one division of its own: leave folds and protocol out.")
    rows = ablation_rows(runs.rows or ROWS)
    names = parse_label_map(transfer.label_map)
    source, target = (WholeCorpus.load(str(folder), names) for folder in (transfer.source_dir, transfer.target_dir))
    check_label_map(names, dict.fromkeys([*source.labels, *target.labels]), f"{source.name} with {target.name}")
    published = paper.TRANSFER_TABLE.get((source.registered, target.registered), {})
    parts = {}
    for shots in sorted(set(transfer.shots)):
        title, numbers = f"Transfer with {shots} shots", published.get(shots, {})
        spec = TableSpec(title, "transfer", numbers, folder=f"shots{shots}")
        parts[f"{shots} shots"] = spec, transfer_inputs(source, target, shots, runs.split_seed)
    _, inputs = next(iter(parts.values()))
    heading = inputs.heading(f"From {source.name} to {target.name}: tested on 70 % of {target.name}")
    notes = ["The differences are to the rows with as many shots.", *inputs.notes]
    setup = GridSetup(rows, CorpusArguments(prepared_dir=transfer.source_dir), model, runs, args)
    check_setup(setup.models, args)
    run_tables("transfer", heading, notes, parts, setup)


if __name__ == "__main__":
    run_script(main, TransferArguments, ModelArguments, GridArguments)
