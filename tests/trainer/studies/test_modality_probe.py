"""The probe and the swap test tell a mixture of both modalities from copies of one, and from noise."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.tiny import tiny_model
from tests.trainer.studies.conftest import answer
from trainer.errors import ExperimentError
from trainer.studies import modality_probe
from trainer.studies.modality_probe import (
    FRAMES_PER_UTTERANCE,
    TITLES,
    UNSURE_SHARE,
    ModalityProbe,
    collect_representations,
    difference_of,
    probe_runs,
    probe_table,
    share_of,
    swap_test,
)

COUNT, SIZE = 80, 12


def draw(seed=0):
    """(N, k, d) frames around a mean of each utterance."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(COUNT, 1, SIZE)) + 0.5 * rng.normal(size=(COUNT, FRAMES_PER_UTTERANCE, SIZE))


def constructed(speech, text):
    """What a generator could make of both: frames (N, k, d) by name."""
    either = np.random.default_rng(7).random(speech.shape[:2])[..., None] < 0.5
    return {
        "copy of speech": speech,
        "copy of text": text,
        "copies in turn": np.where(either, speech, text),
        "mixture": (speech + text) / 2,
        "mostly speech": 0.9 * speech + 0.1 * text,
        "noise": draw(seed=9),
    }


def test_copies_are_found_frame_by_frame_and_a_mixture_is_taken_for_neither():
    shift = 5 * np.eye(SIZE)[0]
    speech, text = draw(1) + shift, draw(2) - shift
    probe = ModalityProbe(speech, text)
    assert probe.right.mean() > 0.95
    assert probe.right.shape == (COUNT, 2 * FRAMES_PER_UTTERANCE)
    judged = {name: probe.judge(frames) for name, frames in constructed(speech, text).items()}
    taken = {name: {key: part.mean() for key, part in parts.items()} for name, parts in judged.items()}
    own = taken["copy of speech"]["speech"], taken["copy of text"]["text"]
    assert own[0] == own[1] == pytest.approx(1 - UNSURE_SHARE, abs=0.02)
    assert max(taken["copy of speech"]["text"], taken["copy of text"]["speech"]) < 0.02
    # Half of the frames are speech and half text: on average that is neither, and yet every frame is one of them.
    assert taken["copies in turn"]["speech"] == pytest.approx(taken["copies in turn"]["text"], abs=0.1)
    assert taken["copies in turn"]["one"] == pytest.approx(1 - UNSURE_SHARE, abs=0.05)
    assert taken["mixture"]["one"] < min(0.2, taken["mostly speech"]["one"])
    assert 0.4 < taken["mostly speech"]["speech"] < taken["copy of speech"]["one"]


def test_a_difference_in_spread_alone_is_found():
    """Means are equal: a linear probe would be at 0.5."""
    assert ModalityProbe(draw(1), 4 * draw(2)).right.mean() > 0.85


@pytest.mark.slow
def test_no_modality_is_no_modality():
    """Frames of one utterance are alike: a probe that is tested on known utterances would seem to know the modality."""
    speech, text = (draw(seed).mean(1, keepdims=True).repeat(FRAMES_PER_UTTERANCE, 1) for seed in (1, 2))
    probe = ModalityProbe(speech, text)
    assert abs(probe.right.mean() - 0.5) < 0.1
    # What passes as both modalities is not one of them.
    assert probe.judge(speech)["one"].mean() < 0.6


def test_the_swap_test_says_whose_content_there_is():
    """The numbers are those of 40,000 independent draws of three utterances in as many dimensions."""
    own, other = draw(1).mean(1), draw(2).mean(1)
    made = constructed(own[:, None], other[:, None])
    swapped = constructed(own[:, None], np.roll(other, -1, axis=0)[:, None]) | {"noise": draw(seed=10)}
    for name, shares in {
        "copy of speech": (1, 0.5),
        "copy of text": (0.5, 1),
        "mixture": (0.89, 0.89),
        "mostly speech": (1, 0.51),
        "noise": (0.5, 0.5),
    }.items():
        found = swap_test(made[name].mean(1), swapped[name].mean(1))
        assert (found["speech"].mean(), found["text"].mean()) == pytest.approx(shares, abs=0.12), name


def test_dimensions_count_by_their_spread_and_a_constant_is_near_to_nobody():
    own, other = draw(1).mean(1), draw(2).mean(1)
    large = np.where(np.arange(SIZE) == 0, 1000, 1)
    mixed, swapped = own + other, own + np.roll(other, -1, axis=0)
    scaled = swap_test(mixed * large, swapped * large)
    np.testing.assert_array_equal(scaled["speech"], swap_test(mixed, swapped)["speech"])
    assert not any(nearer.any() for nearer in swap_test(np.ones((5, 3)), np.ones((5, 3))).values())


def test_intervals_are_of_utterances_and_not_of_frames():
    """All frames of an utterance share one fate: ten of them tell as much as one."""
    fate = np.random.default_rng(0).random((1, COUNT)) < 0.7
    frames = fate[:, :, None].repeat(FRAMES_PER_UTTERANCE, 2)
    one, ten = share_of(fate), share_of(frames)
    assert one.estimate == ten.estimate == fate.mean()
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.1)
    assert one.clusters == ten.clusters == COUNT


def test_a_difference_is_paired():
    first = np.random.default_rng(0).random((2, COUNT, 5)) < 0.6
    second = first & (np.arange(5) > 0)
    compared = difference_of(first, second)
    assert compared.estimate == pytest.approx(first.mean() - second.mean())
    assert 0 < compared.low < compared.estimate < compared.high
    assert difference_of(second, first).estimate == -compared.estimate


def test_representations_are_those_of_the_model(setting):
    model, rows, collator = setting
    found = collect_representations(model, rows, collator, seed=3)
    rng = np.random.default_rng(3)
    first, second = (rows[index] for index in rng.permutation(12)[:2])
    output = answer(model, collator, first)
    chosen = rng.integers(0, output["invariant"].shape[1], FRAMES_PER_UTTERANCE)
    names = {"speech": "speech_specific", "text": "text_specific", "invariant": "invariant"}
    for name, original in names.items():
        frames = getattr(found, name)
        assert frames.shape == (12, FRAMES_PER_UTTERANCE, model.config.hidden_size)
        np.testing.assert_allclose(frames[0], output[original][0, chosen], atol=1e-5)
    np.testing.assert_allclose(found.own[0], output["invariant"][0].mean(0), atol=1e-5)
    mixed = answer(model, collator, {**first, "hypothesis": second["hypothesis"]})
    np.testing.assert_allclose(found.swapped[0], mixed["invariant"][0].mean(0), atol=1e-5)


def test_what_cannot_be_probed_is_said(setting):
    _, rows, collator = setting
    without = tiny_model("whisper", use_modality_invariant=False, use_adversarial=False)
    with pytest.raises(ExperimentError, match="specific and -invariant"):
        collect_representations(without, rows, collator)
    with pytest.raises(ExperimentError, match="at least 10 utterances, not 9"):
        ModalityProbe(draw(1)[:9], draw(2)[:9])


def test_differences_are_to_the_first_line():
    """A model of which more frames are taken for one modality has a difference above zero."""
    few, many = (np.random.default_rng(0).random((2, COUNT, 5)) < share for share in (0.2, 0.8))
    findings = {name: dict.fromkeys(TITLES, found) for name, found in (("first", few), ("other", many))}
    _, _, first, other = probe_table(findings).splitlines()
    assert first.startswith("| first | 2 | 19.8 [")
    assert first.endswith(" |  |")
    assert other.startswith("| other | 2 | ")
    assert float(other.split("|")[-2].split("[")[0]) == pytest.approx(100 * (many.mean() - few.mean()), abs=0.06)


def test_every_seed_has_its_probe_and_its_untrained_fusion(setting, monkeypatch):
    """The run's seeds come after the one asked for, which also draws the frames."""
    model, rows, collator = setting
    monkeypatch.setattr(
        modality_probe.LoadedRun, "load", lambda run: SimpleNamespace(model=run, collator=lambda: collator)
    )
    used = {"untrained_fusion": [], "collect_representations": [], "ModalityProbe": []}
    for name, seeds in used.items():
        original = getattr(modality_probe, name)

        def spy(*arguments, original=original, seeds=seeds):
            seeds.append(arguments[-1])
            return original(*arguments)

        monkeypatch.setattr(modality_probe, name, spy)
    monkeypatch.setattr(modality_probe, "_FOLDS", 2)
    found = probe_runs([model, tiny_model("whisper", seed=1, spread=True)], rows, 5)
    assert used == {"untrained_fusion": [5, 6], "collect_representations": [5] * 4, "ModalityProbe": [5, 5, 6, 6]}
    for part in found:
        assert {name: values.shape[:2] for name, values in part.items()} == dict.fromkeys(TITLES, (2, 12))
    assert not np.array_equal(found[0]["one"], found[1]["one"])
