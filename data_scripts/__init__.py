"""From corpora to training data: one canonical schema, splits without leaks, alignment labels, ASR."""

from typing import TYPE_CHECKING

from data_scripts.lazy import lazy_exports

if TYPE_CHECKING:
    from data_scripts.alignment import align_hypothesis, apply_edits
    from data_scripts.prepare.in_memory import load_corpus
    from data_scripts.schema import load_prepared
    from data_scripts.splits import (
        complete_splits,
        group_folds,
        leave_one_session_out,
        leave_one_speaker_out,
        speaker_folds,
        utterance_folds,
    )

__all__ = [
    "align_hypothesis",
    "apply_edits",
    "complete_splits",
    "group_folds",
    "leave_one_session_out",
    "leave_one_speaker_out",
    "load_corpus",
    "load_prepared",
    "speaker_folds",
    "utterance_folds",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "data_scripts.alignment": ("align_hypothesis", "apply_edits"),
        "data_scripts.prepare.in_memory": ("load_corpus",),
        "data_scripts.schema": ("load_prepared",),
        "data_scripts.splits": (
            "complete_splits",
            "group_folds",
            "leave_one_session_out",
            "leave_one_speaker_out",
            "speaker_folds",
            "utterance_folds",
        ),
    },
)
