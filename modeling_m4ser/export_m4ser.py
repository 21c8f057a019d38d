"""The model as an ONNX graph, in a folder that needs neither torch nor transformers: what `runtime_m4ser.py` reads."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .runtime_m4ser import DOMAIN_FILE, EXPORT_FILE, FILTERS_FILE, GRAPH_FILE

try:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  torch translates with it
    from onnxruntime.quantization import QuantType, quantize_dynamic
except ImportError:
    onnx: Any = None

#: How far logits and pooled features of a float32 graph may lie from the model's.
TOLERANCE = 1e-4
_TRACED = ((3, 8000, 9),)
# Batches, samples and word pieces that were not traced: one clip, the shortest, a batch, and long ones.
_CHECKED = ((1, 16000, 5), (1, 400, 3), (5, 12345, 17), (2, 80000, 40))
_HOP = 160  # samples of a mel frame


class _Graph(nn.Module):
    """The model as a function from its inputs, in a fixed order, to what the pipeline reads of it."""

    def __init__(self, model: Any, names: list[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        return output.logits.float(), output.pooled.float()


def export_onnx(model: Any, processor: Any, folder: str | Path, int8: bool = False) -> dict[str, Any]:
    """Write a model and all that its answers need into a folder, and check the graph against the model.

    Args:
        model ([`M4SERForEmotionClassification`]): it loses its auxiliary heads, which no answer needs, and becomes
            float32.
        processor ([`M4SERProcessor`]): its own, with a tokenizer that has a `tokenizer.json`.
        folder (`str` or `Path`): where to write.
        int8 (`bool`, defaults to `False`): whether the matrices that activations are multiplied with are stored in
            eight bits, with one scale a column, and multiplied so.

    Returns:
        `dict`: `opset`; `megabytes` of the graph; `deviation`, the largest one of logits and pooled features from the
        model's on inputs of lengths that were not traced; with `int8` also `int8_deviation`, that of probabilities.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime are not installed.
        ValueError: the tokenizer has no `tokenizer.json`, or the graph does not give what the model gives.
    """
    if onnx is None:
        raise ImportError("exporting needs onnx, onnxscript and onnxruntime: pip install 'm4ser[onnx]'")
    if not getattr(processor.tokenizer, "is_fast", False):
        raise ValueError(f"{type(processor.tokenizer).__name__} has no tokenizer.json, which the runtime reads.")
    model, folder = model.drop_auxiliary_heads().float().cpu().eval(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.to_json_file(folder / "config.json", use_diff=False)
    processor.to_json_file(folder / "processor_config.json")
    processor.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    extractor = processor.feature_extractor
    if hasattr(extractor, "mel_filters"):
        np.save(folder / FILTERS_FILE, np.asarray(extractor.mel_filters, np.float32))
    if model.sound_domain is not None:
        np.savez(folder / DOMAIN_FILE, **{name: value.numpy() for name, value in model.sound_domain.named_buffers()})
    encoder = model.m4ser.speech_encoder
    told: dict[str, Any] = {
        "equal_lengths": bool(getattr(encoder, "needs_equal_lengths", False)),
        "shortest": getattr(encoder, "minimum_samples", 1),
        "pad_token_id": processor.tokenizer.pad_token_id,
    }
    graph = folder / GRAPH_FILE
    told["opset"] = _trace(model, graph)
    told["deviation"] = _deviation(model, graph, lambda values: values)
    if not told["deviation"] <= TOLERANCE:
        raise ValueError(f"{graph} gives results {told['deviation']:.1e} from the model's: do not use it.")
    if int8:
        _quantize(graph)
        told["int8_deviation"] = _deviation(model, graph, _probabilities, outputs=1)
    told["megabytes"] = round(sum(file.stat().st_size for file in folder.glob(f"{GRAPH_FILE}*")) / 1e6, 1)
    (folder / EXPORT_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return told


def _trace(model: Any, path: Path) -> int:
    """Write the graph; returns its opset. Every batch size and length is free."""
    inputs = _random_inputs(model, *_TRACED[0])
    free = {0: torch.export.Dim.DYNAMIC}
    shapes = tuple(free | {value.ndim - 1: torch.export.Dim.DYNAMIC} for value in inputs.values())
    level = logging.root.manager.disable
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    hooks = [norm.register_forward_hook(_center) for norm in norms if norm.num_groups == norm.num_channels]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own workings, as what is logged
        logging.disable(logging.WARNING)
        try:
            program: Any = torch.onnx.export(
                _Graph(model, list(inputs)),
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=list(inputs),
                output_names=["logits", "pooled"],
                verbose=False,
            )
        finally:
            logging.disable(level)
            for hook in hooks:
                hook.remove()
    program.save(path)
    return program.model.opset_imports[""]


def _center(norm: nn.GroupNorm, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Take away what the runtime leaves of each channel's mean, which is all there is of it in silence.

    It adds up seconds of samples in float32 one by one; layer norms enlarge what is wrong a thousand times.
    """
    return output - (output.double().mean(-1, keepdim=True) - norm.bias.double()[:, None]).float()


def _quantize(path: Path) -> None:
    """Store the graph's matrices in eight bits."""
    quantize_dynamic(
        path,
        path,
        per_channel=True,
        reduce_range=True,  # seven bits: processors without VNNI add up pairs of products in 16 bits, which overflow
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _random_inputs(model: Any, batch: int, samples: int, tokens: int) -> dict[str, torch.Tensor]:
    """Return a batch whose rows differ in length, where the encoder takes that, with their masks."""
    random = torch.Generator().manual_seed(samples)
    config, encoder = model.config, model.m4ser.speech_encoder
    inputs: dict[str, torch.Tensor] = {}
    if encoder is not None:
        is_mel = encoder.input_name == "input_features"
        longest = max(2, samples // _HOP) if is_mel else max(samples, encoder.minimum_samples)
        shape = (batch, config.speech_config.num_mel_bins, longest) if is_mel else (batch, longest)
        shrinks = not getattr(encoder, "needs_equal_lengths", False)
        inputs[encoder.input_name] = torch.randn(shape, generator=random)
        inputs["speech_attention_mask"] = _ragged_mask(batch, longest, shrinks)
    if config.uses_text:
        size = config.text_config.vocab_size
        inputs["input_ids"] = torch.randint(5, size, (batch, tokens), generator=random)
        inputs["text_attention_mask"] = _ragged_mask(batch, tokens)
    return inputs


def _ragged_mask(batch: int, longest: int, shrinks: bool = True) -> torch.Tensor:
    lengths = torch.linspace(longest, max(1, longest // 2) if shrinks else longest, batch).long()
    return (torch.arange(longest) < lengths[:, None]).long()


def _deviation(model: Any, path: Path, of: Any, outputs: int = 2) -> float:
    """Return the largest difference between the graph's outputs and the model's at shapes that were not traced."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    graph, largest = _Graph(model, []), 0.0
    for shape in _CHECKED:
        inputs = _random_inputs(model, *shape)
        graph.names = list(inputs)
        with torch.inference_mode():
            expected = graph(*inputs.values())[:outputs]
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        pairs = zip(expected, map(torch.from_numpy, found), strict=False)
        largest = max(largest, *(float((of(one) - of(other)).abs().max()) for one, other in pairs))
    return largest


def _probabilities(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(-1)
