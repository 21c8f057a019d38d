"""Every shape of data that goes into `run_custom.py`, to the end of a run: which rows it trains, tests and reads."""

import pandas as pd
import pytest

from data_scripts import load_prepared, utterance_folds
from tests.data_scripts.transcribe.helpers import make_tiny_whisper
from tests.helpers.experiments import only_run
from tests.helpers.layouts import write_wav
from tests.helpers.process import run_example_here

EMOTIONS = ("angry", "happy", "sad")
SHORT = ("--max_steps", 2, "--per_device_train_batch_size", 2, "--model_options", '{"num_attention_heads": 4}')


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A recogniser for corpora without text."""
    return make_tiny_whisper(tmp_path_factory.mktemp("whisper"), 2, positions=8)


def recordings(folder, places):
    """A recording at each place, none like another."""
    for number, place in enumerate(places):
        write_wav(folder / place, 0.3 + 0.01 * number, seed=number)
    return folder


def test_an_audio_folder_of_class_folders(encoders, whisper, tmp_path):
    """No speakers and no splits: it is divided at random where that is asked for, and its text recognised."""
    places = [f"{emotion}/{number}.wav" for emotion in EMOTIONS for number in range(4)]
    data = recordings(tmp_path / "data", places)
    options = ["--split_by", "utterance", "--num_folds", 4, "--folds", 2, "--split_seed", 5, "--asr_model", whisper]
    output = "--output_dir", tmp_path / "out"
    run_example_here("run_custom.py", "--dataset_name", data, *output, *SHORT, *encoders, *options)
    corpus, (results, predictions) = load_prepared(tmp_path / "out" / "corpus"), only_run(tmp_path / "out")
    assert corpus["train"]["id"][:] == sorted(places)
    assert None not in corpus["train"]["hypothesis"][:]
    folds = utterance_folds(corpus["train"], 4, 5)
    assert predictions["id"].tolist() == folds[1].select(corpus["train"])["test"]["id"][:]
    assert predictions["emotion"].tolist() == [name.split("/")[0] for name in predictions["id"]]
    assert "tested speakers may be trained on" in results["description"]


def test_a_metadata_table_without_validation_data(encoders, tmp_path):
    """Train and test of its own: validation is made of training speakers."""
    rows = []
    for split, count in (("train", 10), ("test", 3)):
        data = recordings(tmp_path / "data", [f"{split}/{number}.wav" for number in range(count)])
        table = {
            "file_name": [f"{number}.wav" for number in range(count)],
            "label": [EMOTIONS[number % 3] for number in range(count)],
            "text": [f"hear {number}" for number in range(count)],
            "speaker": [f"{split}{number % 5}" for number in range(count)],
        }
        pd.DataFrame(table).to_csv(data / split / "metadata.csv", index=False)
        rows.append(table)
    options = ["--label_map", "happy=joy", "--emotions", "joy", "sad", "angry"]
    output = "--output_dir", tmp_path / "out"
    run_example_here("run_custom.py", "--dataset_name", data, *output, *SHORT, *encoders, *options)
    corpus, (results, predictions) = load_prepared(tmp_path / "out" / "corpus"), only_run(tmp_path / "out")
    assert list(corpus) == ["train", "test"]
    assert results["emotions"] == ["joy", "sad", "angry"]
    assert predictions["emotion"].tolist() == ["angry", "joy", "sad"]
    assert predictions["text"].tolist() == rows[1]["text"]
    held_out = results["split"]["validation"]["utterances"]
    assert held_out == 2
    assert results["split"]["train"]["utterances"] == 8
    assert "validation on 10% of the speakers of its training data" in results["description"]
