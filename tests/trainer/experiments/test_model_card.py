"""The model card parses back, says what it was given, and nothing about the machine."""

import pytest
from huggingface_hub import ModelCard
from transformers import TrainingArguments

from data_scripts.versions import collect_versions
from trainer import ExperimentArguments
from trainer.evaluation.metrics import emotion_metrics
from trainer.experiments.model_card import write_model_card

LABELS = ["neutral", "happy", "sad", "angry"]
CONFIG = {
    "speech_config": {"_name_or_path": "facebook/hubert-base-ls960", "model_type": "hubert"},
    "text_config": {"_name_or_path": "google-bert/bert-base-uncased", "model_type": "bert"},
    "auxiliary_weight": 0.1,
    "use_contrastive": False,
}


def write(folder, **changes):
    given = {
        "model_name": "someone/m4ser-iemocap",
        "config": CONFIG,
        "labels": LABELS,
        "metrics": emotion_metrics([0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 1, 0], LABELS),
        "dataset_description": "IEMOCAP, 4 classes, session 5 held out; transcripts by Whisper small.en.",
        "training_arguments": {"learning_rate": 1e-5, "seed": 13, "hub_token": "hf_secret", "output_dir": "runs/fold5"},
        "versions": collect_versions(),
        "dataset_name": "IEMOCAP",
    }
    return write_model_card(folder, **(given | changes))


def test_parses_back(tmp_path):
    path = write(tmp_path / "model")
    assert path == tmp_path / "model" / "README.md"
    card = ModelCard.load(path)
    data = card.data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "audio-classification"
    assert data.license == "apache-2.0"
    assert data.language == "en"
    assert data.base_model == ["facebook/hubert-base-ls960", "google-bert/bert-base-uncased"]
    assert "speech-emotion-recognition" in data.tags
    values = {result.metric_name.split(" (")[0]: result.metric_value for result in data.eval_results}
    assert values["WA"] == pytest.approx(5 / 6, abs=1e-4)
    assert values["UA"] == pytest.approx(7 / 8, abs=1e-4)
    assert set(values) == {"WA", "UA", "weighted F1", "macro F1"}
    assert {result.dataset_name for result in data.eval_results} == {"IEMOCAP"}
    assert data.model_name == "someone/m4ser-iemocap"


def test_sections_and_numbers(tmp_path):
    text = ModelCard.load(write(tmp_path)).text
    sections = ["# someone/m4ser-iemocap", "## Use", "## Data and protocol", "## Results", "## Training", "## Limits"]
    places = [text.index(section) for section in [*sections, "## Citation"]]
    assert places == sorted(places)
    assert 'pipeline("speech-text-emotion-recognition", model="someone/m4ser-iemocap", trust_remote_code=True)' in text
    assert '{"audio": "speech.wav", "text": "I can\'t believe it"}' in text
    assert "AutoModelForAudioClassification" in text
    assert "| WA (accuracy over all utterances) | 83.3 |" in text
    assert "| happy | 50.0 | 66.7 |" in text
    assert "| learning_rate | 1e-05 |" in text
    assert "| use_contrastive | False |" in text
    assert "session 5 held out" in text
    assert "torch 2." in text
    assert "@article{he2025m4ser" in text


def test_says_nothing_about_the_machine(tmp_path):
    speech = {"_name_or_path": str(tmp_path / "encoders" / "whisper-tiny.en"), "model_type": "whisper"}
    path = write(tmp_path, config=CONFIG | {"speech_config": speech}, model_name=str(tmp_path / "runs" / "my-model"))
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "hf_secret" not in text
    assert "runs/fold5" not in text
    assert "`whisper-tiny.en` (whisper)" in text
    assert "# my-model" in text
    assert ModelCard.load(path).data.base_model == ["google-bert/bert-base-uncased"]


def test_objects_of_transformers(tmp_path):
    from transformers import BertConfig

    arguments = TrainingArguments(output_dir=str(tmp_path / "out"), learning_rate=3e-4, seed=7, report_to=[])
    text = ModelCard.load(write(tmp_path, training_arguments=arguments, config=BertConfig())).text
    assert "| learning_rate | 0.0003 |" in text
    assert "| seed | 7 |" in text
    assert "**Speech encoder:** not recorded" in text
    text = write(tmp_path, config=CONFIG | {"modalities": "text"}).read_text(encoding="utf-8")
    assert "**Speech encoder:** none" in text


def test_metrics_of_the_trainer_and_none(tmp_path):
    prefixed = {"eval_ua": 0.5, "eval_wa": float("nan"), "eval_loss": 1.0, "epoch": 2.0, "eval_f1_sad": 0.25}
    card = ModelCard.load(write(tmp_path, metrics=prefixed))
    assert [result.metric_value for result in card.data.eval_results] == [0.5]
    assert "| sad | – | 25.0 |" in card.text
    assert "nan" not in card.text
    card = ModelCard.load(write(tmp_path, metrics={}))
    assert card.data.eval_results is None
    assert "No results were recorded." in card.text


def test_awkward_text(tmp_path):
    labels = ["happy | excited", 'so-called "calm"', "悲しい", "{angry}"]
    metrics = emotion_metrics(range(4), range(4), labels)
    described = "Braces {x}, a pipe |, --- and\n\na second paragraph: with a colon."
    text = ModelCard.load(
        write(tmp_path, labels=labels, metrics=metrics, dataset_description=described, dataset_name="My: corpus #1")
    ).text
    assert described in text
    assert r"| happy \| excited | 100.0 | 100.0 |" in text
    assert "| 悲しい | 100.0 | 100.0 |" in text
    assert "| {angry} | 100.0 | 100.0 |" in text
    with pytest.raises(ValueError, match="labels"):
        write(tmp_path, labels=[])


def test_every_overall_metric_has_its_own_number(tmp_path):
    metrics = {"wa": 0.1, "ua": 0.2, "weighted_f1": 0.3, "macro_f1": 0.4}
    card = ModelCard.load(write(tmp_path, metrics=metrics))
    names = ("WA (accuracy over all utterances)", "UA (mean per-class recall)", "weighted F1", "macro F1")
    for name, value in zip(names, ("10.0", "20.0", "30.0", "40.0"), strict=True):
        assert f"| {name} | {value} |" in card.text
    assert [result.metric_value for result in card.data.eval_results] == [0.1, 0.2, 0.3, 0.4]
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}


def test_what_is_no_default_is_stated(tmp_path):
    arguments = ExperimentArguments(
        output_dir=str(tmp_path / "out"), use_cpu=True, ema_decay=0.98, speed_perturbation=[0.9, 1.1], weight_decay=0.25
    )
    text = write(tmp_path, training_arguments=arguments).read_text(encoding="utf-8")
    for line in ("| ema_decay | 0.98 |", "| speed_perturbation | [0.9, 1.1] |", "| weight_decay | 0.25 |"):
        assert line in text
    assert "| num_train_epochs | 100 |" in text
    assert "use_cpu" not in text
