"""Checkpoints that appear whole or not at all, in a folder that one run at a time trains into."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, sort_checkpoints
from transformers.utils import logging

from data_scripts.files import find_full_disk, sync
from data_scripts.journal import locked
from trainer.callbacks.stopping import StopCallback, start_worker
from trainer.errors import TrainingError

logger: Any = logging.get_logger(__name__)

#: Where a checkpoint is written, in the output folder; no name by which one is looked for.
ASIDE = ".saving"
LOCK_FILE = ".training.lock"
_TORCH_WRITER = ("inline_container", "iostream error")  # all that an error of torch.save says of a disk


class CheckpointMixin(Trainer):
    """The part of a [`transformers.Trainer`] that survives being killed, at any moment.

    A checkpoint with all that belongs to it is written aside and takes its name once it is on the disk; older ones are
    deleted after that. A signal to stop is followed at the end of the step, see [`StopCallback`].
    """

    _aside: str | None = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stop = StopCallback()
        self.add_callback(self._stop)

    def train(self, *args, **kwargs):
        """Train as [`transformers.Trainer.train`] does.

        Raises:
            JournalError: another process trains into `output_dir`.
            TrainingError: a checkpoint does not fit on the disk; the last good one is kept.
            SystemExit: a signal asked for it, and a checkpoint was saved.
        """
        folder = Path(str(self.args.output_dir))
        with trained_into(folder, self.args.should_save), self._stop.listening():
            if self.args.should_save:
                discard_unfinished(folder)
            return super().train(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, *args, **kwargs) -> None:
        """Save the model; a full disk is a `TrainingError`."""
        with full_disk_told(Path(str(output_dir or self.args.output_dir))):
            super().save_model(output_dir, *args, **kwargs)

    def _get_output_dir(self, trial) -> str:
        return self._aside or super()._get_output_dir(trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._aside is None:  # or it is pushed when it has its name
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model, trial) -> None:
        run = Path(self._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._aside = str(run / ASIDE)
        try:
            with full_disk_told(run / ASIDE / name):
                super()._save_checkpoint(model, trial)
        finally:
            self._aside = None
        best = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        if best.name == name or best.is_dir():
            self.state.best_model_checkpoint = str(best)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(run / ASIDE / name / TRAINER_STATE_NAME))
            publish(run / ASIDE / name, run / name)
            rotate_checkpoints(str(run), self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))

    def _get_dataloader(self, *args, **kwargs):
        loader = super()._get_dataloader(*args, **kwargs)
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn)
        return loader

    def _finalize_training(self, trial, *args):
        run = Path(self._get_output_dir(trial))
        best = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        if best.is_dir():  # by its name: the folder may have been moved
            self.state.best_model_checkpoint = str(best)
            if self.args.should_save and self.args.save_total_limit == 1:
                # The library does this too, but a kill in the middle would leave a half of the last one.
                for checkpoint in map(Path, sort_checkpoints(str(run))):
                    if checkpoint.name != best.name:
                        discard(checkpoint)
        return super()._finalize_training(trial, *args)


@contextlib.contextmanager
def trained_into(folder: Path, saves: bool, lock_file: str = LOCK_FILE) -> Iterator[None]:
    """Inside, no other process trains into a folder; `saves` is whether this one writes to it.

    Raises:
        JournalError: another process does so already.
    """
    if not saves:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / lock_file, "trained into"):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows does not delete what is open
                (folder / lock_file).unlink()


def discard_unfinished(folder: Path) -> None:
    """Delete what a run that was killed while saving has left, and say so."""
    if (folder / ASIDE).is_dir():
        names = ", ".join(sorted(os.listdir(folder / ASIDE))) or "a checkpoint"
        logger.warning(f"{folder}: {names} was being saved when an earlier run was killed, and is deleted.")
        shutil.rmtree(folder / ASIDE)


def publish(written: Path, place: Path) -> None:
    """Give a folder its name once all of it is on the disk, and delete the one it was written in."""
    for path in (*written.rglob("*"), written):
        sync(path)
    if place.is_dir():  # of an earlier training into the same folder
        os.replace(place, written.with_name("replaced"))
    os.replace(written, place)
    sync(place.parent)
    shutil.rmtree(written.parent)


def discard(checkpoint: Path) -> None:
    """Delete a checkpoint, which loses its name first."""
    aside = checkpoint.with_name(ASIDE)
    aside.mkdir(exist_ok=True)
    os.replace(checkpoint, aside / checkpoint.name)
    shutil.rmtree(aside)


@contextlib.contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Inside, a disk that is full while a folder is written is a `TrainingError`, and what is half written goes."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if find_full_disk(error) is None and not any(words in str(error) for words in _TORCH_WRITER):
            raise
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        is_aside = folder.parent.name == ASIDE
        place = folder.parent.parent if is_aside else folder.parent
        free = shutil.disk_usage(place).free
        if is_aside:
            shutil.rmtree(folder.parent, ignore_errors=True)
        raise TrainingError(
            f"The disk is full: {folder.name} does not fit into {place} ({written / 1e6:,.1f} MB of it written, "
            f"{free / 1e6:,.1f} MB free). Earlier ones are kept: free some space, and run the same command again."
        ) from error
