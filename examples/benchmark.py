r"""What M4SER costs, as ratios of ways that take turns in one process on this machine.

    python examples/benchmark.py --parts step inference
    python examples/benchmark.py --parts wav --speech_encoder openai/whisper-tiny.en \
        --text_encoder sentence-transformers/all-MiniLM-L6-v2 --asr openai/whisper-tiny.en --clips my_recordings

| part | what is compared |
|---|---|
| `step` | a training step: M4SER, a naive M4SER, and concatenation |
| `inference` | the same three, from inputs to logits, 1, 4 and 16 utterances at once |
| `grouping` | training on lengths as IEMOCAP's, in random order and grouped by length |
| `length` | inference on 2 to 60 seconds: M4SER, concatenation |
| `loading` | making a batch of recordings, over a training step on it: above 1 the device waits |
| `wav` | recordings to emotions: with transcripts, with `--asr`, and the recognizer alone |
| `start` | a new process to its first answer: torch, and ONNX without torch |
| `peers` | other packages on the same recordings and encoder sizes |
| `compile` | inference with the encoders compiled, and as they are |
| `rows` | ablations (`--rows`): training as it is and frozen with cached features, one utterance, a whole test |

Times are of the processor, on an accelerator of the clock. Without `--clips`, data are noise and words by chance;
encoders of a `--size` have random weights. `benchmark.md`, `.json` and `.png` are written.
"""

import argparse
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarking.peers import PEERS, time_to_first_answer
from benchmarking.setting import Setting, write_encoders
from benchmarking.turns import costliest, describe, draw, take_turns, to_markdown

from data_scripts.errors import run_command
from data_scripts.files import write_atomically
from data_scripts.parsers import CommandParser
from trainer.experiments.ablations import ABLATIONS
from trainer.studies.parameters import ENCODER_SIZES

CONCAT = "speech & text + concat"
#: IEMOCAP's utterances last 4.5 s on average (standard deviation 3.2), 0.6 to 34 s.
MEAN_SECONDS, LOG_MEAN, LOG_DEVIATION = 4.5, 1.30, 0.64


class Comparison(NamedTuple):
    """Ways of doing one thing, by name: each makes what does it once. Ratios are to the last one."""

    task: str
    ways: dict[str, Callable[[], Callable[[], Any]]]
    with_memory: bool = False


def lengths(count: int) -> list[float]:
    """Return seconds of utterances that are distributed as IEMOCAP's, the same every time."""
    drawn = np.random.default_rng(0).lognormal(LOG_MEAN, LOG_DEVIATION, size=count)
    return np.clip(drawn, 0.6, 34).round(2).tolist()


def step(setting: Setting) -> Iterator[Comparison]:
    """Compare steps of training."""
    seconds = [MEAN_SECONDS] * setting.batch_size
    three = {name: partial(setting.training, row, seconds) for name, row in (("M4SER", "M4SER"), ("concat", CONCAT))}
    yield Comparison(f"training step, {MEAN_SECONDS} s each", three, with_memory=True)
    seconds = lengths(setting.utterances)
    ways = {"naive": partial(setting.training, "M4SER", seconds, naive=True)}
    yield Comparison("training step, IEMOCAP's lengths", ways | {"M4SER": partial(setting.training, "M4SER", seconds)})


def inference(setting: Setting) -> Iterator[Comparison]:
    """Compare inference, by batch size."""
    for size in (1, 4, 16):
        seconds = [MEAN_SECONDS] * size
        ways = {
            name: partial(setting.inference, row, seconds) for name, row in (("M4SER", "M4SER"), ("concat", CONCAT))
        }
        yield Comparison(f"inference, batch {size}, {MEAN_SECONDS} s each", ways, with_memory=size == 1)
    seconds = lengths(setting.batch_size)
    ways = {"naive": partial(setting.inference, "M4SER", seconds, naive=True)}
    yield Comparison("inference, IEMOCAP's lengths", ways | {"M4SER": partial(setting.inference, "M4SER", seconds)})


def grouping(setting: Setting) -> Iterator[Comparison]:
    """Compare epochs whose batches are of random and of similar length."""
    seconds, order = lengths(setting.utterances), {"random": "random", "grouped by length": "group_by_length"}
    ways = {
        name: partial(
            setting.training, "M4SER", seconds, max_steps=-1, num_train_epochs=1, train_sampling_strategy=kind
        )
        for name, kind in order.items()
    }
    yield Comparison("an epoch, IEMOCAP's lengths", ways)


def length(setting: Setting) -> Iterator[Comparison]:
    """Compare inference by length."""
    for seconds in (2, 5, 10, 20, 40, 60):
        ways = {n: partial(setting.inference, row, [seconds]) for n, row in (("M4SER", "M4SER"), ("concat", CONCAT))}
        yield Comparison(f"inference, {seconds} s", ways, with_memory=True)


def loading(setting: Setting) -> Iterator[Comparison]:
    """Compare making a batch with training on it."""
    seconds = [MEAN_SECONDS] * setting.batch_size
    ways = {
        "decoding and features": partial(setting.loading, seconds),
        "step": partial(setting.training, "M4SER", seconds),
    }
    yield Comparison("a batch", ways)


def wav(setting: Setting) -> Iterator[Comparison]:
    """Compare recordings to emotions with recognition alone."""
    for size, name in itertools.product((1, 16), setting.asr):
        ways = {
            "with transcripts": partial(setting.answers, size),
            "with recognition": partial(setting.answers, size, asr=name),
            "recognition alone": partial(setting.texts, size, name),
        }
        yield Comparison(f"recordings, batch {size}, {Path(name).name}", ways)


def start(setting: Setting) -> Iterator[Comparison]:
    """Compare times to a first answer, each in a process of its own."""
    ways = {kind: partial(time_to_first_answer, setting, kind) for kind in ("torch", "ONNX")}
    yield Comparison("import, load, one answer", ways)


def peers(setting: Setting) -> Iterator[Comparison]:
    """Compare with other packages."""
    yield Comparison("recordings, one at a time", {name: partial(make, setting) for name, make in PEERS.items()})


def compiled(setting: Setting) -> Iterator[Comparison]:
    """Compare compiled encoders, over lengths that change."""
    seconds = lengths(4)
    ways = {
        name: partial(setting.inference, "M4SER", seconds, one_by_one=True, compiled=name == "compiled")
        for name in ("compiled", "as it is")
    }
    yield Comparison("inference, 4 lengths", ways)


def rows(setting: Setting) -> Iterator[Comparison]:
    """Compare ablations (Table V)."""
    seconds = lengths(setting.utterances)
    for row in setting.rows:
        ways = {"as it is": partial(setting.training, row, seconds)}
        if ABLATIONS[row].get("modalities") != "text":
            ways["frozen, cached"] = partial(setting.training, row, seconds, cached=True)
        yield Comparison(f"training, {row}", ways)
    turns = {row: partial(setting.inference, row, seconds, one_by_one=True) for row in reversed(setting.rows)}
    yield Comparison("one utterance", turns)
    orders = {
        name: partial(setting.prediction, setting.rows[0], seconds, name) for name in ("as it comes", "longest first")
    }
    yield Comparison("a whole test", orders)


PARTS = {part.__name__: part for part in (step, inference, grouping, length, loading, wav, start, peers, rows)}
PARTS["compile"] = compiled


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=["step", "inference"], metavar="PART", help=", ".join(PARTS))
    add("--size", choices=ENCODER_SIZES, default="base", help="of encoders with random weights (default base)")
    add("--speech_encoder", help="Hub name or folder, in place of --size")
    add("--text_encoder", help="Hub name or folder, in place of --size")
    add(
        "--rows",
        nargs="+",
        choices=ABLATIONS,
        metavar="ROW",
        default=["M4SER", "only speech", CONCAT],
        help="of `rows`",
    )
    add("--repetitions", type=int, default=5, metavar="N", help="of each way, after one that is not counted")
    add("--utterances", type=int, default=32, metavar="N", help="of data whose lengths are IEMOCAP's")
    add("--batch_size", type=int, default=4, metavar="N", help="of training and prediction")
    add("--clips", type=Path, metavar="FOLDER", help="with recordings for `wav` and `peers`, the first 16 of them")
    add("--asr", nargs="+", default=["openai/whisper-tiny.en"], metavar="NAME", help="recognizers of `wav`")
    add("--profile", action="store_true", help="also list the ten costliest operations of each way")
    add("--output_dir", type=Path, default=Path("runs/benchmark"), metavar="FOLDER", help="where the table is written")
    options = parser.parse_args(arguments)
    if (options.speech_encoder is None) != (options.text_encoder is None):
        parser.error("--speech_encoder and --text_encoder come together")
    if options.repetitions < 2:
        parser.error("--repetitions must be at least 2")
    if "wav" in options.parts and options.clips is None:
        parser.error("--parts wav needs --clips FOLDER: no recognizer hears words in noise")
    return options


def print_peak(options: dict[str, Any], encoders: tuple[str, str], part: str, task: str, way: str) -> None:
    """Do what a way does, twice, and print the most memory in GB that this process took."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        found = PARTS[part](Setting(argparse.Namespace(**options), encoders, folder))
        work = next(each for each in found if each.task == task).ways[way]()
        work()
        work()
    if torch.accelerator.is_available():
        print(torch.accelerator.max_memory_allocated() / 1e9)
    else:
        # Not getrusage's, which counts the process that started this one.
        print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9)


def main(options: argparse.Namespace) -> None:
    """Measure, print and write the table."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        encoders = options.speech_encoder, options.text_encoder
        if encoders[0] is None:
            encoders = write_encoders(folder, options.size)
        setting = Setting(options, encoders, folder)
        for part in options.parts:
            for comparison in PARTS[part](setting):
                works, missing = {}, {}
                for name, make in comparison.ways.items():
                    try:
                        works[name] = make()
                    except ImportError as error:
                        missing[name] = str(error).splitlines()[0]
                seconds = take_turns(list(works.values()), options.repetitions)
                found = list(describe(part, comparison.task, list(works), seconds))
                for record in found:
                    if comparison.with_memory:
                        record["peak"] = setting.peak(part, comparison.task, record["way"])
                    if options.profile:
                        record["costliest"] = costliest(works[record["way"]])
                    print(json.dumps(record), flush=True)
                records += found
                records += [{"part": part, "task": comparison.task, "way": n, "why_not": w} for n, w in missing.items()]
    named = options.speech_encoder and f"{options.speech_encoder} and {options.text_encoder}"
    heading = (
        f"Encoders: {named or f'random, size {options.size}'}. {options.repetitions} repetitions each, in turns. "
        "Ratios are to the last line of each comparison; seconds and memory are of this machine alone."
    )
    table = to_markdown(records, heading)
    write_atomically(options.output_dir / "benchmark.md", table)
    content = json.dumps({"options": vars(options), "records": records}, indent=2, default=str)
    write_atomically(options.output_dir / "benchmark.json", content + "\n")
    draw(records, options.output_dir / "benchmark")
    print(table, flush=True)


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
