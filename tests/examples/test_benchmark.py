"""The benchmark measures every way as often as any other, in turns, and says what the turns say."""

import json
import runpy
import time

import numpy as np
import pytest

from tests.helpers import ROOT

SCRIPT = runpy.run_path(str(ROOT / "examples" / "benchmark.py"))
ROWS = ["M4SER", "only speech", "only text"]
OPTIONS = ["--size", "tiny", "--repetitions", "2", "--utterances", "4", "--batch_size", "2"]


def test_each_comparison_ends_with_what_it_compares_to():
    found = list(SCRIPT["comparisons"](ROWS))
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


def test_ways_take_turns_in_changing_order():
    done = []
    seconds = SCRIPT["take_turns"]([lambda: done.append("a"), lambda: time.sleep(0.01) or done.append("b")], 3)
    assert "".join(done) == "ab" + "ab" + "ba" + "ab"
    assert seconds.shape == (2, 3)
    assert (seconds[1] >= 0.01).all()


def test_ratios_are_of_turns_and_not_of_means():
    """A machine that is slow in one turn is slow for both ways."""
    way, other = (SCRIPT["Way"](name, "training", "M4SER") for name in ("plain", "cached"))
    cached = np.array([1.0, 10.0, 2.0])
    first, second = SCRIPT["describe"]([way, other], np.array([3 * cached, cached]))
    assert first["ratio"] == {"median": 3, "low": 3, "high": 3}
    assert second["ratio"] == {"median": 1, "low": 1, "high": 1}
    assert first["milliseconds"]["mean"] == pytest.approx(13000)
    table = SCRIPT["to_markdown"]([first, second], "Heading.")
    assert "| training | M4SER | plain | 3.00 [3.00, 3.00] | 13000.0 ± " in table


def test_encoders_come_in_pairs(capsys):
    with pytest.raises(SystemExit):
        SCRIPT["parse_arguments"](["--speech_encoder", "a"])
    assert "come together" in capsys.readouterr().err


def test_the_script_writes_its_table(tmp_path, capsys, monkeypatch):
    from trainer.experiments import run

    made, original = [], run.make_trainer

    def make_trainer(*arguments, **options):
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(run, "make_trainer", make_trainer)
    options = SCRIPT["parse_arguments"]([*OPTIONS, "--rows", "M4SER", "--output_dir", str(tmp_path)])
    SCRIPT["main"](options)
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert [(record["task"], record["row"], record["way"]) for record in content["records"]] == [
        ("training", "M4SER", "as it is"),
        ("training", "M4SER", "frozen, cached"),
        ("inference", "M4SER", "one utterance"),
        ("prediction", "M4SER", "as it comes"),
        ("prediction", "M4SER", "longest first"),
    ]
    assert all(record["milliseconds"]["mean"] > 0 for record in content["records"])
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert {part.args.train_batch_size for part in made} == {part.args.eval_batch_size for part in made} == {2}
    assert [part.data_collator.feature_cache is not None for part in made] == [False, True, False, False, False]
    assert all(part.state.global_step == 1 for part in made[:2])
