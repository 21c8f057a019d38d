"""The model as a citizen of transformers: batching, ablations, saving, correction, freezing, sizes, half precision."""

import pytest
import torch
from torch import nn
from transformers import AutoModel

from modeling_m4ser import M4SERForEmotionClassification
from tests.helpers.tiny import SIZE, SPEECH_KINDS, ragged_batch, speech_config, text_config, tiny_config, tiny_model
from trainer.experiments.ablations import ABLATIONS

EVERY_KIND = (*SPEECH_KINDS, "hubert-group", "data2vec-audio", "wav2vec2-adapter")
# What learns, but not from a loss of `forward`: the Trainer trains D, and SpecAugment may mask no frame.
NOT_IN_LOSS = (".discriminator.", ".masked_spec_embed")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def without_labels(batch):
    return {name: value for name, value in batch.items() if "label" not in name}


def logits_of(model, batch):
    with torch.no_grad():
        return model(**without_labels(batch)).logits


# Batches


@pytest.mark.parametrize("spec_augment", [{}, {"mask_time_prob": 0.9}])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_short_clips_train(kind, spec_augment):
    model = tiny_model(kind, speech_config=speech_config(kind, **spec_augment)).train()
    lengths = (160,), (1,), (2900,), (3200, 160), (3000, 4000)
    batches = [ragged_batch(model, samples, (5, 6)[: len(samples)]) for samples in lengths]
    silent = ragged_batch(model, samples=(5000, 4000), tokens=(2, 2))
    silent[model.m4ser.speech_encoder.input_name].zero_()
    for batch in (*batches, silent):
        output = model(**batch)
        output.loss.backward()
        assert output.loss.isfinite()
        assert output.frame_mask.any(-1).all()
    assert output.detection_loss == output.correction_loss == 0, "nothing is said in silence"
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.eval()(**silent).logits.isfinite().all()


# Ablations


CME = {"text_query_speech_key", "speech_query_token_key", "speech_query_text_key"}
JOINT = {"aligner", "joint_projection"}
TASKS = {"detector", "corrector"}
#: Row -> the modules it leaves out; those of a fusion that is left out itself need no naming.
MISSING = {
    "M4SER": set(),
    "only speech": {"text_encoder", "fusion", "discriminator", *TASKS},
    "only text": {"speech_encoder", "fusion", "discriminator", *TASKS},
    "speech & text + concat": {*CME, "generator", "discriminator", *TASKS},
    "w/o MSR": CME,
    "w/o MIR": {*JOINT, "generator", "discriminator"},
    "w/o MSR & MIR": {*CME, "generator", "discriminator"},
    "w/o AED": {"detector"},
    "w/o AEC": {"corrector"},
    "w/o AED & AEC": TASKS,
    "w/o GAN": {"discriminator"},
    "w/o LCL": set(),
    "w/o GAN & LCL": {"discriminator"},
    "+ MSR & MIR": {"discriminator", *TASKS},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation(name):
    model = tiny_model(**ABLATIONS[name]).train()
    missing, core, fusion = MISSING[name], model.m4ser, model.m4ser.fusion
    parts = {part: getattr(model, part) for part in ("detector", "corrector", "discriminator")}
    parts |= {part: getattr(core, part) for part in ("speech_encoder", "text_encoder", "fusion")}
    if fusion is not None:
        parts |= {part: getattr(fusion, part) for part in (*CME, *JOINT, "generator")}
    assert {part for part, module in parts.items() if module is None} == missing
    before = {key: value.clone() for key, value in model.named_parameters()}
    output = model(**ragged_batch(model))
    assert (output.detection_loss is None) == (not model.config.use_error_detection)
    assert (output.correction_loss is None) == (not model.config.use_error_correction)
    assert (output.contrastive_loss is None) == (not model.config.use_contrastive)
    assert (output.invariant is None) == (not model.config.use_modality_invariant)
    output.loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[key]), key
            assert ".pooler." in key, key
        elif not any(part in f".{key}" for part in NOT_IN_LOSS):
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            if not key.endswith("bias"):  # a key's bias shifts all scores alike: its gradient is zero
                assert not torch.equal(parameter, before[key]), key
    assert torch.equal(logits_of(model.eval(), ragged_batch(model)), logits_of(model, ragged_batch(model)))


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
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[key], read[key]) for key in saved)
    loaded.save_pretrained(tmp_path / "again")
    files = [(folder / "config.json").read_text().splitlines() for folder in (tmp_path, tmp_path / "again")]
    # Loading writes the weights' type into the encoders' own configurations too.
    first, second = ({line.rstrip(",") for line in lines if '"dtype"' not in line} for lines in files)
    assert first == second
    batch = ragged_batch(model)
    with torch.no_grad():
        assert torch.equal(model(**batch).loss, loaded(**batch).loss)


def test_tuple_equals_dict():
    model = tiny_model()
    batch = ragged_batch(model)
    features = without_labels(batch)
    for part, inputs in ((model, batch), (model, features), (model.m4ser, features)):
        as_dict, as_tuple = part(**inputs), part(**inputs, return_dict=False)
        assert list(as_dict) == [name for name in type(as_dict).__dataclass_fields__ if name in as_dict]
        assert all(torch.equal(a, b) for a, b in zip(as_dict.values(), as_tuple, strict=True))
    ignored = set(model.config.keys_to_ignore_at_inference)
    assert set(model(**batch)) - {"loss", "logits"} <= ignored, "Trainer.predict would gather feature tensors"


def test_the_input_embeddings_are_the_text_encoder_s_or_the_speech_front_end():
    for name in ("M4SER", "only text"):
        model = tiny_model(**ABLATIONS[name])
        assert model.get_input_embeddings() is model.m4ser.text_encoder.model.embeddings.word_embeddings
    model = tiny_model("whisper", **ABLATIONS["only speech"])
    assert model.get_input_embeddings() is model.m4ser.speech_encoder.model.conv1


# Training objective


@pytest.mark.parametrize(("options", "share"), [({}, 0.5), ({"classifier_dropout": 0.0}, 0.0)])
def test_dropout_before_the_classifier_in_training_alone(options, share):
    model = tiny_model(spread=True, **options)
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = ragged_batch(model, samples=(1000,) * 40, tokens=(5,) * 40)
    for training in (False, True):
        pooled = model.train(training)(**batch).pooled
        dropped = seen[-1] == 0
        assert dropped.float().mean().item() == pytest.approx(share if training else 0.0, abs=0.06)
        scale = 1 / (1 - share) if training else 1.0
        torch.testing.assert_close(seen[-1][~dropped], pooled[~dropped] * scale)


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
    model, ran = tiny_model(), set()
    for name in ("detector", "corrector", "discriminator"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: ran.add(name))
    batch = ragged_batch(model)
    output = model(**without_labels(batch))
    assert output.loss is output.detection_logits is None
    assert model(**without_labels(batch), labels=batch["labels"]).emotion_loss is not None
    assert not ran
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
    assert count(loaded) < 0.9 * size
    assert loaded.detector is loaded.corrector is loaded.discriminator is None
    with pytest.raises(ValueError, match="drop_auxiliary_heads"):
        loaded.correct_transcripts(batch["input_ids"])


@pytest.mark.parametrize(
    ("options", "speech", "text"),
    [
        ({}, None, None),
        ({"speech_config": speech_config(size=48)}, (SIZE, 48), None),
        ({"hidden_size": 32}, (32, SIZE), (32, SIZE)),
        ({"speech_config": speech_config(size=48), **ABLATIONS["only speech"]}, None, None),
    ],
)
def test_projection_only_where_sizes_differ(options, speech, text):
    model = tiny_model(**options).train()
    for projection, shape in ((model.m4ser.speech_projection, speech), (model.m4ser.text_projection, text)):
        assert getattr(getattr(projection, "weight", None), "shape", None) == shape
    output = model(**ragged_batch(model))
    output.loss.backward()
    assert output.speech_hidden.shape[-1] == model.config.hidden_size
    assert speech is None or model.m4ser.speech_projection.weight.grad.any()


def test_tie_correction_output(tmp_path):
    untied, tied = tiny_model(), tiny_model(tie_correction_output=True)
    assert count(untied) - count(tied) == count(untied.corrector.output)
    assert tied.corrector.output is None
    batch = ragged_batch(tied)
    tied(**batch).correction_loss.backward()
    assert tied.get_input_embeddings().weight.grad.any(dim=-1).all(), "the softmax reaches every row of the vocabulary"
    tied.save_pretrained(tmp_path)
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).correction_loss, tied(**batch).correction_loss)
    with pytest.raises(ValueError, match="tie_correction_output"):
        tiny_model(tie_correction_output=True, hidden_size=32)


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
            # The second is the name that older releases of transformers give it.
            newer = getattr(model, "activation_checkpointing_enable", None)
            (newer or model.gradient_checkpointing_enable)()
            assert all(m.gradient_checkpointing for m in model.modules() if hasattr(m, "gradient_checkpointing"))
        model(**ragged_batch(model)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def _no_dropout(config):
    return {name: 0.0 for name in config.to_dict() if "dropout" in name and name != "classifier_dropout"}


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_from_encoders_pretrained(tmp_path, kind):
    speech, text = AutoModel.from_config(speech_config(kind, size=48)), AutoModel.from_config(text_config())
    speech.save_pretrained(tmp_path / "speech")
    text.save_pretrained(tmp_path / "text")
    folders = (str(tmp_path / "speech"), str(tmp_path / "text"))
    fields = {
        "num_attention_heads": 4,
        "id2label": {0: "calm", 1: "cross"},
        "label2id": {"calm": 0, "cross": 1},
        "speech_options": {"apply_spec_augment": True, "mask_time_prob": 0.2},
        "text_options": {"hidden_dropout_prob": 0.37},
    }
    by_config = M4SERForEmotionClassification.from_encoders_pretrained(*folders, config=tiny_config(), **fields)
    built = M4SERForEmotionClassification.from_encoders_pretrained(*folders, **fields)
    built.save_pretrained(tmp_path / "m4ser")
    loaded = M4SERForEmotionClassification.from_pretrained(tmp_path / "m4ser")
    for model in (by_config, built, loaded):
        core = model.m4ser
        source = speech.encoder if kind == "whisper" else speech
        for ours, theirs in ((core.speech_encoder.model, source), (core.text_encoder.model, text)):
            read, saved = ours.state_dict(), theirs.state_dict()
            assert read.keys() == saved.keys()
            assert all(torch.equal(read[key], saved[key]) for key in saved)
        assert model.config.id2label == {0: "calm", 1: "cross"}
        assert model.classifier.out_features == 2
        assert not model.training
        assert core.speech_projection.in_features == 48
        for config in (model.config.speech_config, core.speech_encoder.model.config):
            assert config.apply_spec_augment
            assert config.mask_time_prob == 0.2
        assert 0.37 in {module.p for module in core.text_encoder.modules() if isinstance(module, nn.Dropout)}
    batch = ragged_batch(built, with_labels=False)
    assert torch.equal(logits_of(loaded, batch), logits_of(built, batch))
    assert by_config.config.correction_intermediate_size == tiny_config().correction_intermediate_size


@pytest.mark.parametrize("kind", SPEECH_KINDS)
def test_bfloat16(tmp_path, kind):
    tiny_model(kind, spread=True).save_pretrained(tmp_path)
    model = M4SERForEmotionClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.classifier.weight.dtype == model.m4ser.fusion.generator.layers[0].norm.weight.dtype == torch.bfloat16
    assert model.discriminator.hidden.weight.dtype == torch.float32, "D is not stable in half precision"
    reference = M4SERForEmotionClassification.from_pretrained(tmp_path)
    batch = ragged_batch(reference)  # float32 inputs, as the processor makes them
    output = model(**batch)
    assert output.logits.isfinite().all()
    assert output.loss.dtype == model.discriminator(output.invariant).dtype == torch.float32
    torch.testing.assert_close(output.loss, reference(**batch).loss, rtol=0.1, atol=0.1)
