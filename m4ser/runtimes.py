"""What runs a model: torch with transformers, or onnxruntime an exported folder."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from data_scripts.errors import UserError
from data_scripts.spellings import did_you_mean

_FOLDS = ("*", "*/*", "*/*/*")  # where the models of a training lie below its output folder
# oneDNN keeps the code of so many shapes: clips have any length, and of its 1024 a server's memory grows for hours.
_SHAPES = "32"


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the options `--runtime` and `--device` to a command."""
    what = "or onnx: MODEL is a folder of m4ser export, and no torch is loaded"
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="torch", help=what)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; left out, a GPU where there is one")


def keep_torch_out(runtime: str) -> None:
    """Let nothing in this process load torch or transformers where an exported folder is to run."""
    if runtime == "onnx":
        for name in ("torch", "transformers"):
            sys.modules.setdefault(name, None)  # pyright: ignore: Python's way to say that there is no such module


def load_config(model: str, runtime: str = "torch") -> dict[str, Any]:
    """Return the fields of a model's configuration: of its folder, or its name on the Hub.

    Raises:
        UserError: it is not there or is none for this runtime; the message names the nearest one, or those below it.
    """
    path = Path(model)
    if runtime == "torch" and path.is_dir() and not (path / "config.json").is_file():
        found = sorted(each.parent for fold in _FOLDS for each in path.glob(f"{fold}/config.json"))
        models = [str(each) for each in found if not each.name.startswith("checkpoint-")]
        hint = f"; it holds {len(models)}: --model {models[0]}" if models else ": it has no config.json"
        raise UserError(f"{model} is no model{hint}")
    is_below_a_folder = path.parent.is_dir() and path.parent.name != ""
    if not path.exists() and (is_below_a_folder or path.is_absolute() or model.startswith(".")):  # not asked of the Hub
        near = [str(path.parent / each.name) for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{model} is no model: there is no such folder{did_you_mean(model, near)}")
    if runtime == "onnx":
        from modeling_m4ser.runtime_m4ser import read_config

        try:
            return vars(read_config(model))
        except OSError as error:
            raise UserError(f"{model} is no exported model ({error}): write one with m4ser export") from error
    from transformers import AutoConfig

    from modeling_m4ser import M4SERConfig

    try:
        config = AutoConfig.from_pretrained(model)
    # Everything: what a damaged or hostile file raises has no class in common, in all that follows.
    except Exception as error:
        raise UserError(f"{model} is no model: {_reason(error)}") from error
    if not isinstance(config, M4SERConfig):
        raise UserError(f"{model} is no M4SER model, but a {config.model_type}")
    return config.to_dict()


def load_pipeline(model: str, runtime: str = "torch", device: str | None = None, **options) -> Any:
    """Return the pipeline of a model, of this version's code: whatever lies beside the weights is not run.

    Raises:
        UserError: the model, the recognizer (`asr`) or the device is none; see `load_config`.
    """
    load_config(model, runtime)
    try:
        if runtime == "onnx":
            from modeling_m4ser import OnnxPipeline

            return OnnxPipeline(model, **options)
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _SHAPES)
        import torch

        from modeling_m4ser import SpeechTextEmotionPipeline

        _check_device(torch, device)
        network, processor = _load_parts(model)
        return SpeechTextEmotionPipeline(network, processor=processor, device=device, **options)
    except (ValueError, OSError, ImportError) as error:
        raise UserError(error) from error


def _load_parts(model: str) -> tuple[Any, Any]:
    """A model and its processor."""
    from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor

    options: Any = {"dtype": "auto", "use_safetensors": True, "ignore_mismatched_sizes": True}
    try:
        network, told = M4SERForEmotionClassification.from_pretrained(model, output_loading_info=True, **options)
        processor = M4SERProcessor.from_pretrained(model)
    except Exception as error:
        raise UserError(f"{model} cannot be loaded: {_reason(error)}") from error
    # transformers draws at random what the files lack or hold in another shape, and warns: no answer to give.
    if unfit := sorted([*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])]):
        raise UserError(f"{model} has no weights that fit its config.json for {len(unfit)} tensors: {unfit[0]}, …")
    return network, processor


def _reason(error: Exception) -> str:
    """What an error says, in one line; its kind, where that is needed to understand it."""
    kind = "" if isinstance(error, (ValueError, OSError, ImportError)) else f"{type(error).__name__}: "
    text = kind + " ".join(str(error).split())
    return text if len(text) <= 500 else f"{text[:500]}…"


def _check_device(torch: Any, device: str | None) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
