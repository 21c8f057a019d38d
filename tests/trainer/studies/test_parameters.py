"""Table V's parameters: every parameter counts once, in the group that the row has."""

import pytest

from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.studies.paper import COST_TABLE
from trainer.studies.parameters import MODULE_GROUPS, TRAINING_ONLY, count_parameters, inference_parameters


@pytest.fixture(scope="module")
def large():
    return {row: count_parameters(row, "large") for row in COST_TABLE}


def test_the_sizes_are_those_of_table_v(large):
    """Of the rows that the paper determines; its fusion of 54.5 M has four layers of the generator, see below."""
    for row in ("only text", "speech & text + concat"):
        assert sum(large[row].values()) / 1e6 == pytest.approx(COST_TABLE[row]["parameters"], abs=0.2)
    # The paper projects HuBERT to d where there is nothing to fuse it with, too.
    projection = 1024 * 768 + 768
    speech = sum(large["only speech"].values())
    assert (speech + projection) / 1e6 == pytest.approx(COST_TABLE["only speech"]["parameters"], abs=0.1)
    full, adversarial, fused = (sum(large[row].values()) for row in ("M4SER", "w/o AED & AEC", "+ MSR & MIR"))
    assert (adversarial - fused) / 1e6 == pytest.approx(0.2, abs=0.01)
    assert (full - adversarial) / 1e6 == pytest.approx(31.3, abs=1.3)
    deep = count_parameters("+ MSR & MIR", "large", generator_layers=4)
    assert sum(deep.values()) / 1e6 == pytest.approx(COST_TABLE["+ MSR & MIR"]["parameters"], abs=0.2)


def test_a_row_has_no_parameters_in_what_it_leaves_out(large):
    absent = {row: {group for group, count in counts.items() if not count} for row, counts in large.items()}
    assert absent["M4SER"] == set()
    assert absent["w/o AED & AEC"] == {"detector", "corrector"}
    assert absent["+ MSR & MIR"] == set(TRAINING_ONLY)
    assert absent["speech & text + concat"] == {*TRAINING_ONLY, "MSR", "MIR"}
    assert absent["only text"] == set(MODULE_GROUPS) - {"text encoder", "classifier"}
    assert inference_parameters(large["M4SER"]) == sum(large["+ MSR & MIR"].values())


@pytest.mark.parametrize("row", ABLATIONS)
def test_every_parameter_of_every_row_has_one_group(row):
    counts = count_parameters(row, "tiny", num_attention_heads=4)
    assert counts["classifier"] > 0
    assert (counts["corrector"] > 0) == ABLATIONS[row].get("use_error_correction", True)


def test_options_count_and_contradictions_are_refused():
    tied = count_parameters("M4SER", "base", tie_correction_output=True)
    plain = count_parameters("M4SER", "base")
    assert plain["corrector"] - tied["corrector"] >= 768 * 30522 // 2
    assert {g: n for g, n in plain.items() if g != "corrector"} == {g: n for g, n in tied.items() if g != "corrector"}
    for options in ({"fusion": "sum"}, {"use_modality_invariant": False}):
        with pytest.raises(ExperimentError):
            count_parameters("M4SER", "base", **options)
