"""The one text rule; waveforms are prepared as `test_processing.py` and `test_runtime.py` say."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeling_m4ser import normalize_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can’t BELIEVE it!", "i can't believe it"),
        ("‘Tis “so” — very — good…", "tis so very good"),
        ("rock 'n' roll, y'all; the dogs' bones", "rock n roll y'all the dogs bones"),
        ("a ´tick´ and caf´s ＇x＇", "a tick and caf's x"),
        ("well-known non‑breaking", "well known non breaking"),
        ("[LAUGHTER] so (sighs) I <unk> said [BREATHING].", "so i said"),
        ("  tabs\tand\nlines  \u00a0 ", "tabs and lines"),
        ("Ｆｕｌｌ ①", "full 1"),
        ("so happy 😀👍🏽!", "so happy 😀👍🏽"),
        ("我很高兴。", "我很高兴"),
        ("Straße, ÉCOLE", "straße, école".replace(",", "")),
        ("e\u0301cole", "école"),
        ("$5 + 3%", "$5 + 3"),
        ("it’s 5’10", "it's 5'10"),
        (" … ", ""),
        ("[NOISE]", ""),
        ("so \ud83d\ude00!", "so 😀"),
        ("a\ud83db \ude00\ud83d.", "a\ufffdb \ufffd\ufffd"),
    ],
)
def test_normalize_text(text, expected):
    assert normalize_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Well, I CAN’T [cough] — no!", "well, i can't - no!"),
        ("I can’t “do” it — now", 'i can\'t "do" it - now'),
        ("don‛t don＇t", "don't don't"),
        ("«so» „so‟ ″so″", '"so" "so" "so"'),
        ("1–2 ‐ 3−1 ﹘", "1-2 - 3-1 -"),
    ],
)
def test_text_that_keeps_its_punctuation_or_its_case(text, expected):
    assert normalize_text(text, keep_punctuation=True) == expected
    assert normalize_text(text) == normalize_text(expected)
    assert normalize_text(text, lowercase=False).lower() == normalize_text(text)
    assert normalize_text("Well, I CAN’T [cough] — no!", lowercase=False) == "Well I CAN'T no"


SIGNS = "aAs'’‘´ʼŉ\"“”‴-—﹘.,[](){}<> \t\n$+😀🏽\u200d我ßẞİΣς\u0301\u0331\u0338H"
HALVES = st.characters(categories=["Cs", "Lu", "So"])
TEXTS = st.one_of(st.text(max_size=40), st.text(alphabet=SIGNS, max_size=20), st.text(alphabet=HALVES, max_size=9))


@settings(max_examples=300)
@given(TEXTS, st.booleans(), st.booleans())
@example("H̱ello T̈", True, False)
@example("it ŉ a", True, False)
@example("‴x﹘", True, True)
@example("a[b(c]d)e", True, True)
def test_normalize_text_is_idempotent(text, lowercase, keep_punctuation):
    once = normalize_text(text, lowercase, keep_punctuation)
    assert normalize_text(once, lowercase, keep_punctuation) == once
    assert once == " ".join(once.split())
    once.encode()  # there is no half of a surrogate pair left
    if not keep_punctuation:
        assert not set(once) & set('.,!?;:"()[]{}-“”’')
