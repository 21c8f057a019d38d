"""`correct_transcripts`: known edits, produced by weights solved for them, come out as the transcripts they make."""

import pytest
import torch

from modeling_m4ser import CHANGE, DELETE, KEEP
from modeling_m4ser.correction_m4ser import TranscriptCorrection, edits_of
from tests.helpers.tiny import ragged_batch, text_config, tiny_model

TOKENS = (5, 8, 2, 6)
#: The edits of each transcript's inner pieces, and the ids that replace each CHANGE.
EDITS = ([KEEP, CHANGE, DELETE], [CHANGE, KEEP, KEEP, DELETE, DELETE, CHANGE], [], [KEEP] * 4)
TARGETS = ({1: [41, 42]}, {0: [50], 5: []}, {}, {})


def solve(layer: torch.nn.Linear, inputs: torch.Tensor, classes: list[int]) -> None:
    """Set a linear layer so that each row of `inputs` gets the highest score at its class (fewer rows than columns)."""
    assert len(inputs) <= inputs.shape[1]
    wanted = torch.zeros(len(inputs), layer.out_features, dtype=inputs.dtype)
    wanted[torch.arange(len(classes)), classes] = 1.0
    with torch.no_grad():
        layer.weight.copy_((torch.linalg.pinv(inputs) @ wanted).T)
        layer.bias.zero_()


def transcripts(model):
    batch = ragged_batch(model, samples=(1000,) * 4, tokens=TOKENS, with_labels=False)
    return batch["input_ids"], batch["text_attention_mask"]


def hidden_of(model, ids, mask):
    with torch.no_grad():
        return model.m4ser.encode_text(ids, mask)[0]


def teach_detector(model, edits=EDITS):
    """Make error detection say `edits`; the special tokens at both ends are taught to be CHANGE."""
    ids, mask = transcripts(model)
    hidden = hidden_of(model, ids, mask)
    rows = torch.cat([hidden[i, :length] for i, length in enumerate(TOKENS)])
    solve(model.detector, rows, [label for row in edits for label in (CHANGE, *row, CHANGE)])
    return ids, mask


def decode(model, ids, mask, utterance, place, pieces):
    """The decoder's scores (t, vocabulary) of pieces and ⟨EOS⟩ in a place counted from the first inner piece."""
    hidden = hidden_of(model, ids, mask)[utterance]
    tokens = torch.tensor([[int(ids[utterance, 0]), *pieces]])
    places = hidden[place + 1][None], hidden[None], mask[utterance][None].bool()
    with torch.no_grad():
        return model.corrector(tokens, *places, model.m4ser.text_encoder)[0]


def teach_corrector(model, ids, mask, targets):
    """Make the decoder write targets[utterance][place]."""
    seen, classes, end = [], [], int(ids[0, TOKENS[0] - 1])
    hook = model.corrector.layer.register_forward_hook(lambda _, __, value: seen.append(value[0]))
    for utterance, row in enumerate(targets):
        for place, pieces in row.items():
            decode(model, ids, mask, utterance, place, pieces)
            classes += [*pieces, end]
    hook.remove()
    solve(model.corrector.output, torch.cat(seen), classes)


def build(text="bert", **overrides):
    return tiny_model(text=text, spread=True, **overrides).double()


def inner(ids, index):
    return ids[index, 1 : TOKENS[index] - 1].tolist()


@pytest.mark.parametrize(
    ("text", "options"), [("bert", {}), ("roberta", {}), ("electra", {"embedding_size": 8}), ("mobilebert", {})]
)
def test_known_edits(text, options):
    model = build(text_config=text_config(text, **options))
    ids, mask = teach_detector(model)
    teach_corrector(model, ids, mask, TARGETS)
    corrections = model.correct_transcripts(ids, mask)
    first, second, _, last = (inner(ids, index) for index in range(4))
    expected = [[first[0], 41, 42], [50, second[1], second[2]], [], last]
    assert [correction.corrected_ids for correction in corrections] == expected
    assert [correction.labels for correction in corrections] == [list(row) for row in EDITS]
    assert [correction.targets for correction in corrections] == list(TARGETS)
    assert [correction.input_ids for correction in corrections] == [first, second, [], last]
    for index, length in enumerate(TOKENS):
        assert model.correct_transcripts(ids[index : index + 1, :length]) == [corrections[index]]


@pytest.mark.parametrize("label", [KEEP, DELETE, CHANGE])
def test_special_tokens_are_never_edited(label):
    model = build()
    ids, mask = transcripts(model)
    torch.nn.init.zeros_(model.detector.weight)
    with torch.no_grad():
        model.detector.bias.copy_(torch.eye(3, dtype=torch.float64)[label])
    for index, correction in enumerate(model.correct_transcripts(ids, mask)):
        pieces = inner(ids, index)
        assert correction.input_ids == pieces
        assert correction.labels == [label] * len(pieces)
        assert set(correction.targets) == (set(range(len(pieces))) if label == CHANGE else set())
        assert label == CHANGE or correction.corrected_ids == (pieces if label == KEEP else [])


def test_decoding_stops_at_the_end_token_or_the_limit():
    model = build()
    ids, mask = teach_detector(model)
    torch.nn.init.zeros_(model.corrector.output.weight)
    for piece, limit, expected in ((60, 5, [60] * 5), (60, 1, [60]), (3, 5, [])):
        torch.nn.init.zeros_(model.corrector.output.bias)
        model.corrector.output.bias.data[piece] = 1.0
        lengths = []
        hook = model.corrector.layer.register_forward_pre_hook(
            lambda _, inputs, lengths=lengths: lengths.append(inputs[0].shape[1])
        )
        corrections = model.correct_transcripts(ids, mask, max_new_tokens=limit)
        hook.remove()
        assert corrections[0].targets == {1: expected}
        assert lengths == list(range(1, max(len(expected), 1) + 1)), "one step for each token, none after the end"


def test_without_error_detection_the_whole_transcript_is_written():
    model = build(use_error_detection=False)
    assert model.detector is None
    ids, mask = transcripts(model)
    # One row anchored at [CLS], place -1 before the first inner piece; an empty transcript has none.
    written = ({-1: [30, 31, 32]}, {-1: [33]}, {}, {-1: []})
    teach_corrector(model, ids, mask, written)
    corrections = model.correct_transcripts(ids, mask)
    assert [correction.corrected_ids for correction in corrections] == [[30, 31, 32], [33], [], []]
    assert all(correction.labels == [] and correction.targets == {} for correction in corrections)
    assert [correction.input_ids for correction in corrections] == [inner(ids, index) for index in range(4)]


def test_without_error_correction_a_change_stays_as_it_is():
    model = build(use_error_correction=False)
    ids, mask = teach_detector(model)
    for index, (correction, edits) in enumerate(zip(model.correct_transcripts(ids, mask), EDITS, strict=True)):
        pieces = inner(ids, index)
        assert correction.labels == list(edits)
        assert correction.corrected_ids == [p for p, label in zip(pieces, edits, strict=True) if label != DELETE]
        assert correction.targets == {place: [pieces[place]] for place, label in enumerate(edits) if label == CHANGE}


def test_mode_and_graph_are_left_as_they_were():
    model = build()
    ids, mask = teach_detector(model)
    expected = model.correct_transcripts(ids, mask)
    model.m4ser.text_encoder.freeze()
    model.train()
    assert model.correct_transcripts(ids, mask) == expected, "dropout was on"
    assert model.training
    assert model.corrector.training
    assert not model.m4ser.text_encoder.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_decoder_trains_with_the_fusion_s_dropout(dropout):
    model = build(fusion_dropout=dropout)
    ids, mask = transcripts(model)
    hidden, tokens = hidden_of(model, ids, mask), ids[:, :3]
    decoded = []
    for training in (False, True, True):  # the text encoder, with dropouts of its own, stays in evaluation mode
        model.corrector.train(training)
        decoded.append(model.corrector(tokens, hidden[:, 1], hidden, mask.bool(), model.m4ser.text_encoder))
    assert torch.equal(decoded[0], decoded[1]) == torch.equal(decoded[1], decoded[2]) == (dropout == 0.0)
    rates = {module.p for module in model.corrector.modules() if isinstance(module, torch.nn.Dropout)}
    rates |= {m.dropout for m in model.corrector.modules() if isinstance(m, torch.nn.MultiheadAttention)}
    assert rates == {dropout}


def test_confidence_is_that_of_label_and_tokens():
    model = build()
    ids, mask = teach_detector(model)
    teach_corrector(model, ids, mask, TARGETS)
    hidden, corrections = hidden_of(model, ids, mask), model.correct_transcripts(ids, mask)
    for index, (correction, edits) in enumerate(zip(corrections, EDITS, strict=True)):
        with torch.no_grad():
            labels = model.detector(hidden[index]).softmax(-1)
        sure = {}
        for place, label in enumerate(edits):
            if label == KEEP:
                continue
            sure[place] = labels[place + 1, label].item()
            if label == CHANGE:
                pieces = TARGETS[index][place]
                chances = decode(model, ids, mask, index, place, pieces).softmax(-1)
                written = [*pieces, int(ids[0, TOKENS[0] - 1])]
                sure[place] *= sum(chances[step, token].item() for step, token in enumerate(written)) / len(written)
        for edit in ([1, 2],) if index == 0 else ([0], [3, 4], [5]) if index == 1 else ():
            least = min(sure[place] for place in edit)
            sure |= dict.fromkeys(edit, least)
        assert correction.confidences == pytest.approx(sure, abs=1e-6)


@pytest.mark.parametrize("whole", [False, True])
def test_edits_of_less_confidence_are_not_made(whole):
    model = build(use_error_detection=not whole)
    ids, mask = transcripts(model) if whole else teach_detector(model)
    everything = model.correct_transcripts(ids, mask)
    values = sorted({value for each in everything for value in each.confidences.values()})
    assert len(values) > 2
    for threshold in (0.0, values[1], values[-1], 1.0, 2.0):
        model.config.correction_threshold = threshold
        by_config = model.correct_transcripts(ids, mask)
        assert by_config == model.correct_transcripts(ids, mask, threshold=threshold)
        for correction, full in zip(by_config, everything, strict=True):
            kept = {place for place, sure in full.confidences.items() if sure >= threshold and threshold < 1}
            assert set(correction.confidences) == kept
            assert {place for place, label in enumerate(correction.labels) if label != KEEP} == kept - {-1}
            if not kept:
                assert correction.corrected_ids == correction.input_ids
            if len(kept) == len(full.confidences):
                assert correction == full
    assert model.correct_transcripts(ids, mask, threshold=0.0) == everything


def test_one_means_no_edit_however_sure():
    correction = TranscriptCorrection([5, 6], [KEEP, DELETE], {}, [5], {1: 1.0})
    assert correction.at(0.999).corrected_ids == [5]
    assert correction.at(1.0).corrected_ids == [5, 6]


@pytest.mark.parametrize(
    ("labels", "edits"),
    [
        ([], []),
        ([KEEP, CHANGE, DELETE, DELETE, KEEP, DELETE, DELETE], [[1, 2, 3], [5, 6]]),
        ([DELETE, CHANGE, CHANGE, DELETE], [[0], [1], [2, 3]]),
    ],
)
def test_edits_of_labels(labels, edits):
    assert edits_of(labels) == edits
