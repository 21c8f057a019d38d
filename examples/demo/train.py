"""Train a small M4SER from scratch on the synthetic sample corpus, load it back in a fresh process, and use it.

    python examples/demo/train.py [--output_dir runs/demo] [--num_train_epochs 30]

Some minutes on two CPU cores, no network. One voice is held out for validation and two for the test.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertTokenizerFast, WhisperConfig, WhisperFeatureExtractor

from modeling_m4ser import M4SERConfig, M4SERForEmotionClassification, M4SERProcessor, normalize_text
from trainer import M4SERTrainingArguments
from trainer.experiments.cli import parse_arguments, run_main
from trainer.experiments.cross_validation import format_row, own_split, summarize
from trainer.experiments.data import CorpusArguments, prepare_corpus
from trainer.experiments.run import run_experiment

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_CORPUS = Path(__file__).with_name("sample_corpus")


@dataclass
class DemoArguments(M4SERTrainingArguments):
    """Training settings for a small model from random weights."""

    output_dir: str = field(default="runs/demo", metadata={"help": "Where everything goes; emptied first."})
    num_train_epochs: float = field(default=30.0, metadata={"help": "Passes over the sample corpus."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Higher than in fine-tuning: nothing is pretrained."})
    discriminator_learning_rate: float = field(default=1e-4, metadata={"help": "The adversary moves slower."})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Share of the steps with a rising learning rate."})
    eval_strategy: str = field(default="epoch", metadata={"help": "Validate after each epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "Keep a checkpoint after each epoch."})
    save_total_limit: int = field(default=1, metadata={"help": "The best and the last checkpoint stay."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Test the epoch that was best in validation."})
    metric_for_best_model: str = field(default="ua", metadata={"help": "Validation metric."})
    logging_steps: float = field(default=5, metadata={"help": "Log every so many steps."})
    use_cpu: bool = field(default=True, metadata={"help": "The demo is meant for a laptop."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Of no use on a CPU."})


def build_tokenizer(texts: Sequence[str], folder: Path) -> BertTokenizerFast:
    """A WordPiece tokenizer learnt from the training texts: nothing is downloaded."""
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(map(normalize_text, texts), vocab_size=800, min_frequency=1, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    learner.save_model(str(folder))
    return BertTokenizerFast.from_pretrained(folder, model_max_length=64)


def build_model(train: Dataset, folder: Path, emotions: Sequence[str]):
    """A 1.5 M-parameter M4SER with random weights and its processor."""
    texts = [text for column in ("hypothesis", "transcript") for text in train[column] if text]
    tokenizer = build_tokenizer(texts, folder)
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
        # Detection and correction start from nothing here, where the paper starts from BERT: let them count.
        auxiliary_weight=0.5,
        classifier_dropout=0.2,
        id2label=dict(enumerate(emotions)),
        label2id={name: index for index, name in enumerate(emotions)},
    )
    return M4SERForEmotionClassification(config), M4SERProcessor(WhisperFeatureExtractor(), tokenizer)


def main() -> None:
    """Prepare, train, test, and hand over to a fresh process."""
    (args,) = parse_arguments((DemoArguments,))
    # So small a model gains nothing from a second thread, and loses a lot to it on a busy machine.
    torch.set_num_threads(1)
    root = Path(args.output_dir).resolve()
    shutil.rmtree(root, ignore_errors=True)
    print(f"1. The sample corpus: SYNTHETIC speech in {SAMPLE_CORPUS.relative_to(ROOT)}", flush=True)
    data = prepare_corpus(CorpusArguments(data_dir=str(SAMPLE_CORPUS)), root / "corpus")
    ((_, split),) = own_split(data).values()

    print("\n2. Training a small M4SER from scratch", flush=True)
    args.output_dir = str(root / "model")
    results = run_experiment(
        lambda emotions: build_model(data["train"], root / "tokenizer", emotions),
        data,
        args,
        description="The **synthetic** sample corpus of the repository, voices held out. Says nothing about people.",
        split=split,
    )
    voices = ", ".join(sorted(set(data["test"]["speaker"])))
    print(f"\n   held-out voices ({voices}), synthetic speech: {format_row(summarize([results]))}")

    print("\n3. Loaded back by AutoModel in a fresh process that imports nothing of this project", flush=True)
    data["test"].to_parquet(root / "test.parquet")
    viewer = [
        sys.executable,
        "-I",
        str(Path(__file__).with_name("use.py")),
        str(root / "model"),
        str(root / "test.parquet"),
    ]
    subprocess.run(viewer, check=True, cwd=root)
    print(f"\n4. Look at {root / 'model' / 'loss_curves.png'} and {root / 'model' / 'confusion_matrix.png'}")


if __name__ == "__main__":
    run_main(main)
