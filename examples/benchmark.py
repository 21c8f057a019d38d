r"""What M4SER costs, as ratios of ways that take turns in one process on this machine.

    python examples/benchmark.py --parts step inference
    python examples/benchmark.py --parts wav --speech_encoder openai/whisper-tiny.en \
        --text_encoder sentence-transformers/all-MiniLM-L6-v2 --asr openai/whisper-tiny.en --clips my_recordings

Times are of the processor, on an accelerator of the clock. Without `--clips`, data are noise and words by chance;
encoders of a `--size` have random weights. `benchmark.md`, `.json` and `.png` are written.
"""

import argparse
import itertools
import json
import multiprocessing
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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
from trainer.inputs.dataloaders import EpochSampler
from trainer.studies.parameters import ENCODER_SIZES

CONCAT = "speech & text + concat"
#: IEMOCAP's 4,425 utterances last 4.5 s on average (standard deviation 3.2), 0.6 to 34 s.
UTTERANCES = 4425
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


def beside_concat(make: Callable[..., Any], *args) -> dict[str, Callable[[], Any]]:
    """Return M4SER and concatenation as ways of what a method of `Setting` makes."""
    return {name: partial(make, row, *args) for name, row in (("M4SER", "M4SER"), ("concat", CONCAT))}


def beside_naive(make: Callable[..., Any], seconds: Sequence[float]) -> dict[str, Callable[[], Any]]:
    """Return a naive M4SER and M4SER as ways of what a method of `Setting` makes of utterances."""
    return {name: partial(make, "M4SER", seconds, naive=name == "naive") for name in ("naive", "M4SER")}


def step(setting: Setting) -> Iterator[Comparison]:
    """Compare a training step of M4SER with concatenation, and with a naive M4SER."""
    seconds = [MEAN_SECONDS] * setting.options.batch_size
    task = f"training step, {MEAN_SECONDS} s each"
    yield Comparison(task, beside_concat(setting.training, seconds), with_memory=True)
    seconds = lengths(setting.options.utterances)
    yield Comparison("training step, IEMOCAP's lengths", beside_naive(setting.training, seconds))


def inference(setting: Setting) -> Iterator[Comparison]:
    """Compare the same from inputs to logits, for 1, 4 and 16 utterances at once."""
    for size in (1, 4, 16):
        task = f"inference, batch {size}, {MEAN_SECONDS} s each"
        yield Comparison(task, beside_concat(setting.inference, [MEAN_SECONDS] * size), with_memory=size == 1)
    seconds = lengths(setting.options.batch_size)
    yield Comparison("inference, IEMOCAP's lengths", beside_naive(setting.inference, seconds))


def grouping(setting: Setting) -> Iterator[Comparison]:
    """Compare epochs of IEMOCAP's size in random order and grouped by length, by every n-th batch by its length."""
    size, seconds, ways = setting.options.batch_size, np.array(lengths(UTTERANCES)), {}
    grouped = EpochSampler(size, seconds.tolist(), 0, lambda: 0)
    whole: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 1, "train_sampling_strategy": "sequential"}
    for name, order in (("random", np.random.default_rng(0).permutation(UTTERANCES)), ("grouped by length", grouped)):
        batches = sorted(np.split(seconds[list(order)], range(size, UTTERANCES, size))[:-1], key=np.max)
        every = len(batches) // max(1, setting.options.utterances // size)
        some = np.concatenate(batches[every // 2 :: every]).tolist()
        ways[name] = partial(setting.training, "M4SER", some, **whole)
    yield Comparison("steps of an epoch, IEMOCAP's lengths", ways)


def length(setting: Setting) -> Iterator[Comparison]:
    """Compare inference of M4SER with concatenation on 2 to 60 seconds."""
    for seconds in (2, 5, 10, 20, 40, 60):
        yield Comparison(f"inference, {seconds} s", beside_concat(setting.inference, [seconds]), with_memory=True)


def loading(setting: Setting) -> Iterator[Comparison]:
    """Compare making a batch of recordings with a training step on it: above 1 the device waits."""
    seconds = [MEAN_SECONDS] * setting.options.batch_size
    ways = {"decoding and features": partial(setting.loading, seconds)}
    yield Comparison("a batch", ways | {"step": partial(setting.training, "M4SER", seconds)})


def wav(setting: Setting) -> Iterator[Comparison]:
    """Compare recordings to emotions, with transcripts and with `--asr`, with the recognizer alone."""
    trimmed = {"processor_options": {"trim_silence_db": 40}}  # as `--preset small` does
    for size, name in itertools.product((1, 16), setting.options.asr):
        heard = partial(setting.answers, size, name)
        ways = {
            "with transcripts": partial(setting.answers, size),
            "with recognition": heard,
            "with recognition, silence trimmed": partial(heard, **trimmed),
            "with recognition, ONNX int8": partial(heard, onnx=True),
            "recognition alone": partial(setting.texts, size, name),
        }
        yield Comparison(f"recordings, batch {size}, {Path(name).name}", ways)


def start(setting: Setting) -> Iterator[Comparison]:
    """Compare a new process to its first answer, in torch and in ONNX without torch."""
    ways = {kind: partial(time_to_first_answer, setting, kind) for kind in ("torch", "ONNX")}
    yield Comparison("import, load, one answer", ways)


def peers(setting: Setting) -> Iterator[Comparison]:
    """Compare other packages on the same recordings and encoder sizes."""
    yield Comparison("recordings, one at a time", {name: partial(make, setting) for name, make in PEERS.items()})


def compiled(setting: Setting) -> Iterator[Comparison]:
    """Compare inference with the encoders compiled and as they are, over lengths that change."""
    make = partial(setting.inference, "M4SER", lengths(4), one_by_one=True)
    yield Comparison("inference, 4 lengths", {"compiled": partial(make, compiled=True), "as it is": make})


def rows(setting: Setting) -> Iterator[Comparison]:
    """Compare ablations (`--rows`): training as it is and frozen with cached features; one utterance."""
    seconds, names = lengths(setting.options.utterances), setting.options.rows
    for row in names:
        ways = {"as it is": partial(setting.training, row, seconds)}
        if ABLATIONS[row].get("modalities") != "text":
            ways["frozen, cached"] = partial(setting.training, row, seconds, cached=True)
        yield Comparison(f"training, {row}", ways)
    turns = {row: partial(setting.inference, row, seconds, one_by_one=True) for row in reversed(names)}
    yield Comparison("one utterance", turns)


PARTS = {part.__name__: part for part in (step, inference, grouping, length, loading, wav, start, peers, rows)}
PARTS["compile"] = compiled
_TOLD = " ".join(f"{name}: {' '.join((part.__doc__ or '').split())}" for name, part in PARTS.items())


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=["step", "inference"], metavar="PART", help=_TOLD)
    add("--size", choices=ENCODER_SIZES, default="base", help="of encoders with random weights (default base)")
    add("--speech_encoder", help="Hub name or folder, in place of --size")
    add("--text_encoder", help="Hub name or folder, in place of --size")
    some = ["M4SER", "only speech", CONCAT]
    add("--rows", nargs="+", choices=ABLATIONS, metavar="ROW", default=some, help="of `rows`")
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


def peak(options: argparse.Namespace, encoders: tuple[str, str], part: str, task: str, way: str) -> float:
    """Return the most memory in GB that this process takes, in which a way does twice what it does."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        found = PARTS[part](Setting(options, encoders, folder))
        work = next(each for each in found if each.task == task).ways[way]()
        work()
        work()
    if torch.accelerator.is_available():
        return torch.accelerator.max_memory_allocated() / 1e9
    # Not getrusage's, which counts the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9


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
                        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                            told = options, encoders, part, comparison.task, record["way"]
                            record["peak"] = alone.submit(peak, *told).result()
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
