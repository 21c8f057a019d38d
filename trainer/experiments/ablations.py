"""The paper's ablations (Tables IV and V) as overrides of [`modeling_m4ser.M4SERConfig`]; a new row is one entry here.

This file imports nothing heavy, so that a command line can list the rows before it loads a model library.
"""

from typing import Any

_NO_FUSION: dict[str, Any] = {
    "fusion": "concat",
    "use_modality_specific": False,
    "use_modality_invariant": False,
    "use_adversarial": False,
}
_NO_TASKS: dict[str, Any] = {"use_error_detection": False, "use_error_correction": False}
_NO_STRATEGIES: dict[str, Any] = {"use_adversarial": False, "use_contrastive": False}
_BASELINE: dict[str, Any] = {**_NO_FUSION, **_NO_TASKS, **_NO_STRATEGIES}

#: Row name -> the [`modeling_m4ser.M4SERConfig`] fields that differ from the full model's.
ABLATIONS: dict[str, dict[str, Any]] = {
    "M4SER": {},
    "only speech": {"modalities": "speech", **_BASELINE},
    "only text": {"modalities": "text", **_BASELINE},
    "speech & text + concat": _BASELINE,
    "w/o MSR": {"use_modality_specific": False},
    "w/o MIR": {"use_modality_invariant": False, "use_adversarial": False},
    "w/o MSR & MIR": _NO_FUSION,
    "w/o AED": {"use_error_detection": False},
    "w/o AEC": {"use_error_correction": False},
    "w/o AED & AEC": _NO_TASKS,
    "w/o GAN": {"use_adversarial": False},
    "w/o LCL": {"use_contrastive": False},
    "w/o GAN & LCL": _NO_STRATEGIES,
    # Of Table V alone: the fusion without the strategies and the tasks that training adds to it. Its other rows are
    # among the above ("+ GAN & LCL" is "w/o AED & AEC").
    "+ MSR & MIR": {**_NO_TASKS, **_NO_STRATEGIES},
}

__all__ = ["ABLATIONS"]
