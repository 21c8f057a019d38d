"""The probe finds a modality that is there and none that is not; the swap test measures what moves."""

import json
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
from trainer.evaluation.modality_probe import (
    FRAMES_PER_UTTERANCE,
    ModalityFrames,
    collect_frames,
    probe_modality,
    swap_test,
)


def frames(shift=0.0, spread=1.0, count=60, size=6):
    """Random frames; text differs from speech by a shift of one dimension or by its spread."""
    generator = np.random.default_rng(1)
    speech, text = generator.normal(size=(2, count, FRAMES_PER_UTTERANCE, size))
    return ModalityFrames(speech, text * spread + shift * np.eye(size)[0])


def test_a_modality_that_is_there_is_found():
    found = probe_modality(frames(shift=6.0))
    assert found["accuracy"] > 0.98
    assert found["low"] <= found["accuracy"] <= found["high"] <= 1


def test_a_difference_in_spread_alone_is_found():
    """Means are equal: a linear probe would be at 0.5."""
    assert probe_modality(frames(spread=4.0))["accuracy"] > 0.85


def test_no_modality_is_no_modality():
    found = probe_modality(frames())
    assert found["low"] - 0.02 < 0.5 < found["high"] + 0.02
    assert abs(found["accuracy"] - 0.5) < 0.08


def test_utterances_are_not_on_both_sides():
    """Frames of one utterance are alike: a probe that knows the utterance would look as if it knew the modality."""
    generator = np.random.default_rng(0)
    speech, text = (generator.normal(size=(60, 1, 40)).repeat(FRAMES_PER_UTTERANCE, 1) for _ in range(2))
    assert probe_modality(ModalityFrames(speech, text))["accuracy"] < 0.7


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    collator = M4SERDataCollator(tiny_processor(folder, "whisper"), tiny_config("whisper"), with_auxiliary_labels=False)
    return tiny_model("whisper", spread=True), tiny_corpus(8).to_list(), collator


def test_frames_of_each_representation(setting):
    model, rows, collator = setting
    found = collect_frames(model, rows, collator, seed=3)
    size = model.config.hidden_size
    for name in ("specific", "invariant"):
        assert found[name].speech.shape == found[name].text.shape == (8, FRAMES_PER_UTTERANCE, size)
    with torch.no_grad():
        output = model(**{k: v for k, v in collator([rows[0]]).items() if "label" not in k})
    chosen = np.random.default_rng(3).integers(0, output["invariant"].shape[1], FRAMES_PER_UTTERANCE)
    np.testing.assert_allclose(found["specific"].speech[0], output["speech_specific"][0, chosen], atol=1e-5)
    np.testing.assert_allclose(found["specific"].text[0], output["text_specific"][0, chosen], atol=1e-5)
    again = collect_frames(model, rows, collator, seed=3)
    np.testing.assert_array_equal(found["invariant"].text, again["invariant"].text)


def test_an_invariant_frame_is_of_one_modality(setting):
    """With another text, that of speech stays; with another recording, that of text does."""
    model, rows, collator = setting
    own = collect_frames(model, rows, collator)["invariant"]
    shuffled = [
        {**row, "hypothesis": other["hypothesis"]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]
    other = collect_frames(model, shuffled, collator)["invariant"]
    np.testing.assert_allclose(own.speech, other.speech, atol=1e-5)
    assert np.abs(own.text - other.text).max() > 1e-3


def test_what_does_not_count_does_not_move(setting):
    model, rows, collator = setting
    found = swap_test(model, rows, collator)
    assert found["speech"] > 0.05
    assert found["text"] > 0.05
    assert found["balance"] == min(found["speech"], found["text"]) / max(found["speech"], found["text"])
    same_text = [{**row, "hypothesis": "the same"} for row in rows]
    alone = swap_test(model, same_text, collator)
    assert alone["text"] == pytest.approx(0, abs=1e-5)
    assert alone["speech"] == pytest.approx(1, abs=1e-5)


def test_the_script_compares_with_an_untrained_fusion(setting, tmp_path, capsys):
    """The untrained network has the trained one's encoders, and other weights in what is new."""
    model, _, collator = setting
    model.save_pretrained(tmp_path / "model")
    collator.processor.save_pretrained(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    write_manifest(tmp_path / "corpus")
    prepare_folder(CorpusSelection("manifest", tmp_path / "corpus"), tmp_path / "prepared")
    script = runpy.run_path(str(ROOT / "examples" / "probe_modalities.py"))
    options = ["--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "prepared"), "--split", "train"]
    script["main"](script["parse_arguments"]([*options, "--utterances", "12"]))
    found = json.loads(capsys.readouterr().out)
    assert found["utterances"] == 12
    assert found["trained"] != found["untrained fusion"]
    for network in ("trained", "untrained fusion"):
        assert set(found[network]) == {"specific", "invariant", "swap"}
    with pytest.raises(CorpusError, match="has no split test; it has train"):
        script["main"](script["parse_arguments"](options[:4]))
