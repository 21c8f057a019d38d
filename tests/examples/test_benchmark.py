"""The benchmark measures every way as often as any other, in turns, and says what the turns say."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT

SCRIPT = ROOT / "examples" / "benchmark.py"
ROWS = ["M4SER", "only speech", "only text"]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def options(script):
    return script["parse_arguments"](
        ["--size", "tiny", "--repetitions", "2", "--utterances", "4", "--batch_size", "2", "--rows", *ROWS]
    )


@pytest.fixture(scope="module")
def encoders(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    script["write_encoders"](str(folder), "tiny")
    return str(folder / "speech"), str(folder / "text")


def test_each_comparison_ends_with_what_it_compares_to(script):
    found = list(script["comparisons"](ROWS))
    told = [(ways[-1].task, ways[-1].row, bool(ways[-1].options)) for ways in found]
    # A model without speech has no speech encoder to freeze: its step is measured by itself, for Table V.
    assert told == [
        ("training", "M4SER", True),
        ("training", "only speech", True),
        ("training", "only text", False),
        ("inference", "M4SER", False),
        ("prediction", "M4SER", False),
    ]
    assert [way.row for way in found[3]] == ROWS[::-1]


@pytest.mark.parametrize("index", range(5))
def test_every_way_does_its_work(script, options, encoders, tmp_path, index):
    for way in list(script["comparisons"](ROWS))[index]:
        ticks = []
        script["perform"](way, encoders, options, str(tmp_path), lambda ticks=ticks: ticks.append(1))
        assert len(ticks) == options.repetitions + 1
    cached = index < 2
    assert bool(list(tmp_path.rglob("states.f32"))) == cached


def test_ratios_are_of_turns_and_not_of_means(script):
    """A machine that is slow in one turn is slow for both ways."""
    way, other = (script["Way"](name, "training", "M4SER") for name in ("plain", "cached"))
    cached = np.array([1.0, 10.0, 2.0])
    first, second = script["describe"]([way, other], np.array([3 * cached, cached]), [2.5, 0.5])
    assert first["ratio"] == {"median": 3, "low": 3, "high": 3}
    assert second["ratio"] == {"median": 1, "low": 1, "high": 1}
    assert first["milliseconds"]["mean"] == pytest.approx(13000)
    assert (first["peak_memory_gb"], second["peak_memory_gb"]) == (2.5, 0.5)
    table = script["to_markdown"]([first, second], "Heading.")
    assert "| training | M4SER | plain | 3.00 [3.00, 3.00] | 13000.0 ± " in table


def test_encoders_come_in_pairs(script, capsys):
    with pytest.raises(SystemExit):
        script["parse_arguments"](["--speech_encoder", "a"])
    assert "come together" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_writes_its_table(tmp_path):
    command = [sys.executable, str(SCRIPT), "--size", "tiny", "--rows", "M4SER", "--output_dir", str(tmp_path)]
    command += ["--repetitions", "2", "--utterances", "4", "--batch_size", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert [(record["task"], record["way"]) for record in content["records"]] == [
        ("training", "as it is"),
        ("training", "frozen, cached"),
        ("inference", "one utterance"),
        ("prediction", "as it comes"),
        ("prediction", "longest first"),
    ]
    for record in content["records"]:
        assert 0.05 < record["peak_memory_gb"] < 20
        assert record["milliseconds"]["mean"] > 0
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8") in done.stdout
