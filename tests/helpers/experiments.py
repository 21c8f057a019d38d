"""What tests of whole experiments share: arguments, encoder folders and a corpus on disk."""

from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModel, WhisperFeatureExtractor

from tests.helpers.corpus import tiny_corpus
from tests.helpers.process import run_example_here
from tests.helpers.tiny import EMOTIONS, MEL_BINS, speech_config, text_config, tiny_tokenizer
from trainer import ExperimentArguments
from trainer.experiments.run_folder import load_results


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


def tiny_options(folder: Path) -> list:
    """Options of a script that trains tiny models for two steps, with its output in `folder`/out."""
    speech, text = encoder_folders(folder)
    return [
        *("--speech_encoder", speech, "--text_encoder", text, "--output_dir", folder / "out", "--max_steps", 2),
        *("--per_device_train_batch_size", 4, "--metric_for_best_model", "weighted_f1"),
        *("--model_options", '{"num_attention_heads": 4}'),
    ]


def planned_inputs(script: str, *arguments) -> dict:
    """What each table of a script would be measured on, by its label; none is run."""
    planned = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.studies.comparison.run_tables", lambda *given: planned.update(given[3]))
        run_example_here(script, *arguments)
    return {label: inputs for label, (_, inputs) in planned.items()}


def write_manifest(folder):
    rows = tiny_corpus(18).to_list()
    for row in rows:
        (folder / row["audio"]["path"]).write_bytes(row["audio"]["bytes"])
    rows = [{**row, "audio": row["audio"]["path"], "emotion": EMOTIONS[row["emotion"]]} for row in rows]
    columns = ["audio", "emotion", "speaker", "transcript", "hypothesis"]
    pd.DataFrame(rows)[columns].to_csv(folder / "manifest.csv", index=False)


def only_run(folder: Path, seed: int = 42):
    """The results of the only fold in a command's output folder, and its predictions."""
    (results,) = folder.glob(f"*/seed{seed}/results.json")
    return load_results(results.parent), pd.read_parquet(results.parent / "predictions.parquet")
