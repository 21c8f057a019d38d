r"""What training and inference cost, as ratios of two ways measured side by side on this machine.

    python examples/benchmark.py --size base --rows M4SER "only speech" --output_dir runs/benchmark
    python examples/benchmark.py --speech_encoder openai/whisper-tiny.en --text_encoder google-bert/bert-base-uncased

* **training**: a step on recordings, over one with `--freeze_speech_encoder true --cache_features true`
  (filling the cache is not counted); a row without speech has no such way.
* **inference**: one utterance, from its file to the logits; each row over the first.
* **prediction**: a whole test in the order of the data, over the longest first, as a run reads it.

The ways of a comparison take turns in one process, so that what else the machine does falls on all alike. Data are
noise and words by chance, of 1 to 15 seconds; encoders of a `--size` have random weights. `benchmark.md` and
`benchmark.json` are written.
"""

import argparse
import io
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_scripts.errors import run_command
from data_scripts.files import write_atomically
from data_scripts.parsers import CommandParser
from trainer.experiments.ablations import ABLATIONS
from trainer.studies.parameters import ENCODER_SIZES

if TYPE_CHECKING:
    from datasets import DatasetDict

WORDS = ("i", "you", "we", "can", "not", "believe", "happy", "sad", "home", "go", "the", "it", "so", "now")
EMOTIONS = ("angry", "happy", "neutral", "sad")
RATE = 16000


class Way(NamedTuple):
    """One of the ways that a comparison measures; `options` are what it adds to a run's and a model's arguments."""

    name: str
    task: str
    row: str
    options: Mapping[str, Any] = {}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = CommandParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--size", choices=ENCODER_SIZES, default="base", help="of encoders with random weights (default base)")
    add("--speech_encoder", help="Hub name or folder, in place of --size")
    add("--text_encoder", help="Hub name or folder, in place of --size")
    rows = ["M4SER", "only speech", "speech & text + concat"]
    add("--rows", nargs="+", choices=ABLATIONS, metavar="ROW", default=rows, help="ablations to measure")
    add("--repetitions", type=int, default=10, metavar="N", help="of each way, after one that is not counted")
    add("--utterances", type=int, default=32, metavar="N", help="of the data")
    add("--batch_size", type=int, default=4, metavar="N", help="of training and prediction")
    add("--output_dir", type=Path, default=Path("runs/benchmark"), metavar="FOLDER", help="where the table is written")
    options = parser.parse_args(arguments)
    if (options.speech_encoder is None) != (options.text_encoder is None):
        parser.error("--speech_encoder and --text_encoder come together")
    if options.repetitions < 2:
        parser.error("--repetitions must be at least 2")
    return options


def write_encoders(folder: str, size: str) -> tuple[str, str]:
    """Write random encoders of a size; return the folders of speech and text."""
    from transformers import AutoConfig, AutoModel, BertTokenizerFast, Wav2Vec2FeatureExtractor

    speech, text = Path(folder) / "speech", Path(folder) / "text"
    for path, kind, fields in zip((speech, text), ("hubert", "bert"), ENCODER_SIZES[size], strict=True):
        AutoModel.from_config(AutoConfig.for_model(kind, **fields)).save_pretrained(path)
    Wav2Vec2FeatureExtractor().save_pretrained(speech)
    (Path(folder) / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast.from_pretrained(folder, model_max_length=512).save_pretrained(text)
    return str(speech), str(text)


def make_data(utterances: int) -> "DatasetDict":
    """Return utterances of noise, the same every way, as train, validation and test."""
    import soundfile
    from datasets import DatasetDict

    from data_scripts.schema import build_dataset

    rng, rows = np.random.default_rng(0), []
    for index in range(utterances):
        seconds = float(np.clip(rng.lognormal(1.0, 0.7), 1, 15))
        file = io.BytesIO()
        soundfile.write(file, rng.normal(scale=0.1, size=int(seconds * RATE)), RATE, format="FLAC")
        spoken, heard = (" ".join(rng.choice(WORDS, size=max(1, int(2.5 * seconds)))) for _ in range(2))
        audio = {"path": f"clip{index}.flac", "bytes": file.getvalue()}
        row = {"id": f"clip{index}", "audio": audio, "duration": seconds, "emotion": EMOTIONS[index % len(EMOTIONS)]}
        row |= {"transcript": spoken, "hypothesis": heard, "asr_model": "none", "speaker": None, "session": None}
        rows.append(row)
    data = build_dataset(rows, EMOTIONS)
    return DatasetDict(dict.fromkeys(("train", "validation", "test"), data))


def prepare(way: Way, encoders: tuple[str, str], options: argparse.Namespace, folder: str) -> Callable[[], Any]:
    """Return what a way does once: a step of training, one utterance, or a whole test."""
    from transformers import PrinterCallback, set_seed

    from trainer.arguments import ExperimentArguments
    from trainer.evaluation.prediction import longest_first
    from trainer.experiments.arguments import ModelArguments
    from trainer.experiments.model import build_model
    from trainer.experiments.run import make_trainer
    from trainer.studies.representations import run_model

    set_seed(0)
    choices = {name: value for name, value in way.options.items() if name in ModelArguments.__dataclass_fields__}
    heads = json.dumps({"num_attention_heads": 12 if options.size != "tiny" else 4})
    model, processor = build_model(ModelArguments(*encoders, way.row, model_options=heads, **choices), EMOTIONS)
    args = ExperimentArguments(
        output_dir=str(Path(folder) / "run"),
        max_steps=1,
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
    trainer.remove_callback(PrinterCallback)
    if way.task == "training":
        return trainer.train
    test: Any = data["test"]
    if way.task == "prediction":
        ordered = test.select(longest_first(test)) if way.name == "longest first" else test
        return lambda: trainer.predict(ordered)
    collator: Any = trainer.data_collator
    rows = itertools.cycle(range(len(test)))
    return lambda: run_model(model, test[next(rows)], collator)["logits"].cpu()


def take_turns(works: Sequence[Callable[[], Any]], repetitions: int) -> np.ndarray:
    """Return the seconds (works, repetitions) of what is done in turns, each once before that does not count."""
    from torch.utils.benchmark.utils.timer import timer  # waits for an accelerator, too

    for work in works:
        work()
    seconds = np.zeros((len(works), repetitions))
    for repetition in range(repetitions):
        # Whoever comes second may find a warmer machine.
        for index in sorted(range(len(works)), reverse=bool(repetition % 2)):
            started = timer()
            works[index]()
            seconds[index, repetition] = timer() - started
    return seconds


def comparisons(rows: Sequence[str]) -> Iterator[list[Way]]:
    """Yield what is compared; ratios are of each way over the last of its list, of inference over the first row."""
    frozen = {"freeze_speech_encoder": True, "cache_features": True}
    for row in rows:
        cached = [Way("frozen, cached", "training", row, frozen)] if ABLATIONS[row].get("modalities") != "text" else []
        yield [Way("as it is", "training", row), *cached]
    yield [Way("one utterance", "inference", row) for row in reversed(rows)]
    yield [Way(name, "prediction", rows[0]) for name in ("as it comes", "longest first")]


def describe(ways: Sequence[Way], seconds: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield a record of each way: milliseconds, and the ratio to the last way, turn by turn."""
    for way, times in zip(ways, seconds, strict=True):
        low, median, high = np.quantile(times / seconds[-1], [0.25, 0.5, 0.75])
        yield {
            "task": way.task,
            "row": way.row,
            "way": way.name,
            "milliseconds": {"mean": 1e3 * times.mean(), "std": 1e3 * times.std(ddof=1)},
            "ratio": {"median": median, "low": low, "high": high},
        }


def to_markdown(records: Sequence[dict[str, Any]], heading: str) -> str:
    """Return the table in Markdown."""
    from trainer.evaluation.summary import markdown_table

    lines = []
    for record in records:
        ratio, times = record["ratio"], record["milliseconds"]
        shown = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        places = (record[name] for name in ("task", "row", "way"))
        lines.append([*places, shown, f"{times['mean']:.1f} ± {times['std']:.1f}"])
    table = markdown_table(["task", "row", "way", "ratio, median [quartiles]", "ms, mean ± std"], lines)
    return f"{heading}\n\n{table}\n"


def main(options: argparse.Namespace) -> None:
    """Measure, print and write the table."""
    records: list[dict[str, Any]] = []
    for ways in comparisons(options.rows):
        with tempfile.TemporaryDirectory() as folder:
            encoders = options.speech_encoder, options.text_encoder
            if encoders[0] is None:
                encoders = write_encoders(folder, options.size)
            works = [prepare(way, encoders, options, folder) for way in ways]
            records += describe(ways, take_turns(works, options.repetitions))
    named = options.speech_encoder and f"{options.speech_encoder} and {options.text_encoder}"
    heading = (
        f"Encoders: {named or f'random, size {options.size}'}. {options.repetitions} repetitions each, in turns. "
        "Ratios are to the last line of each comparison; milliseconds are of this machine alone."
    )
    table = to_markdown(records, heading)
    write_atomically(options.output_dir / "benchmark.md", table)
    content = json.dumps({"options": vars(options), "records": records}, indent=2, default=str)
    write_atomically(options.output_dir / "benchmark.json", content + "\n")
    print(table, flush=True)


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
