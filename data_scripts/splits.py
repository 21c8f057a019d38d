"""Splits that leak nothing: by speaker, by session, at random, few-shot.

The same seed gives the same split of the same utterances, whatever their order: draws go by their ids.

Each function reads a canonical dataset (a `Dataset`, or a `DatasetDict` of one split) and answers with row numbers;
`seed` is of all that it draws. Corpora with splits of their own are joined first (`datasets.concatenate_datasets`).
Nothing that is tested is ever trained or validated on: not the utterance, nor its speaker or session where the split
is by those.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict

from data_scripts.constants import SPLITS, dialogue_of
from data_scripts.errors import CorpusError
from data_scripts.spellings import one_spelling

TEST_PAIRS = (("train", "test"), ("validation", "test"))
ALL_PAIRS = (*TEST_PAIRS, ("train", "validation"))


class SplitError(CorpusError):
    """The dataset cannot be split as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Fold:
    """One division of a dataset.

    Attributes:
        name: of the fold, fit for a folder name.
        train: its row numbers, ascending; only a split asked for with a share of 0 is empty. So for the other two.
        speakers: the speakers of each split, sorted; empty where the dataset names none. So for the sessions.
        num_rows: the length of the dataset that the row numbers belong to.
    """

    name: str
    train: list[int]
    validation: list[int]
    test: list[int]
    speakers: dict[str, list[str]]
    sessions: dict[str, list[str]]
    num_rows: int

    def select(self, dataset: Dataset | DatasetDict) -> DatasetDict:
        """Return the fold's splits (those that are not empty) of the dataset it was made from."""
        dataset = _single(dataset)
        if len(dataset) != self.num_rows:
            raise SplitError(f"{self.name} was made from {self.num_rows} rows; this dataset has {len(dataset)}")
        return DatasetDict({split: dataset.select(rows) for split in SPLITS if (rows := getattr(self, split))})

    def describe(self) -> dict[str, Any]:
        """Return what results.json says of the fold: per split the utterances, speakers and sessions."""
        return {"name": self.name} | {
            split: {
                "utterances": len(getattr(self, split)),
                "speakers": self.speakers[split],
                "sessions": self.sessions[split],
            }
            for split in SPLITS
        }


def speaker_folds(
    dataset: Dataset | DatasetDict, num_folds: int, seed: int = 0, stratify: Callable[[str], Any] | None = None
) -> list[Fold]:
    """Return speaker-independent folds: each speaker is tested exactly once.

    The speakers are shuffled and divided into `num_folds` groups (at least 3), which share evenly what `stratify` says
    of a speaker, such as the sex. A fold tests one group, validates on the next and trains on the others.

    Raises:
        SplitError: rows without a speaker, fewer than 3 folds, or fewer speakers than folds.
    """
    dataset = _single(dataset)
    by_speaker = _rows_by(dataset, "speaker")
    _check_num_folds(num_folds, len(by_speaker), "speakers")
    generator = random.Random(seed)
    kinds: dict[Any, list[str]] = {}
    for speaker in sorted(by_speaker):
        kinds.setdefault(stratify(speaker) if stratify else "", []).append(speaker)
    shuffled = []
    for kind in sorted(kinds, key=str):
        generator.shuffle(kinds[kind])
        shuffled.extend(kinds[kind])
    groups = (shuffled[number::num_folds] for number in range(num_folds))
    folds = _rotate(dataset, [[row for speaker in group for row in by_speaker[speaker]] for group in groups])
    for fold in folds:
        _check_apart(fold, "speaker")
    return folds


def utterance_folds(dataset: Dataset | DatasetDict, num_folds: int, seed: int = 0) -> list[Fold]:
    """Return folds at random, by emotion: each utterance is tested exactly once, and its speaker may be trained on.

    For a corpus that names no speakers. What is measured on such folds is better than on new speakers.

    Raises:
        SplitError: fewer than 3 folds, or fewer utterances than folds.
    """
    dataset = _single(dataset)
    _check_num_folds(num_folds, len(dataset), "utterances")
    generator = random.Random(seed)
    shares = {str(number): 1 / num_folds for number in range(num_folds)}
    return _rotate(dataset, list(_by_shares(dataset, range(len(dataset)), shares, generator).values()))


def group_folds(
    dataset: Dataset | DatasetDict, num_folds: int, seed: int = 0, group: Callable[[str], str] = dialogue_of
) -> list[Fold]:
    """Return folds that keep groups whole: each utterance is tested exactly once, and no part has one of its group.

    The emotions are shared as evenly as the groups allow (sklearn's `StratifiedGroupKFold`). A fold tests one part,
    validates on the next and trains on the others; their speakers may be the same people. `group` maps an utterance's
    id to its group.

    Raises:
        SplitError: fewer than 3 folds, fewer groups than folds, an id twice, or one without a group.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # late: other splits need no sklearn

    dataset = _single(dataset)
    identities = dataset["id"][:]
    groups = [group(identity) for identity in identities]
    if "" in groups:
        raise SplitError(f"the id {identities[groups.index('')]!r} names no dialogue, as train_dia0_utt3 does")
    if len(set(identities)) < len(identities):
        raise SplitError("an id occurs twice: give each utterance of the joined splits an id of its own")
    _check_num_folds(num_folds, len(set(groups)), "groups")
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    try:
        parts = [part.tolist() for _, part in splitter.split(identities, dataset["emotion"][:], groups)]
    except ValueError as error:  # every emotion has fewer utterances than there are folds
        raise SplitError(f"{num_folds} folds cannot be made: {error}") from error
    return _rotate(dataset, parts)


def complete_splits(dataset: DatasetDict, seed: int = 0, train_share: float = 0.9) -> tuple[DatasetDict, str]:
    """Return a dataset's own splits, with a validation split made of training data where it has none.

    A share of `train_share` of the training utterances stays; speakers are kept whole where every row names one and
    there are at least 5. Where there is a validation split but none to test on, both are the same rows. Returned are
    the three splits, and the protocol in words.

    Raises:
        SplitError: no train split, or no split to test on.
    """
    parts = {str(name): part for name, part in dataset.items()}
    if "train" not in parts or not {"validation", "test"} & set(parts):
        raise SplitError(
            f"the dataset has the splits {', '.join(parts)}: train and test are needed, or rows of no split at all"
        )
    if "test" not in parts:
        return DatasetDict({**parts, "test": parts["validation"]}), "its own split; tested on its validation data"
    if "validation" in parts:
        return dataset, "its own split"
    speakers = parts["train"]["speaker"][:] if "speaker" in parts["train"].column_names else [None]
    by = "speaker" if all(speakers) and len(set(speakers)) >= 5 else "utterance"
    fold = random_split(parts["train"], train_share, 1 - train_share, 0, by=by, seed=seed)
    held_out = "the speakers" if by == "speaker" else "the utterances"
    protocol = f"its own split; validation on {1 - train_share:.0%} of {held_out} of its training data"
    return DatasetDict({**fold.select(parts["train"]), "test": parts["test"]}), protocol


def leave_one_session_out(
    dataset: Dataset | DatasetDict, validation: str | float = "speaker", seed: int = 0
) -> list[Fold]:
    """Return one fold per session, which is tested; validation comes out of the other sessions, never the tested one.

    With `validation` "speaker", one speaker of the training sessions is held out, drawn anew for each fold; with a
    number between 0 and 1, that share of the training utterances of each emotion, whose speakers are trained on too.

    Raises:
        SplitError: rows without a session (or speaker), fewer than 2 sessions, a speaker who is in a tested and in a
            training session, an empty part, or another `validation`.
    """
    return _leave_one_out(dataset, "session", validation, seed)


def leave_one_speaker_out(
    dataset: Dataset | DatasetDict, validation: str | float = "partner", seed: int = 0
) -> list[Fold]:
    """Return one fold per speaker, who is tested; the best epoch is never chosen on that speaker.

    With `validation` "partner", whoever else speaks in the tested speaker's session (IEMOCAP's usual ten folds), so
    that nothing of that session is trained on; with "speaker", one speaker of the other sessions, or of all where the
    dataset names no session; with a number between 0 and 1, that share of the other speakers' utterances of each
    emotion. With the last two the tested speaker's partners are trained on.

    Raises:
        SplitError: rows without a speaker, fewer than 3 speakers, another `validation`, an empty part; for "partner",
            rows without a session, or a speaker of two sessions or alone in one.
    """
    return _leave_one_out(dataset, "speaker", validation, seed)


def _leave_one_out(dataset: Dataset | DatasetDict, column: str, validation: str | float, seed: int) -> list[Fold]:
    """One fold for each session or speaker, which is tested; validation is drawn from the others."""
    dataset = _single(dataset)
    groups = _rows_by(dataset, column)
    least, ways = (2, ("speaker",)) if column == "session" else (3, ("partner", "speaker"))
    share = validation if isinstance(validation, float) and 0 < validation < 1 else None
    if share is None and validation not in ways:
        known = ", ".join(f'"{way}"' for way in ways)
        raise SplitError(f"validation must be {known} or a share between 0 and 1, got {validation!r}")
    if len(groups) < least:
        raise SplitError(f"leaving a {column} out needs at least {least}; the dataset has only {', '.join(groups)}")
    if validation == "partner":
        _rows_by(dataset, "session")  # every row must have one
    folds = []
    for value, tested in sorted(groups.items()):
        name, generator = f"{column}_{value}", random.Random(f"{seed} {value}")
        others = [row for other, rows in groups.items() if other != value for row in rows]
        if share is not None:
            parts = _by_shares(dataset, others, {"train": 1 - share, "validation": share}, generator)
        else:
            by_speaker = _rows_by(dataset, "speaker", others)
            sessions = set(_present(dataset, "session", tested))
            partners = [
                other for other, rows in by_speaker.items() if sessions & set(_present(dataset, "session", rows))
            ]
            candidates = sorted(set(by_speaker) - (set(partners) if column == "speaker" else set()))
            if validation == "speaker" and not candidates:
                raise SplitError(f"{name} would have no validation data: every other speaker shares a session with it")
            held_out = partners if validation == "partner" else [generator.choice(candidates)]
            parts = {
                "validation": [row for other in held_out for row in by_speaker.pop(other)],
                "train": [row for rows in by_speaker.values() for row in rows],
            }
        fold = _fold(name, dataset, {**parts, "test": tested})
        # With a share of utterances, train and validation have their speakers in common, by design.
        apart = {"speaker": ALL_PAIRS if share is None else TEST_PAIRS}
        if column == "session":
            apart["session"] = TEST_PAIRS
        elif validation == "partner":
            apart["session"] = (("train", "test"), ("train", "validation"))
        for kind, pairs in apart.items():
            _check_apart(fold, kind, pairs)
        folds.append(fold)
    return folds


def random_split(
    dataset: Dataset | DatasetDict,
    train: float = 0.8,
    validation: float = 0.1,
    test: float = 0.1,
    by: str = "speaker",
    seed: int = 0,
) -> Fold:
    """Return one random division by shares of the utterances; a share of 0 leaves its split empty.

    `by` "speaker" or "session" keeps each of those whole, so the shares are met as nearly as their sizes allow;
    "utterance" divides each emotion by the shares.
    """
    dataset = _single(dataset)
    shares = {"train": train, "validation": validation, "test": test}
    if any(not 0 <= share <= 1 for share in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise SplitError(f"the shares must lie between 0 and 1 and sum to 1, got {shares}")
    shares = {split: share for split, share in shares.items() if share > 0}
    generator = random.Random(seed)
    if by == "utterance":
        parts = _by_shares(dataset, range(len(dataset)), shares, generator)
    elif by in ("speaker", "session"):
        groups = list(_rows_by(dataset, by).values())
        if len(groups) < len(shares):
            raise SplitError(f"{len(shares)} splits by {by} need as many; the dataset has {len(groups)}")
        generator.shuffle(groups)
        parts = _allot(groups, shares)
    else:
        raise SplitError(f'by must be "speaker", "session" or "utterance", got {by!r}')
    fold = _fold("random", dataset, {split: parts.get(split, []) for split in SPLITS}, wanted=tuple(shares))
    if by != "utterance":
        _check_apart(fold, by)
    return fold


def k_shot(dataset: Dataset | DatasetDict, k: int, seed: int = 0) -> list[int]:
    """Return the row numbers, ascending, of `k` random utterances of every emotion."""
    dataset = _single(dataset)
    if k < 1:
        raise SplitError(f"k must be at least 1, got {k}")
    by_emotion = rows_by_emotion(dataset, range(len(dataset)))
    if scarce := [f"{name} ({len(rows)})" for name, rows in by_emotion.items() if len(rows) < k]:
        raise SplitError(f"not every emotion has {k} utterances: {', '.join(scarce)}; choose a smaller k")
    generator = random.Random(seed)
    return sorted(row for rows in by_emotion.values() for row in generator.sample(rows, k))


def evenly_spaced(size: int, count: int) -> range:
    """Return row numbers of `size`, equally far apart from the first on: at most `count`, and at least half of it."""
    if count < 1:
        raise SplitError(f"the number of utterances must be at least 1, got {count}")
    return range(0, size, max(1, -(-size // count)))


def rows_by_emotion(dataset: Dataset, rows: Sequence[int]) -> dict[str, list[int]]:
    """Return the row numbers of every class by its name, in the order of their ids; classes without any have none."""
    names = dataset.features["emotion"].names
    labels = dataset["emotion"][:]
    groups: dict[str, list[int]] = {name: [] for name in names}
    for row in _by_id(dataset, rows):
        groups[names[labels[row]]].append(row)
    return groups


def _rotate(dataset: Dataset, parts: Sequence[Sequence[int]]) -> list[Fold]:
    """One fold for each part: it is tested, the next one validates, the others train."""
    folds = []
    for number, part in enumerate(parts):
        validation = (number + 1) % len(parts)
        train = [row for other, rows in enumerate(parts) if other not in (number, validation) for row in rows]
        rows = {"train": train, "validation": parts[validation], "test": part}
        folds.append(_fold(f"fold{number + 1}", dataset, rows))
    return folds


def _check_num_folds(num_folds: int, count: int, what: str) -> None:
    """Raise where there would be too few groups, or more than there is to divide."""
    if num_folds < 3:
        raise SplitError(
            f"num_folds must be at least 3 (one group tests, one validates, the rest train), got {num_folds}"
        )
    if count < num_folds:
        raise SplitError(f"{num_folds} folds need as many {what}; the dataset has {count}: ask for fewer (--num_folds)")


def _single(dataset: Dataset | DatasetDict) -> Dataset:
    """The one dataset to divide, which must not be empty."""
    if isinstance(dataset, DatasetDict):
        if len(dataset) != 1:
            raise SplitError(
                f"the dataset already has the splits {', '.join(map(str, dataset))}: pass one of them, or join them "
                "first with datasets.concatenate_datasets"
            )
        (dataset,) = dataset.values()
    if len(dataset) == 0:
        raise SplitError("the dataset is empty: there is nothing to split")
    return dataset


def _by_id(dataset: Dataset, rows: Iterable[int]) -> list[int]:
    """Row numbers in the order of the rows' ids."""
    identities = dataset["id"][:]
    return sorted(rows, key=lambda row: (identities[row], row))


def _rows_by(dataset: Dataset, column: str, rows: Sequence[int] | None = None) -> dict[str, list[int]]:
    """The row numbers of each value of a column, which every row must have; in the order of the rows' ids."""
    if column not in dataset.column_names:
        raise SplitError(f"the dataset has no column {column!r}; its columns: {', '.join(dataset.column_names)}")
    values = _values(dataset, column)
    rows = _by_id(dataset, range(len(dataset)) if rows is None else rows)
    if lacking := [row for row in rows if not values[row]]:
        remedy = "; name them, or divide at random: --split_by utterance" if column == "speaker" else ""
        count, first = f"{len(lacking)} of {len(rows)} rows", f"the first is row {min(lacking)}"
        raise SplitError(f"{count} have no {column} ({first}): this split needs a {column} in every row{remedy}")
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(values[row], []).append(row)
    return groups


def _values(dataset: Dataset, column: str) -> list[Any]:
    """The values of a column of names, each in one spelling: "07" is not trained on where "7" is tested."""
    values = dataset[column][:]
    spellings = one_spelling(str(value) for value in values if value)
    return [value and spellings[str(value)] for value in values]


def _by_shares(
    dataset: Dataset, rows: Sequence[int], shares: Mapping[str, float], generator: random.Random
) -> dict[str, list[int]]:
    """The rows divided by the shares, emotion by emotion."""
    parts: dict[str, list[int]] = {split: [] for split in shares}
    for same in rows_by_emotion(dataset, rows).values():
        generator.shuffle(same)
        for split, some in _allot([[row] for row in same], shares).items():
            parts[split].extend(some)
    return parts


def _allot(groups: Sequence[Sequence[int]], shares: Mapping[str, float]) -> dict[str, list[int]]:
    """Whole groups, in turn, to the split that lacks most of its share; no split stays empty while groups suffice."""
    total = sum(map(len, groups))
    parts: dict[str, list[int]] = {split: [] for split in shares}
    for number, group in enumerate(groups):
        empty = [split for split in shares if not parts[split]]
        candidates = empty if empty and len(groups) - number <= len(empty) else list(shares)
        neediest = max(candidates, key=lambda split: shares[split] * total - len(parts[split]))
        parts[neediest].extend(group)
    return parts


def _fold(name: str, dataset: Dataset, rows: Mapping[str, Sequence[int]], wanted: Sequence[str] = SPLITS) -> Fold:
    """The fold of these rows; every wanted split must have some."""
    for split in wanted:
        if not rows[split]:
            raise SplitError(f"{name} would have no {split} data: use fewer folds, other shares or more data")
    ordered = {split: sorted(rows[split]) for split in SPLITS}
    speakers, sessions = (
        {split: _present(dataset, column, rows[split]) for split in SPLITS} for column in ("speaker", "session")
    )
    return Fold(name, **ordered, speakers=speakers, sessions=sessions, num_rows=len(dataset))


def _present(dataset: Dataset, column: str, rows: Sequence[int]) -> list[str]:
    """The values that a column takes in these rows, sorted."""
    if column not in dataset.column_names:
        return []
    values = _values(dataset, column)
    return sorted({values[row] for row in rows if values[row]})


def _check_apart(fold: Fold, column: str, pairs: Iterable[tuple[str, str]] = ALL_PAIRS) -> None:
    """Raise where two splits of a pair have a speaker (or session) in common."""
    found = fold.speakers if column == "speaker" else fold.sessions
    for first, second in pairs:
        if shared := sorted(set(found[first]) & set(found[second])):
            raise SplitError(
                f"{fold.name} would leak: {column} {', '.join(shared)} in both {first} and {second}. Give each "
                f"{column} a name of its own in the whole corpus, or split by speaker"
            )
