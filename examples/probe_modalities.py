r"""Ask a trained model whether its representations tell their modality, beside the same network before training.

    python examples/probe_modalities.py --model runs/meld/own_split/seed42 --dataset runs/meld/corpus [--split test]

A probe as large as the discriminator is trained on frames of 70 % of the utterances and tested on the others: on
modality-specific frames, and on modality-invariant ones made of one modality alone. The swap test exchanges the text or
the speech of each utterance and measures how far the invariant representation moves.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from data_scripts.errors import CorpusError, run_command


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", required=True, help="folder of a finished run, or a name on the Hub")
    parser.add_argument("--dataset", required=True, help="prepared folder")
    parser.add_argument("--split", default="test", help="split to read (default test)")
    parser.add_argument("--utterances", type=int, default=200, help="how many to read, evenly spaced (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the frames, the probe and the untrained network")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Probe the trained and the untrained network, and print what was found as JSON."""
    from transformers import set_seed

    from data_scripts.schema import load_prepared
    from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
    from trainer import M4SERDataCollator
    from trainer.evaluation.modality_probe import collect_frames, probe_modality, swap_test

    dataset = load_prepared(options.dataset)
    if options.split not in dataset:
        raise CorpusError(f"{options.dataset} has no split {options.split}; it has {', '.join(map(str, dataset))}")
    part = dataset[options.split]
    step = max(1, len(part) // options.utterances)
    rows = [part[index] for index in range(0, len(part), step)][: options.utterances]
    trained = M4SERForEmotionClassification.from_pretrained(options.model)
    processor = M4SERProcessor.from_pretrained(options.model)
    collator = M4SERDataCollator(processor, trained.config, with_auxiliary_labels=False)
    set_seed(options.seed)
    untrained = M4SERForEmotionClassification(trained.config)
    # What is new in an M4SER starts from random weights; its encoders do not.
    for name in ("speech_encoder", "text_encoder"):
        getattr(untrained.m4ser, name).load_state_dict(getattr(trained.m4ser, name).state_dict())
    answer = {}
    for name, model in (("trained", trained), ("untrained fusion", untrained)):
        frames = collect_frames(model, rows, collator, options.seed)
        probes = {kind: probe_modality(some, options.seed) for kind, some in frames.items()}
        answer[name] = {**probes, "swap": swap_test(model, rows, collator)}
    print(json.dumps({"utterances": len(rows), **answer}, indent=2))


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(run_command(lambda: main(chosen)))
