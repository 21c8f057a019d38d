"""What is known of a pretrained model before its weights are read."""

from pathlib import Path

WEIGHT_FILES = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    "adapter_config.json",  # adapters, which name the model that they belong to
)


def has_weights(name: str | Path) -> bool:
    """Return whether a folder, the cache or the Hub (unless `HF_HUB_OFFLINE` is set) has a model's weights."""
    from huggingface_hub import try_to_load_from_cache
    from transformers.utils.hub import has_file

    if Path(name).is_dir():
        return any((Path(name) / file).is_file() for file in WEIGHT_FILES)
    # The cache first: without a network, the Hub does not answer.
    cached = (isinstance(try_to_load_from_cache(str(name), file), str) for file in WEIGHT_FILES)
    return any(cached) or any(has_file(name, file) for file in WEIGHT_FILES)


def is_missing_folder(name: str) -> bool:
    """Return whether a checkpoint's name can only be that of a folder, and there is none: it is no name on the Hub."""
    path = Path(name)
    return not path.is_dir() and (path.is_absolute() or len(path.parts) > 2)
