"""The model card: a README.md saying what a trained model is, how to use it, and what its numbers were measured on."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from data_scripts.corpora.base import CorpusRecord
from modeling_m4ser import PIPELINE_TASK, M4SERConfig
from trainer.arguments import ExperimentArguments
from trainer.evaluation.metrics import CITATION, metric_keys
from trainer.evaluation.summary import markdown_table
from trainer.experiments.run_folder import decides

TEMPLATE = Path(__file__).with_name("model_card_template.md")
#: How a card names a folder that nobody has published.
SOME_FOLDER = "path/to/this/folder"
# Metric name -> (name in the card, identifier and arguments of the Hub's metric).
_METRICS = {
    "wa": ("WA (accuracy over all utterances)", "accuracy", None),
    "ua": ("UA (mean per-class recall)", "recall", {"average": "macro"}),
    "weighted_f1": ("weighted F1", "f1", {"average": "weighted"}),
    "macro_f1": ("macro F1", "f1", {"average": "macro"}),
}
# Stated in every card, also where they are defaults; any other training argument only where it is not.
_ALWAYS_STATED = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "optim"),
    *("lr_scheduler_type", "seed"),
)
_STATED_ELSEWHERE = ("speech_encoder", "text_encoder", "model_options", "processor_options")


def write_model_card(
    folder: str | Path,
    results: Mapping[str, Any],
    args: ExperimentArguments,
    corpus: CorpusRecord | None = None,
    repository: str | None = None,
) -> Path:
    """Write `README.md`, with the metadata that the Hub reads, into a saved model's folder; return its path.

    Language, license and the corpus's name come from its record and the run's arguments; what they do not say is left
    out. Paths, tokens and logging settings are, too. `repository` is where the model is published.
    """
    labels, config = results["emotions"], results["model_config"]
    numbers = {key: value for key, value in results["metrics"]["test"].items() if isinstance(value, (int, float))}
    metrics = {key: float(value) for key, value in numbers.items() if math.isfinite(value)}
    chosen = results["arguments"].get("corpus", {})
    dataset = _dataset_name(chosen, corpus)
    encoders = {modality: _encoder(config, modality) for modality in ("speech", "text")}
    title = f"M4SER trained on {dataset}" if dataset else "M4SER for speech emotion recognition"
    place = [results["split"].get("name", ""), f"seed {results['seed']}"]
    settings = markdown_table(["Setting", "Value"], [[*pair] for pair in _settings(results, args).items()])
    data = ModelCardData(
        model_name=title,
        language=_language_code(chosen.get("asr_language")) or (corpus and corpus.language),
        license=corpus and corpus.license,
        library_name="transformers",
        pipeline_tag="audio-classification",
        datasets=[chosen["dataset_name"]] if _is_hub_id(chosen.get("dataset_name")) else None,
        base_model=[identifier for _, identifier in encoders.values() if identifier] or None,
        metrics=sorted({_METRICS[key][1] for key in _METRICS if key in metrics}) or None,
        tags=["m4ser", "speech-emotion-recognition", "multimodal", "audio", "text", "custom_code"],
        eval_results=_eval_results(metrics, dataset) or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        title=f"{title} ({', '.join(filter(None, place))})",
        speech_encoder=encoders["speech"][0],
        text_encoder=encoders["text"][0],
        labels=", ".join(labels),
        task=PIPELINE_TASK,
        repository=repository or args.hub_model_id or SOME_FOLDER,
        first_label=labels[0].replace('"', r"\""),
        dataset_description=results["description"].strip() or "Not described.",
        results=_results(metrics, labels),
        settings=settings,
        versions=", ".join(f"{package} {version}" for package, version in results["versions"].items()),
        citation=CITATION,
    )
    path = Path(folder) / "README.md"
    card.save(path)
    return path


def _dataset_name(chosen: Mapping[str, Any], corpus: CorpusRecord | None) -> str:
    """What the corpus is called: its title, or of a corpus of someone's own the name of its data set or folder."""
    if corpus is not None and corpus.license is not None:
        return corpus.title
    return _public_name(
        str(next((chosen[name] for name in ("dataset_name", "data_dir", "prepared_dir") if name in chosen), ""))
    )


def _language_code(language: str | None) -> str | None:
    """The code of a language, as the Hub wants it, which Whisper also takes by its name."""
    return language and TO_LANGUAGE_CODE.get(language.lower(), language.lower())


def _settings(results: Mapping[str, Any], args: ExperimentArguments) -> dict[str, Any]:
    """All that decides the run, by name."""
    always = {name: getattr(args, name) for name in _ALWAYS_STATED}
    given = results["arguments"]
    stated = {name: getattr(value, "value", value) for name, value in always.items()} | given.get("training", {})
    own = [name for name in M4SERConfig.__annotations__ if name not in ("speech_config", "text_config")]
    model = {name: value for name, value in given.get("model", {}).items() if name not in _STATED_ELSEWHERE}
    stated |= {name: results["model_config"].get(name) for name in own} | model | results["processor"]
    return {
        name: value
        for name, value in stated.items()
        if value is not None and decides(name) and not name.endswith("_token")
    }


def _public_name(name: str) -> str:
    """A Hub id as it is, a folder by its last part: a card says nothing about the machine it was written on."""
    is_folder = name.startswith((".", "~")) or "\\" in name or Path(name).is_absolute() or Path(name).is_dir()
    is_folder = is_folder or name.count("/") > 1
    return re.split(r"[\\/]+", name.rstrip("\\/"))[-1] if is_folder else name


def _is_hub_id(name: str | None) -> bool:
    """Whether a name is that of a repository, and no folder here."""
    return name is not None and name == _public_name(name) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _encoder(config: Mapping[str, Any], modality: str) -> tuple[str, str | None]:
    """How the card describes the encoder of `"speech"` or `"text"`, and its Hub id where it has one."""
    if modality not in config.get("modalities", "speech_text"):
        return "none", None
    sub_config = config.get(f"{modality}_config") or {}
    source, kind = str(sub_config.get("_name_or_path") or ""), str(sub_config.get("model_type") or "")
    name = _public_name(source)
    is_hub_id = _is_hub_id(source)
    link = f"[{name}](https://huggingface.co/{name})" if is_hub_id else (f"`{name}`" if name else "")
    described = f"{link} ({kind})" if link and kind else link or kind
    return described or "not recorded", name if is_hub_id else None


def _results(metrics: Mapping[str, float], labels: Sequence[str]) -> str:
    """The results as tables: overall metrics, then one row per class that was measured."""
    percent = {key: f"{100 * value:.1f}" for key, value in metrics.items()}
    overall = [[title, percent[key]] for key, (title, *_) in _METRICS.items() if key in percent]
    rows = [
        [label, percent.get(f"recall_{key}", "–"), percent[f"f1_{key}"]]
        for label, key in zip(labels, metric_keys(labels), strict=True)
        if f"f1_{key}" in percent
    ]
    tables = [(["Metric", "%"], overall), (["Class", "Recall (%)", "F1 (%)"], rows)]
    return "\n\n".join(markdown_table(header, cells) for header, cells in tables if cells)


def _eval_results(metrics: Mapping[str, float], dataset: str) -> list[EvalResult]:
    """The overall metrics as the entries of the card's `model-index`."""
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=re.sub(r"[^\w.-]+", "-", dataset.lower()).strip("-") or "custom",
            dataset_name=dataset or "not named",
            dataset_split="test",
            metric_type=identifier,
            metric_name=title,
            metric_value=round(metrics[key], 4),
            metric_args=arguments,
        )
        for key, (title, identifier, arguments) in _METRICS.items()
        if key in metrics
    ]
