"""Hidden states of a frozen speech encoder, computed once and kept on disk: what `--cache_features` reads.

One folder for each encoder and processor (`states_settings`) holds `states.f32`, the states of one recording after the
other, and `index.jsonl`, which says whose states lie where. A recording is known by its content, never by its name or
path: another file under the same id has other states, and corpora and runs that share recordings share their states.

States come first and their line in the index after them, so that a process killed at any moment leaves nothing behind
that is wrong; the next one goes on from there.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

import modeling_m4ser
from data_scripts.files import fingerprint
from data_scripts.journal import Journal, JournalError
from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor
from modeling_m4ser.audio_m4ser import audio_duration, decode_audio
from modeling_m4ser.decoding_m4ser import open_audio
from modeling_m4ser.encoders_m4ser import SpeechEncoder
from trainer.errors import ExperimentError
from trainer.inputs.augmentation import SPEED_COLUMN, load_at_speed

#: Hidden, so that `datasets.load_dataset` passes it over in a prepared folder.
FEATURES_FOLDER = ".features"
INDEX_FILE, STATES_FILE = "index.jsonl", "states.f32"
_PACKAGES = ("torch", "transformers", "numpy", "soundfile", "av", "soxr")
_OWN_MODULES = ("audio", "decoding", "encoders", "levels", "processing")
_SECONDS_BETWEEN_TRIES = 0.5


class FeatureCache:
    """States of recordings, read from the disk as they are asked for.

    It can go to data loading processes; each maps the file for itself and holds none of it.

    Args:
        path: of `states.f32`.
        places: key (`recording_key`) -> where its states start, in numbers, and how many frames they have.
        layers: hidden states of each frame.
        size: numbers of each hidden state, d_S.
    """

    def __init__(self, path: Path, places: Mapping[str, tuple[int, int]], layers: int, size: int):
        self.path = path
        self.places = dict(places)
        self.layers = layers
        self.size = size
        self._file: np.memmap | None = None

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __getitem__(self, key: str) -> np.ndarray:
        """Return the states (layers, m, d_S) of a recording, float32.

        Raises:
            KeyError: they are not there.
        """
        start, frames = self.places[key]
        if self._file is None:
            self._file = np.memmap(self.path, np.float32, "r")
        return self._file[start : start + self.layers * frames * self.size].reshape(self.layers, frames, self.size)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map is pickled as all that it maps.
        return {**vars(self), "_file": None}

    def batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor] | None:
        """Return the speech inputs of some rows; None where the states of one of them are not there.

        Args:
            rows: as [`trainer.M4SERDataCollator`] takes them. Their recordings are read, but not decoded.

        Returns:
            `speech_states` (B, layers, m, d_S), 0 after a row's last frame, and `speech_attention_mask` (B, m).
        """
        keys = [recording_key(row) for row in rows]
        if not all(key in self for key in keys):
            return None
        found = [self[key] for key in keys]
        longest = max(states.shape[1] for states in found)
        padded = np.zeros((len(rows), self.layers, longest, self.size), np.float32)
        mask = np.zeros((len(rows), longest), np.int64)
        for row, states in enumerate(found):
            padded[row, :, : states.shape[1]] = states
            mask[row, : states.shape[1]] = 1
        return {"speech_states": torch.from_numpy(padded), "speech_attention_mask": torch.from_numpy(mask)}


def recording_key(row: Mapping[str, Any]) -> str:
    """Return what tells a row's recording, at the speed that it is played at, from all others.

    Args:
        row: with `audio`, anything that `load_audio` takes, and where wanted `speed`.

    Raises:
        AudioError: the file cannot be read.
    """
    audio, name = row["audio"], row.get("id")
    digest = hashlib.blake2b(digest_size=16)
    is_array = isinstance(audio, Mapping) and any(audio.get(key) is not None for key in ("array", "raw"))
    if not is_array and isinstance(audio, (Mapping, str, os.PathLike, bytes)):
        with open_audio(audio, str(name or "the audio")) as file:
            digest.update(file.read())
    else:
        samples, rate = decode_audio(audio, name=name)
        digest.update(f"{rate} ".encode())
        digest.update(np.ascontiguousarray(samples).tobytes())
    return f"{digest.hexdigest()}@{float(row.get(SPEED_COLUMN) or 1)}"


def states_settings(model: M4SERForEmotionClassification, processor: M4SERProcessor) -> dict[str, Any]:
    """Return what decides the states of a recording: where any of it differs, none is used again.

    That is every weight of the speech encoder and its configuration, but not its name; what the processor does to
    audio; and what they are computed with.

    Args:
        model: with a speech encoder.
        processor: of the model.
    """
    encoder = _speech_encoder(model)
    config = encoder.model.config
    return {
        "weights": _weights_digest(encoder.model),
        "encoder": _as_text({name: value for name, value in config.to_dict().items() if name != "_name_or_path"}),
        "layers": 1 if encoder.layer_weights is None else len(encoder.layer_weights),
        "size": encoder.hidden_size,
        "feature_extractor": _as_text(processor.feature_extractor.to_dict()),
        "max_audio_seconds": processor.max_audio_seconds,
        "trim_silence_db": processor.trim_silence_db,
        "target_dbfs": processor.target_dbfs,
        "dtype": str(encoder.model.dtype),
        "device": model.device.type,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "attention": config._attn_implementation,
        "versions": {name: _version(name) for name in _PACKAGES},
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

    Several processes may do so at once: one writes, the others wait for it and then find what it wrote.

    Args:
        model: its speech encoder is frozen.
        processor: of the model.
        datasets: rows of prepared corpora, or others with `audio` and where wanted `speed`, `id` and `duration`.
        folder: where caches are kept, each in a folder named after its `states_settings`.
        batch_size: recordings that are encoded at once.
        num_workers: processes that decode them.
        show_progress: whether to show a bar.

    Raises:
        ExperimentError: the speech encoder is not frozen, the feature extractor adds noise, the states do not fit on
            the disk, or the cache is damaged.
        AudioError: a recording cannot be read.
        OSError: the folder cannot be written.
    """
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
    wanted = {recording_key(row): (rows, index) for rows in datasets for index, row in enumerate(rows)}
    settings = states_settings(model, processor)
    name = fingerprint(settings)
    index, states = Path(folder) / name / INDEX_FILE, Path(folder) / name / STATES_FILE
    shape = settings["layers"], settings["size"]
    with closing(_open_when_free(index, settings)) as journal:
        places = _places(journal, states, shape)
        missing = [(key, *place) for key, place in wanted.items() if key not in places]
        if missing:
            missing = _longest_first(missing)
            _check_space(_expected_bytes(missing, encoder, processor, shape), len(missing), states.parent)
            batches = DataLoader(
                missing,  # pyright: ignore[reportArgumentType] (a list is a map-style data set)
                batch_size=batch_size,
                collate_fn=partial(_encoder_inputs, processor),
                num_workers=num_workers,
                generator=torch.Generator(),  # or it would draw a number that the run draws without a cache
            )
            bar = tqdm(batches, desc="caching speech features", unit="batch", disable=not show_progress)
            _write_states(encoder, bar, states, journal, end=_end(places, shape))
            places = _places(journal, states, shape)
    return FeatureCache(states, {key: places[key] for key in wanted}, *shape)


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
    """A digest of this package's own code between a file and the states."""
    folder = Path(modeling_m4ser.__file__).parent
    digest = hashlib.sha256()
    for name in _OWN_MODULES:
        digest.update((folder / f"{name}_m4ser.py").read_bytes())
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _as_text(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=str)


# Writing


def _open_when_free(path: Path, settings: dict[str, Any]) -> Journal:
    """Open the index of a cache, once no other process has it open."""
    waiting = False
    while True:
        try:
            # Settings that differ are those of a damaged first line: the folder is named after them.
            return Journal(path, settings, restart=True, activity="written")
        except JournalError:
            if not waiting:
                print(f"{path.parent} is being written by another process: waiting for it", file=sys.stderr, flush=True)
            waiting = True
            time.sleep(_SECONDS_BETWEEN_TRIES)


def _places(journal: Journal, states: Path, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Where the states of each recording lie, as the index says."""
    places = {key: (start, frames) for block in journal.records for key, start, frames in block}
    size = states.stat().st_size if states.is_file() else 0
    if _end(places, shape) * 4 > size:
        raise ExperimentError(f"{states} is shorter than its index says: delete the folder {states.parent}")
    return places


def _end(places: Mapping[str, tuple[int, int]], shape: tuple[int, int]) -> int:
    """How many numbers a file of states holds."""
    return max((start + frames * shape[0] * shape[1] for start, frames in places.values()), default=0)


def _seconds(row: Mapping[str, Any]) -> float:
    duration = row.get("duration")
    if duration is None:
        duration = audio_duration(row["audio"], name=row.get("id")) / (row.get(SPEED_COLUMN) or 1)
    return float(duration)


def _longest_first(missing: list[tuple[str, Any, int]]) -> list[tuple[str, Any, int]]:
    """The recordings with those of similar length together, so that little padding is encoded."""
    return sorted(missing, key=lambda item: -_seconds(item[1][item[2]]))


def _expected_bytes(
    missing: Sequence[tuple[str, Any, int]], encoder: SpeechEncoder, processor: M4SERProcessor, shape: tuple[int, int]
) -> float:
    """The most bytes that the states of some recordings take (silence that is cut takes none)."""
    rate = processor.sampling_rate
    second = processor(audio=np.sin(np.arange(rate) / 10).astype(np.float32), sampling_rate=rate)
    frames_per_second = int(encoder.frame_lengths(second["speech_attention_mask"])) + 1
    seconds = sum(min(_seconds(rows[index]), processor.max_audio_seconds) for _, rows, index in missing)
    return seconds * frames_per_second * shape[0] * shape[1] * 4


def _check_space(wanted: float, recordings: int, folder: Path) -> None:
    """Say how much is written where; raise where there is no space for it."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise ExperimentError(
            f"the speech features of {recordings} recordings need {_size(wanted)}, and the disk of {folder} has "
            f"{_size(free)} left: free some space, choose --feature_cache_dir on another disk, or leave "
            "--cache_features out"
        )
    print(f"caching {_size(wanted)} of speech features of {recordings} recordings in {folder}", flush=True)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _encoder_inputs(
    processor: M4SERProcessor, batch: Sequence[tuple[str, Any, int]]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """The keys of some recordings, and their inputs."""
    rows = [rows[index] for _, rows, index in batch]
    rate = processor.sampling_rate
    audio = [load_at_speed(row, rate) for row in rows]
    inputs = processor(audio=audio, sampling_rate=rate, names=[row.get("id") for row in rows])
    return [key for key, _, _ in batch], dict(inputs)


@torch.no_grad()
def _write_states(
    encoder: SpeechEncoder,
    batches: Iterable[tuple[list[str], dict[str, torch.Tensor]]],
    path: Path,
    journal: Journal,
    end: int,
) -> None:
    """Append the states of each batch to the file, and then their places to the index."""
    device = next(encoder.parameters()).device
    with open(path, "r+b" if path.is_file() else "w+b") as file:
        # What lies after the last line of the index was being written when its process was killed.
        file.seek(end * 4)
        for keys, inputs in batches:
            masks = inputs["speech_attention_mask"].to(device)
            layers, mask = encoder.encode(inputs[encoder.input_name].to(device), masks)
            states = torch.stack(layers, 1).to("cpu", torch.float32).numpy()
            block, parts = [], []
            for key, row, frames in zip(keys, states, mask.sum(1).tolist(), strict=True):
                parts.append(row[:, :frames].tobytes())
                block.append((key, end, frames))
                end += len(parts[-1]) // 4
            _write_to_disk(file, b"".join(parts), path)
            journal.append(block)


def _write_to_disk(file: BinaryIO, data: bytes, path: Path) -> None:
    """Write, and return once the disk has it; an error names the file."""
    try:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
