"""Equations 2-22 of the paper against loops over single, unpadded utterances, in float64.

The reference below is plain tensor arithmetic: explicit softmax attention with the weights taken from the modules'
parameters, one utterance, one head, one decoder row, one frame at a time. Nothing of ours and no library layer computes
it; the pretrained encoders alone (Eq. 1) are run as they are, on each utterance by itself.
"""

import math

import pytest
import torch

from modeling_m4ser.losses_m4ser import discriminator_loss, generator_loss, label_contrastive_loss
from tests.helpers.tiny import ragged_batch, tiny_model

TOLERANCE = {"rtol": 0.0, "atol": 1e-6}
HEADS = 4
WEIGHTS = {"auxiliary_weight": 0.3, "detection_weight": 2.5, "contrastive_weight": 0.7, "adversarial_weight": 0.2}


# The reference: plain arithmetic


def linear(x, layer):
    return x @ layer.weight.T + layer.bias


def softmax(scores):
    exponentials = torch.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def attend(query, keys, attention):
    """h-head attention of (q, d) to (k, d), from the parameters of a MultiheadAttention."""
    size = query.shape[-1]
    q, k, v = (
        x @ weight.T + bias
        for x, weight, bias in zip(
            (query, keys, keys), attention.in_proj_weight.split(size), attention.in_proj_bias.split(size), strict=True
        )
    )
    width = size // HEADS
    rows = []
    for i in range(len(query)):
        heads = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = torch.stack([(q[i, part] * k[j, part]).sum() / math.sqrt(width) for j in range(len(keys))])
            heads.append(sum(weight * v[j, part] for j, weight in enumerate(softmax(scores))))
        rows.append(torch.cat(heads))
    return linear(torch.stack(rows), attention.out_proj)


def layer_norm(x, layer):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + layer.eps) * layer.weight + layer.bias


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def prelu(x, layer):
    return torch.where(x > 0, x, layer.weight * x)


def cross_modal_encoder(query, keys, block):
    """Fig. 3: Eq. 8, 9 and 10."""
    hidden = layer_norm(query + attend(query, keys, block.attention.attention), block.attention_norm)
    inner = gelu(linear(hidden, block.feed_forward[0]))
    return layer_norm(hidden + linear(inner, block.feed_forward[3]), block.feed_forward_norm)


def interpolate(text, frames):
    """Tokens and frames as equal shares of one stretch of time: the value at each frame's middle."""
    tokens = len(text)
    rows = []
    for frame in range(frames):
        place = (frame + 0.5) / frames * tokens - 0.5
        place = min(max(place, 0.0), tokens - 1.0)
        left = int(place)
        right = min(left + 1, tokens - 1)
        rows.append(text[left] * (1 - (place - left)) + text[right] * (place - left))
    return torch.stack(rows)


def hybrid_modal_attention(specific, joint, block):
    """Eq. 14 and 15."""
    shared = attend(joint, specific, block.attention.attention)
    gate = linear(torch.cat([specific, joint], dim=-1), block.gate)
    if isinstance(block.gate_activation, torch.nn.PReLU):
        gate = prelu(gate, block.gate_activation)
    return shared * (1 / (1 + torch.exp(-gate)))


def generate_invariant(speech, text, joint, generator):
    """Eq. 12-13, once or several times."""
    for layer in generator.layers:
        total = joint
        for specific, attention, convolution in (
            (speech, layer.speech_attention, layer.speech_convolution),
            (text, layer.text_attention, layer.text_convolution),
        ):
            gated = hybrid_modal_attention(specific, joint, attention)
            total = total + prelu(linear(gated, convolution[0]), convolution[1])
        joint = layer_norm(total, layer.norm)
    return joint


def decode_row(tokens, anchor, memory, corrector, text_model):
    """Eq. 4-6: the probabilities at every step t, each from its own prefix alone."""
    embeddings, layer = text_model.embeddings, corrector.layer
    probabilities = []
    for t in range(1, len(tokens) + 1):
        rows = []
        for step, token in enumerate(tokens[:t]):
            embedded = (
                embeddings.word_embeddings.weight[token]
                + embeddings.position_embeddings.weight[step]
                + embeddings.token_type_embeddings.weight[0]
            )
            embedded = layer_norm(embedded, embeddings.LayerNorm)
            rows.append(linear(torch.cat([embedded, anchor]), corrector.input_projection))
        hidden = torch.stack(rows)
        hidden = layer_norm(hidden + attend(hidden, hidden, layer.self_attn), layer.norm1)
        hidden = layer_norm(hidden + attend(hidden, memory, layer.multihead_attn), layer.norm2)
        inner = linear(gelu(linear(hidden, layer.linear1)), layer.linear2)
        hidden = layer_norm(hidden + inner, layer.norm3)
        probabilities.append(softmax(linear(hidden[-1], corrector.output)))
    return probabilities


def reference_fusion(model, batch, row, alignment="interpolate"):
    """Every representation of one utterance, by the names of the model's output and a few more."""
    core = model.m4ser
    samples, tokens = int(batch["speech_attention_mask"][row].sum()), int(batch["text_attention_mask"][row].sum())
    speech = core.speech_encoder.model(batch["input_values"][row : row + 1, :samples]).last_hidden_state[0]
    text = core.text_encoder.model(batch["input_ids"][row : row + 1, :tokens]).last_hidden_state[0]
    token_level = cross_modal_encoder(text, speech, core.fusion.text_query_speech_key)
    speech_specific = cross_modal_encoder(speech, token_level, core.fusion.speech_query_token_key)
    text_specific = cross_modal_encoder(speech, text, core.fusion.speech_query_text_key)
    if alignment == "interpolate":
        aligned = interpolate(text, len(speech))
    else:
        aligned = attend(speech, text, core.fusion.aligner.attention.attention)
    joint = linear(torch.cat([speech, aligned], dim=-1), core.fusion.joint_projection)
    invariant = generate_invariant(speech_specific, text_specific, joint, core.fusion.generator)
    fused = torch.cat([speech_specific, text_specific, invariant], dim=0)
    assert fused.shape == (3 * len(speech), model.config.hidden_size)
    pooled = torch.stack([fused[:, feature].sum() / len(fused) for feature in range(fused.shape[1])])
    return {
        "speech_hidden": speech,
        "text_hidden": text,
        "speech_specific": speech_specific,
        "text_specific": text_specific,
        "joint_hidden": joint,
        "invariant": invariant,
        "pooled": pooled,
        "logits": linear(pooled, model.classifier),
    }


# The model under test


class Case:
    """A float64 model, a ragged padded batch, what the model says of it, and what the reference says of each row."""

    def __init__(self, **overrides):
        self.model = tiny_model(spread=True, **overrides).double()
        self.batch = ragged_batch(self.model, samples=(3000, 1500, 4200, 2000), tokens=(5, 11, 8, 4))
        self.batch["labels"] = torch.tensor([0, 2, 0, 2])
        self.decoded = []
        self.model.corrector.output.register_forward_hook(lambda _, __, scores: self.decoded.append(scores))
        with torch.no_grad():
            self.output = self.model(**self.batch)
            alignment = self.model.config.text_alignment
            self.rows = [reference_fusion(self.model, self.batch, row, alignment) for row in range(4)]

    def compare(self, name):
        """The model's tensor on the valid places of each row equals the reference's."""
        for row, reference in zip(self.output[name], self.rows, strict=True):
            expected = reference[name]
            torch.testing.assert_close(row[: len(expected)] if expected.dim() > 1 else row, expected, **TOLERANCE)


@pytest.fixture(scope="module")
def case():
    """The paper's model, with weights in Eq. 22 that none of its defaults equal."""
    return Case(**WEIGHTS)


def test_rows_are_ragged_and_distinct(case):
    frames = [len(row["speech_hidden"]) for row in case.rows]
    tokens = [len(row["text_hidden"]) for row in case.rows]
    assert len(set(frames)) == len(set(tokens)) == 4
    assert any(m < n for m, n in zip(frames, tokens, strict=True))
    assert case.output.frame_mask.sum(-1).tolist() == frames
    spread = torch.stack([row["pooled"] for row in case.rows]).std(0)
    assert spread.max() > 0.05, "rows so alike that a mixed-up batch would pass"


def test_eq_2_and_3_detection(case):
    expected = []
    for row, reference in enumerate(case.rows):
        for place, hidden in enumerate(reference["text_hidden"]):
            scores = linear(hidden, case.model.detector)
            ours = softmax(case.output.detection_logits[row, place])
            torch.testing.assert_close(ours, softmax(scores), **TOLERANCE)
            label = int(case.batch["detection_labels"][row, place])
            if label >= 0:
                expected.append(-torch.log(softmax(scores)[label]))
    assert len(expected) == (5 + 11 + 8 + 4) - 2 * 4  # the special tokens at both ends do not count
    torch.testing.assert_close(case.output.detection_loss, sum(expected) / len(expected), **TOLERANCE)


def test_eq_4_to_7_correction(case):
    text_model = case.model.m4ser.text_encoder.model
    labels, ids = case.batch["correction_labels"], case.batch["input_ids"]
    expected, seen_rows = [], 0
    for row, reference in enumerate(case.rows):
        memory = reference["text_hidden"]
        for place in range(len(memory)):
            target = [int(piece) for piece in labels[row, place] if piece != -100]
            if not target:
                continue
            tokens = [int(ids[row, 0]), *target[:-1]]
            probabilities = decode_row(tokens, memory[place], memory, case.model.corrector, text_model)
            for step, piece in enumerate(target):
                ours = softmax(case.decoded[0][seen_rows, step])
                torch.testing.assert_close(ours, probabilities[step], **TOLERANCE)
                expected.append(-torch.log(probabilities[step][piece]))
            seen_rows += 1
    assert seen_rows == len(case.decoded[0]) == 5
    torch.testing.assert_close(case.output.correction_loss, sum(expected) / len(expected), **TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [
        *("speech_hidden", "text_hidden"),  # Eq. 1: a padded batch is each utterance alone
        *("speech_specific", "text_specific"),  # Eq. 8-10
        *("joint_hidden", "invariant"),  # Eq. 11-15
        *("pooled", "logits"),  # Eq. 16-17: the mean over 3 m frames; Eq. 18
    ],
)
def test_eq_1_and_8_to_18(case, name):
    case.compare(name)


@pytest.mark.parametrize("options", [{"text_alignment": "attention"}, {"generator_layers": 3, "gate_prelu": True}])
def test_other_alignments_and_generators(options):
    case = Case(**options)
    fusion = case.model.m4ser.fusion
    assert (fusion.aligner.attention is None) == ("text_alignment" not in options)
    assert len(fusion.generator.layers) == options.get("generator_layers", 1)
    gates = {type(layer.text_attention.gate_activation) for layer in fusion.generator.layers}
    assert (gates == {torch.nn.PReLU}) == ("gate_prelu" in options)
    for name in ("joint_hidden", "invariant", "pooled", "logits"):
        case.compare(name)


def test_eq_19_classification(case):
    losses = [-torch.log(softmax(r["logits"])[y]) for r, y in zip(case.rows, case.batch["labels"], strict=True)]
    torch.testing.assert_close(case.output.emotion_loss, sum(losses) / len(losses), **TOLERANCE)


def discriminate(hidden, discriminator):
    """D(H) of one frame, between 0 and 1."""
    inner = torch.clamp(linear(hidden, discriminator.hidden), min=0)
    return 1 / (1 + torch.exp(-linear(inner, discriminator.output)[0]))


def test_eq_20_adversarial(case):
    discriminator, output = case.model.discriminator, case.output
    modality, ambiguity = [], []
    for reference in case.rows:
        for speech, text, invariant in zip(
            reference["speech_specific"], reference["text_specific"], reference["invariant"], strict=True
        ):
            d_speech, d_text, d_invariant = (discriminate(h, discriminator) for h in (speech, text, invariant))
            modality.append(torch.log(d_speech) + torch.log(1 - d_text))
            ambiguity.append(-torch.log(d_invariant) - torch.log(1 - d_invariant))
    l_d, l_g = sum(modality) / len(modality), sum(ambiguity) / len(ambiguity)
    features = (output.speech_specific, output.text_specific, output.invariant, output.frame_mask)
    for objective, gain in (("paper", l_d + l_g), ("modality", l_d)):
        step = discriminator_loss(discriminator, *features, objective)
        torch.testing.assert_close(step["discriminator"], l_d, **TOLERANCE)
        torch.testing.assert_close(step["generator"], l_g, **TOLERANCE)
        torch.testing.assert_close(step["loss"], -gain, **TOLERANCE)
    ours = generator_loss(discriminator, output.invariant, output.frame_mask)
    torch.testing.assert_close(ours, l_g, **TOLERANCE)


def test_eq_20_sides_reach_their_own_parameters_only(case):
    """Algorithm 1: the D phase sees detached features; the other phase's gradient flows through the features."""
    features = [torch.randn(2, 5, 24, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    discriminator_loss(case.model.discriminator, *features, mask)["loss"].backward()
    assert all(feature.grad is None for feature in features)
    assert all(parameter.grad.abs().sum() > 0 for parameter in case.model.discriminator.parameters())
    case.model.discriminator.zero_grad()
    generator_loss(case.model.discriminator, features[2], mask).backward()
    assert features[2].grad[mask].abs().min() > 0
    assert not features[2].grad[~mask].any()
    case.model.discriminator.zero_grad()


def contrastive(pooled, labels, temperature, include_self, reduction="mean"):
    """Eq. 21 over anchors with a positive; 0 where there is none."""

    def cosine(a, b):
        return (a * b).sum() / (torch.sqrt((a * a).sum()) * torch.sqrt((b * b).sum()))

    anchors = []
    for i in range(len(labels)):
        others = [a for a in range(len(labels)) if (include_self or a != i) and labels[a] >= 0]
        positives = [p for p in range(len(labels)) if p != i and labels[p] == labels[i] and labels[i] >= 0]
        if positives:
            total = sum(torch.exp(cosine(pooled[i], pooled[a]) / temperature) for a in others)
            terms = [torch.log(torch.exp(cosine(pooled[i], pooled[p]) / temperature) / total) for p in positives]
            anchors.append(-sum(terms) / len(positives))
    if not anchors:
        return torch.zeros((), dtype=torch.float64)
    return sum(anchors) / (len(anchors) if reduction == "mean" else 1)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize(
    "labels",
    [[0, 0, 1, 1, 2, 2, 0, 1], [0, 0, 0, 3], [1, 1], [0, 1, 2, 3], [2], [0, -100, 0, 1, -100, 1, 2]],
    ids=["mixed", "one-member class", "one pair", "no positives", "single", "unlabelled rows"],
)
def test_eq_21_contrastive(labels, include_self):
    pooled = torch.randn(len(labels), 24, dtype=torch.float64, requires_grad=True)
    ours = label_contrastive_loss(pooled, torch.tensor(labels), 0.07, include_self)
    torch.testing.assert_close(ours, contrastive(pooled, labels, 0.07, include_self), **TOLERANCE)
    summed = label_contrastive_loss(pooled, torch.tensor(labels), 0.07, include_self, "sum")
    torch.testing.assert_close(summed, contrastive(pooled, labels, 0.07, include_self, "sum"), rtol=1e-9, atol=1e-6)
    ours.backward()
    assert pooled.grad is not None
    assert pooled.grad.isfinite().all()
    if len({label for label in labels if label >= 0}) == len([label for label in labels if label >= 0]):
        assert ours.item() == 0
        assert not pooled.grad.any()


def test_eq_21_in_the_model(case):
    pooled = torch.stack([row["pooled"] for row in case.rows])
    labels, config = case.batch["labels"].tolist(), case.model.config
    for include_self in (config.contrastive_include_self, True, False):
        config.contrastive_include_self = include_self
        with torch.no_grad():
            ours = case.model(**case.batch).contrastive_loss
        expected = contrastive(pooled, labels, config.temperature, include_self)
        torch.testing.assert_close(ours, expected, **TOLERANCE)


def test_eq_22_combined(case):
    output, adversarial = case.output, torch.tensor(1.7, dtype=torch.float64)
    alpha, beta, lam, gamma = WEIGHTS.values()
    expected = output.emotion_loss + alpha * (beta * output.detection_loss + output.correction_loss)
    expected = expected + lam * output.contrastive_loss
    torch.testing.assert_close(output.loss, expected, **TOLERANCE)
    with_adversarial = case.model.combine_losses(
        **{name: output[f"{name}_loss"] for name in ("emotion", "detection", "correction", "contrastive")},
        adversarial=adversarial,
    )
    torch.testing.assert_close(with_adversarial, expected + gamma * adversarial, **TOLERANCE)
    assert case.model.combine_losses() is None
    with pytest.raises(TypeError, match="no loss prosody; its losses: emotion, detection, "):
        case.model.combine_losses(emotion=output.emotion_loss, prosody=torch.ones(()))
