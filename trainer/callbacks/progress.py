"""A progress bar with one short line per validation, in place of a line of every logged number."""

from transformers.trainer_callback import ProgressCallback


class EpochLinesCallback(ProgressCallback):
    """The library's progress bar; all numbers stay in the log history, and the important ones are printed."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Print the training loss and the validation metrics after each validation."""
        if state.is_world_process_zero and self.training_bar is not None and logs and "eval_ua" in logs:
            losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
            loss = f"loss {losses[-1]:.3f}, " if losses else ""
            wa, ua = 100 * logs["eval_wa"], 100 * logs["eval_ua"]
            self.training_bar.write(f"epoch {state.epoch:.0f}: {loss}validation WA {wa:.1f} %, UA {ua:.1f} %")
