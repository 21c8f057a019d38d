"""Whole runs: what a run directory holds, resuming, the probe, command lines and the example script on a manifest."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from datasets import DatasetDict
from transformers import AutoModel

from data_scripts.splits import speaker_folds
from modeling_m4ser import ABLATIONS, M4SERConfig, load_audio
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import EMOTIONS, speech_config, text_config, tiny_model, tiny_processor, tiny_tokenizer
from trainer import M4SERTrainingArguments
from trainer.evaluation.linear_probe import linear_probe, speech_features
from trainer.experiments.cli import parse_arguments
from trainer.experiments.cross_validation import METRICS, _probed_models, format_summary, pool, summarize
from trainer.experiments.run import ExperimentError, ModelArguments, load_results, run_experiment

FILES = {
    "results.json",
    "predictions.parquet",
    "loss_curves.png",
    "confusion_matrix.png",
    "label_distribution.png",
    "README.md",
    "model.safetensors",
    "config.json",
    "processor_config.json",
    "modeling_m4ser.py",
}


def settings(folder, **arguments):
    defaults = {
        "output_dir": str(folder),
        "use_cpu": True,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "ua",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 7,
    }
    return M4SERTrainingArguments(**{**defaults, **arguments})


@pytest.fixture(scope="module")
def data():
    corpus = DatasetDict(train=tiny_corpus(24))
    return speaker_folds(corpus, 3)[0].select(corpus)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")

    def build(emotions):
        assert list(emotions) == list(EMOTIONS)
        return tiny_model("whisper"), tiny_processor(folder, "whisper")

    results = run_experiment(build, data, settings(folder / "out"), description="Noise.", split={"name": "fold1"})
    return folder / "out", results


def test_run_directory(run, data):
    folder, results = run
    assert {path.name for path in folder.iterdir()} >= FILES
    assert load_results(folder) == json.loads(json.dumps(results))
    assert results["seed"] == 7 and results["split"] == {"name": "fold1"} and results["versions"]["torch"]
    table = pd.read_parquet(folder / "predictions.parquet")
    assert table["id"].tolist() == data["test"]["id"][:]
    scores = table[[f"probability_{name}" for name in EMOTIONS]].to_numpy()
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)
    assert [EMOTIONS[index] for index in scores.argmax(-1)] == table["predicted"].tolist()
    assert results["metrics"]["test"]["wa"] == pytest.approx((table["emotion"] == table["predicted"]).mean())


def test_the_saved_model_makes_the_predictions(run, data):
    folder, _ = run
    model = AutoModel.from_pretrained(folder)
    processor = tiny_processor(folder, "whisper")
    table = pd.read_parquet(folder / "predictions.parquet")
    row = data["test"][0]
    batch = processor(audio=load_audio(row["audio"]), text=row["hypothesis"], sampling_rate=16000)
    scores = model(**batch).logits.softmax(-1)[0].tolist()
    np.testing.assert_allclose(scores, table.loc[0, [f"probability_{n}" for n in EMOTIONS]].astype(float), atol=1e-5)


def test_a_finished_run_is_not_run_again(run, data):
    folder, results = run

    def build(emotions):
        raise AssertionError("built again")

    again = run_experiment(build, data, settings(folder), description="", split={})
    assert again == json.loads(json.dumps(results))


def test_an_interrupted_run_goes_on_to_the_same_end(run, data, tmp_path):
    folder, results = run
    for path in ("half", "other"):
        (tmp_path / path).mkdir()

    def build(emotions):
        return tiny_model("whisper"), tiny_processor(tmp_path, "whisper")

    class Stop(Exception):
        pass

    def interrupted(emotions):
        model, processor = build(emotions)
        calls = {"forward": 0}

        def stop(*_):
            calls["forward"] += 1
            if calls["forward"] > 6:
                raise Stop

        model.register_forward_hook(stop)
        return model, processor

    out = tmp_path / "half" / "out"
    with pytest.raises(Stop):
        run_experiment(interrupted, data, settings(out), description="Noise.", split={"name": "fold1"})
    assert not (out / "results.json").exists() and list(out.glob("checkpoint-*"))
    resumed = run_experiment(build, data, settings(out), description="Noise.", split={"name": "fold1"})
    assert resumed["metrics"] == results["metrics"]


def test_missing_split_is_named(data, tmp_path):
    with pytest.raises(ExperimentError, match="no test split"):
        run_experiment(
            lambda emotions: None,
            DatasetDict(train=data["train"], validation=data["validation"]),
            settings(tmp_path),
            description="",
            split={},
        )


def test_summary():
    runs = [{"metrics": {"test": {"ua": value}}} for value in (0.5, 0.7)]
    assert summarize(runs, ["ua"])["ua"]["mean"] == pytest.approx(0.6)
    assert summarize(runs, ["ua"])["ua"]["std"] == pytest.approx(0.1414, abs=1e-4)


def test_pooled_metrics_weigh_utterances_not_folds():
    matrices = ([[8, 2], [0, 0]], [[1, 0], [3, 1]])
    runs = [{"metrics": {"test": {"confusion_matrix": matrix}}} for matrix in matrices]
    assert pool(runs) == {"wa": pytest.approx(10 / 15), "ua": pytest.approx((9 / 11 + 1 / 4) / 2)}


def test_probe_features_ignore_the_batch(data, tmp_path):
    model, processor = tiny_model("hubert"), tiny_processor(tmp_path, "hubert")
    together = speech_features(model, processor, data["test"], batch_size=8)
    alone = speech_features(model, processor, data["test"], batch_size=1)
    assert together.shape == (len(data["test"]), 2 * 24)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    metrics = linear_probe(model, processor, data, EMOTIONS)
    assert 0 <= metrics["ua"] <= 1 and metrics["regularisation"] in (0.001, 0.01, 0.1, 1.0, 10.0)


def test_yaml_under_the_command_line(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("learning_rate: 1e-4\nnum_train_epochs: 3\nmodel_options: {fusion_dropout: 0.3}\n")
    arguments = ["--config", str(config), "--num_train_epochs", "5", "--output_dir", str(tmp_path), "--use_cpu"]
    model, args = parse_arguments((ModelArguments, M4SERTrainingArguments), arguments)
    assert args.learning_rate == 1e-4 and args.num_train_epochs == 5
    assert model.model_options == {"fusion_dropout": 0.3}
    config.write_text("learning_rat: 1\n")
    with pytest.raises(ExperimentError, match="learning_rat"):
        parse_arguments((ModelArguments, M4SERTrainingArguments), arguments)
    with pytest.raises(ExperimentError, match="no configuration file"):
        parse_arguments((ModelArguments,), ["--config", str(tmp_path / "absent.yaml")])
    with pytest.raises(ExperimentError, match="ema_decay"):
        parse_arguments((M4SERTrainingArguments,), ["--output_dir", str(tmp_path), "--ema_decay", "2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ablation": "w/o everything"}, "w/o MIR"),
        ({"text_column": "subtitle"}, "hypothesis"),
        ({"model_options": "{fusion: concat"}, "JSON"),
    ],
)
def test_wrong_model_arguments(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        ModelArguments(**arguments)


def encoder_folders(folder):
    """Saved tiny encoders, as a user names them: with the feature extractor and the tokenizer."""
    from transformers import AutoModel, WhisperFeatureExtractor

    speech, text = folder / "speech", folder / "text"
    AutoModel.from_config(speech_config("whisper")).save_pretrained(speech)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(speech)
    AutoModel.from_config(text_config()).save_pretrained(text)
    tiny_tokenizer(text).save_pretrained(text)
    return speech, text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speech_encoder": "no/such/encoder/folder"}, "no/such/encoder/folder"),
        ({"speech_encoder": "text"}, "Can't load feature extractor for '.*text'"),
        ({"freeze_speech_layers": 9}, "Cannot freeze 9 layers"),
        ({"ablation": "w/o MIR", "model_options": {"use_adversarial": True}}, "use_adversarial=False"),
        ({"processor_options": {"target_dbfs": 3}}, "target_dbfs must be 0 or less"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(tmp_path, changes, message):
    encoders = dict(zip(("speech", "text"), map(str, encoder_folders(tmp_path)), strict=True))
    changes = {name: encoders.get(value, value) if isinstance(value, str) else value for name, value in changes.items()}
    options = {"num_attention_heads": 4, **changes.pop("model_options", {})}
    arguments = {"speech_encoder": encoders["speech"], "text_encoder": encoders["text"], "model_options": options}
    with pytest.raises(ExperimentError, match=message):
        ModelArguments(**{**arguments, **changes}).build(EMOTIONS)


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


def run_custom(repo_root, *arguments):
    command = [sys.executable, str(repo_root / "examples" / "run_custom.py"), "--use_cpu", "--disable_tqdm", "true"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_run_custom_on_a_manifest(repo_root, tmp_path):
    write_manifest(tmp_path)
    speech, text = encoder_folders(tmp_path)
    out = tmp_path / "out"
    done = run_custom(
        repo_root, "--data_dir", tmp_path, "--speech_encoder", speech, "--text_encoder", text, "--output_dir", out,
        "--num_folds", 3, "--folds", 2, "--seeds", 1, 2, "--num_train_epochs", 1, "--probe", "--model_options",
        '{"num_attention_heads": 4}',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "M4SER, 2 runs" in done.stdout and "frozen-feature probe, 1 folds" in done.stdout
    assert "encoder changed" not in done.stdout
    assert (out / "corpus" / "report.json").is_file() and (out / "summary.json").is_file()
    first, second = (load_results(out / "fold2" / f"seed{seed}") for seed in (1, 2))
    assert first["seed"] == 1 and second["seed"] == 2
    speakers = {name: set(first["split"][name]["speakers"]) for name in ("train", "validation", "test")}
    assert not speakers["train"] & speakers["test"] and not speakers["validation"] & speakers["test"]


def test_the_probe_is_of_the_published_encoder_and_of_a_changed_one_too(tmp_path):
    speech, text = map(str, encoder_folders(tmp_path))
    options = {"speech_encoder": speech, "text_encoder": text, "model_options": {"num_attention_heads": 4}}
    changed = ModelArguments(**options, speech_options={"encoder_layers": 1}, freeze_speech_layers=1)
    layers = {
        key: len(arguments.build(EMOTIONS)[0].m4ser.speech_encoder.layers)
        for key, arguments in _probed_models(changed).items()
    }
    assert layers == {"probe": 2, "probe_own_encoder": 1}
    assert list(_probed_models(ModelArguments(**options))) == ["probe"]
    runs = [{"metrics": {"test": dict.fromkeys(METRICS, value)}} for value in (0.25, 0.75)]
    summary = {"runs": 2, "test": summarize(runs), "probe": summarize(runs), "probe_own_encoder": summarize(runs[:1])}
    lines = format_summary(summary).splitlines()
    assert len(lines) == 3 and "2 folds: wa 50.0 ± 35.4" in lines[1] and "changed" in lines[2] and "25.0" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir", "out"], "--data_dir"),
        (["--data_dir", "no/such/folder", "--output_dir", "out"], "no/such/folder"),
        (["--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_mistakes_end_in_one_line(repo_root, tmp_path, arguments, message):
    arguments = [str(tmp_path / "out") if argument == "out" else argument for argument in arguments]
    done = run_custom(repo_root, *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_every_shipped_configuration_is_read(repo_root, tmp_path):
    from trainer.experiments.cross_validation import RunArguments
    from trainer.experiments.data import CorpusArguments

    configs = sorted((repo_root / "examples" / "configs").glob("*.yaml"))
    assert {config.stem for config in configs} == {
        *("iemocap_hubert_base", "iemocap_hubert_large", "iemocap_small"),
        *("meld_hubert_base", "meld_small", "ravdess4_whisper_tiny", "ravdess8_whisper_tiny"),
    }

    @dataclass
    class AnyRun(RunArguments):
        num_folds: int = 6

    for config in configs:
        arguments = ["--config", str(config), "--output_dir", str(tmp_path), "--use_cpu"]
        classes = (CorpusArguments, ModelArguments, AnyRun, M4SERTrainingArguments)
        _, model, _, args = parse_arguments(classes, arguments)
        assert args.load_best_model_at_end and model.model_options is not None
        M4SERConfig(**ABLATIONS[model.ablation], **model.model_options)
