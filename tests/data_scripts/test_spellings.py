"""Spellings of one name, words for none, and the name that was meant."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_scripts.errors import CorpusError, check_known
from data_scripts.spellings import names_nothing, one_spelling, spelling_key


@example("`")
@given(st.text(max_size=12))
def test_a_key_is_its_own_key(name):
    assert spelling_key(spelling_key(name)) == spelling_key(name)
    assert spelling_key(f"\ufeff {name}\u200b\t") == spelling_key(name)
    assert names_nothing(name) == names_nothing(f"<{name}>")


@given(st.lists(st.sampled_from(["7", "07", "7.0", "Anna", "anna", "'Anna'", "70", "an na", "an-na"])))
def test_one_spelling_for_each_name_the_commonest(names):
    spellings = one_spelling(names)
    assert set(spellings) == set(names)
    assert len(set(spellings.values())) == len({spelling_key(name) for name in names})
    for name, chosen in spellings.items():
        assert names.count(chosen) >= names.count(name)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("Happy", r"has no emotion Happy \(did you mean happy\?\); it has happy, Zo\u00eb"),
        ("hapy", r"hapy \(did you mean happy\?\)"),
        ("Zoe\u0308", "did you mean Zo\u00eb"),
        ("calm", "has no emotion calm; it has"),
    ],
)
def test_the_near_name_is_in_the_message(wanted, message):
    with pytest.raises(CorpusError, match=message):
        check_known("it", "emotion", [wanted], ["happy", "Zo\u00eb"])
