"""The edit labels of ASR error detection (Eq. 2-3) and what they do to a hypothesis.

Every piece of an ASR hypothesis carries one label: keep it, delete it, or change it into the pieces that the correction
decoder writes for it. `data_scripts.alignment` makes the labels from a reference, `apply_edits` gives the reference
back, and the model corrects transcripts with the same function.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

KEEP, DELETE, CHANGE = 0, 1, 2
EDIT_NAMES = ("keep", "delete", "change")
IGNORE_INDEX = -100

Piece = TypeVar("Piece", bound=Hashable)


def apply_edits(pieces: Sequence[Piece], labels: Sequence[int], targets: Mapping[int, Sequence[Piece]]) -> list[Piece]:
    """Apply edit labels to a hypothesis.

    Args:
        pieces (`Sequence`): the n word pieces (or ids) of the hypothesis, without special tokens or padding.
        labels (`Sequence[int]`): n labels, each KEEP, DELETE or CHANGE.
        targets (`Mapping[int, Sequence]`): for each CHANGE position (0 … n-1) the pieces that replace it. An empty
            replacement removes the piece.

    Returns:
        `list`: the corrected sequence.

    Raises:
        ValueError: the lengths differ, a label is none of the three (special tokens and padding, labelled IGNORE_INDEX,
            must be cut off first), a CHANGE position has no target, or a target has no CHANGE position.
    """
    pieces, labels = list(pieces), [int(label) for label in labels]
    if len(pieces) != len(labels):
        raise ValueError(
            f"apply_edits needs one label for each piece: got {len(pieces)} pieces and {len(labels)} labels"
        )
    unknown = [(place, label) for place, label in enumerate(labels) if label not in (KEEP, DELETE, CHANGE)]
    if unknown:
        place, label = unknown[0]
        hint = "; cut special tokens and padding off before applying edits" if label == IGNORE_INDEX else ""
        raise ValueError(f"label {label} at position {place} is not KEEP (0), DELETE (1) or CHANGE (2){hint}")
    changes = {place for place, label in enumerate(labels) if label == CHANGE}
    if missing := sorted(changes - set(targets)):
        raise ValueError(f"no target for the CHANGE label at position {missing[0]} (piece {pieces[missing[0]]!r})")
    if surplus := sorted(set(targets) - changes):
        raise ValueError(f"there is a target for position {surplus[0]}, which is not labelled CHANGE")

    corrected: list[Piece] = []
    for place, (piece, label) in enumerate(zip(pieces, labels, strict=True)):
        if label == KEEP:
            corrected.append(piece)
        elif label == CHANGE:
            corrected.extend(targets[place])
    return corrected
