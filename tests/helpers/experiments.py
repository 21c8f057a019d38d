"""What tests of whole experiments share: arguments, encoder folders and a corpus on disk."""

from pathlib import Path

import pandas as pd
from transformers import AutoModel, WhisperFeatureExtractor

from tests.helpers.corpus import tiny_corpus
from tests.helpers.process import run_example_here
from tests.helpers.tiny import EMOTIONS, MEL_BINS, speech_config, text_config, tiny_tokenizer
from trainer import ExperimentArguments


def experiment_arguments(folder, **changes) -> ExperimentArguments:
    """Two epochs on the CPU."""
    defaults = {
        "output_dir": str(folder),
        "use_cpu": True,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": 7,
    }
    return ExperimentArguments(**{**defaults, **changes})


def encoder_folders(folder: Path) -> tuple[Path, Path]:
    """Saved tiny encoders, as a user names them: with the feature extractor and the tokenizer."""
    speech, text = folder / "speech", folder / "text"
    AutoModel.from_config(speech_config("whisper")).save_pretrained(speech)
    WhisperFeatureExtractor(feature_size=MEL_BINS).save_pretrained(speech)
    AutoModel.from_config(text_config()).save_pretrained(text)
    tiny_tokenizer(text).save_pretrained(text)
    return speech, text


def write_manifest(folder):
    rows = []
    for row in tiny_corpus(18):
        (folder / row["audio"]["path"]).write_bytes(row["audio"]["bytes"])
        rows.append(
            {
                "audio": row["audio"]["path"],
                "emotion": EMOTIONS[row["emotion"]],
                "speaker": row["speaker"],
                "transcript": row["transcript"],
                "hypothesis": row["hypothesis"],
            }
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def tiny_grid(folder: Path, *arguments, steps: int = 2) -> Path:
    """Run one fold of a small grid of ablations; `arguments` choose its rows and seeds. Returns its folder."""
    write_manifest(folder)
    speech, text = encoder_folders(folder)
    run_example_here(
        "run_ablation.py",
        *("--data_dir", folder, "--speech_encoder", speech, "--text_encoder", text, "--output_dir", folder / "out"),
        *("--num_folds", 3, "--max_steps", steps, "--per_device_train_batch_size", 4, "--folds", 2),
        *("--model_options", '{"num_attention_heads": 4}', "--metric_for_best_model", "weighted_f1", *arguments),
    )
    return folder / "out"
