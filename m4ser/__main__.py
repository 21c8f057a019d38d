"""The command `m4ser`, also `python -m m4ser` and `accelerate launch -m m4ser`: one verb for each job.

A verb is a module with `main(arguments)`, which returns the exit status. It is imported when it is asked for, and
imports what is heavy after it has read its options: `--help` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from data_scripts.spellings import did_you_mean

#: verb -> (the module that does it, what it does)
VERBS = {
    "predict": ("m4ser.predict", "Emotions of recordings, folders, tables or archives, as one table."),
    "timeline": ("m4ser.timeline", "Write who feels what, and when, in recordings of any length."),
    "app": ("m4ser.app", "Show a page in the browser that hears, reads and shows emotions."),
    "serve": ("m4ser.serve.command", "Answer over HTTP, to clients of Hugging Face and OpenAI."),
    "train": ("m4ser.train", "Train and test on your own corpus, or on RAVDESS."),
    "prepare": ("m4ser.prepare", "Turn a corpus into a prepared folder."),
    "transcribe": ("m4ser.transcribe", "Fill the hypotheses of a prepared folder."),
    "compare": ("m4ser.compare", "Compare the predictions of two models, with intervals."),
    "bench": ("m4ser.bench", "Score a model in the benchmark oruk-bench."),
    "push": ("m4ser.push", "Publish a finished run on the Hub."),
    "export": ("m4ser.export", "Write a model as ONNX, which runs without torch."),
    "card": ("m4ser.card", "Check what a trained model can be relied on for, as one page."),
    "env": ("m4ser.env", "Print the versions that a bug report needs."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 2 where there is no such verb."""
    verb, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if verb in ("-h", "--help"):
        print(_help())
        return 0
    if verb not in VERBS:
        print(f"error: m4ser has no verb {verb!r}{did_you_mean(verb, VERBS)}; see m4ser --help", file=sys.stderr)
        return 2
    return importlib.import_module(VERBS[verb][0]).main(rest)


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {what}" for verb, (_, what) in VERBS.items()]
    return os.linesep.join(["usage: m4ser VERB …   (m4ser VERB --help shows the options of one)", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
