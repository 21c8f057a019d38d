"""The benchmark measures every way as often as any other, in turns, and says what the turns say."""

import json
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarking.peers import _emotion2vec
from benchmarking.setting import Setting, make_data, write_encoders
from benchmarking.turns import costliest, describe, draw, seconds_used, take_turns, to_markdown

from tests.helpers import ROOT

SCRIPT = runpy.run_path(str(ROOT / "examples" / "benchmark.py"))
OPTIONS = SimpleNamespace(size="tiny", rows=["M4SER"], asr=["a"], batch_size=2, utterances=4, clips=None)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    return Setting(OPTIONS, write_encoders(str(folder), "tiny"), str(folder))


def work_for(seconds):
    until = seconds_used() + seconds
    while seconds_used() < until:
        pass


def test_each_comparison_ends_with_what_it_compares_to():
    setting = Setting(OPTIONS, ("speech", "text"), "folder")
    found = {part: [list(each.ways) for each in make(setting)] for part, make in SCRIPT["PARTS"].items()}
    assert {ways[-1] for ways in found["step"] + found["inference"]} == {"concat", "M4SER"}
    assert [ways[0] for ways in found["step"]] == ["M4SER", "naive"]
    assert [ways[-1] for ways in found["wav"]] == ["recognition alone"] * 2
    assert found["rows"][0] == ["as it is", "frozen, cached"]
    assert found["peers"][0][-1] == "M4SER, torch"


def test_ways_take_turns_in_changing_order():
    done = []
    seconds = take_turns([lambda: done.append("a"), lambda: work_for(0.01) or done.append("b")], 3)
    assert "".join(done) == "ab" + "ab" + "ba" + "ab"
    assert seconds.shape == (2, 3)
    assert (seconds[1] >= 0.01).all()


def test_ratios_are_of_turns_and_not_of_means():
    """A machine that is slow in one turn is slow for both ways."""
    other = np.array([1.0, 10.0, 2.0])
    first, second = describe("step", "a step", ["plain", "cached"], np.array([3 * other, other]))
    assert first["ratio"] == {"median": 3, "low": 3, "high": 3}
    assert second["ratio"] == {"median": 1, "low": 1, "high": 1}
    absent = {"part": "peers", "task": "clips", "way": "Other", "why_not": "No module named 'other'"}
    table = to_markdown([{**first, "peak": 1.5, "costliest": {"aten::mm": 0.5}}, second, absent], "Heading.")
    assert "| step | a step | plain | 3.00 [3.00, 3.00] | 6.000 ± " in table
    assert "| 1.50 |" in table
    assert "* a step: plain: aten::mm 50.0%" in table
    assert "* clips: Other: not run (No module named 'other')" in table


def test_the_figure_leaves_out_what_is_compared_to(tmp_path):
    records = list(describe("step", "a step", ["plain", "cached"], np.array([[3.0, 3.0], [1.0, 1.0]])))
    draw(records[1:], tmp_path / "none")
    draw(records, tmp_path / "some")
    assert [path.name for path in tmp_path.iterdir()] == ["some.png"]


def test_hypotheses_differ_from_transcripts_by_some_words():
    (row,) = make_data([60.0])["test"]
    said, heard = row["transcript"].split(), row["hypothesis"].split()
    assert len(said) == len(heard) == 150
    assert 0.1 < sum(a != b for a, b in zip(said, heard, strict=True)) / 150 < 0.3


def test_lengths_are_those_of_iemocap():
    seconds = SCRIPT["lengths"](4425)
    assert np.mean(seconds) == pytest.approx(4.5, abs=0.15)
    assert np.std(seconds) == pytest.approx(3.2, abs=0.3)


def test_steps_of_both_orders_are_those_of_a_whole_epoch():
    """As many batches of each; their longest utterances stand for those of all 4,425, within a twentieth."""
    (comparison,) = SCRIPT["grouping"](Setting(SimpleNamespace(batch_size=4, utterances=32), ("a", "b"), "folder"))
    taken = {name: np.reshape(make.args[1], (8, 4)) for name, make in comparison.ways.items()}
    longest = {name: batches.max(axis=1).mean() for name, batches in taken.items()}
    assert longest["random"] / longest["grouped by length"] == pytest.approx(1.68, rel=0.05)
    assert np.median(np.ptp(taken["grouped by length"], axis=1)) < 0.2
    assert all(make.keywords["train_sampling_strategy"] == "sequential" for make in comparison.ways.values())


def test_the_naive_model_computes_the_same_with_more(setting):
    """One utterance has no other one's padding: it gets the same logits from twice its length."""
    lengths = [2.0, 1.0]
    plain, naive = (setting.trainer("M4SER", lengths, naive=way) for way in (False, True))
    row = make_data(lengths)["test"][1]
    (short, batch), logits = [made.data_collator([row]) for made in (plain, naive)], []
    assert (short["input_values"].shape[-1], batch["input_values"].shape[-1]) == (16000, 32000)
    for made in (plain, naive):
        encoder = made.model.m4ser.speech_encoder
        encoder.model.feature_extractor.conv_layers[0].layer_norm = torch.nn.Identity()  # it reads the padding
        with torch.no_grad():
            output = made.model.eval()(**{name: each for name, each in batch.items() if "label" not in name})
        logits.append(output["logits"])
    torch.testing.assert_close(*logits)
    passes = []
    for made in (plain, naive):
        made.model.m4ser.fusion.register_forward_hook(lambda *_, made=made: passes.append(made))
        made.train()
    assert [passes.count(made) for made in (plain, naive)] == [1, 2]


def test_inference_is_of_all_utterances_or_of_the_next(setting):
    assert setting.inference("M4SER", [1.0])().shape == (1, 4)
    assert setting.inference("speech & text + concat", [1.0, 2.0])().shape == (2, 4)
    turns = setting.inference("M4SER", [1.0, 2.0], one_by_one=True)
    first, second, again = turns(), turns(), turns()
    assert len(first) == 1
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_peer_has_the_layers_of_the_speech_encoder(setting):
    conf = _emotion2vec(setting.encoders[0])
    assert (
        conf["depth"] + conf["modalities"]["audio"]["prenet_depth"]
        == setting.model("M4SER")[0].config.speech_config.num_hidden_layers
    )
    assert conf["modalities"]["audio"]["feature_encoder_spec"].count("(8, ") == 7


def test_what_costs_most_comes_first():
    found = costliest(lambda: torch.randn(500, 500) @ torch.randn(500, 500), 2)
    first, second = found.values()
    assert 0 < second <= first <= 1


def test_the_peak_is_that_of_this_process(setting):
    kept = np.ones(50_000_000)  # 0.4 GB
    found = SCRIPT["peak"](OPTIONS, setting.encoders, "inference", "inference, batch 1, 4.5 s each", "M4SER")
    assert kept.nbytes / 1e9 < found < 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--speech_encoder", "a"], "come together"),
        (["--parts", "wav"], "--clips FOLDER"),
        (["--repetitions", "1"], "at least 2"),
    ],
)
def test_options_that_do_not_go_together_are_told(capsys, words, message):
    with pytest.raises(SystemExit):
        SCRIPT["parse_arguments"](words)
    assert message in capsys.readouterr().err


def test_the_script_writes_its_table(tmp_path, capsys, monkeypatch):
    from trainer.experiments import run

    made, original = [], run.make_trainer

    def make_trainer(*arguments, **options):
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(run, "make_trainer", make_trainer)
    words = ["--size", "tiny", "--repetitions", "2", "--utterances", "2", "--batch_size", "2", "--rows", "M4SER"]
    options = SCRIPT["parse_arguments"]([*words, "--parts", "rows", "--output_dir", str(tmp_path)])
    SCRIPT["main"](options)
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert [(record["task"], record["way"]) for record in content["records"]] == [
        ("training, M4SER", "as it is"),
        ("training, M4SER", "frozen, cached"),
        ("one utterance", "M4SER"),
    ]
    assert all(record["seconds"]["median"] > 0 for record in content["records"])
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert {part.args.train_batch_size for part in made} == {part.args.eval_batch_size for part in made} == {2}
    assert [part.data_collator.feature_cache is not None for part in made] == [False, True]
    assert all(part.state.global_step == 1 for part in made)
