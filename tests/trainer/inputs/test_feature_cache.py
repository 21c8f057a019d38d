"""Cached speech features: equal results, never the features of something else, and whole after any kill."""

import io
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
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
from tests.helpers import ROOT
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import experiment_arguments
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.callbacks.feature_statistics import measure_features
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


def folders(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["whisper", "hubert-group", "hubert"])
def test_cached_states_and_batches_are_what_the_audio_gives(tmp_path, kind, weighted):
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

    plain = M4SERDataCollator(processor, model.config)
    batch = M4SERDataCollator(processor, model.config, feature_cache=cache)(rows)
    assert {"input_values", "input_features"}.isdisjoint(batch)
    with torch.no_grad():
        expected, found = model(**plain(rows)), model(**batch)
    assert torch.equal(found.frame_mask, expected.frame_mask)
    for name in ("logits", "pooled", "loss", "emotion_loss", "correction_loss", "contrastive_loss"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)
    valid = expected.frame_mask
    torch.testing.assert_close(found.speech_hidden[valid], expected.speech_hidden[valid], atol=1e-5, rtol=1e-5)
    assert (batch["speech_states"].abs().sum((1, 3)) > 0).equal(valid)


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
def test_training_with_the_cache_is_training_without_it(tmp_path, kind, options):
    """Dropout, the adversary, class weights, standardised features: seven losses by name, at every step."""
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


def test_statistics_of_cached_features_are_those_of_the_audio(tmp_path):
    processor = tiny_processor(tmp_path, "whisper")
    rows = list(tiny_corpus(6))
    models = [frozen_model(weighted=True, standardize_features=True) for _ in range(2)]
    collator = M4SERDataCollator(processor, models[0].config)
    measure_features(models[0], [collator(rows)])
    collator.feature_cache = cache_features(models[1], processor, [rows], tmp_path / "cache")
    measure_features(models[1], [collator(rows)])
    expected, found = (model.m4ser.speech_standardizer for model in models)
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.deviation, expected.deviation, atol=1e-5, rtol=1e-5)
    assert expected.measured


def test_states_are_computed_once(tmp_path, capsys, monkeypatch):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(6)
    cache_features(model, processor, [rows.select(range(4))], tmp_path / "cache", show_progress=False)
    assert " MB of speech features of 4 recordings in " in capsys.readouterr().out
    assert set(files(tmp_path / "cache")) == {f"{recording_key(rows[number])}.npy" for number in range(4)}

    encoded = []
    encode = type(model.m4ser.speech_encoder).encode
    monkeypatch.setattr(
        type(model.m4ser.speech_encoder),
        "encode",
        lambda self, inputs, mask: encoded.append(len(inputs)) or encode(self, inputs, mask),
    )
    cache_features(frozen_model(), processor, [rows.select(range(4))], tmp_path / "cache")
    assert (encoded, capsys.readouterr().out) == ([], "")
    cache = cache_features(model, processor, [rows, rows], tmp_path / "cache", show_progress=False)
    assert encoded == [2]
    assert "of 2 recordings" in capsys.readouterr().out
    assert all(recording_key(row) in cache for row in rows)


def changed_weight(model, processor):
    model.m4ser.speech_encoder.model.layers[1].fc2.weight.data[-1, -1] += 1e-3


def changed_buffer_table(model, processor):
    model.m4ser.speech_encoder.model.embed_positions.weight.data[-1, -1] += 1e-3


def changed_config(model, processor):
    model.m4ser.speech_encoder.model.config.activation_function = "relu"


def changed_extractor(model, processor):
    processor.feature_extractor.hop_length = 80


def changed_dtype(model, processor):
    model.m4ser.speech_encoder.model.double()


def changed_layers(model, processor):
    model.m4ser.speech_encoder.layer_weights = torch.nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    "change",
    [
        *(changed_weight, changed_buffer_table, changed_config, changed_extractor, changed_dtype, changed_layers),
        *({"trim_silence_db": 30}, {"target_dbfs": -20}, {"max_audio_seconds": 0.25}),
    ],
    ids=lambda change: change.__name__ if callable(change) else next(iter(change)),
)
def test_states_of_another_encoder_or_processor_are_not_used(tmp_path, change):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(2)
    cache_features(model, processor, [rows], tmp_path / "cache")
    if callable(change):
        change(model, processor)
    else:
        vars(processor).update(change)
    cache = cache_features(model, processor, [rows], tmp_path / "cache")
    assert len(folders(tmp_path / "cache")) == 2
    expected = states_of(model, processor, rows[0])
    np.testing.assert_allclose(cache[recording_key(rows[0])], expected, atol=1e-5)


def test_states_by_other_versions_are_not_used(monkeypatch, tmp_path):
    model, processor = frozen_model(), tiny_processor(tmp_path, "whisper")
    before = states_settings(model, processor)
    monkeypatch.setattr(feature_cache, "version", lambda package: "another")
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


def test_the_name_of_an_encoder_does_not_matter(tmp_path):
    processor = tiny_processor(tmp_path, "whisper")
    model, renamed = frozen_model(), frozen_model()
    renamed.m4ser.speech_encoder.model.config._name_or_path = "elsewhere/the-same"
    # What is trained does not count.
    renamed.classifier.weight.data += 1
    assert states_settings(model, processor) == states_settings(renamed, processor)


def flac(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="FLAC")
    return file.getvalue()


def test_a_changed_recording_under_the_same_id_has_states_of_its_own(tmp_path):
    """As many samples, the same name and path, and the same `content`, which copies share."""
    model, processor = frozen_model(), tiny_processor(tmp_path, "whisper")
    path = tmp_path / "clip.flac"
    rng = np.random.default_rng(0)
    row = {"id": "clip", "audio": {"path": str(path), "bytes": None}, "content": "abc", "duration": 0.3}
    row |= {"hypothesis": "i am", "transcript": "i am", "emotion": 0}
    path.write_bytes(flac(rng.normal(scale=0.1, size=4800)))
    cache = cache_features(model, processor, [[row]], tmp_path / "cache")
    before = states_of(model, processor, row)
    collator = M4SERDataCollator(processor, model.config, feature_cache=cache)
    assert "speech_states" in collator([row])

    path.write_bytes(flac(rng.normal(scale=0.1, size=4800)))
    expected = states_of(model, processor, row)
    assert np.abs(expected - before).max() > 1e-3
    # The old cache is not used for it, even by a run that has begun; a new one has it.
    batch = collator([row])
    assert "input_features" in batch
    cache = cache_features(model, processor, [[row]], tmp_path / "cache")
    np.testing.assert_allclose(cache[recording_key(row)], expected, atol=1e-5)
    assert len(files(tmp_path / "cache")) == 2


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
    with pytest.raises(AudioError, match="clip7"):
        recording_key({"audio": {"path": None, "bytes": None}, "id": "clip7"})


def test_a_batch_with_an_unknown_recording_comes_from_the_audio(tmp_path):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(4)
    cache = cache_features(model, processor, [rows.select(range(3))], tmp_path / "cache")
    collator = M4SERDataCollator(processor, model.config, feature_cache=cache)
    batch = collator([rows[2], rows[3]])
    plain = M4SERDataCollator(processor, model.config)([rows[2], rows[3]])
    assert batch.keys() == plain.keys()
    assert all(torch.equal(batch[name], plain[name]) for name in plain)
    assert "speech_states" in collator([rows[2]])


def test_data_loading_processes_read_it_and_hold_none_of_it(tmp_path):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(6)
    cache = cache_features(model, processor, [rows], tmp_path / "cache", num_workers=1)
    assert len(pickle.dumps(cache)) < 500
    collator = M4SERDataCollator(processor, model.config, feature_cache=cache)
    here = collator(list(rows))["speech_states"]
    assert here.abs().sum() > 0
    loader = DataLoader(rows, batch_size=6, collate_fn=collator, num_workers=1)
    assert torch.equal(next(iter(loader))["speech_states"], here)


def nothing_frozen(model, processor):
    return tiny_model("whisper")


def one_weight_trained(model, processor):
    model.m4ser.speech_encoder.model.conv1.bias.requires_grad_(True)


def convolutions_frozen(model, processor):
    model = tiny_model("whisper")
    model.freeze_feature_encoder()
    return model


def noise_added(model, processor):
    processor.feature_extractor.dither = 0.1


def only_text(model, processor):
    return tiny_model("whisper", **ABLATIONS["only text"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nothing_frozen, r"cache_features needs --freeze_speech_encoder"),
        (one_weight_trained, r"cache_features needs --freeze_speech_encoder"),
        (convolutions_frozen, r"cache_features needs --freeze_speech_encoder"),
        (noise_added, r"one draw of the noise .*dither=0\.1"),
        (only_text, "this model has no speech encoder"),
    ],
)
def test_what_cannot_be_cached_is_refused(tmp_path, change, message):
    model, processor = frozen_model(), tiny_processor(tmp_path, "whisper")
    model = change(model, processor) or model
    with pytest.raises(ExperimentError, match=message):
        cache_features(model, processor, [tiny_corpus(2)], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_disk_without_the_space_is_named_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage(10, 9, 1000))
    with pytest.raises(
        ExperimentError, match=r"features of 3 recordings need 0\.\d MB, and the disk of .* has 0\.0 MB"
    ):
        cache_features(frozen_model(), tiny_processor(tmp_path, "whisper"), [tiny_corpus(3)], tmp_path / "cache")
    assert not files(tmp_path / "cache")


def test_the_expected_size_is_that_of_the_files_or_a_little_more(tmp_path, monkeypatch):
    expected = []
    monkeypatch.setattr(feature_cache, "_megabytes", lambda count: expected.append(count) or "")
    for kind, weighted in (("whisper", True), ("hubert-group", False)):
        model, processor = frozen_model(kind, weighted), tiny_processor(tmp_path, kind)
        rows = [{**row, "duration": None} for row in tiny_corpus(5)]  # measured
        cache_features(model, processor, [with_speeds(tiny_corpus(5), [0.5]), rows], tmp_path / kind)
        found = files(tmp_path / kind).values()
        size = sum(path.stat().st_size for path in found)
        assert size <= expected[-1] <= 1.1 * size
        assert len(found) == 10


def test_a_disk_that_fills_up_is_named_and_leaves_a_good_cache(tmp_path, monkeypatch):
    model, processor, rows = frozen_model(), tiny_processor(tmp_path, "whisper"), tiny_corpus(6)
    write, written = feature_cache.write_atomically, []

    def fill_up(path, data):
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "write_atomically", fill_up)
        with pytest.raises(OSError, match=r"No space left on device.*\.npy"):
            cache_features(model, processor, [rows], tmp_path / "cache", batch_size=2)
    assert len(files(tmp_path / "cache")) == 3
    cache = cache_features(model, processor, [rows], tmp_path / "cache", batch_size=2)
    for row in rows:
        np.testing.assert_allclose(cache[recording_key(row)], states_of(model, processor, row), atol=1e-5)


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


WRITER = """
import sys
from pathlib import Path
from tests.helpers.corpus import tiny_corpus
from tests.trainer.inputs.test_feature_cache import frozen_model, tiny_processor
from trainer.inputs.feature_cache import cache_features
folder = Path(sys.argv[1])
(folder / "processor").mkdir(exist_ok=True)
processor = tiny_processor(folder / "processor", "whisper")
print("writing", flush=True)
cache_features(frozen_model(), processor, [tiny_corpus(160)], folder / "cache", batch_size=3)
"""


@pytest.mark.slow
def test_killed_three_times_it_holds_nothing_wrong(tmp_path):
    """What is there is right each time, and nothing is done twice."""
    model, rows = frozen_model(), tiny_corpus(160)
    processor = tiny_processor(tmp_path, "whisper")
    made = {}
    for writes in (20, 60, 110):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert "writing\n" in process.stdout
        while len(files(tmp_path / "cache")) < writes and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = {name: path.stat().st_mtime_ns for name, path in files(tmp_path / "cache").items()}
        assert writes <= len(found) < 160
        assert made.items() <= found.items()
        made = found
    cache = cache_features(model, processor, [rows], tmp_path / "cache")
    for row in rows:
        np.testing.assert_allclose(cache[recording_key(row)], states_of(model, processor, row), atol=1e-5)
    assert len(files(tmp_path / "cache")) == 160
    assert made.items() <= {name: path.stat().st_mtime_ns for name, path in files(tmp_path / "cache").items()}.items()


def test_another_channel_is_another_recording():
    row = {"audio": {"array": np.ones((2, 400), np.float32) / 4, "sampling_rate": 16000}}
    assert len({recording_key(row), recording_key({**row, "channel": 0}), recording_key({**row, "channel": 1})}) == 3
