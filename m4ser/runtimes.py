"""What runs a model: torch with transformers, or onnxruntime an exported folder."""

import sys
from typing import Any

RUNTIMES = ("torch", "onnx")
#: Of an option `--runtime`.
RUNTIME_HELP = "or onnx: MODEL is a folder of m4ser export, and no torch is loaded"


def keep_torch_out(runtime: str) -> None:
    """Let nothing in this process load torch or transformers where an exported folder is to run."""
    if runtime == "onnx":
        for name in ("torch", "transformers"):
            sys.modules.setdefault(name, None)  # pyright: ignore: Python's way to say that there is no such module


def load_pipeline(model: str, runtime: str = "torch", device: str | None = None, **options) -> Any:
    """Return the pipeline of a model, of this version's code: whatever lies beside the weights is not run."""
    if runtime == "onnx":
        from modeling_m4ser import OnnxPipeline

        return OnnxPipeline(model, **options)
    from transformers import pipeline

    from modeling_m4ser import PIPELINE_TASK, SpeechTextEmotionPipeline

    return pipeline(PIPELINE_TASK, model=model, pipeline_class=SpeechTextEmotionPipeline, device=device, **options)
