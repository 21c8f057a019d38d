r"""Train on one corpus, test on another: the paper's Table VIII, and with a few utterances of the other its Table IX.

    accelerate launch examples/run_cross_corpus.py --source runs/iemocap/corpus --target runs/meld/corpus \
        --label_map joy=happy anger=angry sadness=sad --output_dir runs/iemocap_to_meld --shots 0 5 10 20 60

Both corpora are folders that `data_scripts.prepare` made. The whole source is training data; 30 % of the target choose
the epoch, 70 % are the test, the same for all numbers of shots. Classes that only one of them has are left out. Swap
the two for the other direction. Rows, seeds and shots are cells of grids: the same command goes on where it was
stopped. The tables are `shots0/transfer.md` and so on; `transfer.md`, `.csv` and `.json` above them hold all.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from data_scripts.corpora.labels import LABEL_MAP_HELP, parse_label_map
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments
    from trainer.studies.table_run import Material
    from trainer.studies.transfer import Corpus

#: Rows of Table VIII that are made of M4SER's parts.
ROWS = ("speech & text + concat", "+ MSR & MIR", "w/o AED & AEC", "M4SER")
REFERENCES = ("speech & text + concat", "M4SER")


@dataclass
class TransferArguments:
    """From which corpus to which."""

    source: str | None = field(default=None, metadata={"help": "Prepared folder to train on."})
    target: str | None = field(default=None, metadata={"help": "Prepared folder to validate and test on."})
    shots: list[int] = field(
        default_factory=lambda: [0],
        metadata={"help": "Utterances of each class of the target that training gets, e.g. 0 5 10 20 60 (Table IX)."},
    )
    label_map: list[str] | None = field(default=None, metadata={"help": f"Of both: {LABEL_MAP_HELP}."})

    def __post_init__(self):
        for name in ("source", "target"):
            if getattr(self, name) is None:
                raise ExperimentError(f"Say which corpus is the {name}: --{name} FOLDER.")
        if min(self.shots) < 0:
            raise ExperimentError(f"shots must be at least 0, not {min(self.shots)}.")


def load(folder: str, label_map: list[str] | None) -> "Corpus":
    """Return a prepared corpus as one."""
    from data_scripts.schema import load_prepared
    from trainer.experiments.data import corpus_name
    from trainer.studies.transfer import Corpus

    registered = corpus_name(CorpusArguments(corpus="prepared", data_dir=folder))
    name = Path(folder).resolve().name if registered in ("prepared", "manifest", "dataset") else registered
    return Corpus.join(name, registered, load_prepared(folder), dict(parse_label_map(label_map) or {}))


def make_material(source: "Corpus", target: "Corpus", shots: int, seed: int) -> "Material":
    """Return what one table is measured on."""
    from trainer.studies.table_run import Material, stand_in_note
    from trainer.studies.transfer import shared_emotions, transfer_division

    division = transfer_division(source, target, shots, seed)
    notes = [stand_in_note(corpus.registered, len(corpus.data)) for corpus in (source, target)]
    emotions = shared_emotions(source, target)
    data, _ = next(iter(division.folds.values()))
    utterances = sum(map(len, data.values()))
    title = f"{target.name} after {source.name}"
    return Material(target.registered, title, utterances, emotions, division, " ".join(filter(None, notes)))


def main(transfer: TransferArguments, model: ModelArguments, runs: GridArguments, args: "ExperimentArguments") -> None:
    """Run a table for each number of shots, and write them as one."""
    from trainer.studies import paper
    from trainer.studies.comparison import ablation_rows
    from trainer.studies.table_run import TableKind, fill_table
    from trainer.studies.tables import join_tables

    if runs.folds or runs.protocol:
        raise ExperimentError("A transfer has one division of its own: leave folds and protocol out.")
    rows = ablation_rows(runs.rows or ROWS)
    source, target = (load(str(folder), transfer.label_map) for folder in (transfer.source, transfer.target))
    published = paper.TRANSFER_TABLE.get((source.registered, target.registered), {})
    corpus = CorpusArguments(corpus="prepared", data_dir=transfer.source)
    tables = {}
    for shots in sorted(set(transfer.shots)):
        material = make_material(source, target, shots, runs.split_seed)
        numbers = {target.registered: published.get(shots, {})}
        kind = TableKind(f"Transfer with {shots} shots", "transfer", REFERENCES, numbers)
        settings = copy.copy(args)
        settings.output_dir = str(Path(str(args.output_dir)) / f"shots{shots}")
        tables[shots] = fill_table(kind, rows, material, corpus, model, runs, settings)
        if args.should_log:
            heading = material.heading(f"From {source.name} to {target.name}: tested on 70 % of {target.name}")
            parts = {f"{shots} shots": table for shots, table in tables.items()}
            notes = ["The differences are to the rows with as many shots.", *material.notes]
            joined = join_tables(parts, heading, notes)
            joined.write(Path(str(args.output_dir)) / "transfer")


if __name__ == "__main__":
    run_script(main, TransferArguments, ModelArguments, GridArguments)
