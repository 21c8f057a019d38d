r"""How much depends on one setting at a time: the paper's Fig. 7 over α, β, γ and λ, or any other setting.

    accelerate launch examples/run_sensitivity.py --config examples/configs/iemocap_hubert_base.yaml --corpus iemocap \
        --data_dir IEMOCAP_full_release --output_dir runs/sensitivity
    accelerate launch examples/run_sensitivity.py ... --vary generator_layers=2,4 gate_prelu=true lowercase=false

Each value is a row beside the model as configured, with the paired difference to it. Rows, folds and seeds
are cells of one grid: the same command goes on where it was stopped. `sensitivity.md`, `.csv`, `.json` and `.png` in
the output folder hold what is finished.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, GridArguments, ModelArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from trainer import ExperimentArguments
    from trainer.studies.comparison import RowSpec
    from trainer.studies.tables import Table

#: α, β, γ and λ of Eq. 22, around Table I's values.
FIGURE_7 = [
    "auxiliary_weight=0.01,0.05,0.1,0.5,1",
    "detection_weight=1,2,3,4,5",
    "adversarial_weight=0.001,0.01,0.1,1",
    "contrastive_weight=0.01,0.05,0.1,0.5,1",
]
SYMBOLS = {"auxiliary_weight": "α", "detection_weight": "β", "adversarial_weight": "γ", "contrastive_weight": "λ"}


@dataclass
class SensitivityArguments:
    """Which settings to vary."""

    vary: list[str] = field(
        default_factory=lambda: list(FIGURE_7),
        metadata={"help": "FIELD=VALUE,VALUE… of M4SERConfig or M4SERProcessor, one at a time."},
    )


def known_fields() -> dict[str, tuple[str, Any]]:
    """Return each field that can vary -> the option of `ModelArguments` that sets it, and its default."""
    from inspect import signature

    from modeling_m4ser import M4SERConfig, M4SERProcessor

    fields = {name: ("model_options", value) for name, value in vars(M4SERConfig()).items()}
    parameters = signature(M4SERProcessor).parameters
    return fields | {name: ("processor_options", parameter.default) for name, parameter in parameters.items()}


def parse_values(vary: list[str]) -> dict[str, list[Any]]:
    """Return field -> values, e.g. of `generator_layers=2,4`."""
    values: dict[str, list[Any]] = {}
    for text in vary:
        name, _, listed = text.partition("=")
        if not listed or any(not value.strip() for value in listed.split(",")):
            raise ExperimentError(f"vary: {text!r} is not of the form FIELD=VALUE,VALUE.")
        if name not in known_fields():
            raise ExperimentError(f"vary: {name!r} is no field of M4SERConfig and no argument of M4SERProcessor.")
        values.setdefault(name, []).extend(yaml.safe_load(value) for value in listed.split(","))
    return values


def usual_value(model: ModelArguments, name: str) -> Any:
    """Return the value that a field has in all rows that do not vary it."""
    option, default = known_fields()[name]
    return model.options(option).get(name, default)


def make_rows(model: ModelArguments, values: Mapping[str, list[Any]]) -> "list[RowSpec]":
    """Return the model as configured and a row for each other value."""
    from trainer.studies.comparison import RowSpec

    rows = [RowSpec(model.ablation)]
    for name, listed in values.items():
        option, _ = known_fields()[name]
        for value in dict.fromkeys(listed):
            if value != usual_value(model, name):
                rows.append(RowSpec(f"{name}={value}", {option: {**model.options(option), name: value}}))
    return rows


def draw(model: ModelArguments, values: Mapping[str, list[Any]], epochs: float, table: "Table", path: Path) -> None:
    """Draw the figure of the rows that are finished."""
    from trainer.evaluation.figures import plot_sensitivity
    from trainer.evaluation.significance import Interval
    from trainer.studies.tables import TITLES

    intervals = {record["row"]: Interval(**record["interval"]) for record in table.records}
    panels = {}
    for name, listed in values.items():
        usual = usual_value(model, name)
        ordered = list(dict.fromkeys([*listed, usual]))
        if all(isinstance(value, (int, float)) for value in ordered):
            ordered = sorted(ordered)
        points = [(value, model.ablation if value == usual else f"{name}={value}") for value in ordered]
        found = [(value, intervals[row], value == usual) for value, row in points if row in intervals]
        if found:
            panels[SYMBOLS.get(name, name)] = found
    if panels:
        record = table.records[0]
        note = f"{epochs:g} epochs, {len(record['seeds'])} seeds, tested on {record['utterances']:,} utterances"
        plot_sensitivity(panels, TITLES[table.metric], path, note)


def main(
    sensitivity: SensitivityArguments,
    corpus: CorpusArguments,
    model: ModelArguments,
    runs: GridArguments,
    args: "ExperimentArguments",
) -> None:
    """Make the rows, run them, and keep table and figure up to date."""
    values = parse_values(sensitivity.vary)
    from trainer.studies.comparison import GridSetup, TableSpec, choose_rows, run_table
    from trainer.studies.divisions import prepare_inputs

    rows = make_rows(model, values)
    rows = choose_rows(rows, runs.rows or [row.name for row in rows])
    spec = TableSpec(
        "Sensitivity to one setting at a time",
        "sensitivity",
        references=(model.ablation,),
        draw=partial(draw, model, values, args.num_train_epochs),
    )
    setup = GridSetup(rows, corpus, model, runs, args)
    run_table(spec, prepare_inputs(corpus, setup.models, runs, args), setup)


if __name__ == "__main__":
    run_script(main, SensitivityArguments, CorpusArguments, ModelArguments, GridArguments)
