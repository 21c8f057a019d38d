"""Hidden states of a frozen speech encoder, computed once and kept on disk: what `--cache_features` reads.

One folder for each encoder and processor (`states_settings`) holds one file of states for each recording. A recording
is known by its content, never by its name or path: another file under the same id has other states, and corpora and
runs that share recordings share their states. A file appears whole or not at all, so that a process killed at any
moment leaves nothing behind that is wrong; the next one goes on from there.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

import modeling_m4ser
from data_scripts.files import fingerprint, write_atomically
from data_scripts.journal import locked
from data_scripts.versions import package_version
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.audio_m4ser import audio_duration, decode_audio
from modeling_m4ser.encoders_m4ser import SpeechEncoder
from modeling_m4ser.opening_m4ser import open_audio
from modeling_m4ser.rows_m4ser import read_part
from trainer.errors import ExperimentError
from trainer.inputs import augmentation
from trainer.inputs.augmentation import SPEED_COLUMN, load_at_speed

#: Hidden, so that `datasets.load_dataset` passes it over in a prepared folder.
FEATURES_FOLDER = ".features"
_PACKAGES = ("torch", "transformers", "numpy", "soundfile", "av", "soxr")

Wanted = tuple[str, Any, int]  # key of a recording; rows, and the number of one that has it: its audio may be large


class FeatureCache:
    """States (layers, m, d_S) of recordings, float32, each in `KEY.npy` (see `recording_key`), read when asked for."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Return the file of a recording's states."""
        return self.folder / f"{key}.npy"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def __getitem__(self, key: str) -> np.ndarray:
        """Return the states of a recording, mapped into memory."""
        return np.load(self.path(key), mmap_mode="r")

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor] | None:
        """Return the speech inputs of the collator's rows; None where the states of one of them are not there.

        They are `speech_states` (B, layers, m, d_S), 0 after a row's last frame, and `speech_attention_mask` (B, m).
        """
        keys = [recording_key(row) for row in rows]
        if not all(key in self for key in keys):
            return None
        found = [self[key] for key in keys]
        layers, _, size = found[0].shape
        longest = max(states.shape[1] for states in found)
        padded = np.zeros((len(rows), layers, longest, size), np.float32)
        mask = np.zeros((len(rows), longest), np.int64)
        for row, states in enumerate(found):
            padded[row, :, : states.shape[1]] = states
            mask[row, : states.shape[1]] = 1
        return {"speech_states": torch.from_numpy(padded), "speech_attention_mask": torch.from_numpy(mask)}


def recording_key(row: Mapping[str, Any]) -> str:
    """Return what tells a row's recording, at the speed that it is played at, from all others."""
    audio, name, channel = row["audio"], row.get("id"), row.get("channel")
    digest = hashlib.blake2b(digest_size=16)
    is_array = isinstance(audio, Mapping) and any(audio.get(key) is not None for key in ("array", "raw"))
    if not is_array and isinstance(audio, (Mapping, str, os.PathLike, bytes)):
        with open_audio(audio, str(name or "the audio")) as file:
            digest.update(file.read())
    else:
        samples, rate = decode_audio(audio, name=name)
        digest.update(f"{rate} ".encode())
        digest.update(np.ascontiguousarray(samples).tobytes())
    if (part := read_part(row)) is not None:
        digest.update(repr(tuple(part)).encode())
    suffix = "" if channel is None else f"-channel{channel}"
    return f"{digest.hexdigest()}@{float(row.get(SPEED_COLUMN) or 1)}{suffix}"


def states_settings(model: M4SERForEmotionClassification, processor: M4SERProcessor) -> dict[str, Any]:
    """Return what decides the states of a recording: where any of it differs, none is used again.

    That is every weight of the speech encoder and its configuration, but not its name; what the processor does to
    audio; and what they are computed with.
    """
    encoder = _speech_encoder(model)
    config = encoder.model.config
    return {
        "weights": _weights_digest(encoder.model),
        "encoder": _as_text({name: value for name, value in config.to_dict().items() if name != "_name_or_path"}),
        "layers": 1 if encoder.layer_weights is None else len(encoder.layer_weights),
        "feature_extractor": _as_text(processor.feature_extractor.to_dict()),
        "max_audio_seconds": processor.max_audio_seconds,
        "trim_silence_db": processor.trim_silence_db,
        "target_dbfs": processor.target_dbfs,
        "dtype": str(encoder.model.dtype),
        "device": model.device.type,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "attention": config._attn_implementation,
        "versions": {name: package_version(name) for name in _PACKAGES},
        "code": _code_digest(),
    }


def cache_features(
    model: M4SERForEmotionClassification,
    processor: M4SERProcessor,
    datasets: Iterable[Any],
    folder: str | os.PathLike,
    batch_size: int = 8,
    num_workers: int = 0,
    show_progress: bool = True,
) -> FeatureCache:
    """Compute the states of all recordings that are not in `folder` yet, and return the cache of them.

    `folder` holds caches, each in a folder named after its `states_settings`. Several processes may fill one at once:
    one writes, the others wait for it and then find what it wrote.

    Raises:
        ExperimentError: the speech encoder is not frozen, or the feature extractor adds noise.
    """
    encoder = check_cacheable(model, processor)
    wanted = {recording_key(row): (rows, number) for rows in datasets for number, row in enumerate(rows)}
    cache = FeatureCache(Path(folder) / fingerprint(states_settings(model, processor)))
    cache.folder.mkdir(parents=True, exist_ok=True)
    with locked(cache.folder / ".lock", "filled with speech features", wait=True):
        missing = [(key, *place) for key, place in wanted.items() if not _is_whole(cache, key)]
        if missing:
            # Those of similar length together, so that little padding is encoded.
            missing.sort(key=lambda item: -_seconds(item[1][item[2]]))
            print(f"caching speech features of {len(missing)} recordings in {cache.folder}", flush=True)
            batches = DataLoader(
                missing,  # pyright: ignore[reportArgumentType] (a list is a map-style data set)
                batch_size=batch_size,
                collate_fn=partial(_encoder_inputs, processor),
                num_workers=num_workers,
                generator=torch.Generator(),  # or it would draw a number that the run draws without a cache
            )
            _write_states(encoder, tqdm(batches, "caching speech features", disable=not show_progress), cache)
    return cache


def check_cacheable(model: M4SERForEmotionClassification, processor: M4SERProcessor) -> SpeechEncoder:
    """Return a model's speech encoder; raise `ExperimentError` where its features change from step to step."""
    encoder = _speech_encoder(model)
    dither = getattr(processor.feature_extractor, "dither", 0)
    if dither:
        raise ExperimentError(
            f"cache_features would keep one draw of the noise that this feature extractor adds (dither={dither}): set "
            "its dither to 0, or leave cache_features out."
        )
    if not encoder.frozen or any(parameter.requires_grad for parameter in encoder.model.parameters()):
        raise ExperimentError(
            "cache_features needs --freeze_speech_encoder true: an encoder that is trained gives other features after "
            "every step. In Python, call model.freeze_speech_encoder() first."
        )
    return encoder


def _speech_encoder(model: M4SERForEmotionClassification) -> SpeechEncoder:
    if model.m4ser.speech_encoder is None:
        raise ExperimentError("cache_features keeps speech features, and this model has no speech encoder.")
    return model.m4ser.speech_encoder


# What decides the states


def _weights_digest(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _code_digest() -> str:
    """A digest of this project's own code that lies, or may lie, between a file and the states."""
    files = sorted(Path(modeling_m4ser.__file__).parent.glob("*_m4ser.py"))
    digest = hashlib.sha256()
    for path in [*files, Path(augmentation.__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _as_text(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=str)


# Writing


def _is_whole(cache: FeatureCache, key: str) -> bool:
    """Whether a recording's states are there: a power failure may leave a file that is shorter than its header says."""
    try:
        return key in cache and cache[key].ndim == 3
    except (ValueError, EOFError):
        return False


def _seconds(row: Mapping[str, Any]) -> float:
    duration = row.get("duration")
    if duration is None:
        duration = audio_duration(row["audio"], name=row.get("id"), part=read_part(row)) / (row.get(SPEED_COLUMN) or 1)
    return float(duration)


def _encoder_inputs(processor: M4SERProcessor, batch: Sequence[Wanted]) -> tuple[list[str], dict[str, torch.Tensor]]:
    rows = [rows[number] for _, rows, number in batch]
    rate = processor.sampling_rate
    audio = [load_at_speed(row, rate) for row in rows]
    inputs = processor(audio=audio, sampling_rate=rate, names=[row.get("id") for row in rows])
    return [key for key, _, _ in batch], dict(inputs)


@torch.no_grad()
def _write_states(
    encoder: SpeechEncoder, batches: Iterable[tuple[list[str], dict[str, torch.Tensor]]], cache: FeatureCache
) -> None:
    device = next(encoder.parameters()).device
    for keys, inputs in batches:
        masks = inputs["speech_attention_mask"].to(device)
        layers, mask = encoder.encode(inputs[encoder.input_name].to(device), masks)
        states = torch.stack(layers, 1).to("cpu", torch.float32).numpy()
        for key, row, frames in zip(keys, states, mask.sum(1).tolist(), strict=True):
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(row[:, :frames]))
            write_atomically(cache.path(key), buffer.getvalue())
