"""The model as a citizen of transformers: batching, ablations, saving, correction, freezing, sizes, half precision."""

import math

import pytest
import torch
from transformers import AutoModel, BertConfig, HubertConfig, set_seed

from modeling_m4ser import ABLATIONS, M4SERConfig, M4SERForEmotionClassification
from tests.helpers.tiny import (
    SIZE,
    SPEECH_KINDS,
    TEXT_KINDS,
    ragged_batch,
    speech_config,
    take,
    text_config,
    tiny_config,
    tiny_model,
)

FRAMES = ("speech_hidden", "speech_specific", "text_specific", "joint_hidden", "invariant")
EVERY_KIND = (*SPEECH_KINDS, "hubert-group", "data2vec-audio")
EVERY_ENCODER = [(speech, text) for speech in SPEECH_KINDS for text in TEXT_KINDS]
LARGE = {
    "speech_config": HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
        num_conv_pos_embeddings=128,
    ),
    "text_config": BertConfig(),
}
# What no loss of `forward` reaches: the Trainer trains D; Eq. 1 reads no pooler; SpecAugment may mask no frame.
NOT_IN_LOSS = ("discriminator.", ".pooler.", "masked_spec_embed")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def without_labels(batch):
    return {name: value for name, value in batch.items() if "label" not in name}


def logits_of(model, batch):
    with torch.no_grad():
        return model(**without_labels(batch)).logits


# Batches and padding


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("speech, text", EVERY_ENCODER)
def test_batch_equals_its_members(speech, text, dtype, tolerance):
    model = tiny_model(speech, text, spread=True).to(dtype)
    batch = without_labels(ragged_batch(model))
    with torch.no_grad():
        together = model(**batch)
        for row in range(3):
            alone = model(**take(batch, row))
            frames, tokens = alone.frame_mask.shape[1], alone.text_hidden.shape[1]
            assert int(together.frame_mask[row].sum()) == frames
            for name, size in {**dict.fromkeys(FRAMES, frames), "text_hidden": tokens}.items():
                # WavLM's own frames lose another digit to rounding in float32.
                frame_tolerance = 10 * tolerance if speech == "wavlm" else tolerance
                difference = (together[name][row, :size] - alone[name][0]).abs().max()
                assert difference <= frame_tolerance, name
            torch.testing.assert_close(together.pooled[row], alone.pooled[0], rtol=0, atol=tolerance)
            torch.testing.assert_close(together.logits[row], alone.logits[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("garbage", [1e3, math.nan])
@pytest.mark.parametrize("speech, text", [*EVERY_ENCODER, ("hubert-group", "bert")])
def test_garbage_in_padding_changes_nothing(speech, text, garbage):
    model = tiny_model(speech, text, spread=True)
    # The second clip is shorter than one frame of a waveform encoder.
    batch = ragged_batch(model, samples=(4000, 200, 5210))
    dirty = dict(batch)
    name = "input_features" if "input_features" in batch else "input_values"
    padded = (batch["speech_attention_mask"] == 0).unsqueeze(1) if name == "input_features" else None
    padded = batch["speech_attention_mask"] == 0 if padded is None else padded.expand_as(batch[name])
    dirty[name] = torch.where(padded, garbage * torch.randn(batch[name].shape), batch[name])
    dirty["input_ids"] = torch.where(batch["text_attention_mask"] == 0, 77, batch["input_ids"])
    with torch.no_grad():
        clean, other = model(**batch), model(**dirty)
    for field in ("logits", "pooled", "loss", "detection_loss", "correction_loss", "contrastive_loss"):
        torch.testing.assert_close(other[field], clean[field], rtol=0, atol=1e-6, msg=field)


def test_whisper_frames_do_not_know_the_other_utterances():
    model = tiny_model("whisper")
    lengths = (1600, 2320, 9600)  # 10, 14 (odd after halving: 7) and 60 mel frames
    batch = ragged_batch(model, samples=lengths)
    with torch.no_grad():
        hidden, mask = model.m4ser.speech_encoder(batch["input_features"], batch["speech_attention_mask"])
        assert mask.sum(-1).tolist() == [5, 7, 30]
        batch["input_features"][2] = torch.randn_like(batch["input_features"][2]) * 50
        changed, _ = model.m4ser.speech_encoder(batch["input_features"], batch["speech_attention_mask"])
    torch.testing.assert_close(changed[:2], hidden[:2], rtol=0, atol=0)
    assert (changed[2] - hidden[2]).abs().max() > 0.1


def test_whisper_at_full_length_is_the_library_s_encoder():
    model = tiny_model("whisper", speech_config=speech_config("whisper", max_source_positions=15))
    features = torch.randn(2, 16, 30)
    with torch.no_grad():
        ours, _ = model.m4ser.speech_encoder(features, torch.ones(2, 30, dtype=torch.long))
        theirs = model.m4ser.speech_encoder.model(features).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="31 mel frames.*max_audio_seconds"):
        model.m4ser.speech_encoder(torch.randn(1, 16, 31), torch.ones(1, 31, dtype=torch.long))


@pytest.mark.parametrize("spec_augment", [{}, {"mask_time_prob": 0.0}, {"mask_time_prob": 0.9}])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_short_clips_train(kind, spec_augment):
    model = tiny_model(kind, speech_config=speech_config(kind, **spec_augment)).train()
    for samples in ((160,), (1,), (2900,), (3200, 160), (3000, 4000)):
        batch = ragged_batch(model, samples=samples, tokens=(5, 6)[: len(samples)])
        output = model(**batch)
        output.loss.backward()
        assert output.loss.isfinite() and output.frame_mask.any(-1).all(), samples
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("training", [False, True])
def test_silence_and_empty_transcript(kind, training):
    model = tiny_model(kind).train(training)
    batch = ragged_batch(model, samples=(5000, 4000), tokens=(2, 2))
    for name in ("input_values", "input_features"):
        if name in batch:
            batch[name].zero_()
    output = model(**batch)
    output.loss.backward()
    assert output.logits.isfinite().all() and output.loss.isfinite()
    assert output.detection_loss == 0 and output.correction_loss == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# Ablations


MISSING = {
    "M4SER": [],
    "only speech": ["text_encoder", "fusion", "aux", "discriminator", "joint"],
    "only text": ["speech_encoder", "fusion", "aux", "discriminator", "joint"],
    "speech & text + concat": ["fusion", "aux", "discriminator"],
    "w/o MSR": ["cme"],
    "w/o MIR": ["generator", "joint", "discriminator"],
    "w/o MSR & MIR": ["fusion", "discriminator"],
    "w/o AED": ["detector"],
    "w/o AEC": ["corrector"],
    "w/o AED & AEC": ["aux"],
    "w/o GAN": ["discriminator"],
    "w/o LCL": [],
    "w/o GAN & LCL": ["discriminator"],
}
GROUPS = {
    "cme": ["text_query_speech_key", "speech_query_token_key", "speech_query_text_key"],
    "fusion": ["text_query_speech_key", "speech_query_token_key", "speech_query_text_key", "generator"],
    "joint": ["aligner", "joint_projection"],
    "aux": ["detector", "corrector"],
}
MODULES = [
    *(
        "speech_encoder",
        "text_encoder",
        "text_query_speech_key",
        "speech_query_token_key",
        "speech_query_text_key",
        "generator",
    ),
    *("aligner", "joint_projection", "detector", "corrector", "discriminator"),
]


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation(name):
    model = tiny_model(**ABLATIONS[name]).train()
    missing = {module for group in MISSING[name] for module in GROUPS.get(group, [group])}
    for module in MODULES:
        built = getattr(model if module in ("detector", "corrector", "discriminator") else model.m4ser, module)
        assert (built is None) == (module in missing), module
    full = count(tiny_model())
    assert count(model) < full if missing else count(model) == full
    before = {key: value.clone() for key, value in model.named_parameters()}
    output = model(**ragged_batch(model))
    assert (output.detection_loss is None) == (not model.config.use_error_detection)
    assert (output.correction_loss is None) == (not model.config.use_error_correction)
    assert (output.contrastive_loss is None) == (not model.config.use_contrastive)
    assert (output.invariant is None) == (not model.config.use_modality_invariant)
    output.loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    for key, parameter in model.named_parameters():
        if not any(part in f".{key}" for part in (".discriminator.", *NOT_IN_LOSS[1:])):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            if not key.endswith("bias"):  # a key's bias shifts all scores alike: its gradient is zero
                assert not torch.equal(parameter, before[key]), key
    assert torch.equal(logits_of(model.eval(), ragged_batch(model)), logits_of(model, ragged_batch(model)))


@pytest.mark.parametrize(
    "switches, named",
    [
        ({"modalities": "speech"}, ["modalities", "fusion"]),
        ({"modalities": "text"}, ["modalities", "fusion"]),
        ({"fusion": "concat"}, ["fusion", "use_modality_specific", "use_modality_invariant"]),
        ({"use_modality_invariant": False}, ["use_adversarial", "use_modality_invariant"]),
        (
            {"use_modality_specific": False, "use_modality_invariant": False, "use_adversarial": False},
            ["use_modality_specific", "use_modality_invariant", "fusion"],
        ),
        ({**ABLATIONS["only speech"], "use_error_detection": True}, ["modalities", "use_error_detection"]),
        ({**ABLATIONS["only speech"], "use_error_correction": True}, ["modalities", "use_error_correction"]),
        ({**ABLATIONS["speech & text + concat"], "use_adversarial": True}, ["use_adversarial"]),
        ({"hidden_size": 25}, ["hidden_size", "num_attention_heads"]),
        ({"temperature": 0}, ["temperature"]),
    ],
)
def test_impossible_combinations_name_their_switches(switches, named):
    with pytest.raises(ValueError) as error:
        tiny_config(**switches)
    assert all(switch in str(error.value) for switch in named), str(error.value)


@pytest.mark.parametrize(
    "fields", [{"fusion": "sum"}, {"modalities": "video"}, {"text_alignment": "nearest"}, {"temperature": "cold"}]
)
def test_wrong_values_are_refused(fields):
    with pytest.raises(Exception, match=next(iter(fields))):
        tiny_config(**fields)


def test_wrong_encoders_are_refused():
    with pytest.raises(ValueError, match="no-such-model"):
        tiny_config(speech_config={"model_type": "no-such-model"})
    with pytest.raises(ValueError, match="bert"):
        tiny_model(speech_config=text_config())
    with pytest.raises(ValueError, match="input_values"):
        tiny_model()(input_ids=torch.tensor([[2, 3]]))
    with pytest.raises(ValueError, match="input_ids"):
        tiny_model()(input_values=torch.zeros(1, 800))


# Outputs, saving, determinism


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_save_and_load(tmp_path, kind):
    model = tiny_model(kind, spread=True)
    model.save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path)
    saved, read = model.state_dict(), loaded.state_dict()
    assert saved.keys() == read.keys() and any("discriminator" in key for key in saved)
    assert all(torch.equal(saved[key], read[key]) for key in saved)
    loaded.save_pretrained(tmp_path / "again")
    files = [(folder / "config.json").read_text().splitlines() for folder in (tmp_path, tmp_path / "again")]
    # Loading writes the weights' type into the encoders' own configurations too.
    first, second = ({line.rstrip(",") for line in lines if '"dtype"' not in line} for lines in files)
    assert first == second and loaded.config.id2label == model.config.id2label
    batch = ragged_batch(model)
    with torch.no_grad():
        assert torch.equal(model(**batch).loss, loaded(**batch).loss)
    assert torch.equal(logits_of(model, batch), logits_of(loaded, batch))


def test_tuple_equals_dict():
    model = tiny_model()
    batch = ragged_batch(model)
    as_dict, as_tuple = model(**batch), model(**batch, return_dict=False)
    assert list(as_dict) == [name for name in type(as_dict).__dataclass_fields__ if as_dict[name] is not None]
    assert len(as_tuple) == len(as_dict)
    assert all(torch.equal(a, b) for a, b in zip(as_dict.values(), as_tuple, strict=True))
    assert as_tuple[0] is not None and torch.equal(as_tuple[1], as_dict.logits)
    assert torch.equal(model(**without_labels(batch), return_dict=False)[0], as_dict.logits)
    features = without_labels(batch)
    bare, bare_tuple = model.m4ser(**features), model.m4ser(**features, return_dict=False)
    assert all(torch.equal(a, b) for a, b in zip(bare.values(), bare_tuple, strict=True))
    ignored = set(model.config.keys_to_ignore_at_inference)
    assert set(as_dict) - {"loss", "logits"} <= ignored, "Trainer.predict would gather feature tensors"


def test_determinism():
    model = tiny_model()
    batch = ragged_batch(model)
    assert torch.equal(logits_of(model, batch), logits_of(model, batch))
    losses = []
    for _ in range(2):
        model = tiny_model().train()
        set_seed(3)  # numpy's too: SpecAugment draws from it
        losses.append(model(**batch).loss)
    assert torch.equal(*losses)
    assert not torch.equal(logits_of(model.train(), batch), logits_of(model, batch)), "no dropout in training"


# Training objective


@pytest.mark.parametrize("tie", [False, True])
def test_no_change_in_the_batch(tie):
    model = tiny_model(tie_correction_output=tie)
    batch = ragged_batch(model)
    batch["correction_labels"][:] = -100
    loss = model(**batch).correction_loss
    assert loss == 0
    loss.backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.corrector.parameters())


def test_training_modules_never_run_without_their_labels():
    model = tiny_model()
    ran = set()
    for name in ("detector", "corrector", "discriminator"):
        for module in getattr(model, name).modules():
            module.register_forward_hook(lambda *_, name=name: ran.add(name))
    batch = ragged_batch(model)
    output = model(**without_labels(batch))
    assert not ran and output.loss is None and output.detection_logits is None
    output = model(**without_labels(batch), labels=batch["labels"])
    assert not ran and output.emotion_loss is not None
    model(**{name: value for name, value in batch.items() if name != "correction_labels"})
    assert ran == {"detector"}
    model(**batch)
    assert ran == {"detector", "corrector"}


def test_drop_training_modules(tmp_path):
    model = tiny_model(spread=True)
    batch = ragged_batch(model)
    logits, size = logits_of(model, batch), count(model)
    model.drop_auxiliary_heads().save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path)
    assert torch.equal(logits_of(loaded, batch), logits)
    assert count(loaded) < 0.9 * size and loaded.detector is loaded.corrector is loaded.discriminator is None
    with pytest.raises(ValueError, match="drop_auxiliary_heads"):
        loaded.correct_transcripts(batch["input_ids"])


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_freeze_feature_encoder(kind):
    model = tiny_model(kind).train()
    model.freeze_feature_encoder()
    model(**ragged_batch(model)).loss.backward()
    encoder = model.m4ser.speech_encoder.model
    front = [encoder.conv1, encoder.conv2] if kind == "whisper" else [encoder.feature_extractor]
    frozen = {id(parameter) for module in front for parameter in module.parameters()}
    assert frozen
    for parameter in encoder.parameters():
        assert id(parameter) not in frozen or (not parameter.requires_grad and parameter.grad is None)
    layers = encoder.layers if kind == "whisper" else encoder.encoder.layers
    assert all(parameter.grad is not None for parameter in layers.parameters())


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "whisper"])
def test_freeze_speech_layers(kind):
    model = tiny_model(kind).train()
    encoder = model.m4ser.speech_encoder
    model.freeze_speech_layers(1)
    model(**ragged_batch(model)).loss.backward()
    trained = {id(parameter) for layer in encoder.layers[1:] for parameter in layer.parameters()}
    assert trained and len(encoder.layers) > 1
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == (id(parameter) in trained), name
    with pytest.raises(ValueError, match="Cannot freeze 99 layers"):
        model.freeze_speech_layers(99)


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "whisper"])
def test_freeze_encoders(kind):
    model = tiny_model(kind)
    batch = ragged_batch(model)
    with torch.no_grad():
        before = model(**batch)
    model.freeze_encoders()
    with torch.no_grad():
        expected = model(**batch)
    # Not bit for bit: with AVX-512 PyTorch multiplies weights that take no gradient by another kernel (1e-6 in WavLM).
    torch.testing.assert_close(expected.speech_hidden, before.speech_hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(expected.text_hidden, before.text_hidden, atol=1e-5, rtol=0)
    outputs = [model.train()(**batch) for _ in range(2)]
    outputs[0].loss.backward()
    for output in outputs:
        assert torch.equal(output.speech_hidden, expected.speech_hidden)
        assert torch.equal(output.text_hidden, expected.text_hidden)
        assert not output.speech_hidden.requires_grad and not output.text_hidden.requires_grad
    assert not torch.equal(outputs[0].logits, outputs[1].logits), "the heads still train with dropout"
    for name, parameter in model.named_parameters():
        if "_encoder." in name:
            assert not parameter.requires_grad and parameter.grad is None, name
        elif "discriminator" not in name:
            assert parameter.requires_grad and parameter.grad is not None, name


def test_projection_only_where_sizes_differ():
    same = tiny_model()
    assert same.m4ser.speech_projection is None and same.m4ser.text_projection is None
    wide = tiny_model(speech_config=speech_config(size=48))
    assert wide.m4ser.text_projection is None and wide.config.hidden_size == SIZE
    assert wide.m4ser.speech_projection.weight.shape == (SIZE, 48)
    both = tiny_model(hidden_size=32)
    assert both.m4ser.text_projection.weight.shape == both.m4ser.speech_projection.weight.shape == (32, SIZE)
    for model in (wide, both):
        output = model.train()(**ragged_batch(model))
        output.loss.backward()
        assert output.speech_hidden.shape[-1] == model.config.hidden_size
        assert model.m4ser.speech_projection.weight.grad.any()
    only_speech = tiny_model(speech_config=speech_config(size=48), **ABLATIONS["only speech"])
    assert only_speech.config.hidden_size == 48 and only_speech.m4ser.speech_projection is None


def test_tie_correction_output(tmp_path):
    untied, tied = tiny_model(), tiny_model(tie_correction_output=True)
    assert count(untied) - count(tied) == count(untied.corrector.output) and tied.corrector.output is None
    batch = ragged_batch(tied)
    tied(**batch).correction_loss.backward()
    assert tied.get_input_embeddings().weight.grad.any(dim=-1).all(), "the softmax reaches every row of the vocabulary"
    tied.save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).correction_loss, tied(**batch).correction_loss)
    with pytest.raises(ValueError, match="tie_correction_output"):
        tiny_model(tie_correction_output=True, hidden_size=32)


def test_sizes_of_table_v():
    def build(name):
        with torch.device("meta"):
            return M4SERForEmotionClassification(M4SERConfig(**LARGE, num_labels=4, **ABLATIONS[name]))

    full = build("M4SER")
    assert count(full.discriminator) / 1e6 == pytest.approx(0.197, abs=0.001)
    assert (count(full) - count(build("w/o AED & AEC"))) / 1e6 == pytest.approx(31.3, abs=1.3)
    assert count(build("speech & text + concat")) / 1e6 == pytest.approx(426.9, abs=0.2)
    assert count(full.m4ser.speech_encoder) / 1e6 == pytest.approx(315.4, abs=0.1)
    assert count(full.m4ser.text_encoder) / 1e6 == pytest.approx(109.5, abs=0.1)


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_gradient_checkpointing(kind):
    # Without dropout, so that both runs compute the same function.
    overrides = {
        "speech_config": speech_config(kind, mask_time_prob=0.0, **_no_dropout(speech_config(kind))),
        "text_config": text_config(**_no_dropout(text_config())),
        "fusion_dropout": 0.0,
        "classifier_dropout": 0.0,
    }
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(kind, **overrides).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        model(**ragged_batch(model)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def _no_dropout(config):
    return {name: 0.0 for name in config.to_dict() if "dropout" in name and name != "classifier_dropout"}


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_from_encoders_pretrained(tmp_path, kind):
    torch.manual_seed(5)
    speech = AutoModel.from_config(speech_config(kind, size=48))
    text = AutoModel.from_config(text_config())
    speech.save_pretrained(tmp_path / "speech")
    text.save_pretrained(tmp_path / "text")
    folders = (str(tmp_path / "speech"), str(tmp_path / "text"))
    fields = {"num_attention_heads": 4, "id2label": {0: "calm", 1: "cross"}, "label2id": {"calm": 0, "cross": 1}}
    by_config = M4SERForEmotionClassification.from_encoders_pretrained(*folders, config=tiny_config(), **fields)
    model = M4SERForEmotionClassification.from_encoders_pretrained(*folders, **fields)
    for built in (model, by_config):
        ours = built.m4ser.speech_encoder.model.state_dict()
        theirs = (speech.encoder if kind == "whisper" else speech).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        ours, theirs = built.m4ser.text_encoder.model.state_dict(), text.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert built.config.id2label == {0: "calm", 1: "cross"} and built.classifier.out_features == 2
        assert not built.training and built.m4ser.speech_projection.in_features == 48
        built.save_pretrained(tmp_path / "m4ser")
        loaded = M4SERForEmotionClassification.from_pretrained(tmp_path / "m4ser")
        batch = ragged_batch(built, with_labels=False)
        assert torch.equal(logits_of(loaded, batch), logits_of(built, batch))
    assert by_config.config.correction_intermediate_size == tiny_config().correction_intermediate_size


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_bfloat16(tmp_path, kind):
    tiny_model(kind, spread=True).save_pretrained(tmp_path)
    model = M4SERForEmotionClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.classifier.weight.dtype == torch.bfloat16 and model.m4ser.generator.norm.weight.dtype == torch.bfloat16
    assert model.discriminator.hidden.weight.dtype == torch.float32, "D is not stable in half precision"
    reference = M4SERForEmotionClassification.from_pretrained(tmp_path)
    batch = ragged_batch(reference)  # float32 inputs, as the processor makes them
    output = model(**batch)
    assert output.loss.isfinite() and output.logits.isfinite().all() and output.loss.dtype == torch.float32
    assert model.discriminator(output.invariant).dtype == torch.float32
    torch.testing.assert_close(output.loss, reference(**batch).loss, rtol=0.1, atol=0.1)
