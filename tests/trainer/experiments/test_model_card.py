"""The model card parses back, says what a run found, and nothing about the machine."""

import pytest
from huggingface_hub import ModelCard

from data_scripts.corpora import CORPORA
from data_scripts.versions import collect_versions
from modeling_m4ser import M4SERConfig
from trainer import ExperimentArguments
from trainer.evaluation.metrics import emotion_metrics
from trainer.experiments.model_card import SOME_FOLDER, write_model_card
from trainer.experiments.run_folder import changed_arguments

LABELS = ["neutral", "happy", "sad", "angry"]
ENCODERS = {
    "speech_config": {"_name_or_path": "facebook/hubert-base-ls960", "model_type": "hubert"},
    "text_config": {"_name_or_path": "google-bert/bert-base-uncased", "model_type": "bert"},
}


def write(folder, corpus="ravdess", training=(), sections=(), **changes):
    """The card of a run on RAVDESS, read back, but for what is changed."""
    own = {name: getattr(M4SERConfig(), name) for name in ("auxiliary_weight", "use_contrastive")}
    args = ExperimentArguments(output_dir=str(folder / "runs"), use_cpu=True, **dict(training))
    results = {
        "emotions": LABELS,
        "model_config": {**own, **ENCODERS},
        "metrics": {"test": emotion_metrics([0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 1, 0], LABELS)},
        "arguments": {"training": changed_arguments(args), **dict(sections)},
        "split": {"name": "fold1"},
        "seed": 42,
        "processor": {"trim_silence_db": 40},
        "description": "RAVDESS, speakers held out.",
        "versions": collect_versions(),
    }
    path = write_model_card(folder, {**results, **changes}, args, corpus and CORPORA[corpus])
    assert path == folder / "README.md"
    return ModelCard.load(path)


def test_a_card_parses_back_and_holds_the_run(tmp_path):
    card = write(tmp_path)
    data, text = card.data, card.text
    assert (data.library_name, data.pipeline_tag) == ("transformers", "audio-classification")
    assert (data.license, data.language) == ("cc-by-nc-sa-4.0", "en")
    assert data.base_model == ["facebook/hubert-base-ls960", "google-bert/bert-base-uncased"]
    values = {result.metric_name.split(" (")[0]: result.metric_value for result in data.eval_results}
    assert values["WA"] == pytest.approx(5 / 6, abs=1e-4)
    assert values["UA"] == pytest.approx(7 / 8, abs=1e-4)
    assert set(values) == {"WA", "UA", "weighted F1", "macro F1"}
    assert {(result.dataset_name, result.dataset_split) for result in data.eval_results} == {("RAVDESS speech", "test")}
    title = "# M4SER trained on RAVDESS speech (fold1, seed 42)"
    sections = [title, "## Use", "## Data and protocol", "## Results", "## Training", "## Limits", "## Citation"]
    assert [text.index(section) for section in sections] == sorted(text.index(section) for section in sections)
    assert f'pipeline("speech-text-emotion-recognition", model="{SOME_FOLDER}", trust_remote_code=True)' in text
    assert '{"audio": "speech.wav", "text": "I can\'t believe it"}' in text
    for line in (
        *("| WA (accuracy over all utterances) | 83.3 |", "| happy | 50.0 | 66.7 |", "| learning_rate | 1e-05 |"),
        *(
            "| use_contrastive | True |",
            "| trim_silence_db | 40 |",
            "| optim | adamw_torch_fused |",
            "speakers held out",
        ),
        *("torch 2.", "@article{he2025m4ser"),
    ):
        assert line in text
    assert "OptimizerNames" not in text


@pytest.mark.parametrize(
    ("corpus", "chosen", "title", "license", "language"),
    [
        ("iemocap", {"data_dir": "x"}, "M4SER trained on IEMOCAP", "other", "en"),
        ("iemocap", {"data_dir": "x", "asr_language": "de"}, "M4SER trained on IEMOCAP", "other", "de"),
        ("manifest", {"data_dir": "/data/me/my_corpus"}, "M4SER trained on my_corpus", None, None),
        ("manifest", {"data_dir": "my/own/data"}, "M4SER trained on data", None, None),
        ("dataset", {"dataset_name": "me/voices", "asr_language": "de"}, "M4SER trained on me/voices", None, "de"),
        ("dataset", {"dataset_name": "me/voices", "asr_language": "German"}, "M4SER trained on me/voices", None, "de"),
        (None, {}, "M4SER for speech emotion recognition", None, None),
    ],
)
def test_what_nobody_said_of_the_corpus_is_left_out(tmp_path, corpus, chosen, title, license, language):
    card = write(tmp_path, corpus, sections={"corpus": chosen})
    assert card.text.lstrip().startswith(f"# {title} (")
    assert (card.data.license, card.data.language) == (license, language)
    assert card.data.datasets == (["me/voices"] if corpus == "dataset" else None)
    assert "/data/me" not in card.content


def test_a_card_says_where_the_model_is_and_nothing_about_the_machine(tmp_path):
    speech = {"_name_or_path": str(tmp_path / "encoders" / "whisper-tiny.en"), "model_type": "whisper"}
    training = {
        "hub_model_id": "me/m4ser",
        "hub_token": "hf_secret",
        "ema_decay": 0.98,
        "speed_perturbation": [0.9, 1.1],
    }
    card = write(
        tmp_path, training=training, model_config={**ENCODERS, "speech_config": speech, "modalities": "speech"}
    )
    assert str(tmp_path) not in card.content
    assert "hf_secret" not in card.content
    assert 'from_pretrained("me/m4ser"' in card.text
    assert "`whisper-tiny.en` (whisper)" in card.text
    assert "**Text encoder:** none" in card.text
    assert card.data.base_model is None
    for line in ("| ema_decay | 0.98 |", "| speed_perturbation | [0.9, 1.1] |", "| num_train_epochs | 100 |"):
        assert line in card.text
    assert "use_cpu" not in card.text


def test_awkward_text_and_numbers(tmp_path):
    labels = ["happy | excited", 'so-called "calm"', "悲しい", "{{ angry }}"]
    metrics = {**emotion_metrics(range(4), range(4), labels), "ua": float("nan"), "loss": 1.0}
    described = "Braces {{ x }}, a pipe |, --- and\n\na second paragraph: with a colon."
    text = write(tmp_path, emotions=labels, metrics={"test": metrics}, description=described).text
    assert described in text
    assert r"| happy \| excited | 100.0 | 100.0 |" in text
    assert "| 悲しい | 100.0 | 100.0 |" in text
    assert "| {{ angry }} | 100.0 | 100.0 |" in text
    assert "nan" not in text
    assert write(tmp_path, metrics={"test": {}}).data.eval_results is None
