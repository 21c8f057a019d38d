"""From an ASR hypothesis and its reference to the labels of error detection and the targets of error correction.

The rule needs no dummy tokens between pieces, so inference reads plain text. The longest common subsequence (LCS) of
the two sequences is kept; what lies between two kept pieces is a gap:

* pieces on both sides: the first hypothesis piece becomes CHANGE, with all of the gap's reference pieces as its target,
  and the others are deleted;
* hypothesis only: deleted;
* reference only (an insertion): the kept piece before the gap becomes CHANGE, with itself + the inserted pieces as its
  target. At the start there is none before it, so the following piece takes the inserted pieces + itself.

`apply_edits` undoes it: applied to the hypothesis it gives the reference back, piece for piece.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import LCSseq

from modeling_m4ser.edits_m4ser import CHANGE, DELETE, KEEP, apply_edits

__all__ = ["Alignment", "align_hypothesis", "apply_edits"]


@dataclass(frozen=True)
class Alignment:
    """How a hypothesis of n pieces becomes its reference."""

    labels: list[int]  # KEEP, DELETE or CHANGE of each piece
    targets: dict[int, list[Hashable]]  # for each CHANGE position its replacement, never empty


def _matched_pairs(hypothesis: list[Hashable], reference: list[Hashable]) -> list[tuple[int, int]]:
    """The positions (in the hypothesis, in the reference) of one longest common subsequence, in order."""
    # rapidfuzz compares hashes, and different pieces can share one: hash(-1) == hash(-2), and "a" equals 97.
    numbers: dict[Hashable, int] = {}
    source, target = ([numbers.setdefault(piece, len(numbers)) for piece in side] for side in (hypothesis, reference))
    blocks = [block for block in LCSseq.opcodes(source, target) if block.tag == "equal"]
    return [
        (block.src_start + step, block.dest_start + step)
        for block in blocks
        for step in range(block.src_end - block.src_start)
    ]


def align_hypothesis(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> Alignment:
    """Label each piece of `hypothesis` so that `apply_edits` turns it into `reference`.

    Args:
        hypothesis: n word pieces, ids or words, n >= 1, without special tokens.
        reference: any number of them; an empty reference deletes everything.

    Raises:
        ValueError: the hypothesis is empty, so there is no piece that could carry a label.
    """
    hypothesis, reference = list(hypothesis), list(reference)
    if not hypothesis:
        raise ValueError(
            "the hypothesis is empty: there is no piece that could carry an edit label. Leave the detection and "
            "correction labels of such an utterance out"
        )
    pairs = _matched_pairs(hypothesis, reference)
    labels = [KEEP] * len(hypothesis)
    targets: dict[int, list[Hashable]] = {}

    previous = (-1, -1)
    for following in [*pairs, (len(hypothesis), len(reference))]:
        surplus = range(previous[0] + 1, following[0])
        wanted = reference[previous[1] + 1 : following[1]]
        for place in surplus:
            labels[place] = DELETE
        if wanted and surplus:
            labels[surplus[0]], targets[surplus[0]] = CHANGE, wanted
        elif wanted:
            anchor = previous[0] if previous[0] >= 0 else following[0]
            labels[anchor] = CHANGE
            if anchor == previous[0]:
                targets[anchor] = targets.get(anchor, [hypothesis[anchor]]) + wanted
            else:
                targets[anchor] = [*wanted, hypothesis[anchor]]
        previous = following

    return Alignment(labels, targets)
