"""Cached speech features: equal results, never the features of something else, and whole after any kill."""

import io
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import DatasetDict
from torch.utils.data import DataLoader
from transformers import set_seed

from data_scripts.journal import locked
from modeling_m4ser import AudioError
from modeling_m4ser.encoders_m4ser import WaveformEncoder
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.errors import ExperimentError
from trainer.experiments.ablations import ABLATIONS
from trainer.experiments.run import make_trainer
from trainer.inputs import feature_cache
from trainer.inputs.augmentation import load_at_speed, with_speeds
from trainer.inputs.feature_cache import cache_features, recording_key, states_settings


def frozen_model(kind="whisper", weighted=False, seed=0, **overrides):
    """A tiny model with a frozen speech encoder; layers that are weighted differ in weight."""
    if weighted:
        speech = tiny_config(kind).speech_config
        speech.use_weighted_layer_sum = True
        overrides["speech_config"] = speech
    model = tiny_model(kind, seed=seed, spread=True, **overrides)
    if weighted:
        torch.nn.init.normal_(model.m4ser.speech_encoder.layer_weights)
    model.freeze_speech_encoder()
    return model


def states_of(model, processor, row):
    """A row's hidden states (layers, m, d_S), encoded alone."""
    encoder = model.m4ser.speech_encoder
    audio = load_at_speed(row, processor.sampling_rate)
    batch = processor(audio=audio, sampling_rate=processor.sampling_rate)
    with torch.no_grad():
        states, _ = encoder.encode(batch[encoder.input_name], batch["speech_attention_mask"])
    return torch.stack(states, 1)[0].numpy()


def files(folder):
    """The files of states in a folder of caches, by name."""
    return {path.name: path for path in folder.glob("*/*.npy")}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["whisper", "hubert-group", "hubert"])
def test_cached_states_are_what_the_audio_gives(tmp_path, kind, weighted):
    model, processor = frozen_model(kind, weighted), tiny_processor(tmp_path, kind)
    rows = list(tiny_corpus(5))
    fast = with_speeds(tiny_corpus(5), [1.25])
    cache = cache_features(model, processor, [rows, fast], tmp_path / "cache", batch_size=3)
    frames = set()
    for row in [*rows, *fast]:
        expected, found = states_of(model, processor, row), cache[recording_key(row)]
        assert found.shape == expected.shape
        assert found.shape[0] == (3 if weighted else 1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        frames.add(found.shape[1])
    assert len(frames) > 3


def test_a_model_of_speech_alone_needs_no_text(tmp_path):
    model, processor = frozen_model(**ABLATIONS["only speech"]), tiny_processor(tmp_path, "whisper")
    rows = list(tiny_corpus(4))
    collator = M4SERDataCollator(processor, model.config)
    expected = model(**collator(rows)).logits
    collator.feature_cache = cache_features(model, processor, [rows], tmp_path / "cache")
    batch = collator(rows)
    assert set(batch) == {"speech_states", "speech_attention_mask", "labels"}
    torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def run(folder, data, kind, cache, **options):
    """Train for some steps; the losses by step, the predictions of validation and test, and the trainer."""
    folder.mkdir(parents=True, exist_ok=True)
    weighted = options.pop("weighted", False)
    arguments = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "load_best_model_at_end": False}
    args = experiment_arguments(folder / "run", **{**arguments, "save_strategy": "no", **options})
    args.cache_features = cache
    set_seed(args.seed)
    model = frozen_model(kind, weighted, standardize_features=True)
    trainer = make_trainer(model, tiny_processor(folder, kind), data, args, features_folder=folder / "features")
    trainer.train()
    losses = [
        {name: value for name, value in entry.items() if name.startswith("loss")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    predictions = [trainer.predict(data[name]).predictions for name in ("validation", "test")]
    return losses, predictions, trainer


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("whisper", {"speed_perturbation": [0.9, 1.1]}),
        ("hubert-group", {}),
        ("whisper", {"weighted": True, "gradient_accumulation_steps": 2}),
    ],
)
def test_training_with_the_cache_is_training_without_it(tmp_path, monkeypatch, kind, options):
    """Dropout, the adversary, class weights, standardised features: seven losses by name, at every step."""
    encode = WaveformEncoder.encode
    # Early transformers 5 draw a random number in each frozen layer, in vain: dropout elsewhere then gets others.
    monkeypatch.setattr(WaveformEncoder, "encode", lambda *args: torch.random.fork_rng()(encode)(*args))
    data = DatasetDict(train=tiny_corpus(8), validation=tiny_corpus(4, seed=1), test=tiny_corpus(4, seed=2))
    plain, plain_predictions, _ = run(tmp_path / "plain", data, kind, cache=False, **options)
    cached, cached_predictions, trainer = run(tmp_path / "cached", data, kind, cache=True, **options)
    assert len(plain) == len(cached) >= 4 - 2 * ("gradient_accumulation_steps" in options)
    for expected, found in zip(plain, cached, strict=True):
        assert found.keys() == expected.keys()
        assert len(found) == 8
        assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
    for expected, found in zip(plain_predictions, cached_predictions, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # It did come from the cache, and the encoder did stay.
    batch = next(iter(trainer.get_train_dataloader()))
    assert "speech_states" in batch
    assert trainer.model.m4ser.speech_encoder.frozen
    assert any(p.requires_grad for p in trainer.model.m4ser.text_encoder.parameters())
    if options.get("weighted"):
        assert trainer.model.m4ser.speech_encoder.layer_weights.requires_grad


def test_states_are_computed_once(tmp_path, capsys, monkeypatch):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(6)
    cache_features(model, processor, [rows.select(range(4))], tmp_path / "cache", show_progress=False)
    assert "caching speech features of 4 recordings in " in capsys.readouterr().out
    assert set(files(tmp_path / "cache")) == {f"{recording_key(rows[number])}.npy" for number in range(4)}

    encoded, kind = [], type(model.m4ser.speech_encoder)
    encode = kind.encode
    monkeypatch.setattr(
        kind, "encode", lambda self, inputs, mask: encoded.append(len(inputs)) or encode(self, inputs, mask)
    )
    cache_features(frozen_model(), processor, [rows.select(range(4))], tmp_path / "cache")
    assert (encoded, capsys.readouterr().out) == ([], "")
    cache = cache_features(model, processor, [rows, rows], tmp_path / "cache", show_progress=False)
    assert encoded == [2]
    assert all(recording_key(row) in cache for row in rows)


def speech(model):
    return model.m4ser.speech_encoder.model


CHANGES = {
    "a weight": lambda model, processor: speech(model).layers[1].fc2.weight.data[-1, -1].add_(1e-3),
    "a table": lambda model, processor: speech(model).embed_positions.weight.data[-1, -1].add_(1e-3),
    "the configuration": lambda model, processor: vars(speech(model).config).update(activation_function="relu"),
    "the precision": lambda model, processor: speech(model).double(),
    "the attention": lambda model, processor: speech(model).set_attn_implementation("eager"),
    "the layers": lambda model, processor: setattr(
        model.m4ser.speech_encoder, "layer_weights", torch.nn.Parameter(torch.zeros(3))
    ),
    "the extractor": lambda model, processor: vars(processor.feature_extractor).update(hop_length=80),
    "trimming": lambda model, processor: vars(processor).update(trim_silence_db=30),
    "the level": lambda model, processor: vars(processor).update(target_dbfs=-20),
    "the length": lambda model, processor: vars(processor).update(max_audio_seconds=0.25),
}


@pytest.mark.parametrize("change", CHANGES)
def test_states_of_another_encoder_or_processor_are_not_used(tmp_path, change):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(2)
    cache_features(model, processor, [rows], tmp_path / "cache")
    CHANGES[change](model, processor)
    cache = cache_features(model, processor, [rows], tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    expected = states_of(model, processor, rows[0])
    np.testing.assert_allclose(cache[recording_key(rows[0])], expected, atol=1e-5)


def test_versions_count_and_names_do_not(monkeypatch, tmp_path):
    model, renamed, processor = frozen_model(), frozen_model(), tiny_processor(tmp_path, "whisper")
    before = states_settings(model, processor)
    speech(renamed).config._name_or_path = "elsewhere/the-same"
    renamed.classifier.weight.data += 1  # nor does what is trained
    assert states_settings(renamed, processor) == before
    monkeypatch.setattr(feature_cache, "package_version", lambda package: "another")
    assert states_settings(model, processor) != before


@pytest.mark.parametrize("name", ["audio", "decoding", "encoders", "levels", "processing", "augmentation"])
def test_states_by_other_code_are_not_used(monkeypatch, tmp_path, name):
    model, processor = frozen_model(), tiny_processor(tmp_path, "whisper")
    before = states_settings(model, processor)
    module = feature_cache.augmentation if name == "augmentation" else feature_cache.modeling_m4ser
    folder = shutil.copytree(Path(module.__file__).parent, tmp_path / "code")
    monkeypatch.setattr(module, "__file__", str(folder / Path(module.__file__).name))
    assert states_settings(model, processor) == before
    changed = folder / ("augmentation.py" if name == "augmentation" else f"{name}_m4ser.py")
    changed.write_text(changed.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    assert states_settings(model, processor) != before


def flac(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="FLAC")
    return file.getvalue()


def test_a_changed_recording_under_the_same_id_has_states_of_its_own(tmp_path):
    """As many samples, the same name and path, and the same `content`, which copies share."""
    model, processor = frozen_model(), tiny_processor(tmp_path, "whisper")
    path, rng, other = tmp_path / "clip.flac", np.random.default_rng(0), tiny_corpus(1)[0]
    row = {**other, "id": "clip", "audio": {"path": str(path), "bytes": None}, "content": "abc", "duration": 0.3}
    path.write_bytes(flac(rng.normal(scale=0.1, size=4800)))
    cache = cache_features(model, processor, [[row, other]], tmp_path / "cache")
    collator, plain = (M4SERDataCollator(processor, model.config, feature_cache=kept) for kept in (cache, None))
    assert "speech_states" in collator([row, other])
    path.write_bytes(flac(rng.normal(scale=0.1, size=4800)))
    # The old states are not used for it, even by a run that has begun; a new cache has its own.
    batch, expected = collator([row, other]), plain([row, other])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert "speech_states" in collator([other])
    cache = cache_features(model, processor, [[row]], tmp_path / "cache")
    np.testing.assert_allclose(cache[recording_key(row)], states_of(model, processor, row), atol=1e-5)
    assert len(files(tmp_path / "cache")) == 3


def test_a_recording_is_known_by_its_content_and_speed(tmp_path):
    samples = np.random.default_rng(0).normal(scale=0.1, size=4800)
    path = tmp_path / "a.flac"
    path.write_bytes(flac(samples))
    key = recording_key({"audio": {"path": "elsewhere.flac", "bytes": path.read_bytes()}, "id": "one"})
    for audio in ({"path": str(path)}, str(path), path, path.read_bytes()):
        assert recording_key({"audio": audio, "id": "other", "speed": 1.0}) == key
    assert recording_key({"audio": path, "speed": 1.1}) != key
    arrays = [{"array": samples, "sampling_rate": rate} for rate in (16000, 8000)]
    arrays += [{"array": samples * 0.5, "sampling_rate": 16000}]
    keys = {recording_key({"audio": audio}) for audio in arrays}
    assert len(keys) == 3
    assert recording_key({"audio": {"raw": samples, "sampling_rate": 16000}}) in keys
    stereo = {"audio": {"array": np.stack([samples, samples]), "sampling_rate": 16000}}
    assert len({recording_key({**stereo, "channel": channel}) for channel in (None, 0, 1)}) == 3
    parts = {}, {"start": 0.1}, {"end": 0.1}, {"start": 0.1, "end": 0.2}, {"start_sample": 1}, {"start": 1}
    assert len({recording_key({"audio": path, **part}) for part in parts}) == len(parts)
    with pytest.raises(AudioError, match="clip7"):
        recording_key({"audio": {"path": None, "bytes": None}, "id": "clip7"})


def test_data_loading_processes_read_it_and_hold_none_of_it(tmp_path):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(6)
    cache = cache_features(model, processor, [rows], tmp_path / "cache", num_workers=1)
    assert len(pickle.dumps(cache)) < 500
    collator = M4SERDataCollator(processor, model.config, feature_cache=cache)
    here = collator(list(rows))["speech_states"]
    assert here.abs().sum() > 0
    loader = DataLoader(rows, batch_size=6, collate_fn=collator, num_workers=1)
    assert torch.equal(next(iter(loader))["speech_states"], here)


def one_weight_trained(model, processor):
    speech(model).conv1.bias.requires_grad_(True)


def convolutions_frozen(model, processor):
    model = tiny_model("whisper")
    model.freeze_feature_encoder()
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model, processor: tiny_model("whisper"), "needs --freeze_speech_encoder"),
        (one_weight_trained, "needs --freeze_speech"),
        (convolutions_frozen, "needs --freeze_speech_encoder"),
        (lambda model, processor: vars(processor.feature_extractor).update(dither=0.1), r"the noise .*dither=0\.1"),
        (lambda model, processor: tiny_model("whisper", **ABLATIONS["only text"]), "this model has no speech encoder"),
    ],
    ids=["nothing frozen", "one weight trained", "convolutions frozen", "noise", "text alone"],
)
def test_what_cannot_be_cached_is_refused(tmp_path, change, message):
    model, processor = frozen_model(), tiny_processor(tmp_path, "whisper")
    model = change(model, processor) or model
    with pytest.raises(ExperimentError, match=message):
        cache_features(model, processor, [tiny_corpus(2)], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("left", [0, 60, -4])
def test_a_file_that_a_power_failure_cut_off_is_written_again(tmp_path, left):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(2)
    cache = cache_features(model, processor, [rows], tmp_path / "cache")
    key = recording_key(rows[0])
    cache.path(key).write_bytes(cache.path(key).read_bytes()[:left])
    cache_features(model, processor, [rows], tmp_path / "cache")
    np.testing.assert_allclose(cache[key], states_of(model, processor, rows[0]), atol=1e-5)


def test_one_process_writes_and_another_waits_for_it(tmp_path, capsys):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(3)
    cache = cache_features(model, processor, [rows.select(range(2))], tmp_path / "cache")
    waiting = threading.Thread(target=cache_features, args=(model, processor, [rows], tmp_path / "cache"))
    with locked(cache.folder / ".lock", "written"):
        waiting.start()
        waiting.join(0.8)
        assert waiting.is_alive()
        assert "by another process: waiting for it" in capsys.readouterr().err
    waiting.join(30)
    assert all(recording_key(row) in cache for row in rows)
