"""The model card: a README.md saying what a trained model is, how to use it, and what its numbers were measured on."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modeling_m4ser import M4SERConfig
from trainer.citation import CITATION
from trainer.evaluation.metrics import metric_keys
from trainer.evaluation.summary import markdown_table
from trainer.experiments.run_folder import PRESENTATION_ARGUMENTS, changed_arguments

PIPELINE_TASK = "speech-text-emotion-recognition"

# Metric name -> (name in the card, identifier and arguments of the Hub's metric).
_METRICS = {
    "wa": ("WA (accuracy over all utterances)", "accuracy", None),
    "ua": ("UA (mean per-class recall)", "recall", {"average": "macro"}),
    "weighted_f1": ("weighted F1", "f1", {"average": "weighted"}),
    "macro_f1": ("macro F1", "f1", {"average": "macro"}),
}
# Stated in every card, also where they are defaults; any other training argument only where it is not.
_ALWAYS_STATED = (
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "optim",
    "lr_scheduler_type",
    "seed",
)
_ENCODER_FIELDS = ("speech_config", "text_config")
_TEMPLATE = """\
# {name}

An [M4SER](#citation) model: it recognises the emotion of an utterance from its **waveform and its ASR transcript**.
As far as the settings below say so, it also learned to find and to correct the recogniser's errors, an adversarial
discriminator drew the representations of speech and text together, and a contrastive loss gathered utterances of one
emotion. Those parts are not run to recognise an emotion.

- **Speech encoder:** {speech_encoder}
- **Text encoder:** {text_encoder}
- **Labels:** {labels}

## Use

```python
from transformers import pipeline

pipe = pipeline("{task}", model="{reference}", trust_remote_code=True)
pipe({{"audio": "speech.wav", "text": "I can't believe it"}}, top_k=None)
# [{{"label": "{first_label}", "score": ...}}, ...]
```

The model alone:

```python
from transformers import AutoModelForAudioClassification, AutoProcessor

model = AutoModelForAudioClassification.from_pretrained("{reference}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{reference}", trust_remote_code=True)
```

## Data and protocol

{dataset_description}

## Results

{results}

## Training

{settings}

Versions: {versions}.

## Limits

- The numbers above hold for the data and protocol above. Emotion corpora are small and often acted: expect less on
  other speakers, languages, rooms and recognisers, and measure it before relying on the model.
- The labels are how listeners or scripts named an utterance, not what a speaker felt. Do not use the model to judge
  people, for instance in hiring, policing, schooling or health care.
- The model knows the kind of transcript it was trained on, given above. Text of another kind (human, punctuated, by
  another recogniser) is a shift, and so is an empty transcript.

## Citation

```bibtex
{citation}
```
"""


def _as_dict(value: Any) -> dict:
    """A configuration or training arguments, given as an object with `to_dict` or as a mapping, as a dict."""
    return dict(value.to_dict() if hasattr(value, "to_dict") else value)


def _training_settings(arguments: Any) -> dict[str, Any]:
    """What a card says of the training arguments: all that decides a run, without paths, tokens and logging."""
    if isinstance(arguments, Mapping):
        stated = dict(arguments)
    else:
        stated = {name: getattr(arguments, name) for name in _ALWAYS_STATED} | changed_arguments(arguments)
    return {
        name: value
        for name, value in stated.items()
        if name not in PRESENTATION_ARGUMENTS and not name.endswith("_token") and value is not None
    }


def _config_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that M4SERConfig itself defines, without the encoders'."""
    own = [name for name in M4SERConfig.__annotations__ if name not in _ENCODER_FIELDS]
    return {name: config[name] for name in own if config.get(name) is not None}


def _public_name(name: str) -> str:
    """A Hub id as it is, a folder by its last part: a card says nothing about the machine it was written on."""
    is_folder = name.startswith((".", "~")) or "\\" in name or Path(name).is_absolute() or Path(name).is_dir()
    is_folder = is_folder or name.count("/") > 1
    return re.split(r"[\\/]+", name.rstrip("\\/"))[-1] if is_folder else name


def _encoder(config: dict, modality: str) -> tuple[str, str | None]:
    """How the card describes the encoder of `"speech"` or `"text"`, and its Hub id where it has one."""
    if modality not in config.get("modalities", "speech_text"):
        return "none", None
    sub_config = _as_dict(config.get(f"{modality}_config") or {})
    source, kind = str(sub_config.get("_name_or_path") or ""), str(sub_config.get("model_type") or "")
    name = _public_name(source)
    is_hub_id = name == source and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
    link = f"[{name}](https://huggingface.co/{name})" if is_hub_id else (f"`{name}`" if name else "")
    described = f"{link} ({kind})" if link and kind else link or kind
    return described or "not recorded", name if is_hub_id else None


def _measured(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among the metrics, without the Trainer's `eval_`, `test_` or `predict_` prefix."""
    plain = {re.sub(r"^(eval|test|predict)_", "", key): value for key, value in metrics.items()}
    numbers = {key: float(value) for key, value in plain.items() if isinstance(value, (int, float))}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def _results(measured: Mapping[str, float], labels: Sequence[str]) -> str:
    """The results as tables: overall metrics, then one row per class that was measured."""
    overall = [[title, f"{100 * measured[key]:.1f}"] for key, (title, *_) in _METRICS.items() if key in measured]
    if not overall:
        return "No results were recorded."
    tables = [markdown_table(["Metric", "%"], overall)]
    percent = {key: f"{100 * value:.1f}" for key, value in measured.items()}
    rows = [
        [label, percent.get(f"recall_{key}", "–"), percent[f"f1_{key}"]]
        for label, key in zip(labels, metric_keys(labels), strict=True)
        if f"f1_{key}" in percent
    ]
    if rows:
        tables.append(markdown_table(["Class", "Recall (%)", "F1 (%)"], rows))
    return "\n\n".join(tables)


def _eval_results(measured: Mapping[str, float], dataset_name: str, dataset_split: str) -> list[EvalResult]:
    """The overall metrics as the entries of the card's `model-index`."""
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=re.sub(r"[^\w.-]+", "-", dataset_name.lower()).strip("-") or "custom",
            dataset_name=dataset_name,
            dataset_split=dataset_split,
            metric_type=identifier,
            metric_name=title,
            metric_value=round(measured[key], 4),
            metric_args=arguments,
        )
        for key, (title, identifier, arguments) in _METRICS.items()
        if key in measured
    ]


def write_model_card(
    folder: str | Path,
    *,
    model_name: str,
    config: Any,
    labels: Sequence[str],
    metrics: Mapping[str, Any],
    dataset_description: str,
    training_arguments: Any,
    versions: Mapping[str, str],
    settings: Mapping[str, Any] | None = None,
    license: str | None = "apache-2.0",
    dataset_name: str = "custom corpus",
    dataset_split: str = "test",
    language: str | None = "en",
) -> Path:
    """Write `README.md`, with the metadata that the Hub reads, into a saved model's folder.

    Args:
        folder: the saved model's folder; made where it does not exist. A README.md in it is replaced.
        model_name: the Hub id (`user/name`) or a plain name; of a path to a folder, the last part is used.
        config: the model's configuration, or a dict of it. Encoders are named after their `_name_or_path`.
        labels: names of the classes, by index.
        metrics: what `compute_emotion_metrics` or `Trainer.evaluate` returns, shares in [0, 1], with or without the
            `eval_`/`test_` prefix; what is not a finite number (the confusion matrix) is left out.
        dataset_description: Markdown on the data and the protocol: corpus, classes, split, recogniser.
        training_arguments: a `TrainingArguments`, of which the card states what is not a default, or a dict, of which
            it states all. Paths, tokens and logging settings are left out.
        versions: what `collect_versions` returns.
        settings: further settings to state, e.g. the processor's.
        license: the model's licence as the Hub's identifier; None leaves it open.
        dataset_name: the corpus' name in the results' metadata.
        dataset_split: the split the metrics were measured on.
        language: the speech's language as an ISO 639 code; None leaves it open.

    Returns:
        The path of the README.md.

    Raises:
        ValueError: there are no labels, or the model's name is empty.
    """
    labels, name = [str(label) for label in labels], _public_name(model_name.strip())
    if not labels or not name:
        raise ValueError("a model card needs a model_name and labels")
    config, measured = _as_dict(config), _measured(metrics)
    speech_encoder, speech_id = _encoder(config, "speech")
    text_encoder, text_id = _encoder(config, "text")
    stated = {**_training_settings(training_arguments), **_config_settings(config), **(settings or {})}
    table = [[name, value] for name, value in stated.items()]

    data = ModelCardData(
        model_name=name,
        language=language,
        license=license,
        library_name="transformers",
        pipeline_tag="audio-classification",
        base_model=[identifier for identifier in (speech_id, text_id) if identifier] or None,
        metrics=sorted({_METRICS[key][1] for key in _METRICS if key in measured}) or None,
        tags=["m4ser", "speech-emotion-recognition", "multimodal", "audio", "text", "custom_code"],
        eval_results=_eval_results(measured, dataset_name, dataset_split) or None,
    )
    text = _TEMPLATE.format(
        name=name,
        speech_encoder=speech_encoder,
        text_encoder=text_encoder,
        labels=", ".join(labels),
        task=PIPELINE_TASK,
        reference=name,
        first_label=labels[0].replace('"', r"\""),
        dataset_description=dataset_description.strip() or "Not described.",
        results=_results(measured, labels),
        settings=markdown_table(["Setting", "Value"], table) if table else "No settings were recorded.",
        versions=", ".join(f"{package} {version}" for package, version in versions.items()) or "not recorded",
        citation=CITATION,
    )
    path = Path(folder) / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(path)
    return path
