"""What decides a run: changed arguments, the fingerprint of the data, the command, a directory's settings."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field

import pytest
from datasets import DatasetDict
from transformers import TrainingArguments

from data_scripts.schema import load_prepared, save_prepared
from modeling_m4ser import M4SERConfig
from tests.helpers.corpus import tiny_corpus
from trainer import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, ModelArguments
from trainer.experiments.run_folder import (
    DECIDING_ARGUMENTS,
    SETTINGS_FILE,
    changed_arguments,
    check_settings,
    claim_folder,
    command_line,
    corpus_fingerprint,
    decides,
    run_settings,
)


@dataclass
class SomeArguments:
    rate: float = 0.1
    names: list[str] | None = None
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    api_token: str | None = None
    on: bool = True


@pytest.fixture
def data():
    return DatasetDict(train=tiny_corpus(8), test=tiny_corpus(4, seed=1))


def test_changed_arguments_are_those_that_are_no_defaults():
    assert changed_arguments(SomeArguments()) == {}
    changed = SomeArguments(rate=0.2, names=["a"], sizes=(1, 2), api_token="secret", on=False)
    assert changed_arguments(changed) == {"rate": 0.2, "names": ["a"], "on": False}


def test_training_arguments_are_compared_as_they_resolve(tmp_path):
    usual = ExperimentArguments().learning_rate
    for chosen, rate in (({}, 3e-4), ({"discriminator_learning_rate": usual}, usual)):  # as a choice, it is recorded
        args = ExperimentArguments(output_dir=str(tmp_path), use_cpu=True, learning_rate=3e-4, seed=5, **chosen)
        changed = {name: value for name, value in changed_arguments(args).items() if decides(name)}
        assert changed == {"learning_rate": 3e-4, "discriminator_learning_rate": rate, "seed": 5}


def test_what_decides_a_result():
    """An argument of our own decides until it is said not to; of the library's, those that are named exist."""
    known = set(ExperimentArguments.__dataclass_fields__)
    assert known >= DECIDING_ARGUMENTS
    library = set(TrainingArguments.__dataclass_fields__)
    assert {name for name in known - library if not decides(name)} == {
        "cache_features",
        "feature_cache_dir",
        "figure_format",
        "hub_all_heads",
    }
    named = ("learning_rate", "lr_scheduler_kwargs", "optim_args", "weight_decay", "max_grad_norm", "data_seed", "bf16")
    assert all(map(decides, (*named, "split_seed", "some_new_option_of_a_script")))
    assert not any(map(decides, ("output_dir", "logging_steps", "per_device_eval_batch_size", "seeds", "folds")))


def test_the_command_names_every_changed_argument(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["examples/run_x.py", "--config", "some.yaml"])
    model = ModelArguments(ablation="w/o GAN", model_options='{"temperature": 0.5}', freeze_encoders=True)
    words = shlex.split(command_line([model, SomeArguments(names=["a b", "c"], api_token="secret")]))
    assert words == [
        *("run_x.py", "--ablation", "w/o GAN", "--model_options", '{"temperature": 0.5}', "--freeze_encoders", "true"),
        *("--names", "a b", "c"),
    ]


@pytest.mark.parametrize("program", ["bin/m4ser", "m4ser.exe", "m4ser/__main__.py"])
def test_the_command_of_a_verb_names_it(monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program, "train", "--config", "some.yaml"])
    assert command_line([ModelArguments(ablation="w/o GAN")]) == "m4ser train --ablation 'w/o GAN'"


def test_the_fingerprint_sees_rows_labels_texts_and_their_order(data):
    same = DatasetDict(test=tiny_corpus(4, seed=1), train=tiny_corpus(8))
    assert corpus_fingerprint(data) == corpus_fingerprint(same) == "0dc4607c35b2733e", "as in earlier versions"
    train = data["train"]
    moved = train.map(lambda row: {"audio": {**row["audio"], "path": "elsewhere.flac"}})
    assert corpus_fingerprint(DatasetDict({**data, "train": moved})) == corpus_fingerprint(data)
    others = {
        "fewer rows": train.select(range(7)),
        "another order": train.select([1, 0, *range(2, 8)]),
        "another label": train.map(lambda row: {"emotion": (row["emotion"] + 1) % 4}),
        "another text": train.map(lambda row: {"hypothesis": f"{row['hypothesis']} x"}),
        "another reference": train.map(lambda row: {"transcript": f"{row['transcript']} x"}),
        "another speaker": train.map(lambda row: {"speaker": f"{row['speaker']}x"}),
        "another session": train.map(lambda row: {"session": "1"}),
        "another recogniser": train.map(lambda row: {"asr_model": "other"}),
        "another length": train.map(lambda row: {"duration": row["duration"] + 1}),
        "other class names": train.cast_column("emotion", type(train.features["emotion"])(names=["a", "b", "c", "d"])),
    }
    prints = {name: corpus_fingerprint(DatasetDict({**data, "train": part})) for name, part in others.items()}
    assert len({*prints.values(), corpus_fingerprint(data)}) == len(others) + 1
    assert corpus_fingerprint(DatasetDict(train=data["test"], test=data["train"])) != corpus_fingerprint(data)


def test_a_directory_keeps_to_its_settings(data, tmp_path):
    def settings(text="hypothesis", **changes):
        return run_settings({"some": SomeArguments(**changes)}, data, {"name": "fold1"}, text)

    check_settings(tmp_path, settings())
    claim_folder(tmp_path, settings(rate=0.5))
    claim_folder(tmp_path, settings(rate=0.5))
    assert json.loads((tmp_path / SETTINGS_FILE).read_text())["some"] == {"rate": 0.5}
    with pytest.raises(ExperimentError) as caught:
        claim_folder(tmp_path, settings("transcript", names=["b"]))
    assert "some.rate 0.5 before, the default now" in str(caught.value)
    assert 'some.names the default before, ["b"] now' in str(caught.value)
    assert 'data.text_column "hypothesis" before, "transcript" now' in str(caught.value)
    assert json.loads((tmp_path / SETTINGS_FILE).read_text())["some"] == {"rate": 0.5}


def test_a_prepared_corpus_that_was_moved_or_copied_goes_on_with_its_run(data, tmp_path):
    def settings(name):
        arguments = {"corpus": CorpusArguments(prepared_dir=str(tmp_path / name))}
        return run_settings(arguments, load_prepared(tmp_path / name), {"name": "fold1"}, "hypothesis")

    save_prepared(data, tmp_path / "prepared")
    claim_folder(tmp_path / "run", settings("prepared"))
    shutil.copytree(tmp_path / "prepared", tmp_path / "copy")
    os.rename(tmp_path / "prepared", tmp_path / "moved")
    for name in ("moved", "copy"):
        check_settings(tmp_path / "run", settings(name))
    save_prepared(DatasetDict({**data, "train": data["train"].select(range(3))}), tmp_path / "other")
    with pytest.raises(ExperimentError, match=r"data\.fingerprint .* before, .*corpus\.prepared_dir "):
        check_settings(tmp_path / "run", settings("other"))


def test_a_default_that_another_version_had_is_another_setting(data, tmp_path):
    def settings(**options):
        return run_settings({"model": ModelArguments(model_options=options)}, data, {"name": "fold1"}, "hypothesis")

    earlier = settings(frame_pooling=2)
    assert earlier["defaults"]["discriminator_objective"] == M4SERConfig().discriminator_objective == "modality"
    earlier["defaults"]["discriminator_objective"] = "paper"
    claim_folder(tmp_path, earlier)
    with pytest.raises(ExperimentError, match='discriminator_objective "paper" before, "modality" now'):
        check_settings(tmp_path, settings(frame_pooling=2))
    check_settings(tmp_path, settings(frame_pooling=2, discriminator_objective="paper"))
    with pytest.raises(ExperimentError, match="frame_pooling 2 before, 1 now"):
        check_settings(tmp_path, settings(discriminator_objective="paper"))


def test_the_same_run_is_recognized_however_it_is_spelled(data, tmp_path, monkeypatch):
    """Paths do not decide: the data count by their content, encoders in folders by where those lie."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()

    def settings(encoder="encoder", rows=data, **corpus):
        sections = {
            "corpus": CorpusArguments(**{"corpus": "manifest", "data_dir": "my_corpus", **corpus}),
            "model": ModelArguments(speech_encoder=encoder),
        }
        return run_settings(sections, rows, {"name": "fold1"}, "hypothesis")

    claim_folder("run", settings())
    for same in (
        settings(data_dir="./my_corpus/"),
        settings(data_dir="copy/of/my_corpus"),
        settings(corpus="ravdess", num_workers=4),
        settings(encoder="./encoder/"),
        settings(encoder=str(tmp_path / "encoder")),
    ):
        check_settings("run", same)
    with pytest.raises(ExperimentError, match=r"model\.speech_encoder"):
        check_settings("run", settings(encoder="other"))
    other = DatasetDict({**data, "train": data["train"].select(range(7))})
    with pytest.raises(ExperimentError, match=r'data\.fingerprint.*corpus\.data_dir "my_corpus" before, "new" now'):
        check_settings("run", settings(rows=other, data_dir="new"))
