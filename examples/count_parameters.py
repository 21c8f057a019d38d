r"""Table V: what each row costs in parameters, and with a benchmark in time, beside the paper's numbers.

    python examples/count_parameters.py
    python examples/count_parameters.py --size base --benchmark runs/benchmark/benchmark.json --train_utterances 4425

Parameters are counted in the configurations of HuBERT (`--size`) and bert-base: nothing is downloaded, no weight is
made. `--benchmark` is what `examples/benchmark.py` wrote for encoders of that size. A step of its data, noise of 1 to
15 seconds, times the steps of an epoch is the time of an epoch. The table is printed; `--output_dir` keeps it as
`parameters.md`.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data_scripts.errors import run_command
from data_scripts.files import write_atomically
from trainer.errors import ExperimentError
from trainer.studies.paper import COST_TABLE
from trainer.studies.parameters import (
    ENCODER_SIZES,
    MODULE_GROUPS,
    count_parameters,
    inference_parameters,
)

#: Four of IEMOCAP's five sessions, what a fold of the paper trains on.
TRAIN_UTTERANCES = 4425


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", choices=ENCODER_SIZES, default="large", help="of HuBERT (default large, Table V's)")
    parser.add_argument("--model_options", type=json.loads, default={}, help="e.g. '{\"generator_layers\": 4}'")
    parser.add_argument("--benchmark", type=Path, metavar="FILE", help="benchmark.json of examples/benchmark.py")
    parser.add_argument(
        "--train_utterances",
        type=int,
        default=TRAIN_UTTERANCES,
        help=f"of an epoch (default {TRAIN_UTTERANCES}, four sessions of IEMOCAP)",
    )
    parser.add_argument("--output_dir", type=Path, metavar="FOLDER", help="also write parameters.md there")
    return parser.parse_args(arguments)


def read_times(benchmark: Path, size: str, utterances: int) -> dict[str, dict[str, str]]:
    """Return minutes of an epoch and milliseconds of inference by row, where the benchmark measured them.

    Raises:
        ExperimentError: the file is none of the benchmark's, or of encoders of another size.
    """
    try:
        content = json.loads(benchmark.read_text(encoding="utf-8"))
        options, records = content["options"], content["records"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ExperimentError(f"{benchmark} is no benchmark.json of examples/benchmark.py.") from error
    if options["speech_encoder"] is not None or options["size"] != size:
        raise ExperimentError(
            f"{benchmark} measured other encoders than --size {size}: run benchmark.py with that size."
        )
    steps = math.ceil(utterances / options["batch_size"])
    times: dict[str, dict[str, str]] = {}
    for record in records:
        mean, deviation = record["milliseconds"]["mean"], record["milliseconds"]["std"]
        if (record["task"], record["way"]) == ("training", "as it is"):
            times.setdefault(record["row"], {})["epoch"] = f"{steps * mean / 60000:.1f}"
        elif record["task"] == "inference":
            times.setdefault(record["row"], {})["inference"] = f"{mean:.1f} ± {deviation:.1f}"
    return times


def table(counts: Mapping[str, Mapping[str, int]], times: Mapping[str, Mapping[str, str]] | None) -> Iterator[str]:
    """Yield the lines of the table: a row of Table V each, millions of parameters by module, totals and times."""
    measured = [] if times is None else ["min/epoch", "ms/utterance"]
    titles = ["row", *MODULE_GROUPS, "training", "paper", "inference", *measured]
    if measured:
        titles += ["paper: h/100 epochs", "paper: ms/utterance"]
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row, groups in counts.items():
        paper = COST_TABLE[row]
        cells = [f"{count / 1e6:.2f}" if count else "–" for count in groups.values()]
        totals = f"{sum(groups.values()) / 1e6:.1f}", paper["parameters"], f"{inference_parameters(groups) / 1e6:.1f}"
        cells = [row, *cells, *map(str, totals)]
        if times is not None:
            cells += [times.get(row, {}).get(name, "–") for name in ("epoch", "inference")]
            cells += [str(paper["train_hours"]), f"{paper['inference_ms']} ± {paper['inference_ms_std']}"]
        yield f"| {' | '.join(cells)} |"


def main(options: argparse.Namespace) -> None:
    """Count, read the times, print the table, and write it."""
    times = None
    if options.benchmark is not None:
        times = read_times(options.benchmark, options.size, options.train_utterances)
    counts = {row: count_parameters(row, options.size, **options.model_options) for row in COST_TABLE}
    changed = f" {json.dumps(options.model_options)}" if options.model_options else ""
    lines = [
        f"Millions of parameters, frozen ones too. HuBERT: {options.size}.{changed}",
        "",
        *table(counts, times),
        "",
        "The paper: hubert-large and bert-base on IEMOCAP, one Tesla V100.",
    ]
    if times is not None:
        lines.append(f"Here: encoders of random weights read noise; an epoch is {options.train_utterances} utterances.")
    text = "\n".join(lines)
    print(text, flush=True)
    if options.output_dir is not None:
        write_atomically(options.output_dir / "parameters.md", text + "\n")


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
