"""Parts of recordings: those of a split file are what separate files hold, sample for sample."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_m4ser.audio_m4ser import audio_duration, load_audio
from modeling_m4ser.parts_m4ser import Part, PartError, read_time
from modeling_m4ser.rows_m4ser import read_part


@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    cuts=st.lists(
        st.integers(1, 4999) | st.integers(1, 49).map(lambda n: 100 * n), min_size=1, max_size=6, unique=True
    ).map(sorted),
    way=st.sampled_from(["seconds", "lengths", "milliseconds", "text", "samples"]),
)
def test_parts_are_what_a_file_was_split_into(rate, cuts, way):
    """Times on a grid of 0.1 ms need not be those of samples: neighbours still share none, and lose none."""
    samples = np.arange(1, 1 + rate // 2, dtype=np.float32) / rate
    times = [cut / 10000 for cut in [0, *cuts, 5000]]
    places = [int(rate * time + 0.5) for time in times]
    for (start, end), (first, last) in zip(pairwise(times), pairwise(places), strict=True):
        row = {
            "seconds": {"start": start, "end": end},
            "lengths": {"offset": start, "duration": end - start},
            "milliseconds": {"start_ms": start * 1000, "end_ms": end * 1000},
            "text": {"start": f"0:{start:.4f}", "end": f"{end:.4f}".replace(".", ",")},
            "samples": {"start_sample": first, "end_sample": last},
        }[way]
        if last > first:
            part = read_part(row)
            read = load_audio({"array": samples, "sampling_rate": rate}, rate, part=part)
            np.testing.assert_array_equal(read, samples[first:last])
            duration = audio_duration({"array": samples, "sampling_rate": rate}, part=part)
            assert abs(duration - len(read) / rate) < 2 / rate


@pytest.mark.parametrize(
    ("part", "frames", "found"),
    [
        (Part(0.5), 1000, (500, 1000)),
        (Part(0.5, 1.009), 1000, (500, 1009)),  # rounded times may lie 10 ms past the end
        (Part(0.5, 1.011), 1000, None),
        (Part(1.0), 1000, None),
        (Part(0.5, 0.5004), 1000, None),  # no sample
        (Part(500, 900, True), 1000, (500, 900)),
    ],
)
def test_a_part_is_inside_its_recording_or_refused(part, frames, found):
    """Of a recording of so many samples, a thousand in a second."""
    if found is None:
        with pytest.raises(PartError, match="not inside the recording"):
            part.frames(frames, 1000, "clip")
    else:
        assert part.frames(frames, 1000, "clip") == slice(*found)


def test_clocks_have_hours_and_times_are_exact():
    assert read_time("1:02:03.5", "start") == 3723.5
    assert read_time(0.1 + 0.2, "start") == 0.3
