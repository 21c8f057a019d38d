"""The probe and the swap test tell a mixture of both modalities from copies of one, and from noise."""

import runpy

import numpy as np
import pytest
import torch

from data_scripts.corpora import CorpusSelection
from data_scripts.errors import CorpusError
from data_scripts.prepare.folder import prepare_folder
from tests.helpers import ROOT
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import write_manifest
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.errors import ExperimentError
from trainer.studies.modality_probe import (
    FRAMES_PER_UTTERANCE,
    UNSURE_SHARE,
    ModalityProbe,
    collect_representations,
    difference_of,
    share_of,
    swap_test,
)

COUNT, SIZE = 80, 12


def draw(seed=0):
    """(N, k, d) frames around a mean of each utterance."""
    dice = np.random.default_rng(seed)
    return dice.normal(size=(COUNT, 1, SIZE)) + 0.5 * dice.normal(size=(COUNT, FRAMES_PER_UTTERANCE, SIZE))


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


# ---------------------------------------------------------------------- the probe


@pytest.fixture(scope="module")
def taken():
    """Shares of constructed frames that are taken for speech, for text, and for one of them."""
    shift = 5 * np.eye(SIZE)[0]
    speech, text = draw(1) + shift, draw(2) - shift
    probe = ModalityProbe(speech, text)
    assert probe.right.mean() > 0.95
    assert probe.right.shape == (COUNT, 2 * FRAMES_PER_UTTERANCE)
    judged = {name: probe.judge(frames) for name, frames in constructed(speech, text).items()}
    return {name: {key: part.mean() for key, part in parts.items()} for name, parts in judged.items()}


def test_a_copy_is_taken_for_its_modality(taken):
    sure = pytest.approx(1 - UNSURE_SHARE, abs=0.02)
    assert taken["copy of speech"]["speech"] == taken["copy of text"]["text"] == sure
    assert max(taken["copy of speech"]["text"], taken["copy of text"]["speech"]) < 0.02
    assert taken["mostly speech"]["speech"] > 0.4


def test_each_frame_counts_for_itself(taken):
    """Half of the frames are speech and half text: on average that is neither, and yet every frame is one of them."""
    assert taken["copies in turn"]["speech"] == pytest.approx(taken["copies in turn"]["text"], abs=0.1)
    assert taken["copies in turn"]["one"] == pytest.approx(1 - UNSURE_SHARE, abs=0.05)


def test_a_mixture_is_taken_for_neither(taken):
    shares = {name: parts["one"] for name, parts in taken.items()}
    assert shares["mixture"] < 0.2
    assert shares["mixture"] < shares["mostly speech"] < shares["copy of speech"]


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


# ---------------------------------------------------------------------- the swap test


@pytest.mark.parametrize(
    ("name", "speech", "text"),
    [
        ("copy of speech", 1, 0.5),
        ("copy of text", 0.5, 1),
        ("mixture", 0.89, 0.89),
        ("mostly speech", 1, 0.51),
        ("noise", 0.5, 0.5),
    ],
)
def test_the_swap_test_says_whose_content_there_is(name, speech, text):
    """The numbers are those of 40,000 independent draws of three utterances in as many dimensions."""
    own, other = draw(1).mean(1), draw(2).mean(1)
    made = constructed(own[:, None], other[:, None])
    swapped = constructed(own[:, None], np.roll(other, -1, axis=0)[:, None])
    if name == "noise":
        swapped["noise"] = draw(seed=10)
    found = swap_test(made[name].mean(1), swapped[name].mean(1))
    assert found["speech"].mean() == pytest.approx(speech, abs=0.12)
    assert found["text"].mean() == pytest.approx(text, abs=0.12)


def test_a_constant_is_near_to_nobody():
    found = swap_test(np.ones((5, 3)), np.ones((5, 3)))
    assert not found["speech"].any()
    assert not found["text"].any()


def test_dimensions_count_by_their_spread():
    own, other = draw(1).mean(1), draw(2).mean(1)
    large = np.where(np.arange(SIZE) == 0, 1000, 1)
    mixed, swapped = own + other, own + np.roll(other, -1, axis=0)
    scaled = swap_test(mixed * large, swapped * large)
    np.testing.assert_array_equal(scaled["speech"], swap_test(mixed, swapped)["speech"])


# ---------------------------------------------------------------------- shares


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


# ---------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    collator = M4SERDataCollator(tiny_processor(folder, "whisper"), tiny_config("whisper"), with_auxiliary_labels=False)
    return tiny_model("whisper", spread=True), tiny_corpus(12).to_list(), collator


def test_representations_are_those_of_the_model(setting):
    model, rows, collator = setting
    found = collect_representations(model, rows, collator, seed=3)
    dice = np.random.default_rng(3)
    first, second = (rows[index] for index in dice.permutation(12)[:2])

    def run(row):
        with torch.no_grad():
            return model(**{name: part for name, part in collator([row]).items() if "label" not in name})

    output = run(first)
    chosen = dice.integers(0, output["invariant"].shape[1], FRAMES_PER_UTTERANCE)
    names = {"speech": "speech_specific", "text": "text_specific", "invariant": "invariant"}
    for name, original in names.items():
        frames = getattr(found, name)
        assert frames.shape == (12, FRAMES_PER_UTTERANCE, model.config.hidden_size)
        np.testing.assert_allclose(frames[0], output[original][0, chosen], atol=1e-5)
    np.testing.assert_allclose(found.own[0], output["invariant"][0].mean(0), atol=1e-5)
    mixed = run({**first, "hypothesis": second["hypothesis"]})
    np.testing.assert_allclose(found.swapped[0], mixed["invariant"][0].mean(0), atol=1e-5)


def test_what_cannot_be_probed_is_said(setting):
    _, rows, collator = setting
    without = tiny_model("whisper", use_modality_invariant=False, use_adversarial=False)
    with pytest.raises(ExperimentError, match="specific and -invariant"):
        collect_representations(without, rows, collator)
    with pytest.raises(ExperimentError, match="at least 10 utterances, not 9"):
        ModalityProbe(draw(1)[:9], draw(2)[:9])
    with pytest.raises(ExperimentError, match="at least three utterances, not 2"):
        swap_test(np.ones((2, 3)), np.ones((2, 3)))


def test_the_script_compares_models_and_untrained_fusions(setting, tmp_path, capsys):
    """A model without discriminator is probed as one with it; seeds of one model share a line."""
    _, _, collator = setting
    for folder, adversarial in (("m4ser", True), ("without", False)):
        for seed in (1, 2):
            model = tiny_model("whisper", seed=seed, spread=True, use_adversarial=adversarial)
            model.save_pretrained(tmp_path / folder / f"seed{seed}")
            collator.processor.save_pretrained(tmp_path / folder / f"seed{seed}")
    (tmp_path / "corpus").mkdir()
    write_manifest(tmp_path / "corpus")
    prepare_folder(CorpusSelection("manifest", tmp_path / "corpus"), tmp_path / "prepared")
    script = runpy.run_path(str(ROOT / "examples" / "probe_modalities.py"))
    options = ["--dataset", str(tmp_path / "prepared"), "--split", "train", "--utterances", "12"]
    for folder in ("m4ser", "without"):
        options += ["--model", *(str(tmp_path / folder / f"seed{seed}") for seed in (1, 2))]
    script["main"](script["parse_arguments"](options))
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    assert [line[0].removeprefix(f"{tmp_path}/") for line in lines[2:]] == [
        "m4ser",
        "m4ser, untrained fusion",
        "without",
        "without, untrained fusion",
    ]
    assert all(len(line) == len(lines[0]) for line in lines)
    assert {line[1] for line in lines[2:]} == {"2"}
    assert lines[2] != lines[3]
    # Only the first line is not compared with the first.
    assert [bool(line[-1]) for line in lines[2:]] == [False, True, True, True]
    assert "12 utterances of" in printed
    with pytest.raises(CorpusError, match="has no split test; it has train"):
        script["main"](script["parse_arguments"](["--dataset", str(tmp_path / "prepared"), "--model", "none"]))


def test_seeds_come_in_pairs(capsys):
    script = runpy.run_path(str(ROOT / "examples" / "probe_modalities.py"))
    with pytest.raises(SystemExit):
        script["parse_arguments"](["--dataset", "d", "--model", "a", "b", "--model", "c"])
    assert "equally many runs" in capsys.readouterr().err


def test_models_in_one_folder_keep_their_names():
    names_of = runpy.run_path(str(ROOT / "examples" / "probe_modalities.py"))["names_of"]
    assert names_of([["a/x/seed1", "a/x/seed2"], ["a/y/seed1", "a/y/seed2"], ["a/z"]]) == ["a/x", "a/y", "a/z"]
    assert names_of([["a/x1", "a/x2"], ["a/y1", "a/y2"]]) == ["a/x1, a/x2", "a/y1, a/y2"]
