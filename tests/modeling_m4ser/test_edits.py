"""Applying edit labels; that they undo an alignment exactly is tested where alignments are made."""

import numpy as np
import pytest

from modeling_m4ser import CHANGE, DELETE, IGNORE_INDEX, KEEP, apply_edits
from modeling_m4ser.edits_m4ser import EDIT_NAMES


def test_labels_have_the_paper_s_numbers_and_names():
    assert (KEEP, DELETE, CHANGE) == (0, 1, 2)
    assert [EDIT_NAMES[label] for label in (KEEP, DELETE, CHANGE)] == ["keep", "delete", "change"]
    assert IGNORE_INDEX == -100


@pytest.mark.parametrize(
    ("pieces", "labels", "targets", "expected"),
    [
        ([], [], {}, []),
        (["a", "b"], [KEEP, KEEP], {}, ["a", "b"]),
        (["a", "b"], [DELETE, DELETE], {}, []),
        (["a", "b", "c"], [CHANGE, DELETE, KEEP], {0: ["x", "y"]}, ["x", "y", "c"]),
        ([7, 8], [KEEP, CHANGE], {1: []}, [7]),
        (["a", "b"], np.array([KEEP, CHANGE]), {1: ("x", "y")}, ["a", "x", "y"]),  # as predicted
        ((7, 8, 9), (CHANGE, KEEP, CHANGE), {0: (1,), 2: (9, 9)}, [1, 8, 9, 9]),
    ],
)
def test_edits(pieces, labels, targets, expected):
    assert apply_edits(pieces, labels, targets) == expected


@pytest.mark.parametrize(
    ("labels", "targets", "message"),
    [
        ([KEEP], {}, "one label for each piece: got 2 pieces and 1 labels"),
        ([KEEP, 3], {}, r"label 3 at position 1 is not KEEP \(0\), DELETE \(1\) or CHANGE \(2\)$"),
        ([IGNORE_INDEX, KEEP], {}, "label -100 at position 0 .*cut special tokens and padding off"),
        ([KEEP, CHANGE], {}, r"no target for the CHANGE label at position 1 \(piece 'b'\)"),
        ([KEEP, CHANGE], {0: ["x"], 1: ["y"]}, "a target for position 0, which is not labelled CHANGE"),
        ([KEEP, CHANGE], {1: ["y"], 9: ["x"]}, "a target for position 9, which is not labelled CHANGE"),
    ],
)
def test_contradictions_are_refused(labels, targets, message):
    with pytest.raises(ValueError, match=message):
        apply_edits(["a", "b"], labels, targets)
