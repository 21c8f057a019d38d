"""Whether a model's weights are there is known without reading them."""

import pytest

from data_scripts.checkpoints import WEIGHT_FILES, has_weights


@pytest.mark.parametrize("file", [None, *WEIGHT_FILES])
def test_the_weights_of_a_folder(tmp_path, file):
    (tmp_path / "config.json").write_text("{}")
    if file is not None:
        (tmp_path / file).write_text("")
    assert has_weights(tmp_path) is (file is not None)
    assert not has_weights("nobody/nothing")


def test_the_weights_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not has_weights("somebody/something")
    place = tmp_path / "models--somebody--something"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (place / "snapshots" / ("0" * 40) / "model.safetensors").write_text("")
    assert has_weights("somebody/something")
