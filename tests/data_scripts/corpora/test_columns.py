"""Columns: read by name or by choice, and what may be two things is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_scripts.corpora.columns import TABLE_ROLES, assign_columns
from data_scripts.errors import CorpusError
from modeling_m4ser.rows_m4ser import COLUMN_NAMES


@given(st.data())
def test_every_usual_name_in_every_way_of_writing(data):
    roles = data.draw(st.lists(st.sampled_from(TABLE_ROLES), unique=True, min_size=1))
    expected = {}
    for role in roles:
        name = data.draw(st.sampled_from([role, *(name for group in COLUMN_NAMES[role] for name in group)]))
        name = name.replace("_", data.draw(st.sampled_from("_- ")))
        expected[role] = data.draw(st.sampled_from([name, name.upper(), name.title(), f" {name}\t"]))
    found = data.draw(st.permutations([*expected.values(), "valence", "words"]))
    if "start" not in roles or "end" in roles:
        expected.pop("duration", None)  # of the recording
    assert assign_columns(found, {}, "a.csv") == expected


@pytest.mark.parametrize(
    ("found", "chosen", "expected"),
    [
        # A column's own name comes first.
        (["text", "path", "AUDIO", "hypothesis"], {}, {"audio": "AUDIO", "hypothesis": "hypothesis"}),
        (
            ["path", "sentence", "Emotion"],
            {"hypothesis": "sentence", "emotion": "emotion"},
            {"audio": "path", "emotion": "Emotion", "hypothesis": "sentence"},
        ),
        (["audio", "wav", "file"], {"audio": "file"}, {"audio": "file"}),
    ],
)
def test_a_chosen_column_is_nothing_else(found, chosen, expected):
    assert assign_columns(found, chosen, "t") == expected


@pytest.mark.parametrize(
    ("found", "chosen", "message"),
    [
        (
            ["label", "class"],
            {},
            "t has several columns for the emotion: label, class; say which: --label_column_name l",
        ),
        (["text", "asr"], {}, "for the hypothesis: text, asr; say which: --text_column_name text"),
        (["spk", "actor"], {}, "for the speaker: spk, actor; say which: --speaker_column_name spk"),
        (["utt_id", "segment_id"], {}, "for the id: utt_id, segment_id; name the one that is meant id"),
        (["Audio", "audio"], {}, "for the audio: Audio, audio; give each its own name"),
        (["path"], {"audio": "sound"}, r"t has no column sound \(--audio_column_name\); its columns: path"),
        (["A", "a "], {"audio": "à"}, "has no column à"),
    ],
)
def test_what_is_not_clear_is_asked(found, chosen, message):
    with pytest.raises(CorpusError, match=message):
        assign_columns(found, chosen, "t")
