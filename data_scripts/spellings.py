"""Names that people give: of labels, speakers and sessions. Which spellings mean the same, and which name nothing."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

#: What stands in tables where a value is missing, without the signs around it: "N/A", "<NA>" and "(na)" are "na".
MISSING_WORDS = frozenset(
    (
        *("", "na", "nan", "nat", "nil", "none", "null", "undefined", "unknown", "unk", "missing", "xxx"),
        *("unlabeled", "unlabelled", "no label", "not available", "not applicable", "no agreement"),
    )
)
_QUOTES = " '\"`\u00b4\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_JOINT = re.compile(r"(?<=\w)[-_](?=\w)")
_WHOLE_FLOAT = re.compile(r"([+-]?\d+)[.,]0+")
_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")  # not those of decimals: 1.05 is not 1.5


def spelling_key(name: str) -> str:
    """Return a name without what differs between habits of writing it: equal keys mean the same.

    That is case, white space (or a hyphen or underscore for it), quotes around, a full stop behind, forms of Unicode
    and signs that cannot be seen, and of numbers the zeros before them and an empty fraction: "07", "7" and "7.0",
    "spk_07" and "SPK 7 " are not told apart; "spk 7" and "spk7" are.
    """
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    plain = " ".join(_JOINT.sub(" ", seen.casefold()).split()).lstrip(_QUOTES).rstrip(_QUOTES + ".,;:")
    if whole := _WHOLE_FLOAT.fullmatch(plain):
        plain = whole[1]
    return _LEADING_ZEROS.sub("", plain)


def names_nothing(name: str) -> bool:
    """Return whether a name is what tables write where there is none: nothing, signs alone, or one of the words."""
    # Punctuation, separators and control signs, and the brackets and quotes that Unicode takes for symbols.
    signs = "<>|" + _QUOTES
    letters = (" " if unicodedata.category(sign)[0] in "PZC" or sign in signs else sign for sign in spelling_key(name))
    words = "".join(letters).split()
    return " ".join(words) in MISSING_WORDS or "".join(words) in MISSING_WORDS


def one_spelling(names: Iterable[str], preferred: Iterable[str] = ()) -> dict[str, str]:
    """Return {name: the spelling for all that mean the same}: a preferred one, or else the commonest of `names`."""
    counts = Counter(names)
    spellings: dict[str, str] = {}
    for name in [*preferred, *sorted(counts, key=lambda name: (-counts[name], name))]:
        spellings.setdefault(spelling_key(name), name.strip())
    return {name: spellings[spelling_key(name)] for name in counts}


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return the known name that a wrong one is nearest to, as the end of a message; empty where none is near."""
    keys = {spelling_key(name): name for name in known}
    near = difflib.get_close_matches(spelling_key(wanted), keys, n=1)
    return f" (did you mean {keys[near[0]]}?)" if near else ""
