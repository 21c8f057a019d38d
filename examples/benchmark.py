r"""What training and inference cost, as ratios of two ways measured side by side on this machine.

    python examples/benchmark.py --size base --rows M4SER "only speech" --output_dir runs/benchmark
    python examples/benchmark.py --speech_encoder openai/whisper-tiny.en --text_encoder google-bert/bert-base-uncased

* **training**: a step on recordings, over one with `--freeze_speech_encoder true --cache_features true`
  (its first pass over the recordings, which fills the cache, is not counted); a row without speech has no such way.
* **inference**: one utterance, from its file to the logits; each row over the first.
* **prediction**: a whole test in the order of the data, over the longest first, as the trainer reads it.

The ways of a comparison take turns, step by step, each in a process of its own, so that what else the machine does
falls on all alike, and each has a peak of memory of its own. Data are noise and words by chance, of 1 to 15 seconds;
encoders of a `--size` have random weights. `benchmark.md` and `benchmark.json` are written.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_scripts.errors import run_command
from data_scripts.files import write_atomically
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.studies.parameters import ENCODER_SIZES

if TYPE_CHECKING:
    from datasets import DatasetDict

WORDS = ("i", "you", "we", "can", "not", "believe", "happy", "sad", "home", "go", "the", "it", "so", "now")
EMOTIONS = ("angry", "happy", "neutral", "sad")
RATE = 16000

# Each process is forked from one that has loaded the libraries, and has run nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["trainer.experiments.model", "trainer.experiments.run"])

Tick = Callable[[], None]


@dataclass(frozen=True)
class Way:
    """One of the ways that a comparison measures.

    Attributes:
        name: in the table.
        task: `training`, `inference` or `prediction`.
        row: of `ABLATIONS`.
        options: `ExperimentArguments` and `ModelArguments` that this way adds.
    """

    name: str
    task: str
    row: str
    options: dict[str, Any] = field(default_factory=dict)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--size", choices=ENCODER_SIZES, default="base", help="of encoders with random weights (default base)"
    )
    parser.add_argument("--speech_encoder", help="Hub name or folder, in place of --size")
    parser.add_argument("--text_encoder", help="Hub name or folder, in place of --size")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ABLATIONS,
        metavar="ROW",
        default=["M4SER", "only speech", "speech & text + concat"],
    )
    parser.add_argument("--repetitions", type=int, default=10, help="of each way, after one that is not counted")
    parser.add_argument("--utterances", type=int, default=32, help="of the data")
    parser.add_argument("--batch_size", type=int, default=4, help="of training and prediction")
    parser.add_argument("--output_dir", default="runs/benchmark", help="where the table is written")
    options = parser.parse_args(arguments)
    if (options.speech_encoder is None) != (options.text_encoder is None):
        parser.error("--speech_encoder and --text_encoder come together")
    if options.repetitions < 2:
        parser.error("--repetitions must be at least 2")
    return options


# ---------------------------------------------------------------------- what is measured, in a process of its own


def write_encoders(folder: str, size: str) -> None:
    """Write random encoders of a size as folders `speech` and `text`."""
    from transformers import AutoConfig, AutoModel, BertTokenizerFast, Wav2Vec2FeatureExtractor

    kinds = ("speech", "hubert"), ("text", "bert")
    for (name, kind), fields in zip(kinds, ENCODER_SIZES[size], strict=True):
        AutoModel.from_config(AutoConfig.for_model(kind, **fields)).save_pretrained(Path(folder) / name)
    Wav2Vec2FeatureExtractor().save_pretrained(Path(folder) / "speech")
    (Path(folder) / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast.from_pretrained(folder, model_max_length=512).save_pretrained(Path(folder) / "text")


def make_data(utterances: int) -> "DatasetDict":
    """Return the same noise with words for every way, as train, validation and test."""
    import io

    import soundfile
    from datasets import DatasetDict

    from data_scripts.schema import build_dataset

    dice, rows = np.random.default_rng(0), []
    for index in range(utterances):
        seconds = float(np.clip(dice.lognormal(1.0, 0.7), 1, 15))
        file = io.BytesIO()
        soundfile.write(file, dice.normal(scale=0.1, size=int(seconds * RATE)), RATE, format="FLAC")
        spoken, heard = (" ".join(dice.choice(WORDS, size=max(1, int(2.5 * seconds)))) for _ in range(2))
        rows.append(
            {
                "id": f"clip{index}",
                "audio": {"path": f"clip{index}.flac", "bytes": file.getvalue()},
                "duration": seconds,
                "speaker": None,
                "session": None,
                "emotion": EMOTIONS[index % len(EMOTIONS)],
                "transcript": spoken,
                "hypothesis": heard,
                "asr_model": "none",
            }
        )
    data = build_dataset(rows, EMOTIONS)
    return DatasetDict(dict.fromkeys(("train", "validation", "test"), data))


def perform(way: Way, encoders: tuple[str, str], options: argparse.Namespace, folder: str, tick: Tick) -> None:
    """Do a task, with `tick()` after each repetition, `options.repetitions` and one that does not count."""
    import torch
    from transformers import TrainerCallback, set_seed

    from trainer.arguments import ExperimentArguments
    from trainer.experiments.arguments import ModelArguments
    from trainer.experiments.model import build_model
    from trainer.experiments.run import make_trainer

    def done(*_: Any, **__: Any) -> None:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        tick()

    set_seed(0)
    choices = {name: value for name, value in way.options.items() if name in ModelArguments.__dataclass_fields__}
    heads = {"num_attention_heads": 12 if options.size != "tiny" else 4}
    model, processor = build_model(
        ModelArguments(*encoders, way.row, model_options=json.dumps(heads), **choices), EMOTIONS
    )
    args = ExperimentArguments(
        output_dir=str(Path(folder) / "run"),
        max_steps=options.repetitions + 1,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        disable_tqdm=True,
        **{name: value for name, value in way.options.items() if name not in choices},
    )
    data = make_data(options.utterances)
    trainer = make_trainer(model, processor, data, args, features_folder=Path(folder) / "features")
    if way.task == "training":
        callback = TrainerCallback()
        callback.on_step_end = done
        trainer.add_callback(callback)
        trainer.train()
    elif way.task == "prediction":
        for _ in range(options.repetitions + 1):
            trainer.predict(data["test"])
            done()
    else:
        _infer(trainer, data["test"], options.repetitions + 1, done)


def _infer(trainer: Any, data: Any, repetitions: int, done: Tick) -> None:
    """One utterance after the other, as a user with one recording has it."""
    import torch

    model = trainer.model.eval()
    with torch.inference_mode():
        for index in range(repetitions):
            inputs = trainer.data_collator([data[index % len(data)]])
            output = model(**{name: part.to(model.device) for name, part in inputs.items() if "label" not in name})
            output["logits"].cpu()
            done()


def work(connection: Connection, *arguments: Any) -> None:
    """Perform a task in turns: each repetition sends its seconds and waits for the next turn; then the peak is sent."""
    started = time.perf_counter()

    def tick() -> None:
        nonlocal started
        connection.send(time.perf_counter() - started)
        connection.recv()
        started = time.perf_counter()

    perform(*arguments, tick)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection.send((kilobytes if sys.platform != "darwin" else kilobytes / 1024) / 1e6)


# ---------------------------------------------------------------------- comparisons


def take_turns(
    ways: Sequence[Way], encoders: tuple[str, str], options: argparse.Namespace, folder: str
) -> tuple[np.ndarray, list[float]]:
    """Return the seconds (ways, repetitions) of some ways that took turns, and the peak of memory of each, in GB.

    Raises:
        ExperimentError: a way failed; what it said is above.
    """
    processes, ends = [], []
    try:
        for way in ways:
            end, other = PROCESSES.Pipe()
            processes.append(PROCESSES.Process(target=work, args=(other, way, encoders, options, folder), daemon=True))
            processes[-1].start()
            other.close()
            ends.append(end)
            end.recv()  # its first repetition does not count
        seconds = np.zeros((len(ways), options.repetitions))
        for repetition in range(options.repetitions):
            # Whoever comes second may find a warmer machine.
            for index in sorted(range(len(ways)), reverse=bool(repetition % 2)):
                ends[index].send("your turn")
                seconds[index, repetition] = ends[index].recv()
        for end in ends:
            end.send("no more turns")
        return seconds, [end.recv() for end in ends]
    except EOFError as error:
        raise ExperimentError("a process of the benchmark ended before its work was done; see above") from error
    finally:
        for process in processes:
            process.terminate()
            process.join()


def comparisons(rows: Sequence[str]) -> Iterator[list[Way]]:
    """Yield what is compared; ratios are of each way over the last of its list, of inference over the first row."""
    frozen = {"freeze_speech_encoder": True, "cache_features": True}
    for row in rows:
        if ABLATIONS[row].get("modalities") != "text":
            yield [Way("as it is", "training", row), Way("frozen, cached", "training", row, frozen)]
        else:
            yield [Way("as it is", "training", row)]
    yield [Way("one utterance", "inference", row) for row in reversed(rows)]
    unsorted = {"length_column_name": "none"}
    yield [Way("as it comes", "prediction", rows[0], unsorted), Way("longest first", "prediction", rows[0])]


def describe(ways: Sequence[Way], seconds: np.ndarray, peaks: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield a record of each way: milliseconds, peak of memory, and the ratio to the last way, turn by turn."""
    for way, times, peak in zip(ways, seconds, peaks, strict=True):
        low, median, high = np.quantile(times / seconds[-1], [0.25, 0.5, 0.75])
        yield {
            "task": way.task,
            "row": way.row,
            "way": way.name,
            "milliseconds": {"mean": 1e3 * times.mean(), "std": 1e3 * times.std(ddof=1)},
            "ratio": {"median": median, "low": low, "high": high},
            "peak_memory_gb": peak,
        }


def to_markdown(records: Sequence[dict[str, Any]], heading: str) -> str:
    """Return the table in Markdown."""
    lines = ["| task | row | way | ratio, median [quartiles] | ms, mean ± std | peak memory, GB |", f"|{'---|' * 6}"]
    for record in records:
        ratio, times = record["ratio"], record["milliseconds"]
        cells = [
            *(record[name] for name in ("task", "row", "way")),
            f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
            f"{times['mean']:.1f} ± {times['std']:.1f}",
            f"{record['peak_memory_gb']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([heading, "", *lines]) + "\n"


def main(options: argparse.Namespace) -> None:
    """Measure, print and write the table."""
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        encoders = options.speech_encoder, options.text_encoder
        if encoders[0] is None:
            encoders = str(Path(folder) / "speech"), str(Path(folder) / "text")
            writer = PROCESSES.Process(target=write_encoders, args=(folder, options.size))
            writer.start()
            writer.join()
        for ways in comparisons(options.rows):
            records += describe(ways, *take_turns(ways, encoders, options, folder))
    named = options.speech_encoder and f"{options.speech_encoder} and {options.text_encoder}"
    heading = (
        f"Encoders: {named or f'random, size {options.size}'}. {options.repetitions} repetitions each, in turns. "
        "Ratios are to the last line of each comparison; milliseconds and memory are of this machine alone."
    )
    table = to_markdown(records, heading)
    output = Path(options.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "benchmark.md", table)
    content = {"options": vars(options), "records": records}
    write_atomically(output / "benchmark.json", json.dumps(content, indent=2) + "\n")
    print(table, flush=True)


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
