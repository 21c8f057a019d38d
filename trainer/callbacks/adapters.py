"""Adapters of PEFT (LoRA …) on the encoders: what is new in an M4SER is trained, and saved, beside them."""

import logging
from typing import Any

from torch import nn

from modeling_m4ser import M4SERForEmotionClassification
from trainer.errors import TrainingError

logger = logging.getLogger(__name__)

#: What a pretrained encoder does not have, by its place in the model.
NEW_MODULES = (
    *("m4ser.speech_projection", "m4ser.text_projection", "m4ser.fusion"),
    *("classifier", "detector", "corrector", "discriminator"),
)


def has_adapters(model: Any) -> bool:
    """Whether a model comes from `peft.get_peft_model`, or has had `model.add_adapter`."""
    return bool(getattr(model, "peft_config", None))


def is_peft_model(model: Any) -> bool:
    """Whether PEFT wraps a model, as `peft.get_peft_model` does and `model.add_adapter` does not."""
    return has_adapters(model) and hasattr(model, "get_base_model")


def active_copy(module: nn.Module | None) -> Any:
    """Return what PEFT trains in place of a module of `modules_to_save`; another module is returned as it is."""
    copies = getattr(module, "modules_to_save", None)
    return module if copies is None else copies[module.active_adapters[0]]  # pyright: ignore


def train_new_modules(model: Any, own_optimizer: bool = False) -> None:
    """Let a model with PEFT adapters train its projections, fusion, heads and discriminator.

    PEFT freezes everything but its adapters, and saves nothing else. What is new in an M4SER joins the adapter's
    `modules_to_save`, unless it is there. A model without adapters stays as it is. Where the adapters reach into the
    new modules, or an optimizer was made before, what is trained would not be what is meant: that is refused.
    """
    if not has_adapters(model):
        return
    base: M4SERForEmotionClassification = model.get_base_model() if is_peft_model(model) else model
    if not all(standardizer.measured for standardizer in base.m4ser.standardizers().values()):
        raise TrainingError(
            "standardize_features measures the encoders, which PEFT does not save. Before the adapters are added, call "
            "trainer.callbacks.feature_statistics.measure_features(model, batches) and save the model."
        )
    modules = {
        name: getattr(base.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in NEW_MODULES
    }
    missing = [
        name
        for name, module in modules.items()
        if module is not None and not hasattr(module, "modules_to_save") and any(True for _ in module.parameters())
    ]
    if not missing:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    names = [name.rpartition(".")[2] for name in missing]
    reached = [name for name in missing if any(isinstance(part, BaseTunerLayer) for part in modules[name].modules())]
    if reached or own_optimizer:
        problem = f"The adapters reach into {', '.join(reached)}" if reached else "The optimizer was made before this"
        raise TrainingError(
            f"{problem}: {', '.join(names)} are new parts of the model, which PEFT has frozen and which must be "
            f"trained as a whole. Say so when the adapters are made: LoraConfig(…, modules_to_save={names})."
        )
    # A property of PEFT's models and a method of transformers'.
    adapter = model.active_adapters[0] if is_peft_model(model) else model.active_adapters()[0]
    for name, last in zip(missing, names, strict=True):
        wrapper = ModulesToSaveWrapper(modules[name], adapter)
        wrapper.set_adapter(adapter)
        setattr(base.get_submodule(name.rpartition(".")[0]), last, wrapper)
    config = model.peft_config[adapter]
    config.modules_to_save = [*(config.modules_to_save or ()), *names]
    logger.warning(
        "PEFT had frozen %s, which are new: they are trained too, and saved with the adapters (modules_to_save).",
        ", ".join(names),
    )


def check_checkpoints_load(model: Any) -> None:
    """Raise for adapters of `model.add_adapter`, which [`transformers.Trainer`] saves and does not load."""
    if has_adapters(model) and not is_peft_model(model):
        raise TrainingError(
            "A trainer does not load checkpoints of model.add_adapter(…), as resuming and load_best_model_at_end need: "
            "add the adapters by peft.get_peft_model(model, config) instead."
        )
