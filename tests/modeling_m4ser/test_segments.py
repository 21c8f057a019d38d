"""Segmentations: one content in every format, what others write, and what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_m4ser.levels_m4ser import AudioError
from modeling_m4ser.segments_m4ser import FORMATS, Segment, read_segments, write_segments

# No tags and brackets, which captions have a meaning for, and no surrogates, which no file holds.
WORDS = st.text(st.characters(exclude_characters="[]<", exclude_categories=["C"]), max_size=30)
NAMES = st.none() | st.from_regex(r"[A-Za-zÄ-ü0-9_&']+", fullmatch=True)
TIMES = st.tuples(st.integers(0, 400_000_000), st.integers(1, 60_000))


@st.composite
def timelines(draw):
    """Rows, sorted as a timeline's are, and the segments that they are."""
    rows = []
    for start, length in sorted(draw(st.lists(TIMES, min_size=1, max_size=6))):
        row = {"start": start / 1000, "end": (start + length) / 1000, "speaker": draw(NAMES), "text": draw(WORDS)}
        rows.append(
            row | {"decision": draw(st.sampled_from(["angry", "uncertain"])), "confidence": draw(st.floats(0, 1))}
        )
    return rows


@given(rows=timelines())
def test_every_format_gives_back_the_segments(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("segments")
    wanted = [Segment(row["start"], row["end"], row["speaker"], " ".join(row["text"].split()) or None) for row in rows]
    wanted.sort(key=lambda segment: segment[:2])
    for form, ending in FORMATS.items():
        file = folder / f"call{ending}"
        file.write_text(write_segments(rows, form, "call"), encoding="utf-8", newline="")
        expected = [segment._replace(text=None) for segment in wanted] if form == "rttm" else wanted
        assert read_segments(file) == expected, form


def test_the_emotion_stands_before_the_words():
    row = {"start": 3661.5, "end": 3663, "speaker": "Ann B", "text": "I <can't> & won't", "channel": 1}
    row |= {"decision": "angry", "confidence": 0.812}
    written = {form: write_segments([row], form, "my call") for form in FORMATS}
    assert write_segments([row | {"speaker": None}], "audacity").startswith("3661.500\t3663.000\t[channel_1]: [angry")
    assert written == {
        "srt": "1\n01:01:01,500 --> 01:01:03,000\n[Ann B]: [angry 0.81] I <can't> & won't\n\n",
        "vtt": "WEBVTT\n\n01:01:01.500 --> 01:01:03.000\n<v Ann B>[angry 0.81] I &lt;can't&gt; &amp; won't\n\n",
        "rttm": "SPEAKER my_call 2 3661.500 1.500 <NA> angry Ann_B 0.81 <NA>\n",
        "audacity": "3661.500\t3663.000\t[Ann B]: [angry 0.81] I <can't> & won't\n",
    }


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "web.vtt",
            "WEBVTT - a title\n\nNOTE made by hand\n\nintro\n00:01.000 --> 00:02.500 align:start\n"
            "<v.loud Ann>Oh <i>no</i>,\n<00:01.500>you &amp; me</v>\n",
            [Segment(1, 2.5, "Ann", "Oh no, you & me")],
        ),
        (
            "windows.srt",
            "\ufeff2\r\n00:00:03,5 --> 00:00:04,000\r\n<b>Yes</b>\r\n\r\n1\r\n00:00:01,000 --> 00:00:02,000\r\n12\r\n",
            [Segment(1, 2, None, "12"), Segment(3.5, 4, None, "Yes")],
        ),
        (
            "dihard.RTTM",
            "SPKR-INFO call 1 <NA> <NA> <NA> unknown A <NA> <NA>\nSPEAKER call 1 1.5 0.25 <NA> <NA> A <NA> <NA>\n",
            [Segment(1.5, 1.75, "A", None)],
        ),
        ("labels.txt", "1.5\t2.0\tmine\n\\\t100\t2000\n3,0\t3,5\n", [Segment(1.5, 2, None, "mine"), Segment(3, 3.5)]),
    ],
)
def test_files_of_other_programs(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert read_segments(tmp_path / name) == expected


def test_lists_are_segments_too():
    rows = [{"start": "0:02", "end": 3.00049, "label": "sad"}, (1, 2, "Ann", "yes")]
    assert read_segments(rows) == [Segment(1, 2, "Ann", "yes"), Segment(2, 3)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.srt", b"hello\n", "no segment"),
        ("a.srt", b"1\n00:00:02,000 --> 00:00:01,000\nx\n", "line 2: a segment ends after"),
        ("a.vtt", b"WEBVTT\n\n00:00:61.000 --> 00:01:02.000\nx\n", "line 3.*no time"),
        ("a.txt", b"1.0\t2.0\tx\n1.0 2.0 x\n", "line 2: labels of Audacity"),
        ("a.rttm", b"SPEAKER a 1 0 1 <NA> <NA>\n", "line 1: .*8 fields"),
        ("a.rttm", b"SPEAKER a 1 0 1 x x A\nSPEAKER b 1 0 1 x x A\n", r"several recordings \(a, b\)"),
        ("a.srt", b"\xff\xfe1\0", "not UTF-8"),
        ("a.ass", b"", "ends in .srt, .vtt, .rttm, .txt"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=message) as error:
        read_segments(tmp_path / name)
    assert name in str(error.value)
