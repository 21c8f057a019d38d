r"""Ask trained models whether their invariant representation looks like one modality, as one table.

    python examples/probe_modalities.py --dataset runs/meld/corpus --model runs/M4SER/seed1 runs/M4SER/seed2 \
        --model runs/without_gan/seed1 runs/without_gan/seed2

Each `--model` is one model, with one folder for each of its seeds. Every model is probed beside the same encoders under
a fusion that was never trained. Shares are percentages with 95 % intervals over utterances, and over seeds where there
are several; differences are to the first line.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_scripts.errors import run_command

if TYPE_CHECKING:
    import numpy as np

    from trainer.evaluation.significance import Interval

TITLES = {
    "specific": "specific frames told right",
    "speech": "invariant frames taken for speech",
    "text": "for text",
    "one": "for one of them",
    "midpoint": "midpoints of both specific frames, for one of them",
    "swap speech": "swapped: nearer to its speech",
    "swap text": "to its text",
}
COMPARED = "one"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        nargs="+",
        metavar="RUN",
        help="folders of finished runs (or names on the Hub), one for each seed of a model; give it again for another",
    )
    parser.add_argument("--dataset", required=True, help="prepared folder")
    parser.add_argument("--split", default="test", help="split to read (default test)")
    parser.add_argument("--utterances", type=int, default=200, help="how many to read, evenly spaced (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the frames, the probe and the untrained fusion")
    options = parser.parse_args(arguments)
    if len({len(runs) for runs in options.model}) > 1:
        parser.error("--model: every model needs equally many runs, so that seeds can be paired")
    return options


def probe(runs: Sequence[str], rows: Sequence[Mapping[str, Any]], seed: int) -> "list[dict[str, np.ndarray]]":
    """Return what is found of a model and of its untrained control, by the keys of `TITLES`, seeds first."""
    import numpy as np

    from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
    from trainer import M4SERDataCollator
    from trainer.studies.modality_probe import ModalityProbe, collect_representations, swap_test
    from trainer.studies.representations import untrained_fusion

    found: tuple[list, list] = [], []
    for number, run in enumerate(runs):
        trained = M4SERForEmotionClassification.from_pretrained(run)
        processor = M4SERProcessor.from_pretrained(run)
        collator = M4SERDataCollator(processor, trained.config, with_auxiliary_labels=False)
        for model, answers in zip((trained, untrained_fusion(trained, seed + number)), found, strict=True):
            parts = collect_representations(model, rows, collator, seed)
            judge = ModalityProbe(parts.speech, parts.text, seed + number)
            midpoint = judge.judge((parts.speech + parts.text) / 2)["one"]
            swap = {f"swap {name}": nearer for name, nearer in swap_test(parts.own, parts.swapped).items()}
            answers.append({"specific": judge.right, **judge.judge(parts.invariant), "midpoint": midpoint, **swap})
    return [{name: np.stack([answer[name] for answer in answers]) for name in TITLES} for answers in found]


def names_of(models: Sequence[Sequence[str]]) -> list[str]:
    """Return what to call each model: the folder that its runs share, or all of them where models share that too."""
    names = [runs[0] if len(runs) == 1 else os.path.commonpath(runs) for runs in models]
    return [name if names.count(name) == 1 else ", ".join(runs) for name, runs in zip(names, models, strict=True)]


def percent(share: "Interval", sign: str = "") -> str:
    """Return a share, or with `sign` "+" a difference, in percent with its interval where it has one."""
    ends = (
        ""
        if share.low is None or share.high is None
        else f" [{100 * share.low:{sign}.1f}, {100 * share.high:{sign}.1f}]"
    )
    return f"{100 * share.estimate:{sign}.1f}{ends}"


def table(findings: "Sequence[tuple[str, Mapping[str, np.ndarray]]]") -> Iterator[str]:
    """Yield the lines of a Markdown table, one for each model."""
    from trainer.studies.modality_probe import difference_of, share_of

    titles = ["model", "runs", *TITLES.values(), f"difference in “{TITLES[COMPARED]}”"]
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    first = findings[0][1][COMPARED]
    for name, found in findings:
        shares = [percent(share_of(found[key])) for key in TITLES]
        compared = "" if found[COMPARED] is first else percent(difference_of(found[COMPARED], first), "+")
        yield f"| {' | '.join([name, str(len(first)), *shares, compared])} |"


def main(options: argparse.Namespace) -> None:
    """Probe the models and their untrained controls, and print the table."""
    from trainer.experiments.data import evenly_spaced, load_split

    rows = evenly_spaced(load_split(options.dataset, options.split), options.utterances)
    findings: list[tuple[str, Any]] = []
    for name, runs in zip(names_of(options.model), options.model, strict=True):
        findings += zip((name, f"{name}, untrained fusion"), probe(runs, rows, options.seed), strict=True)
    print("\n".join(table(findings)), flush=True)
    print(f"\n{len(rows)} utterances of {options.dataset}, {options.split}.")


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
