"""An exported folder as fast as a test needs it: the model itself stands in the place of its graph."""

from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import torch

from modeling_m4ser import export_m4ser, runtime_m4ser
from modeling_m4ser.export_m4ser import export_onnx
from modeling_m4ser.sound_m4ser import SOUND_SIZE
from tests.helpers.tiny import tiny_model, tiny_processor


def export(folder, kind, monkeypatch, **levels):
    """Write what an export writes, but a model in the place of the graph; returns it with its processor."""
    monkeypatch.setattr(export_m4ser, "_trace", lambda model, path: path.write_bytes(b"") or 0)
    monkeypatch.setattr(export_m4ser, "_deviation", lambda *_, **__: 0.0)
    model = tiny_model(kind, spread=True, ood_threshold=0.1, calibration_temperature=3.0, conformal_quantile=0.8)
    model.sound_domain.whitening.copy_(torch.eye(SOUND_SIZE))
    processor = tiny_processor(folder, kind, **levels)
    export_onnx(model, processor, folder)
    monkeypatch.setattr(runtime_m4ser.onnxruntime, "InferenceSession", partial(Session, model))
    return model, processor


class Session:
    """What runs a graph, done by the model; an encoder that would read padding must not get any.

    `asked` holds the threads and the sizes of the batches of all of them.
    """

    asked: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, model, path, settings, providers):
        self.model, self.threads = model, settings.intra_op_num_threads

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in ("logits", "pooled")]

    def run(self, _, inputs):
        self.asked.append((self.threads, len(inputs["input_ids"])))
        types = {"input_values": np.float32, "input_features": np.float32}
        assert all(value.dtype == types.get(name, np.int64) for name, value in inputs.items())
        lengths = {*inputs["speech_attention_mask"].sum(-1).clip(400)}
        assert len(lengths) == 1 or not getattr(self.model.m4ser.speech_encoder, "needs_equal_lengths", False)
        with torch.inference_mode():
            output = self.model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
            return [each.numpy() for each in (output.logits, output.pooled)]
