"""Train a small M4SER from scratch on the synthetic sample corpus, load it back in a fresh process, and use it.

    python examples/demo/train.py [--output_dir runs/demo] [--num_train_epochs 50]

Takes some minutes on two CPU cores, and no network. One voice is held out for validation and two for the test. The
training settings are in `demo.yaml` beside this file.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import experiments
from trainer.experiments.arguments import CorpusArguments, RunArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
    from trainer import ExperimentArguments

FOLDER = Path(__file__).resolve().parent
SAMPLE_CORPUS = FOLDER / "sample_corpus"


def build_model(emotions: Sequence[str]) -> tuple["M4SERForEmotionClassification", "M4SERProcessor"]:
    """Build an M4SER of a million parameters with random weights, and its processor."""
    from transformers import BertConfig, BertTokenizerFast, WhisperConfig, WhisperFeatureExtractor

    from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification, M4SERProcessor

    # Nothing is downloaded: the vocabulary comes with the corpus; it was learned from the training texts.
    tokenizer = BertTokenizerFast.from_pretrained(SAMPLE_CORPUS, model_max_length=64)
    size, layers, heads = 96, 2, 4
    speech = WhisperConfig(
        d_model=size, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=2 * size, dropout=0.1
    )
    text = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * size,
        max_position_embeddings=64,
    )
    config = M4SERConfig(
        speech_config=speech,
        text_config=text,
        num_attention_heads=heads,
        intermediate_size=2 * size,
        correction_intermediate_size=2 * size,
        # Detection and correction start from random weights here, not from BERT as in the paper: let them count.
        auxiliary_weight=0.5,
        classifier_dropout=0.2,
        id2label=dict(enumerate(emotions)),
        label2id={name: index for index, name in enumerate(emotions)},
    )
    return M4SERForEmotionClassification(config), M4SERProcessor(WhisperFeatureExtractor(), tokenizer)


def main(args: "ExperimentArguments") -> None:
    """Prepare, train, test, and hand over to a fresh process."""
    import torch

    from modeling_m4ser.configuration_m4ser import PIPELINE_TASK

    # A second thread does not speed up so small a model, and slows it down on a busy machine.
    torch.set_num_threads(1)
    root = Path(args.output_dir).resolve()
    shutil.rmtree(root, ignore_errors=True)
    print(f"1. The sample corpus: SYNTHETIC speech in {SAMPLE_CORPUS.name}/", flush=True)
    data = experiments.prepare_corpus(CorpusArguments(data_dir=str(SAMPLE_CORPUS)), root / "corpus")
    ((_, split),) = experiments.own_split(data, RunArguments()).values()

    print("\n2. Training a small M4SER from scratch", flush=True)
    args.output_dir = str(root / "model")
    results = experiments.run_experiment(
        build_model,
        data,
        args,
        description="The **synthetic** sample corpus of the repository, voices held out. Says nothing about people.",
        split=split,
    )
    voices = ", ".join(sorted(set(data["test"]["speaker"])))
    scores = experiments.format_row(experiments.summarize([results]))
    print(f"\n   held-out voices ({voices}), synthetic speech: {scores}")

    print("\n3. Loaded back by AutoModel in a fresh process that imports nothing of this project", flush=True)
    data["test"].to_parquet(root / "test.parquet")
    viewer = [sys.executable, "-I", FOLDER / "use.py", root / "model", root / "test.parquet"]
    subprocess.run(viewer, check=True, cwd=root)
    pictures = [str(root / "model" / name) for name in ("loss_curves.png", "confusion_matrix.png")]
    print(f"\n4. See {' and '.join(pictures)}, and use the model:")
    print("   from transformers import pipeline")
    print(f'   pipe = pipeline("{PIPELINE_TASK}", model="{root / "model"}", trust_remote_code=True)')
    print('   pipe({"audio": "a.wav", "text": "I saw you at the station."})')


if __name__ == "__main__":
    run_script(main, config=FOLDER / "demo.yaml")
