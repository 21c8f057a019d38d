"""Whether error detection and correction learn while emotion trains: measured after each evaluation, on text alone."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers.trainer_callback import TrainerCallback

from data_scripts.splits import evenly_spaced
from modeling_m4ser import M4SERForEmotionClassification

#: Utterances that are enough to see a trend, at a second or two for each evaluation.
MAX_UTTERANCES = 128

Measure = Callable[[M4SERForEmotionClassification, Sequence[dict[str, Any]]], dict[str, Any]]


class ErrorCorrectionCallback(TrainerCallback):
    """Adds how well ASR errors of some validation data are found and corrected to the log after each evaluation.

    The entries: `eval_detection_f1` (macro, over KEEP, DELETE and CHANGE), `eval_transcript_wer` (of the hypotheses as
    they are) and `eval_correction_wer` (of the corrected ones). At most `MAX_UTTERANCES` of the rows with both texts
    are measured, evenly spaced.
    """

    def __init__(self, dataset: Any, measure: Measure):
        texts = dataset.select_columns(["hypothesis", "transcript"])
        complete = [row for row in texts if row["hypothesis"] is not None and row["transcript"] is not None]
        self.rows = [complete[row] for row in evenly_spaced(len(complete), MAX_UTTERANCES)]
        self.measure = measure

    def on_evaluate(self, args, state, control, model: M4SERForEmotionClassification, **kwargs):
        """Measure on the main process."""
        if not state.is_world_process_zero or not self.rows:
            return
        measured = self.measure(model, self.rows)
        detection = measured["detection"]
        entry = {
            "eval_detection_f1": detection and detection["macro_f1"],
            "eval_transcript_wer": measured["wer_before"],
            "eval_correction_wer": measured["wer_after"],
        }
        known = {name: value for name, value in entry.items() if value is not None}
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, **known})
