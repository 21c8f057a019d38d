"""Which column of a table is read as what: by its own name, by one of the usual other names, or as a user says."""

import os
from collections.abc import Mapping, Sequence

from data_scripts.errors import CorpusError

#: What a table of utterances may hold, by the names of `modeling_m4ser.rows_m4ser`.
TABLE_ROLES = (
    *("audio", "emotion", "id", "transcript", "hypothesis", "asr_model", "speaker", "session", "split", "channel"),
    *("start", "end", "duration"),
)
#: The command-line options that choose the column of a role; the other roles have none.
COLUMN_OPTIONS = {
    "audio": "audio_column_name",
    "emotion": "label_column_name",
    "hypothesis": "text_column_name",
    "transcript": "transcript_column_name",
    "speaker": "speaker_column_name",
}
#: What each option chooses, for the help of the commands.
COLUMN_HELP = {
    "audio": "the recordings",
    "emotion": "the labels",
    "hypothesis": "the text that the model reads (of a speech recogniser)",
    "transcript": "the text that people wrote",
    "speaker": "the speakers",
}


def check_choices(chosen: Mapping[str, str]) -> None:
    """Raise where one column is chosen for two roles."""
    roles: dict[str, str] = {}
    for role, column in chosen.items():
        first = roles.setdefault(_plain(column), role)
        if first != role:
            raise CorpusError(
                f"--{COLUMN_OPTIONS[first]} and --{COLUMN_OPTIONS[role]} both name {column}: a column is one thing"
            )


def assign_columns(found: Sequence[str], chosen: Mapping[str, str], owner: str | os.PathLike) -> dict[str, str]:
    """Return which column is read as what.

    A chosen column (see `check_choices`) comes first, and is then nothing else; the others go by
    `modeling_m4ser.rows_m4ser`.
    """
    from modeling_m4ser.rows_m4ser import find_columns  # imports torch

    taken = {role: _choose(found, column, COLUMN_OPTIONS[role], owner) for role, column in chosen.items()}
    free = find_columns(column for column in found if column not in taken.values())
    columns = {}
    for role in TABLE_ROLES:
        if column := taken.get(role) or _only(free.get(role, []), role, owner):
            columns[role] = column
    if "start" not in columns or "end" in columns:
        columns.pop("duration", None)  # of the recording, which is measured
    return columns


def _choose(found: Sequence[str], wanted: str, option: str, owner: str | os.PathLike) -> str:
    """The column that an option names: exactly, or in another case."""
    alike = [wanted] if wanted in found else [name for name in found if _plain(name) == _plain(wanted)]
    if len(alike) != 1:
        raise CorpusError(f"{owner} has no column {wanted} (--{option}); its columns: {', '.join(found)}")
    return alike[0]


def _only(alike: Sequence[str], role: str, owner: str | os.PathLike) -> str | None:
    """The column that may be a role; None where there is none."""
    if len(alike) > 1:
        option = COLUMN_OPTIONS.get(role)
        remedy = f"say which: --{option} {alike[0]}" if option else f"name the one that is meant {role}"
        if option and any(_plain(column) == _plain(alike[0]) for column in alike[1:]):
            remedy = "give each its own name"
        raise CorpusError(f"{owner} has several columns for the {role}: {', '.join(alike)}; {remedy}")
    return alike[0] if alike else None


def _plain(column: str) -> str:
    from modeling_m4ser.rows_m4ser import plain_name  # imports torch

    return plain_name(column)
