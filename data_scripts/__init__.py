"""From corpora to training data: one canonical schema, splits without leaks, alignment labels, ASR."""

from typing import TYPE_CHECKING

from data_scripts.lazy import lazy_exports

if TYPE_CHECKING:
    from data_scripts.alignment import align_hypothesis as align_hypothesis
    from data_scripts.alignment import apply_edits as apply_edits
    from data_scripts.prepare.in_memory import load_corpus as load_corpus
    from data_scripts.schema import load_prepared as load_prepared
    from data_scripts.splits import complete_splits as complete_splits
    from data_scripts.splits import group_folds as group_folds
    from data_scripts.splits import leave_one_session_out as leave_one_session_out
    from data_scripts.splits import leave_one_speaker_out as leave_one_speaker_out
    from data_scripts.splits import speaker_folds as speaker_folds
    from data_scripts.splits import utterance_folds as utterance_folds

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
