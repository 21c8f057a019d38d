"""Rows of any content are learned from without a NaN or refused in one line; edit labels write their reference."""

import random
from functools import cache

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from modeling_m4ser import CHANGE, apply_edits
from tests.fuzz import strategies as some
from tests.helpers.tiny import speech_config, tiny_model, tiny_processor
from trainer import M4SERDataCollator
from trainer.inputs.rows import RowReader

KINDS = ("hubert", "hubert-group", "wavlm", "whisper")
SECONDS = (0.001, 0.02, 0.05, 0.3, 0.7)
LEVELS, LOUD = (1.0, 1.0, 3.5, 0.0, 1e-30, 1e-7), (8.0, 1e5, 1e30, 3e38)
TEXTS = ("i am so happy", "we go home", "you can not believe it", "SAD [LAUGHTER] now", "it's", "believe " * 40)


@pytest.fixture(scope="module")
def collators(tmp_path_factory):
    """By the kind of speech encoder: what makes batches for a model that is being trained."""
    folder = tmp_path_factory.mktemp("text")
    return cache(lambda kind: M4SERDataCollator(tiny_processor(folder, kind), training_model(kind).config))


@cache
def training_model(kind):
    small = {} if kind == "whisper" else {"conv_dim": [4] * 7}
    return tiny_model(kind, spread=True, speech_config=speech_config(kind, **small)).train()


@st.composite
def rows(draw):
    """A row of a corpus; one of its values in thirty is odd."""
    rarely = st.sampled_from([False] * 29 + [True])
    level = draw(st.sampled_from(LOUD if draw(rarely) else LEVELS))
    array = level * np.resize(some.NOISE[:, 0] / 2.0**15, int(16000 * draw(st.sampled_from(SECONDS))))
    array = array.astype(draw(st.sampled_from(("f4", "f8"))))
    audio = {"array": array, "sampling_rate": draw(st.sampled_from((16000, 8000, 44100)))}
    usual = st.sampled_from(TEXTS)
    row = {"audio": audio, "emotion": draw(st.integers(0, 3)), "hypothesis": draw(usual), "transcript": draw(usual)}
    odd = {"audio": some.samples(), "emotion": st.sampled_from(some.ODD)}
    for name in row:
        if draw(rarely):
            row[name] = draw(odd.get(name, st.sampled_from([*some.TEXTS, *some.ODD])))
    return row


@some.examples(60)
@given(kind=st.sampled_from(KINDS), batch=st.lists(rows(), min_size=1, max_size=4))
def test_a_step_is_finite_or_refused(collators, kind, batch):
    model, collate = training_model(kind), collators(kind)
    inputs, refusal = some.outcome(lambda: collate([*RowReader(model.config).read(batch, "data")]))
    event("refused" if refusal else "learned from")
    if refusal is None:
        step(model, inputs)


def step(model, inputs):
    output = model(**inputs)
    assert output.logits.isfinite().all()
    if output.loss is not None and output.loss.requires_grad:
        model.zero_grad()
        output.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)


def changed(text: str, dice: random.Random) -> str:
    """What a bad recognizer makes of a text: words and letters that are missing, doubled, exchanged, invented."""
    for unit in (" ", ""):
        parts = text.split(unit) if unit else list(text)
        for _ in range(dice.choice((0, 0, 1, 3, len(parts) // 2))):
            place, invented = dice.randrange(len(parts) + 1), dice.choice(("so", "x", "'", "é", "我", "", " "))
            parts[place : place + dice.choice((0, 1, 1, 2))] = dice.choice(
                ([], [invented], parts[place : place + 1] * 2)
            )
        text = unit.join(parts)
    return text


def round_trips(collate: M4SERDataCollator, pairs: list[tuple[str, str]]) -> list[bool]:
    """Of each pair of hypothesis and reference: whether the labels of its row in a batch write the reference."""
    processor, end = collate.processor, collate.processor.tokenizer.sep_token_id
    batch = dict(processor(text=[hypothesis for hypothesis, _ in pairs]))
    references = [reference for _, reference in pairs]
    batch |= collate._auxiliary_labels(references, batch["input_ids"], batch["text_attention_mask"])
    results = []
    for row, reference in enumerate(references):
        pieces = batch["input_ids"][row, 1 : int(batch["text_attention_mask"][row].sum()) - 1].tolist()
        labels = batch["detection_labels"][row, 1 : len(pieces) + 1].tolist()
        rows_of_ids = batch["correction_labels"][row, 1:].tolist()
        places = [place for place, label in enumerate(labels) if label == CHANGE]
        targets = {place: rows_of_ids[place][: rows_of_ids[place].index(end)] for place in places}
        written = apply_edits(pieces, labels, targets) if pieces else []
        wanted = processor.encode_transcript(reference) if pieces else []
        results.append(
            processor.decode_transcript(written) == processor.decode_transcript(wanted) and written == wanted
        )
    return results


@some.examples(40)
@given(seed=st.integers(0, 2**32), reference=st.one_of(st.sampled_from(TEXTS), st.text(max_size=40)))
def test_labels_of_a_batch_write_their_references(collators, seed, reference):
    dice, collate = random.Random(seed), collators("hubert")
    collate.max_correction_tokens = 64  # nothing is cut
    assert all(round_trips(collate, [(changed(reference, dice), reference) for _ in range(8)] + [(reference, "so")]))
