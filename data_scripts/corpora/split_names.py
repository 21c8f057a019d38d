"""What people call the splits of a corpus: in a column, as a folder, as a table."""

import re
from collections.abc import Iterable

#: What a split may be called, in any case.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_EVALUATION = ("eval", "evaluation")
# What may stand beside the word in the name of a folder.
_FILLERS = ("", "set", "data", "split", "splits", "audio", "wav", "wavs")


def canonical_splits(names: Iterable[str]) -> dict[str, str]:
    """Return {name: split} of the names that are words for one.

    `eval` is validation data, but beside another word for that and without test data it is these: train, dev, eval.
    """
    found = {name: SPLIT_WORDS[name.strip().lower()] for name in names if name.strip().lower() in SPLIT_WORDS}
    evaluation = [name for name in found if name.strip().lower() in _EVALUATION]
    others = {split for name, split in found.items() if name not in evaluation}
    if "validation" in others and "test" not in others:
        found |= dict.fromkeys(evaluation, "test")
    return found


def split_word(name: str, alone: bool = True) -> str | None:
    """Return the word for a split in the name of a folder or table, such as `Train_data`; None where there is none.

    Unless it is `alone`, other words may stand beside it, as in `test_labels`, but no second word for a split.
    """
    words = [word.removesuffix("set") for word in re.split(r"[\W\d_]+", name.lower())]
    found = [word for word in words if word in SPLIT_WORDS]
    if len(found) != 1 or (alone and any(word not in (*_FILLERS, found[0]) for word in words)):
        return None
    return found[0]
