"""From corpora to training data: one canonical schema, splits without leaks, alignment labels, ASR."""

from data_scripts.alignment import align_hypothesis, apply_edits
from data_scripts.corpora.registry import load_corpus
from data_scripts.schema import load_prepared
from data_scripts.splits import leave_one_session_out, speaker_folds

__all__ = [
    "align_hypothesis",
    "apply_edits",
    "leave_one_session_out",
    "load_corpus",
    "load_prepared",
    "speaker_folds",
]
